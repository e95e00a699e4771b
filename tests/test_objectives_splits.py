"""The rows of a step split over 2 or 3 processes, into micro-batches, or both: trained is what one batch trains."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from labelembed import whole_batch
from labelembed.objectives import LabelEmbedding, OneHot

from .made_splits import (
    CASES,
    GROUPED,
    EncoderAndObjective,
    assert_close,
    evaluate,
    made_batches,
    results_of,
    train,
    train_with_adam,
)

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason="this torch has no gloo, by which processes on a CPU talk",
)
# Where something is taken of each micro-batch: they add up to another step, the same in however many processes.
COUPLED = {case for case in CASES if EncoderAndObjective(case).objective.row_coupling is not None}
SPLIT = [case for case in CASES if case not in COUPLED]
WORLDS = {2: (1, 4), 3: (1, 2)}


@pytest.fixture(scope="module", params=[pytest.param(world, marks=needs_gloo) for world in WORLDS])
def ranks(request, tmp_path_factory):
    """What 2 and 3 processes made; each is started once for all tests of the file."""
    return results_of(request.param, tmp_path_factory.mktemp("processes"), WORLDS[request.param])


@pytest.fixture(scope="module")
def single():
    """What one process makes of undivided batches."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {case: train(EncoderAndObjective(case)) for case in CASES}
    torch.set_num_threads(before)
    return found


def shared_terms(ranks, key, step):
    shares = [rank[key]["history"][step] for rank in ranks]
    return {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}


def test_made_batches_count_unequal_rows_in_the_processes():
    labels = [labels for epoch in range(2) for _, labels, _ in made_batches(epoch)]
    for world in (2, 3):
        counts = [[int((each[rank::world] != -100).sum()) for rank in range(world)] for each in labels]
        assert min(counts[0]) >= 3
        assert counts[3][1] == 0
        assert sum(counts[3]) > 0
        assert sum(counts[4]) == 0
        assert len({tuple(each) for each in counts}) >= 5
    learns_from_right = {case for case, (name, _) in CASES.items() if name == "label_embedding"} - {"fixed"}
    assert {"adaptive", "adaptive_repel", "adaptive_before", "adaptive_average"} | learns_from_right == COUPLED


