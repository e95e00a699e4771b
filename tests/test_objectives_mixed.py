"""Rows that belong to two labels: against the mixed target in loops, term by term, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from labelembed.objectives import OBJECTIVES
from labelembed.recipes.probing import mixing_faults

from .made_objectives import CASES, build, made_case, made_rows
from .naive.cross_entropy import naive_linear, naive_mean, naive_softmax
from .naive.label_embedding import naive_argmax
from .naive.mixed import (
    naive_cross_entropy,
    naive_entropy,
    naive_mix,
    naive_mixed_cross_entropy,
    naive_mixed_output,
    naive_uniform,
)
from .naive.teacher_free import naive_virtual_teacher

torch.set_num_threads(1)
SHARE = 0.3
REFUSED = {"adaptive_labels"}
CAN = [case for case, (name, _) in CASES.items() if name not in REFUSED]


def made_batch(objective):
    """Rows, the labels of each, and the rows' places in the training set."""
    hidden, labels = made_rows(objective, ignored=False)
    partners = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    rows = torch.arange(len(labels)) * 3 + 1
    return hidden, labels, partners, rows


def mixed(objective, hidden, labels, partners, rows, share=SHARE):
    return objective.mixed(hidden, labels, labels[partners], share, rows=rows, other_rows=rows[partners])


def one_hot(objective, logits, labels, others, places):
    return {}


def label_smoothing(objective, logits, labels, others, places):
    return {"uniform": naive_uniform(logits)}


def confidence_penalty(objective, logits, labels, others, places):
    return {"entropy": naive_mean([naive_entropy(naive_softmax(row)) for row in logits])}


def teacher_free(objective, logits, labels, others, places):
    def teacher(label, count):
        settings = {"true_probability": objective.true_probability, "temperature": objective.temperature}
        return naive_virtual_teacher(label, count, preset=objective.preset, **settings)

    softened = objective.temperature if objective.preset == "paper" else 1.0
    students = [[value / softened for value in row] for row in logits]
    own = naive_entropy(teacher(0, len(logits[0])))  # the same for every label
    return {"teacher": naive_mixed_cross_entropy(students, labels, others, SHARE, teacher) - own}


def distillation(objective, logits, labels, others, places):
    table, temperature = objective.teacher_logits.tolist(), objective.temperature
    found = []
    for row, place, other in zip(logits, *places, strict=True):
        first, second = naive_softmax(table[place], temperature), naive_softmax(table[other], temperature)
        crossed = naive_cross_entropy(naive_mix(first, second, SHARE), [value / temperature for value in row])
        found.append(crossed - SHARE * naive_entropy(first) - (1 - SHARE) * naive_entropy(second))
    return {"teacher": naive_mean(found)}


def online_label_smoothing(objective, logits, labels, others, places):
    table = objective.similarities.whole().tolist()
    similarity = naive_mixed_cross_entropy(logits, labels, others, SHARE, lambda label, _: table[label])
    return {"similarity": similarity, "uniform": naive_uniform(logits)}


def label_embedding(objective, logits, labels, others, places):
    table = objective.embedding.weight.tolist()
    target = naive_mixed_cross_entropy(logits, labels, others, SHARE, lambda label, _: naive_softmax(table[label]))
    return {"target": target, "uniform": 0.0}


NAIVE = {
    "one_hot": one_hot,
    "label_smoothing": label_smoothing,
    "confidence_penalty": confidence_penalty,
    "teacher_free": teacher_free,
    "distillation": distillation,
    "online_label_smoothing": online_label_smoothing,
    "label_embedding": label_embedding,
}


@pytest.mark.parametrize("case", [case for case in CAN if CASES[case][0] in NAIVE])
def test_terms_are_those_of_the_mixed_target(case):
    objective = made_case(case)
    hidden, labels, partners, rows = made_batch(objective)
    with torch.no_grad():
        logits = [
            naive_linear(objective.output.weight.tolist(), objective.output.bias.tolist(), row)
            for row in hidden.tolist()
        ]
    others = labels[partners].tolist()
    places = rows.tolist(), rows[partners].tolist()
    expected = NAIVE[CASES[case][0]](objective, logits, labels.tolist(), others, places)
    expected["output"] = naive_mixed_output(logits, labels.tolist(), others, SHARE)
    found = mixed(objective, hidden, labels, partners, rows)._asdict()
    assert len(expected) >= len(found) - 1 or CASES[case][0] == "label_embedding"
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-10, abs=1e-12), name


def test_label_embedding_counts_a_row_for_the_label_that_the_second_head_sees():
    objective = made_case("label_embedding")
    hidden, labels, partners, rows = made_batch(objective)
    found = mixed(objective, hidden, labels, partners, rows)
    second = objective.auxiliary
    logits = [naive_linear(second.weight.tolist(), second.bias.tolist(), row) for row in hidden.tolist()]
    table, limit = objective.embedding.weight.tolist(), objective.confidence_limit
    assert found.auxiliary.item() == pytest.approx(
        naive_mixed_output(logits, labels.tolist(), labels[partners].tolist(), SHARE), rel=1e-10
    )
    hinge, embedding = 0.0, 0.0
    for share, given in ((SHARE, labels.tolist()), (1 - SHARE, labels[partners].tolist())):
        pairs = list(zip(logits, given, strict=True))
        hinge += share * naive_mean([max(0.0, naive_softmax(row)[label] - limit) for row, label in pairs])
        right = [(row, label) for row, label in pairs if naive_argmax(row) == label]
        assert right  # or nothing would be seen here
        softened = [naive_cross_entropy(naive_softmax(row, 2.0), table[label]) for row, label in right]
        embedding += share * naive_mean(softened)
    assert found.hinge.item() == pytest.approx(hinge, rel=1e-10)
    assert found.embedding.item() == pytest.approx(embedding, rel=1e-10)


