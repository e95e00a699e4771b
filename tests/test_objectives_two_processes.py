"""Two processes under DistributedDataParallel train what one process trains, whatever rows each of them ignores."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelembed import whole_batch
from labelembed.geometry import LabelGeometry
from labelembed.seeds import generator, seeded

from .made_objectives import build

INPUTS, HIDDEN, LABELS, STEPS = 5, 8, 4, 5
CASES = {
    "one_hot": ("one_hot", {}),
    "label_smoothing": ("label_smoothing", {"smoothing": 0.3}),
    "paper": ("label_embedding", {"preset": "paper", "confidence_limit": 0.2}),
    "published_code": ("label_embedding", {"preset": "published_code", "confidence_limit": 0.2}),
    "squared_hinge": ("label_embedding", {"hinge_norm": 2, "confidence_limit": 0.2, "uniform_weight": 0.2}),
    "compressed": ("label_embedding", {"embedding": "compressed", "rank": 3, "confidence_limit": 0.2}),
    "fixed": ("label_embedding", {"embedding": "geometry"}),
    "warmup": ("label_embedding", {"target_warmup_steps": 2}),
    "chunked_smoothing": ("label_smoothing", {"smoothing": 0.3, "impl": "chunked"}),
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
    # `mixed`: each row belongs to its label by so much, and for the rest to the next label.
    "mixed_one_hot": ("one_hot", {"mixed": 0.3}),
    "mixed_label_embedding": ("label_embedding", {"confidence_limit": 0.2, "uniform_weight": 0.2, "mixed": 0.3}),
    "mixed_warmup": ("label_embedding", {"target_warmup_steps": 2, "mixed": 0.7}),
}


class EncoderAndObjective(nn.Module):
    """One module, so that DistributedDataParallel sees every parameter."""

    def __init__(self, case):
        super().__init__()
        name, arguments = CASES[case]
        self.share = arguments.get("mixed")
        arguments = {key: value for key, value in arguments.items() if key != "mixed"}
        if arguments.get("embedding") == "geometry":
            table = torch.randn(LABELS, LABELS, generator=generator(0, "geometry"))
            names = [str(label) for label in range(LABELS)]
            arguments = arguments | {"embedding": LabelGeometry(names, similarities=table)}
        with seeded(0, case):
            self.encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
            self.objective = build(name, HIDDEN, LABELS, **arguments)

    def forward(self, inputs, labels, rows):
        if self.share is None:
            return self.objective(self.encoder(inputs), labels, rows)
        others = torch.where(labels == -100, labels, (labels + 1) % LABELS)
        return self.objective.mixed(self.encoder(inputs), labels, others, self.share, rows=rows, other_rows=rows)


def batches():
    """Five batches of 11 rows; every second row goes to rank 1, and there more and more rows are ignored."""
    for step in range(STEPS):
        source = generator(0, "batch", step)
        inputs = torch.randn(11, INPUTS, generator=source) * 2
        labels = (inputs[:, :LABELS] + torch.randn(11, LABELS, generator=source)).argmax(dim=1)
        labels[1 : 2 * step : 2] = -100
        if step == 3:
            labels[1::2] = -100  # nothing that counts in rank 1
        if step == 4:
            labels[:] = -100  # nothing anywhere
        yield inputs, labels


def train(model, rank, world):
    """Returns the parameters after five steps, and the terms of each step."""
    # Plain descent: Adam divides by the gradient's own size, so that where it is near 0 the rounding of a sum in
    # another order moves the parameter by a whole learning rate.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = []
    for step, (inputs, labels) in enumerate(batches()):
        optimizer.zero_grad()
        rows = torch.arange(11 * step, 11 * (step + 1))  # of the training set, for objectives that remember them
        terms = model(inputs[rank::world], labels[rank::world], rows[rank::world])
        terms.total.backward()
        optimizer.step()
        history.append({name: value.detach() for name, value in terms._asdict().items()})
    return {"state": {name: value.clone() for name, value in model.state_dict().items()}, "history": history}


def train_everything_in_one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        results = {}
        for case in CASES:
            # The terms are a tuple of scalars, which the wrapper passes through.
            model = DistributedDataParallel(EncoderAndObjective(case))
            results[case] = train(model, rank, 2)
        like = torch.zeros(1, dtype=torch.float64)
        results["factors"] = {
            "mean": [whole_batch.mean_factor(count, like=like) for count in (rank + 2, torch.tensor(rank + 2), 0)],
            "sum": whole_batch.sum_factor(),
            "processes": whole_batch.processes(),
        }
        torch.save(results, f"{folder}/rank-{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What both processes made; one start of two processes serves all tests of the file."""
    folder = tmp_path_factory.mktemp("two-processes")
    multiprocessing.spawn(train_everything_in_one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def test_made_batches_count_unequal_rows_in_the_two_processes():
    counts = [[int((labels[rank::2] != -100).sum()) for rank in range(2)] for _, labels in batches()]
    assert counts == [[6, 5], [6, 4], [6, 3], [6, 0], [0, 0]]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_parameters_of_one(ranks, case):
    expected = train(EncoderAndObjective(case), 0, 1)["state"]
    start = EncoderAndObjective(case).state_dict()
    for rank in ranks:
        state = {name.removeprefix("module."): value for name, value in rank[case]["state"].items()}
        # Float32 sums of 11 rows in another order, five steps of 0.1: some 1e-8 each.
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-6)
    moved = {name for name in expected if not torch.allclose(expected[name], start[name], rtol=0, atol=1e-3)}
    still = {"objective.steps", "objective.vectors"} | ({"objective.embedding"} if case == "fixed" else set())
    assert moved >= set(expected) - still  # so that equal parameters say something


@pytest.mark.parametrize("case", CASES)
def test_terms_of_two_processes_average_to_the_terms_of_one(ranks, case):
    history = train(EncoderAndObjective(case), 0, 1)["history"]
    for step, expected in enumerate(history):
        shares = [rank[case]["history"][step] for rank in ranks]
        assert {value.dtype for share in shares for value in share.values()} == {torch.float32}
        means = {name: (shares[0][name] + shares[1][name]) / 2 for name in expected}
        torch.testing.assert_close(means, expected, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_both_processes_hold_the_same_parameters(ranks):
    for case in CASES:
        torch.testing.assert_close(ranks[0][case]["state"], ranks[1][case]["state"], rtol=0, atol=0)


def test_factors_count_the_rows_of_both_processes(ranks):
    for rank in ranks:
        factors = rank["factors"]
        of_number, of_tensor, of_nothing = factors["mean"]
        assert of_number.dtype == torch.float64
        assert of_number.item() == of_tensor.item() == 2 / 5  # two processes, over 2 + 3 rows
        assert of_nothing.item() == 2  # finite, so that an empty sum stays 0
        assert (factors["sum"], factors["processes"]) == (2.0, 2)


def test_factors_of_one_process_are_those_of_its_own_rows():
    like = torch.zeros(1, dtype=torch.float64)
    assert whole_batch.mean_factor(3, like=like) == 1 / 3
    factor = whole_batch.mean_factor(torch.tensor(3), like=like)
    assert factor.dtype == torch.float64
    assert factor.item() == 1 / 3
    assert whole_batch.mean_factor(0, like=like) == 1
    assert whole_batch.mean_factor(torch.tensor(0), like=like).item() == 1
    assert (whole_batch.sum_factor(), whole_batch.processes()) == (1.0, 1)
