"""Labels split over two, three and four processes give the parameters, terms and predictions of one process."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelembed import keep_split
from labelembed.heads.label_shards import LabelShards
from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded

from .made_heads import made_tensors, run_head, settings
from .made_splits import shares
from .test_heads_chunked import SETTINGS, SIZES

gloo = dist.is_available() and dist.is_gloo_available()
pytestmark = pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")

# 7 labels over 2, 3 and 4 processes: 4 and 3, 3 and 2 and 2, 2 and 2 and 2 and 1.
WORLDS = (2, 3, 4)
INPUTS, HIDDEN, LABELS, STEPS, ROWS = 5, 6, 7, 5, 13
COMPRESSED = {"embedding": "compressed", "rank": 3, "confidence_limit": 0.2}
CASES = {
    "one_hot": ("one_hot", {}),
    "one_hot, no bias": ("one_hot", {"bias": False, "output_std": 0.3}),
    "smoothing": ("label_smoothing", {"smoothing": 0.3}),
    "smoothing of 0": ("label_smoothing", {"smoothing": 0.0}),
    "paper": ("label_embedding", COMPRESSED),
    "published_code": ("label_embedding", COMPRESSED | {"preset": "published_code"}),
    "mixture, squared hinge": ("label_embedding", COMPRESSED | {"preset": "mixture", "hinge_norm": 2}),
    "warm-up": ("label_embedding", COMPRESSED | {"target_warmup_steps": 2, "bias": False}),
    "no second layer": ("label_embedding", COMPRESSED | {"auxiliary": "shared", "initial_scale": "log"}),
    "scaled, sharp": ("label_embedding", COMPRESSED | {"initial_scale": 2.0, "temperature": 0.5, "output_std": 0.5}),
}


class EncoderAndObjective(nn.Module):
    def __init__(self, case, **more):
        super().__init__()
        name, arguments = CASES[case]
        with seeded(0, case):
            self.encoder = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
            self.objective = OBJECTIVES[name](HIDDEN, LABELS, **arguments, **more)
        self.double()  # so that nothing but the order of a sum can hide behind the tolerance

    def forward(self, inputs, labels):
        return self.objective(self.encoder(inputs), labels)


def batches():
    """Five batches of 13 rows, of which process r of W takes every W-th; the rows of some are ignored."""
    for step in range(STEPS):
        source = generator(0, "batch", step)
        inputs = torch.randn(ROWS, INPUTS, generator=source).double() * 2
        mixing = torch.randn(INPUTS, LABELS, generator=generator(0, "mixing")).double()
        labels = (inputs @ mixing).argmax(dim=1)
        labels[::4] = torch.randint(LABELS, (len(labels[::4]),), generator=source)
        labels[1 : 3 * step : 2] = -100
        if step == 3:
            labels[1:4] = labels[5:8] = labels[9:] = -100  # nothing that counts but in process 0, of 2 and of 4
        if step == 4:
            labels[:] = -100  # nothing anywhere
        yield inputs, labels


def train(model, rank, world, *, micro_batches=1, together=1):
    """Returns the terms of five steps, the rows of each in so many parts; `model` has then made them.

    With `together` one process takes the parts that so many would take at the same time.
    """
    objective = getattr(model, "module", model).objective
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    history = []
    for inputs, labels in batches():
        optimizer.zero_grad()
        parts = [shares(values, rank, world, micro_batches, together) for values in (inputs, labels)]
        sums = {}
        with objective.accumulate(parts[1]) if micro_batches > 1 else nullcontext():
            for some, its in zip(*parts, strict=True):
                terms = model(some, its)
                terms.total.backward()
                for name, value in terms._asdict().items():
                    sums[name] = sums.get(name, 0) + value.detach()
        optimizer.step()
        history.append(sums)
    return history


def whole_state(module):
    """Returns the state with all labels, and checks on the way that this process had a part of them."""
    objective = module.objective
    dimensions = {f"objective.{name}": dimension for name, dimension in objective.label_dimensions().items()}
    state = dict(module.state_dict())
    for name, dimension in dimensions.items():
        assert state[name].shape[dimension] == objective.shards.count < LABELS
        state[name] = objective.shards.whole(state[name], dimension)
    return {name: value.clone() for name, value in state.items()}


def hidden_rows(rank):
    return torch.randn(rank + 2, HIDDEN, generator=generator(0, "hidden", rank)).double()


def predictions(objective, rank):
    """Returns what is predicted for rows of this process' own, and for rows that all processes have."""
    own, common = hidden_rows(rank), hidden_rows(9).view(1, -1, HIDDEN)
    found = {"own": objective.logits(own), "common": objective.logits(common), "outputs": objective.outputs(common)}
    found["none"] = objective.logits(own[:0] if rank else own)
    for k in (1, 3, LABELS):
        found[f"best {k}"], found[f"best {k} labels"] = objective.top_k(own, k)
    geometry = objective.label_geometry()
    table = geometry.vectors if geometry.similarities is None else geometry.similarities
    return {name: value.detach() for name, value in (found | {"geometry": torch.as_tensor(table)}).items()}


