"""Two processes of objectives that remember end with the parameters and the memory of one process."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelembed import whole_batch
from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded
from labelembed.training.network import Network

INPUTS, HIDDEN, LABELS, ROWS, EPOCHS = 5, 8, 4, 22, 3
CASES = {
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
    "shared": ("label_embedding", {"auxiliary": "shared", "initial_scale": "log"}),
}


def make(case):
    name, arguments = CASES[case]
    with seeded(0, case):
        encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
        # Float64, so that nothing but the order of a sum can hide behind the tolerance.
        return Network(nn.Identity(), encoder, OBJECTIVES[name](HIDDEN, LABELS, **arguments)).double()


def batches(epoch):
    """The training rows in two batches of 11, in another order each epoch; some labels are ignored in rank 1."""
    source = generator(0, "rows")
    inputs = torch.randn(ROWS, INPUTS, generator=source).double() * 2
    labels = (inputs[:, :LABELS] + torch.randn(ROWS, LABELS, generator=source)).argmax(dim=1)
    for rows in torch.randperm(ROWS, generator=generator(0, "order", epoch)).split(11):
        chosen = labels[rows].clone()
        chosen[1 : 2 * epoch + 2 : 2] = -100
        yield inputs[rows], chosen, rows


def train(model, rank, world):
    """Returns state and terms after three epochs, as the loop goes through them."""
    network = model.module if world > 1 else model
    objective = network.objective
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = []
    for epoch in range(EPOCHS):
        objective.begin_epoch(epoch, EPOCHS)
        for inputs, labels, rows in batches(epoch):
            optimizer.zero_grad()
            terms = model(inputs[rank::world], labels[rank::world], rows[rank::world])
            terms.total.backward()
            optimizer.step()
            history.append({name: value.detach() for name, value in terms._asdict().items()})
        objective.end_epoch()
        if objective.needs_training_pass():
            objective.begin_pass()
            for inputs, labels, rows in batches(epoch):
                with torch.no_grad():
                    objective.observe(network.hidden(inputs), labels, rows)
            objective.end_pass()
    return {"state": {name: value.clone() for name, value in network.state_dict().items()}, "history": history}


def train_everything_in_one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        results = {case: train(DistributedDataParallel(make(case)), rank, 2) for case in CASES}
        values = torch.arange(rank + 2.0, requires_grad=True)
        results["gathered"] = whole_batch.gathered(values, values.detach()[:, None] * 2)
        summed = whole_batch.total(torch.full((2,), rank + 1.0, requires_grad=True) * values[:2])
        (summed * torch.tensor([1.0, 10.0]) * (rank + 1)).sum().backward()
        results["total"] = {"values": summed.detach(), "gradient": values.grad}
        torch.save(results, f"{folder}/rank-{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two-processes")
    multiprocessing.spawn(train_everything_in_one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_parameters_and_the_memory_of_one(ranks, case):
    expected = train(make(case), 0, 1)
    start = make(case).state_dict()
    for rank in ranks:
        # What is stored in float16 may round the other way.
        close = {name: 1e-3 if value.dtype == torch.float16 else 1e-10 for name, value in expected["state"].items()}
        for name, tolerance in close.items():
            found = rank[case]["state"][name]
            torch.testing.assert_close(found, expected["state"][name], rtol=0, atol=tolerance, msg=name)
    constant = {"objective.steps"} if "before" not in case else set()
    moved = {name for name in expected["state"] if not torch.equal(expected["state"][name], start[name])}
    still = constant | {name for name in start if "gathering" in name or ("published" in case and "seen" in name)}
    assert moved >= set(start) - still


@pytest.mark.parametrize("case", CASES)
def test_terms_of_two_processes_average_to_the_terms_of_one(ranks, case):
    for step, expected in enumerate(train(make(case), 0, 1)["history"]):
        shares = [rank[case]["history"][step] for rank in ranks]
        means = {name: (shares[0][name] + shares[1][name]) / 2 for name in expected}
        torch.testing.assert_close(means, expected, rtol=0, atol=1e-10)


def test_rows_of_both_processes_are_gathered_one_after_the_other(ranks):
    for rank in ranks:
        first, second = rank["gathered"]
        assert first.tolist() == [0, 1, 0, 1, 2]
        assert second.tolist() == [[0], [2], [0], [2], [4]]


def test_total_adds_up_and_sends_every_gradient_everywhere(ranks):
    for number, rank in enumerate(ranks):
        assert rank["total"]["values"].tolist() == [0, 3]  # (0, 1) of the first and (0, 2) of the second
        # Weights 1 and 2 of the two losses, times this process' own factor.
        gradient = rank["total"]["gradient"][:2]
        assert gradient.tolist() == [3 * (number + 1), 30 * (number + 1)]
