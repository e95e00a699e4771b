"""Every mode of every objective trained for some steps whose examples are split over processes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labelembed.objectives import OneHot
from labelembed.seeds import generator, seeded

from .made_objectives import MODES, build, objective_of
from .made_training import fork_server

INPUTS, HIDDEN, LABELS = 5, 8, 4
BATCH, BATCHES_OF_EPOCH, EPOCHS = 11, 3, 2
EXAMPLES = BATCH * BATCHES_OF_EPOCH
WEIGHT = [0.5, 2.0, 1.0, 3.0]

# Modes with weights, and in micro-batches, as well: sums of their own.
CASES: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
CASES |= {
    f"{mode}; weighted": {"weight": WEIGHT}
    for mode in ("one_hot, chunked", "label_embedding", "online_label_smoothing")
}
MICRO_BATCHES = ("one_hot", "label_smoothing, chunked", "label_embedding, fixed", "static_labels", "retrospection")


class EncoderAndObjective(nn.Module):
    """One module, so that DistributedDataParallel sees every parameter."""

    def __init__(self, case: str) -> None:
        super().__init__()
        mode = case.partition(";")[0]
        name, arguments = objective_of(mode), MODES[mode]
        with seeded(0, case):
            self.encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
            self.objective = build(name, HIDDEN, LABELS, **arguments, **CASES[case])
        self.double()
        # As `training.network.Network` does: what every process keeps for itself is not sent at every step.
        self._ddp_params_and_buffers_to_ignore = [f"objective.{name}" for name, _ in self.objective.named_buffers()]

    def forward(self, inputs: Tensor, labels: Tensor, indices: Tensor, items: Tensor | None = None) -> Any:
        return self.objective(self.encoder(inputs), labels, indices, num_items_in_step=items)


def made_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Gives the batches of an epoch; of the examples of rank 1 more and more are ignored."""
    source = generator(0, "rows")
    inputs = torch.randn(EXAMPLES, INPUTS, generator=source, dtype=torch.float64) * 2
    labels = (inputs[:, :LABELS] + torch.randn(EXAMPLES, LABELS, generator=source)).argmax(dim=1)
    order = torch.randperm(EXAMPLES, generator=generator(0, "order", epoch))
    for number, indices in enumerate(order.split(BATCH)):
        step = epoch * BATCHES_OF_EPOCH + number
        chosen = labels[indices].clone()
        chosen[1 : 2 * step : 2] = -100
        if step == 3:
            chosen[1::2] = chosen[1::3] = -100  # nothing that counts in rank 1
        if step == 4:
            chosen[:] = -100  # nothing anywhere
        yield inputs[indices], chosen, indices


def train(case: str, *, rank: int = 0, world: int = 1, micro_batches: int = 1, group: Any = None) -> dict[str, Any]:
    """Returns state and terms after six steps of two epochs, which the processes of a group share; None: all."""
    network = EncoderAndObjective(case)
    network.objective.process_group = group
    model = DistributedDataParallel(network, process_group=group) if world > 1 else network
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = []
    for epoch in range(EPOCHS):
        network.objective.train().start_epoch(epoch, EPOCHS + 1, BATCHES_OF_EPOCH)
        for batch in made_batches(epoch):
            optimizer.zero_grad()
            items = (batch[1] != -100).sum() if micro_batches > 1 else None
            sums: dict[str, Tensor] = {}
            parts = [values[rank::world].tensor_split(micro_batches) for values in batch]
            for part in zip(*parts, strict=True):
                terms = model(*part, items)
                terms.total.backward()
                for name, value in terms._asdict().items():
                    sums[name] = sums.get(name, 0) + value.detach()
            optimizer.step()
            history.append(sums)
        network.objective.eval().end_epoch(
            lambda: ((network.encoder(inputs), labels, indices) for inputs, labels, indices in made_batches(0))
        )
    return {"state": {name: value.clone() for name, value in network.state_dict().items()}, "history": history}


def evaluate(rank: int = 0) -> dict[str, list[float]]:
    """Returns the totals in evaluation mode, of other batches in each process and of more in the first."""
    found = {}
    for case in CASES:
        model = EncoderAndObjective(case).eval()
        with torch.no_grad():
            found[case] = [model(*batch).total.item() for batch in list(made_batches(0))[rank:]]
    return found


# Every way in which processes talk: sums of counts, of class sums, of distributions, and what is gathered.
GROUPED = (
    *("label_embedding", "one_hot, chunked", "adaptive_labels, repel"),
    *("online_label_smoothing", "retrospection, steps"),
)


def train_in_groups(rank: int, world: int) -> dict[str, Any]:
    """Returns what the processes of even and those of odd rank train, each group by itself: of three 0 and 2, and 1."""
    groups = [dist.new_group(list(range(first, world, 2))) for first in range(2)]
    group = groups[rank % 2]
    size = dist.get_world_size(group)
    found: dict[str, Any] = {case: train(case, rank=rank // 2, world=size, group=group) for case in GROUPED}
    stranger = OneHot(3, 2)
    stranger.process_group = groups[1 - rank % 2]
    try:
        stranger(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    except ValueError as error:
        found["refusal"] = str(error)
    return found


def train_all(rank: int, world: int, folder: str) -> None:
    """Trains every case as one of several processes, and evaluates."""
    torch.set_num_threads(1)
    # Nobody waits for so long, unless for a process that does not come.
    patience = timedelta(seconds=200)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world, timeout=patience
    )
    try:
        results: dict[str, Any] = {"evaluation": evaluate(rank), "groups": train_in_groups(rank, world)}
        for case in CASES:
            results[case] = train(case, rank=rank, world=world)
        for case in MICRO_BATCHES:
            results[f"{case} micro"] = train(case, rank=rank, world=world, micro_batches=2)
        torch.save(results, f"{folder}/rank-{rank}.pt")
    finally:
        dist.destroy_process_group()


def results_of(world: int, folder: Path) -> list[dict[str, Any]]:
    """Returns what each of so many processes made; they are started once for all cases."""
    processes = [fork_server().Process(target=train_all, args=(rank, world, str(folder))) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * world
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(world)]