@pytest.mark.parametrize("case", CASES)
def test_processes_end_with_the_parameters_and_the_state_of_one(ranks, single, case):
    expected = single[case]["state"]
    for rank in ranks:
        assert_close(rank[f"{case} 1"]["state"], expected)
    for step, terms in enumerate(single[case]["history"]):
        # Float32 sums in another order.
        torch.testing.assert_close(shared_terms(ranks, f"{case} 1", step), terms, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_training_moves_all_that_is_compared(single, case):
    start, end = EncoderAndObjective(case).state_dict(), single[case]["state"]
    moved = {name for name in end if not torch.allclose(end[name].float(), start[name].float(), rtol=0, atol=1e-3)}
    # Never moved, or moved and forgotten at the end of the epoch.
    still = {"objective.vectors", "objective.gathering.seen"}
    still |= {"objective.embedding.weight"} if case == "fixed" else set()
    if "warmup" not in case and case != "adaptive_before":
        still.add("objective.steps")
    if "published" in case:
        still |= {name for name in start if "seen" in name or name.endswith("labels")}
    assert moved >= set(end) - still


@pytest.mark.parametrize("micro_batches", [2, 4])
@pytest.mark.parametrize("case", SPLIT)
def test_micro_batches_end_with_the_parameters_and_the_state_of_one_batch(single, case, micro_batches):
    found = train(EncoderAndObjective(case), micro_batches=micro_batches)  # 11 rows: 6 and 5; 3, 3, 3 and 2
    assert_close(found["state"], single[case]["state"])
    for terms, expected in zip(found["history"], single[case]["history"], strict=True):
        torch.testing.assert_close(terms, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_of_processes_end_with_what_one_process_ends_with(ranks, single, case):
    world = len(ranks)
    micro_batches = 4 if world == 2 else 2
    expected = single[case]
    if case in COUPLED:  # which rows come together decides
        expected = train(EncoderAndObjective(case), micro_batches=micro_batches, together=world)
    for rank in ranks:
        assert_close(rank[f"{case} {micro_batches}"]["state"], expected["state"])
    for step, terms in enumerate(expected["history"]):
        torch.testing.assert_close(shared_terms(ranks, f"{case} {micro_batches}", step), terms, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", sorted(COUPLED))
def test_objective_that_couples_rows_says_so_for_micro_batches_add_up_to_another_step(single, case):
    model = EncoderAndObjective(case)
    assert "mean" in model.objective.row_coupling
    found = train(model, micro_batches=4)["state"]
    assert all(torch.isfinite(value).all() for value in found.values())
    # Not what one batch makes, or there were nothing to say.
    differences = [(found[name] - value).abs().max().item() for name, value in single[case]["state"].items()]
    assert max(differences) > 1e-3


def test_processes_that_evaluate_wait_for_no_other(ranks):
    # The first has one batch more than the second, and in evaluation mode each has the means of its own rows.
    for number, rank in enumerate(ranks):
        assert rank["evaluation"] == evaluate(number)
        assert len(rank["evaluation"]["paper"]) == 3 - number


def test_adaptive_labels_under_adam_end_as_in_one_process(ranks):
    for rank in ranks:
        # Float32, 25 steps of 1e-3 each: Adam divides by the gradient's size, so its rounding counts.
        torch.testing.assert_close(rank["adam"], train_with_adam(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", GROUPED)
def test_step_is_shared_by_the_process_group_of_the_objective(ranks, single, case):
    for number, rank in enumerate(ranks):
        assert_close(rank["groups"][f"{case} 1"]["state"], single[case]["state"])
        expected = train(EncoderAndObjective(case), micro_batches=2, together=len(ranks[number % 2 :: 2]))
        assert_close(rank["groups"][f"{case} 2"]["state"], expected["state"])
        assert rank["groups"]["refusal"] == (
            f"process {number} is not in the `process_group` that its objective was given"
        )


def test_all_processes_hold_the_same_parameters(ranks):
    for key in (f"{case} 1" for case in CASES):
        for other in ranks[1:]:
            torch.testing.assert_close(ranks[0][key]["state"], other[key]["state"], rtol=0, atol=0)


def test_factors_count_the_rows_of_all_processes(ranks):
    world = len(ranks)
    rows = sum(rank + 2 for rank in range(world))
    for rank in ranks:
        factors = rank["factors"]
        of_rows, of_nothing = factors["mean"]
        assert of_rows.dtype == torch.float64
        assert of_rows.item() == factors["count"].item() == world / rows
        assert of_nothing.item() == world  # finite, so that an empty sum stays 0
        assert factors["accumulated"] == world / rows  # rank + 1 rows and one more in each
        assert (factors["sum"], factors["processes"]) == (float(world), world)


def test_rows_of_all_processes_are_gathered_one_after_the_other(ranks):
    for rank in ranks:
        first, second = rank["gathered"]
        assert first.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3][: len(first)]
        assert len(first) == sum(number + 2 for number in range(len(ranks)))
        assert second.tolist() == [[2 * value] for value in first.tolist()]


def test_total_adds_up_and_sends_every_gradient_everywhere(ranks):
    whole = sum(range(1, len(ranks) + 1))  # the weights of the losses, and the factors of the second value
    for number, rank in enumerate(ranks):
        assert rank["total"]["values"].tolist() == [0, whole]
        gradient = rank["total"]["gradient"][:2]
        assert gradient.tolist() == [whole * (number + 1), 10 * whole * (number + 1)]


def test_factors_of_one_process_are_those_of_its_own_rows():
    like = torch.zeros(1, dtype=torch.float64)
    assert whole_batch.mean_factor(3, like=like) == 1 / 3
    factor = whole_batch.count_factor(torch.tensor(3), like=like)
    assert factor.dtype == torch.float64
    assert factor.item() == 1 / 3
    assert whole_batch.mean_factor(0, like=like) == 1
    assert whole_batch.count_factor(torch.tensor(0), like=like).item() == 1
    assert (whole_batch.sum_factor(), whole_batch.processes()) == (1.0, 1)


# ---- what a step of one's own loop may look like


def two_objectives(**arguments):
    torch.manual_seed(0)
    first = LabelEmbedding(6, 4, confidence_limit=0.2, **arguments)
    second = LabelEmbedding(6, 4, confidence_limit=0.2, **arguments)
    second.load_state_dict(first.state_dict())
    hidden = 3 * torch.randn(12, 6)
    labels = first.auxiliary(hidden).argmax(1) if first.auxiliary is not None else first.output(hidden).argmax(1)
    labels[::3] = (labels[::3] + 1) % 4
    return first, second, hidden, labels


def gradients_of(objective):
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def gradients_of_micro_batches(objective, hidden, labels, size):
    """Those of one batch; that of E is of each micro-batch alone, times its share of the rows (eq. 11)."""
    objective(hidden, labels).total.backward()
    expected = gradients_of(objective)
    expected["embedding.weight"] = 0
    for some, its in zip(hidden.split(size), labels.split(size), strict=True):
        term = objective(some, its).total
        objective.zero_grad()
        term.backward()
        expected["embedding.weight"] += objective.embedding.weight.grad * (len(its) / len(labels))
    return expected


@pytest.mark.parametrize("impl", ["reference", "chunked"])
@pytest.mark.parametrize("order", ["one sum", "backwards"])
def test_backward_passes_may_come_after_all_forward_passes_and_in_any_order(impl, order):
    whole, split, hidden, labels = two_objectives(impl=impl)
    expected = gradients_of_micro_batches(whole, hidden, labels, 5)
    with split.accumulate(labels.split(5)):
        totals = [split(some, its).total for some, its in zip(hidden.split(5), labels.split(5), strict=True)]
        for total in [sum(totals)] if order == "one sum" else totals[::-1]:
            total.backward()
    found = gradients_of(split)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert expected["embedding.weight"].abs().max() > 0.01


def test_rows_that_were_not_announced_are_refused_and_leave_no_step_open():
    objective = OneHot(6, 4)
    labels = torch.tensor([0, 1, 2, -100])
    with (
        pytest.raises(ValueError, match="has 3 rows that count, and the step was announced with 2, 4"),
        objective.accumulate([labels[:2], torch.zeros(4, dtype=torch.int64)]),
    ):
        objective(torch.zeros(4, 6), labels)
    objective(torch.zeros(4, 6), labels)


def test_a_second_step_in_a_step_is_refused():
    objective = OneHot(6, 4)
    labels = torch.tensor([0])
    with objective.accumulate([labels]):  # noqa: SIM117 - the inner one fails
        with pytest.raises(RuntimeError, match="under way already"), objective.accumulate([labels]):
            pass


def test_a_step_that_fails_moves_no_state():
    model = EncoderAndObjective("online")
    before = model.objective.similarities.whole()
    inputs, labels, rows = next(made_batches(0))

    def fail():
        with model.objective.accumulate([labels]):
            model(inputs, labels, rows)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    torch.testing.assert_close(model.objective.similarities.whole(), before, rtol=0, atol=0)
