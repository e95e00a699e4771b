"""Every objective trained for some steps, its rows split over processes and micro-batches, for the tests of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labelembed import whole_batch
from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES, AdaptiveLabels, OneHot
from labelembed.seeds import generator, seeded

from .made_objectives import build
from .made_training import fork_server

INPUTS, HIDDEN, LABELS = 5, 8, 4
BATCH, BATCHES_OF_EPOCH, EPOCHS = 11, 3, 2
ROWS, STEPS = BATCH * BATCHES_OF_EPOCH, BATCHES_OF_EPOCH * EPOCHS

# Every objective, in every mode that has sums of its own. `mixed`: each row belongs to its label by so much, and for
# the rest to the next label.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_hot": ("one_hot", {}),
    "chunked_one_hot": ("one_hot", {"impl": "chunked"}),
    "label_smoothing": ("label_smoothing", {"smoothing": 0.3}),
    "chunked_smoothing": ("label_smoothing", {"smoothing": 0.3, "impl": "chunked"}),
    "reference": ("label_embedding", {"confidence_limit": 0.2, "impl": "reference"}),
    "paper": ("label_embedding", {"preset": "paper", "confidence_limit": 0.2}),
    "published_code": ("label_embedding", {"preset": "published_code", "confidence_limit": 0.2}),
    "uniform": ("label_embedding", {"confidence_limit": 0.2, "uniform_weight": 0.2}),
    "compressed": ("label_embedding", {"embedding": "compressed", "rank": 3, "confidence_limit": 0.2}),
    "shared": ("label_embedding", {"auxiliary": "shared", "initial_scale": "log"}),
    "fixed": ("label_embedding", {"embedding": "geometry"}),
    "warmup": ("label_embedding", {"target_warmup_steps": 2}),
    "chunked": ("label_embedding", {"confidence_limit": 0.2, "impl": "chunked"}),
    "chunked_sum": ("label_embedding", {"preset": "published_code", "uniform_weight": 0.2, "impl": "chunked"}),
    "chunked_compressed": ("label_embedding", {"embedding": "compressed", "rank": 3, "impl": "chunked"}),
    "chunked_shared": ("label_embedding", {"auxiliary": "shared", "impl": "chunked"}),
    "confidence_penalty": ("confidence_penalty", {"penalty_weight": 0.5}),
    "teacher_free": ("teacher_free", {"teacher_weight": 0.5}),
    "teacher_free_paper": ("teacher_free", {"preset": "paper", "temperature": 2.0, "teacher_weight": 0.5}),
    "distillation": ("distillation", {"temperature": 2.0}),
    "static_huber": ("static_labels", {"delta": 0.5}),
    "static_squared": ("static_labels", {"loss": "squared"}),
    "static_cosine": ("static_labels", {"loss": "cosine"}),
    "adaptive": ("adaptive_labels", {}),
    "adaptive_repel": ("adaptive_labels", {"label_dimension": 12, "repel_weight": 3.0}),
    "adaptive_before": ("adaptive_labels", {"loss": "before_update", "update_every": 2, "warmup_steps": 1}),
    "adaptive_average": ("adaptive_labels", {"update": "moving_average", "momentum": 0.5}),
    "adaptive_epoch": ("adaptive_labels", {"update": "epoch"}),
    "online": ("online_label_smoothing", {"momentum": 0.8}),
    "online_sparse": ("online_label_smoothing", {"momentum": 0.8, "top_k": 2}),
    "online_published": ("online_label_smoothing", {"preset": "published"}),
    "online_published_sparse": ("online_label_smoothing", {"preset": "published", "top_k": 2}),
    "retrospection": ("retrospection", {"num_rows": ROWS, "store_every": 1}),
    "retrospection_steps": ("retrospection", {"num_rows": ROWS, "store_every": 1, "store": "steps", "top_k": 2}),
    "mixed_one_hot": ("one_hot", {"mixed": 0.3}),
    "mixed_label_embedding": ("label_embedding", {"confidence_limit": 0.2, "uniform_weight": 0.2, "mixed": 0.3}),
    "mixed_chunked": ("label_embedding", {"confidence_limit": 0.2, "impl": "chunked", "mixed": 0.3}),
    "mixed_warmup": ("label_embedding", {"target_warmup_steps": 2, "mixed": 0.7}),
    "mixed_online": ("online_label_smoothing", {"momentum": 0.8, "mixed": 0.7}),
}
assert {name for name, _ in CASES.values()} == set(OBJECTIVES)


class EncoderAndObjective(nn.Module):
    """One module, so that DistributedDataParallel sees every parameter."""

    def __init__(self, case: str) -> None:
        super().__init__()
        name, arguments = CASES[case]
        self.share = arguments.get("mixed")
        arguments = {key: value for key, value in arguments.items() if key != "mixed"}
        if arguments.get("embedding") == "geometry":
            table = torch.randn(LABELS, LABELS, generator=generator(0, "geometry"))
            names = [str(label) for label in range(LABELS)]
            arguments |= {"embedding": LabelGeometry(names, similarities=table)}
        with seeded(0, case):
            self.encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
            self.objective = build(name, HIDDEN, LABELS, **arguments)
        if name == "adaptive_labels":
            # Where a row is the only one of its label its distance to the mean is what rounding leaves, and the
            # direction of that is its gradient: in float32 no two orders of a sum give the same.
            self.double()
        # As `training.network.Network` does: what every process keeps for itself is not sent at every step.
        self._ddp_params_and_buffers_to_ignore = [f"objective.{name}" for name in self.objective.training_buffers]

    def forward(self, inputs: Tensor, labels: Tensor, rows: Tensor) -> Any:
        inputs = inputs.to(self.encoder[0].weight.dtype)
        if self.share is None:
            return self.objective(self.encoder(inputs), labels, rows)
        others = torch.where(labels == -100, labels, (labels + 1) % LABELS)
        return self.objective.mixed(self.encoder(inputs), labels, others, self.share, rows=rows, other_rows=rows)


def made_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Gives the batches of an epoch; of the rows of rank 1, whether of two or of three, more and more are ignored."""
    source = generator(0, "rows")
    inputs = torch.randn(ROWS, INPUTS, generator=source) * 2
    labels = (inputs[:, :LABELS] + torch.randn(ROWS, LABELS, generator=source)).argmax(dim=1)
    order = torch.randperm(ROWS, generator=generator(0, "order", epoch))
    for number, rows in enumerate(order.split(BATCH)):
        step = epoch * BATCHES_OF_EPOCH + number
        chosen = labels[rows].clone()
        chosen[1 : 2 * step : 2] = -100
        if step == 3:
            chosen[1::2] = chosen[1::3] = -100  # nothing that counts in rank 1
        if step == 4:
            chosen[:] = -100  # nothing anywhere
        if step == 5:
            chosen[:9] = -100  # two rows, in one micro-batch
        yield inputs[rows], chosen, rows