@pytest.mark.parametrize("case", CAN)
def test_every_term_and_gradient_is_the_weighted_sum_of_both_labels(case):
    objective = made_case(case).eval()  # where nothing is remembered between the two
    hidden, labels, partners, rows = made_batch(objective)

    def gradients(call):
        given = hidden.clone().requires_grad_()
        objective.zero_grad()
        terms = call(given)
        terms.total.backward()
        parameters = dict(objective.named_parameters())
        found = {name: value.grad.clone() for name, value in parameters.items() if value.grad is not None}
        return {name: term.detach() for name, term in terms._asdict().items()}, found | {"hidden": given.grad}

    both = gradients(lambda given: mixed(objective, given, labels, partners, rows))
    first = gradients(lambda given: objective(given, labels, rows))
    second = gradients(lambda given: objective(given, labels[partners], rows[partners]))
    for found, one, other in zip(both, first, second, strict=True):
        expected = {name: SHARE * value + (1 - SHARE) * other[name] for name, value in one.items()}
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert type(objective.mixed(hidden, labels, labels, 0.5, rows=rows, other_rows=rows)) is type(
        objective(hidden, labels, rows)
    )


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - REFUSED))
@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_share_of_one_is_the_label_itself(name, share):
    objective = build(name, 4, 5).double()
    hidden, labels, partners, rows = made_batch(objective)
    chosen = torch.arange(len(labels)) if share == 1 else partners
    alone = copy.deepcopy(objective)(hidden, labels[chosen], rows[chosen])
    found = mixed(objective.eval(), hidden, labels, partners, rows, share)
    torch.testing.assert_close(tuple(found), tuple(alone), rtol=1e-12, atol=1e-12)


def test_target_warm_up_counts_a_mixed_step_once():
    objective = build("label_embedding", 4, 5, target_warmup_steps=2, output_weight=0.0).double()
    hidden, labels, partners, rows = made_batch(objective)
    begun = []
    for _ in range(4):
        found = mixed(objective, hidden, labels, partners, rows)
        rest = found.auxiliary + found.hinge + found.embedding
        begun.append(bool((found.total - rest).abs() > 1e-9))
        if begun[-1]:
            torch.testing.assert_close(found.total - rest, found.target)
    assert begun == [False, False, True, True]
    assert int(objective.steps) == 4


@pytest.mark.parametrize("preset", ["moving_average", "published"])
def test_online_smoothing_remembers_a_row_under_the_label_it_looks_like(preset):
    objective = made_case("online_label_smoothing", preset=preset).train()
    hidden, labels, partners, rows = made_batch(objective)
    one_by_one = copy.deepcopy(objective)
    mixed(objective, hidden, labels, partners, rows)
    one_by_one(hidden, labels, rows)
    one_by_one(hidden, labels[partners], rows[partners])
    state = objective.state_dict()
    assert any(bool((value != before).any()) for value, before in zip(
        state.values(), made_case("online_label_smoothing", preset=preset).state_dict().values(), strict=True
    ))  # fmt: skip
    torch.testing.assert_close(state, one_by_one.state_dict(), rtol=0, atol=0)


def test_retrospection_reads_what_was_stored_of_both_rows():
    objective = build("retrospection", 4, 5, num_rows=60, store_every=1).double()
    hidden, labels, partners, rows = made_batch(objective)
    objective.begin_epoch(0, 4)
    objective.end_epoch()
    assert objective.needs_training_pass()
    objective.begin_pass()
    everything = torch.arange(60)
    objective.observe(torch.randn(60, 4, dtype=torch.float64), everything % 5, everything)
    objective.end_pass()
    objective.begin_epoch(1, 4)
    found = mixed(objective.train(), hidden, labels, partners, rows)
    first = objective(hidden, labels, rows)
    second = objective(hidden, labels[partners], rows[partners])
    assert second.retrospection.item() != pytest.approx(first.retrospection.item(), rel=1e-3)
    expected = SHARE * first.retrospection + (1 - SHARE) * second.retrospection
    torch.testing.assert_close(found.retrospection, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("adaptive_labels", {}, "a mixed row is of two"),
        ("retrospection", {"store": "steps"}, "stores what the network says of a row in its own step"),
    ],
)
def test_objectives_whose_rows_belong_to_one_label_refuse_with_a_reason(name, arguments, reason):
    objective = build(name, 4, 5, **arguments)
    hidden, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=rf"cannot learn from mixed rows: .*{reason}"):
        objective.mixed(hidden, labels, labels, 0.5)
    defaults = {"store_every": 1, "temperature": 1.0} if name == "retrospection" else {}
    (fault,) = mixing_faults({"name": name, **defaults, **arguments})
    assert fault.startswith(f"data.mixing: must be 'none' with the objective '{name}': ")
    assert reason in fault