def refusals(rank, world):
    """Returns what is said about a wrapper that would average, and about labels that nobody has."""
    with seeded(0, "refusals"):
        objective = OBJECTIVES["one_hot"](HIDDEN, 4 * world, vocabulary_parallel=True)
    said = {}
    for name, labels in (("averaged", [0]), ("strange", [4 * world])):
        called = DistributedDataParallel(objective) if name == "averaged" else objective
        try:
            called(torch.zeros(1, HIDDEN), torch.tensor(labels))
        except (RuntimeError, ValueError) as error:
            said[name] = str(error)
    objective.output.weight = nn.Parameter(torch.zeros(4 * world, HIDDEN))
    try:
        objective(torch.zeros(1, HIDDEN), torch.tensor([0]))
    except ValueError as error:
        said["tied"] = str(error)
    try:
        OBJECTIVES["one_hot"](HIDDEN, world - 1, vocabulary_parallel=True)
    except ValueError as error:
        said["few"] = str(error)
    return said


def of_equal_logits():
    """Returns terms and gradient of A where all labels are equally likely, so that the first one is the highest."""
    with seeded(0, "equal"):
        objective = OBJECTIVES["label_embedding"](HIDDEN, LABELS, vocabulary_parallel=True, **COMPRESSED).double()
    for layer in (objective.output, objective.auxiliary):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    terms = objective(hidden_rows(0)[[0, 1, 1]], torch.tensor([0, 0, LABELS - 1]))
    terms.total.backward()
    gradient = objective.compressed_rows.grad
    shards = objective.split()
    return {"embedding": terms.embedding.detach(), "A": gradient if shards is None else shards.whole(gradient)}


def one_of(rank, folder):
    """One of four processes, of which the first two make a group of two, then three of three, then all."""
    torch.set_num_threads(1)
    for world in WORLDS:
        if rank < world:
            train_in_one_of(rank, world, folder)