def shares(values: Tensor, rank: int, world: int, micro_batches: int, together: int) -> list[Tensor]:
    """Returns the rows of each micro-batch of a process; `together`: those that so many processes have at once."""
    if together > 1:
        of_each = [shares(values, each, together, micro_batches, 1) for each in range(together)]
        return [torch.cat(parts) for parts in zip(*of_each, strict=True)]
    return list(values[rank::world].tensor_split(micro_batches))


def train(
    model: nn.Module, rank: int = 0, world: int = 1, *, micro_batches: int = 1, together: int = 1
) -> dict[str, Any]:
    """Returns state and terms after six steps of two epochs, the rows of each in so many micro-batches.

    Args:
        model: Of `EncoderAndObjective`; in several processes in a DistributedDataParallel.
        rank: Of this process.
        world: How many processes share a step.
        micro_batches: In how many parts each process takes its rows.
        together: One process takes the rows that so many would take at the same time.
    """
    network = model.module if world > 1 else model
    objective = network.objective
    # Plain descent: Adam divides by the gradient's own size, so that where it is near 0 the rounding of a sum in
    # another order moves the parameter by a whole learning rate.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = []
    for epoch in range(EPOCHS):
        objective.begin_epoch(epoch, EPOCHS)
        for batch in made_batches(epoch):
            optimizer.zero_grad()
            of_step = (shares(values, rank, world, micro_batches, together) for values in batch)
            parts = list(zip(*of_step, strict=True))
            sums: dict[str, Tensor] = {}
            with objective.accumulate([labels for _, labels, _ in parts]) if micro_batches > 1 else nullcontext():
                for number, (inputs, labels, rows) in enumerate(parts, start=1):
                    last = number == len(parts)
                    with model.no_sync() if world > 1 and not last else nullcontext():
                        terms = model(inputs, labels, rows)
                        terms.total.backward()
                    for name, value in terms._asdict().items():
                        sums[name] = sums.get(name, 0) + value.detach()
            optimizer.step()
            history.append(sums)
        objective.end_epoch()
        if objective.needs_training_pass():
            objective.begin_pass()
            for inputs, labels, rows in made_batches(epoch):
                with torch.no_grad():
                    hidden = network.encoder(inputs.to(network.encoder[0].weight.dtype))
                    objective.observe(hidden, labels, rows)
            objective.end_pass()
    return {"state": {name: value.clone() for name, value in network.state_dict().items()}, "history": history}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Holds a state to another, to 1e-6."""
    for name, value in expected.items():
        # Float32 sums of 11 rows in another order, six steps of 0.1: some 1e-8 each. What is stored in float16 may
        # round the other way.
        tolerance = 1e-3 if value.dtype == torch.float16 else 1e-6
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance, msg=lambda text, name=name: name + text)


def evaluate(rank: int = 0) -> dict[str, list[float]]:
    """Returns the total of every case in evaluation mode, of other batches in each process and of more in the first."""
    found = {}
    for case in CASES:
        model = EncoderAndObjective(case).eval()
        batches = list(made_batches(0))[rank:]
        with torch.no_grad():
            found[case] = [model(*batch).total.item() for batch in batches]
    return found


# Every way in which processes talk: sums of counts, of class sums, of distributions, and what is gathered.
GROUPED = ("paper", "chunked_one_hot", "adaptive_repel", "online", "online_sparse", "retrospection_steps")


def train_in_groups(rank: int, world: int) -> dict[str, Any]:
    """Returns what the processes of even and those of odd rank train, each group by itself: of three 0 and 2, and 1."""
    groups = [dist.new_group(list(range(first, world, 2))) for first in range(2)]
    group = groups[rank % 2]
    size = dist.get_world_size(group)
    found = {}
    for case in GROUPED:
        for micro_batches in (1, 2):
            model = EncoderAndObjective(case)
            model.objective.process_group = group
            wrapped = DistributedDataParallel(model, process_group=group) if size > 1 else model
            found[f"{case} {micro_batches}"] = train(wrapped, rank // 2, size, micro_batches=micro_batches)
    stranger = OneHot(3, 2)
    stranger.process_group = groups[1 - rank % 2]
    try:
        stranger(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    except ValueError as error:
        found["refusal"] = str(error)
    return found


def train_with_adam(rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """Returns the state of `AdaptiveLabels` after 25 steps of Adam in float32, with ten rows a class in each batch."""
    with seeded(0, "adam"):
        encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
        model = nn.ModuleDict({"encoder": encoder, "objective": AdaptiveLabels(HIDDEN, LABELS)})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    source = generator(0, "rows of adam")
    for _ in range(25):
        inputs = torch.randn(10 * LABELS, INPUTS, generator=source)
        labels = torch.arange(LABELS).repeat_interleave(10)
        inputs[:, :LABELS] += nn.functional.one_hot(labels, LABELS)
        optimizer.zero_grad()
        model["objective"](model["encoder"](inputs[rank::world]), labels[rank::world]).total.backward()
        for parameter in model.parameters():
            if world > 1:
                dist.all_reduce(parameter.grad)
            parameter.grad /= world
        optimizer.step()
    return model.state_dict()


def train_all(rank: int, world: int, folder: str, splits: tuple[int, ...]) -> None:
    """Trains every case as one of several processes, evaluates, and tries the sums they share."""
    torch.set_num_threads(1)
    # Nobody waits for so long, unless for a process that does not come.
    patience = timedelta(seconds=200)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world, timeout=patience
    )
    try:
        results: dict[str, Any] = {
            "evaluation": evaluate(rank),
            "adam": train_with_adam(rank, world),
            "groups": train_in_groups(rank, world),
        }
        for case in CASES:
            for micro_batches in splits:
                # The terms are a tuple of scalars, which the wrapper passes through.
                model = DistributedDataParallel(EncoderAndObjective(case))
                results[f"{case} {micro_batches}"] = train(model, rank, world, micro_batches=micro_batches)
        like = torch.zeros(1, dtype=torch.float64)
        counts = rank + 2, 0
        with whole_batch.accumulating([rank + 1, 1]):
            accumulated = whole_batch.mean_factor(rank + 1, like=like)
        results["factors"] = {
            "mean": [whole_batch.mean_factor(count, like=like) for count in counts],
            "count": whole_batch.count_factor(torch.tensor(rank + 2), like=like),
            "accumulated": accumulated,
            "sum": whole_batch.sum_factor(),
            "processes": whole_batch.processes(),
        }
        values = torch.arange(rank + 2.0, requires_grad=True)
        results["gathered"] = whole_batch.gathered(values, values.detach()[:, None] * 2)
        summed = whole_batch.total(torch.full((2,), rank + 1.0, requires_grad=True) * values[:2])
        (summed * torch.tensor([1.0, 10.0]) * (rank + 1)).sum().backward()
        results["total"] = {"values": summed.detach(), "gradient": values.grad}
        torch.save(results, f"{folder}/rank-{rank}.pt")
    finally:
        dist.destroy_process_group()


def results_of(world: int, folder: Path, splits: tuple[int, ...]) -> list[dict[str, Any]]:
    """Returns what each of so many processes made; they are started once for all cases."""
    context = fork_server()
    arguments = [(rank, world, str(folder), splits) for rank in range(world)]
    processes = [context.Process(target=train_all, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * world
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(world)]
