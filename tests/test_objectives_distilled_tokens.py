"""Distillation over tokens: the teacher by its largest entries, against the naive loops; and what the table is."""

from __future__ import annotations

import pytest
import torch

from labelembed.objectives import Distillation
from labelembed.objectives.soft_labels import SoftLabelTable, bytes_needed
from labelembed.seeds import generator, seeded

from .made_objectives import teacher_logits
from .naive.cross_entropy import naive_linear, naive_softmax
from .naive.differences import central_differences
from .naive.distillation import naive_token_distillation_terms
from .naive.remembering import naive_sparse

torch.set_num_threads(1)
HIDDEN, LABELS, TOKENS = 4, 6, 40
TEMPERATURE, WEIGHT = 2.5, 0.7


def made_tokens():
    """Hidden [B, T, H], labels [B, T] with padding, and the tokens' row numbers; at padding there is rubbish."""
    source = generator(0, "distilled tokens")
    hidden = torch.randn(4, 5, HIDDEN, generator=source, dtype=torch.float64)
    labels = torch.randint(LABELS, (4, 5), generator=source)
    rows = torch.randperm(TOKENS, generator=source)[:20].view(4, 5)
    padding = torch.arange(5) >= torch.tensor([5, 2, 0, 3])[:, None]
    labels[padding], rows[padding], hidden[padding] = -100, 10**9, float("nan")
    return hidden, labels, rows


def made_objective(top_k, **arguments):
    with seeded(0, "objective"):
        objective = Distillation(
            HIDDEN,
            LABELS,
            teacher_logits=teacher_logits(LABELS, examples=TOKENS),
            temperature=TEMPERATURE,
            teacher_weight=WEIGHT,
            top_k=top_k,
            **arguments,
        ).double()
    return objective


def exact(objective):
    """Gives the objective its table in float64, so that nothing is rounded."""
    table = objective.teacher_table
    logits = teacher_logits(LABELS, examples=TOKENS).double()
    whole = torch.softmax(logits / TEMPERATURE, dim=1)
    labels = table.labels
    values = whole if labels is None else whole.gather(1, labels.long())
    objective.teacher_table = SoftLabelTable(values, labels)
    return objective


def naive_terms(objective, hidden, labels, rows, top_k):
    weight, bias = objective.output.weight.tolist(), objective.output.bias.tolist()
    logits = [[naive_linear(weight, bias, row) for row in sentence] for sentence in hidden.tolist()]
    return naive_token_distillation_terms(
        logits,
        labels.tolist(),
        rows.tolist(),
        teacher_logits(LABELS, examples=TOKENS).double().tolist(),
        temperature=TEMPERATURE,
        teacher_weight=WEIGHT,
        top_k=top_k,
    )


@pytest.mark.parametrize("top_k", [1, 3, LABELS])
def test_terms_over_tokens_equal_the_naive_loops(top_k):
    objective = exact(made_objective(top_k))
    hidden, labels, rows = made_tokens()
    terms = objective(hidden, labels, rows)._asdict()
    expected = naive_terms(objective, hidden, labels, rows, top_k)
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[name], abs=1e-10), name
    assert expected["teacher"] > 0.05


@pytest.mark.parametrize("top_k", [1, 3, LABELS])
def test_float16_moves_the_terms_by_its_rounding_only(top_k):
    objective = made_objective(top_k)
    hidden, labels, rows = made_tokens()
    terms = objective(hidden, labels, rows)._asdict()
    expected = naive_terms(objective, hidden, labels, rows, top_k)
    for name, value in terms.items():
        # 2^-11 of each of the entries, times temperature squared in the total.
        assert value.item() == pytest.approx(expected[name], abs=4e-3), name
    assert terms["teacher"].item() != pytest.approx(expected["teacher"], abs=1e-10)


def test_gradient_over_tokens_is_that_of_finite_differences():
    objective = exact(made_objective(3))
    hidden, labels, rows = made_tokens()
    counts = labels >= 0
    objective(hidden, labels, rows).total.backward()

    def total_of(tables):
        tokens = (hidden[counts], labels[counts], rows[counts])
        return torch.func.functional_call(objective, tables, tokens).total.item()

    parameters = {name: value.detach() for name, value in objective.named_parameters()}
    for name, expected in central_differences(parameters, total_of).items():
        torch.testing.assert_close(objective.get_parameter(name).grad, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("top_k", [1, 2, LABELS])
def test_table_holds_the_largest_softened_entries(top_k):
    logits = teacher_logits(LABELS, examples=7)
    table = SoftLabelTable.of_logits(logits, temperature=TEMPERATURE, top_k=top_k)
    assert table.values.dtype == torch.float16
    assert table.labels is None or table.labels.dtype == torch.int16
    for place, row in enumerate(logits.double().tolist()):
        expected = naive_sparse(naive_softmax(row, TEMPERATURE), top_k)
        labels = range(LABELS) if table.labels is None else table.labels[place].tolist()
        kept = [expected[label] for label in labels]
        assert table.values[place].tolist() == pytest.approx(kept, rel=2**-10)
        if table.labels is not None:
            assert sorted(kept) == sorted(sorted(naive_softmax(row, TEMPERATURE))[-top_k:])


def test_sizes_that_are_told_are_those_of_the_tables():
    assert bytes_needed(430_000, 4_000) == 430_000 * 32 * 4  # 55 MB
    assert bytes_needed(40_000_000, 4_000) == 5_120_000_000
    assert 430_000 * 4_000 * 4 == 6_880_000_000  # all logits
    for labels, top_k in ((300, None), (100, None), (100, 3), (40_000, 2)):
        table = SoftLabelTable.of_logits(torch.zeros(5, labels), temperature=1.0, top_k=top_k or min(labels, 32))
        if top_k is None and labels <= 256:
            continue
        held = sum(part.numel() * part.element_size() for part in table if part is not None)
        assert held == bytes_needed(5, labels, top_k=top_k)


def test_uniform_table_takes_the_memory_of_one_example():
    table = SoftLabelTable.uniform(10**9, 1_000)
    assert table.values.shape == (10**9, 32)
    assert table.values.untyped_storage().nbytes() == 64
    objective = Distillation(HIDDEN, 1_000, teacher_logits=None, teacher_weight=1.0, temperature=1.0)
    objective.teacher_table = table
    with torch.no_grad():
        objective.output.weight.zero_()
        objective.output.bias.zero_()
    terms = objective(torch.randn(2, HIDDEN), torch.tensor([3, 4]), torch.tensor([0, 10**9 - 1]))
    assert terms.teacher.item() == pytest.approx(0, abs=1e-4)  # float16 of 1/1000