def train_in_one_of(rank, world, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{world}", rank=rank, world_size=world)
    try:
        results = {}
        for case in CASES:
            model = EncoderAndObjective(case, vocabulary_parallel=True)
            start = whole_state(model)
            history = train(DistributedDataParallel(keep_split(model)), rank, world)
            results[case] = {"start": start, "history": history, "state": whole_state(model)}
            results[case]["predictions"] = predictions(model.objective, rank)
        parted = EncoderAndObjective("paper", vocabulary_parallel=True)
        history = train(DistributedDataParallel(keep_split(parted)), rank, world, micro_batches=2)
        results["micro-batches"] = {"history": history, "state": whole_state(parted)}
        alone = EncoderAndObjective("paper", vocabulary_parallel=True)
        alone.encoder = DistributedDataParallel(alone.encoder)  # and the objective is wrapped in nothing
        train(alone, rank, world)
        results["encoder alone"] = {name.replace("module.", ""): value for name, value in whole_state(alone).items()}
        layer = nn.Linear(HIDDEN, LABELS)
        nn.init.ones_(layer.weight[: LABELS // 2].detach())
        taken = OBJECTIVES["label_embedding"].from_linear(layer, vocabulary_parallel=True, **COMPRESSED)
        results["taken"] = [taken.shards.part(layer.weight), taken.output.weight, taken.auxiliary.weight]
        results["equal"] = of_equal_logits()
        results["refusals"] = refusals(rank, world)
        torch.save(results, f"{folder}/{world}-{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The folder with what each process made; one start of the processes serves all tests of the file."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(one_of, args=(str(folder),), nprocs=max(WORLDS))
    return folder


@pytest.fixture(scope="module", params=WORLDS)
def ranks(request, outcomes):
    return [torch.load(outcomes / f"{request.param}-{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone():
    """What one process makes with all labels and the usual heads."""
    found = {}
    for case in CASES:
        model = EncoderAndObjective(case)
        start = {name: value.clone() for name, value in model.state_dict().items()}
        history = train(model, 0, 1)
        found[case] = {"start": start, "history": history, "model": model}
    return found


def test_made_batches_leave_processes_without_rows():
    counts = [
        [[int((labels[rank::world] != -100).sum()) for rank in range(world)] for world in (2, 3, 4)]
        for _, labels in batches()
    ]
    assert counts[3][0] == [3, 0]
    assert counts[3][2] == [3, 0, 0, 0]
    assert counts[4] == [[0, 0], [0, 0, 0], [0, 0, 0, 0]]
    assert len(set(counts[1][1])) > 1


def test_micro_batches_of_split_labels_are_those_of_one_process(ranks):
    model = EncoderAndObjective("paper")
    history = train(model, 0, 1, micro_batches=2, together=len(ranks))
    for rank in ranks:
        torch.testing.assert_close(rank["micro-batches"]["state"], dict(model.state_dict()), rtol=0, atol=1e-10)
        torch.testing.assert_close(rank["micro-batches"]["history"], history, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_split_labels_end_with_the_parameters_of_one_process(ranks, alone, case):
    expected = alone[case]
    for rank in ranks:
        torch.testing.assert_close(rank[case]["start"], expected["start"], rtol=0, atol=0)
        # Sums of 13 rows and 7 labels in another order, five steps.
        torch.testing.assert_close(rank[case]["state"], dict(expected["model"].state_dict()), rtol=0, atol=1e-12)
    moved = {
        name
        for name, value in expected["model"].state_dict().items()
        if not torch.allclose(value.double(), expected["start"][name].double(), rtol=0, atol=1e-3)
    }
    assert moved >= set(expected["start"]) - {"objective.steps"}  # so that equal parameters say something


@pytest.mark.parametrize("case", CASES)
def test_every_process_says_the_terms_of_the_whole_step(ranks, alone, case):
    for rank in ranks:
        torch.testing.assert_close(rank[case]["history"], alone[case]["history"], rtol=0, atol=1e-12)
    assert all(float(step["total"]) > 0 for step in alone[case]["history"][:4])


@pytest.mark.parametrize("case", CASES)
def test_predictions_and_geometry_are_over_all_labels(ranks, alone, case):
    for number, rank in enumerate(ranks):
        expected = predictions(alone[case]["model"].objective, number)
        torch.testing.assert_close(rank[case]["predictions"], expected, rtol=1e-6, atol=1e-12)  # a geometry is float32


def test_an_objective_beside_a_wrapped_encoder_learns_the_same(ranks, alone):
    expected = dict(alone["paper"]["model"].state_dict())
    for rank in ranks:
        torch.testing.assert_close(rank["encoder alone"], expected, rtol=0, atol=1e-12)


def test_from_linear_takes_this_process_rows_of_a_layer(ranks):
    rows = 0
    for rank in ranks:
        expected, *found = rank["taken"]
        assert all(torch.equal(layer, expected) for layer in found)
        rows += len(expected)
    assert rows == LABELS


def test_of_equal_logits_the_first_label_counts_in_any_number_of_processes(ranks):
    expected = of_equal_logits()
    assert bool(expected["A"][0].any())
    assert not bool(expected["A"][1:].any())
    for rank in ranks:
        torch.testing.assert_close(rank["equal"], expected, rtol=0, atol=1e-12)


def test_what_cannot_be_split_is_refused_in_every_process(ranks):
    for rank in ranks:
        said, world = rank["refusals"], len(ranks)
        assert "DistributedDataParallel would average `output.weight`" in said["averaged"]
        assert "labelembed.keep_split(model)" in said["averaged"]
        assert f"`labels` must be in 0..{4 * world - 1}" in said["strange"]
        assert f"got {4 * world}" in said["strange"]
        assert "`weight` must have the 4 labels" in said["tied"]
        assert "tied" in said["tied"]
        assert f"`num_labels` must be at least the number of processes, {world}" in said["few"]


@pytest.mark.parametrize("case", SETTINGS)
def test_in_one_process_the_split_head_is_the_chunked_one_however_rows_are_cut(case):
    for size in SIZES:
        tensors, labels = made_tensors(*size)
        shards = LabelShards(size[1])
        for chunk_rows in (7, None):
            how = {"given": settings(**SETTINGS[case]), "kind": "compressed", "scale": 2.5, "chunk_rows": chunk_rows}
            terms, gradients = run_head(tensors, labels, **how, impl="chunked")
            found, found_gradients = run_head(tensors, labels, **how, shards=shards)
            torch.testing.assert_close(found._asdict(), terms._asdict(), rtol=0, atol=1e-10)
            torch.testing.assert_close(found_gradients, gradients, rtol=0, atol=1e-10)


def test_parts_of_any_number_of_labels_are_equal_but_for_one_label():
    for num_labels in (1, 7, 12):
        for processes in range(1, num_labels + 1):
            parts = [LabelShards(num_labels, process, processes) for process in range(processes)]
            labels = torch.arange(num_labels)
            assert torch.equal(torch.cat([part.part(labels) for part in parts]), labels)
            assert {part.count for part in parts} <= {num_labels // processes, -(-num_labels // processes)}
            owners = parts[0].owners(labels)
            for part in parts:
                assert torch.equal((owners == part.process).nonzero().squeeze(1), part.part(labels))
                mine, places = part.own(labels.flip(0))
                assert torch.equal(labels.flip(0)[mine] - part.begin, places)


@pytest.mark.parametrize("dimension", [0, 1])
def test_parts_are_drawn_as_the_whole_is(dimension, monkeypatch):
    # 16 rows at a time; with 33 rows of 3 numbers fewer than sixteen numbers are left for the last time.
    monkeypatch.setattr("labelembed.heads.label_shards._DRAWN_AT_ONCE", 1)
    for rows, columns in ((33, 3), (40, 5), (7, 9)):
        with seeded(0, "whole"):
            whole, after = torch.randn(rows, columns), torch.randn(3)
        for process in range(3):
            shards = LabelShards((rows, columns)[dimension], process, 3)
            with seeded(0, "whole"):
                assert torch.equal(
                    shards.drawn(rows, columns, torch.Tensor.normal_, dimension=dimension),
                    shards.part(whole, dimension),
                )
                assert torch.equal(torch.randn(3), after)  # what is drawn next is the same too
