"""The label-embedding head from logits: both implementations against the naive loops."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.heads import HeadSettings, full_precision, label_embedding_terms

from .naive.cross_entropy import naive_softmax
from .naive.label_embedding import (
    naive_argmax,
    naive_fixed_label_embedding_terms,
    naive_label_embedding_terms,
    naive_label_embedding_total,
)

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
IMPLEMENTATIONS = ("reference", "closed_form")
# Float64 sums of at most a few hundred numbers near 1, in another order than the loops.
NAIVE_TOLERANCE = 1e-10


def make_settings(**changes):
    given = {
        "temperature": 2.0,
        "confidence_limit": 0.6,
        "hinge_norm": 1,
        "hinge_reduction": "mean",
        "output_weight": 0.7,
        "target_weight": 0.4,
        "uniform_weight": 0.0,
    }
    return HeadSettings(**(given | changes))


def make_head(count=7, num_labels=5, seed=0, dtype=torch.float64):
    """Returns first, second, E and labels: three rows in four are right, some of them above the limit."""
    source = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, num_labels, generator=source, dtype=torch.float64) for _ in range(2))
    second = second * 2
    table = torch.randn(num_labels, num_labels, generator=source, dtype=torch.float64)
    labels = second.argmax(dim=1)
    labels[3::4] = (labels[3::4] + 1) % num_labels
    return first.to(dtype), second.to(dtype), table.to(dtype), labels


def naive_terms(first, second, table, labels, settings):
    rows = table.tolist()
    terms = naive_label_embedding_terms(
        first.tolist(),
        second.tolist(),
        lambda label: rows[label],
        labels.tolist(),
        temperature=settings.temperature,
        confidence_limit=settings.confidence_limit,
        hinge_norm=settings.hinge_norm,
        hinge_reduction=settings.hinge_reduction,
    )
    if settings.uniform_weight == 0:
        terms["uniform"] = 0.0  # not computed where it has no part
    total = naive_label_embedding_total(
        terms,
        output_weight=settings.output_weight,
        target_weight=float(settings.target_weight),
        uniform_weight=settings.uniform_weight,
    )
    return terms | {"total": total}


def assert_terms(terms, naive):
    assert set(terms._asdict()) == set(naive)
    for name, value in terms._asdict().items():
        assert value.shape == ()
        assert float(value) == pytest.approx(naive[name], abs=NAIVE_TOLERANCE), name


def test_made_head_has_right_and_wrong_rows_and_an_acting_hinge():
    for count in (7, 30):
        _, second, _, labels = make_head(count)
        right = [naive_argmax(row) == label for row, label in zip(second.tolist(), labels.tolist(), strict=True)]
        true = [naive_softmax(row)[label] for row, label in zip(second.tolist(), labels.tolist(), strict=True)]
        assert any(right)
        assert not all(right)
        assert any(share > 0.6 for share in true)
        assert any(share < 0.6 for share in true)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("uniform_weight", [0.0, 0.3])
@pytest.mark.parametrize("hinge_reduction", ["mean", "sum"])
@pytest.mark.parametrize("hinge_norm", [1, 2])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_every_term_equals_the_naive_loops(implementation, uniform_weight, hinge_reduction, hinge_norm, count):
    settings = make_settings(hinge_norm=hinge_norm, hinge_reduction=hinge_reduction, uniform_weight=uniform_weight)
    first, second, table, labels = make_head(count)
    terms = label_embedding_terms(first, second, table[labels], labels, settings, implementation=implementation)
    assert_terms(terms, naive_terms(first, second, table, labels, settings))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("temperature", "confidence_limit"), [(0.3, 0.0), (1.0, 1.0), (50.0, 0.2), (math.inf, 0.9)])
def test_every_term_equals_the_naive_loops_at_other_constants(implementation, temperature, confidence_limit):
    settings = make_settings(temperature=temperature, confidence_limit=confidence_limit)
    first, second, table, labels = make_head()
    terms = label_embedding_terms(first, second, table[labels], labels, settings, implementation=implementation)
    assert_terms(terms, naive_terms(first, second, table, labels, settings))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_fixed_head_has_the_terms_of_equation_17_only(implementation):
    first, _, table, labels = make_head()
    settings = make_settings(uniform_weight=0.2)
    terms = label_embedding_terms(first, None, table[labels], labels, settings, implementation=implementation)
    rows = table.tolist()
    naive = naive_fixed_label_embedding_terms(first.tolist(), lambda label: rows[label], labels.tolist())
    total = 0.7 * naive["output"] + 0.4 * naive["target"] + 0.2 * naive["uniform"]
    assert_terms(terms, naive | {"auxiliary": 0.0, "hinge": 0.0, "embedding": 0.0, "total": total})


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_target_weight_as_a_tensor_equals_the_number(implementation):
    first, second, table, labels = make_head()
    given = (first, second, table[labels], labels)
    number = label_embedding_terms(*given, make_settings(target_weight=0.25), implementation=implementation)
    weight = torch.tensor(0.25, dtype=torch.float64)
    tensor = label_embedding_terms(*given, make_settings(target_weight=weight), implementation=implementation)
    torch.testing.assert_close(tuple(tensor), tuple(number), rtol=0, atol=0)  # 0.25 is exact: the same operations


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_tied_logits_count_as_the_first_of_them(implementation):
    second = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    first, table = torch.zeros_like(second), torch.eye(3, dtype=torch.float64)
    labels = torch.tensor([0, 1])
    terms = label_embedding_terms(first, second, table[labels], labels, make_settings(), implementation=implementation)
    assert_terms(terms, naive_terms(first, second, table, labels, make_settings()))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_logits_of_hundreds_give_finite_terms(implementation):
    first, second, table, labels = make_head()
    terms = label_embedding_terms(
        first * 500, second * 500, table[labels] * 500, labels, make_settings(), implementation=implementation
    )
    naive = naive_terms(first * 500, second * 500, table * 500, labels, make_settings())
    for name, value in terms._asdict().items():
        assert float(value) == pytest.approx(naive[name], rel=1e-12, abs=1e-10), name  # terms of 1,000: relative


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_logits_in_transposed_memory_give_the_same_terms(implementation):
    first, second, table, labels = make_head()
    given = (first, second, table[labels])
    transposed = [values.T.contiguous().T for values in given]
    assert not any(values.is_contiguous() for values in transposed)
    one = label_embedding_terms(*given, labels, make_settings(), implementation=implementation)
    other = label_embedding_terms(*transposed, labels, make_settings(), implementation=implementation)
    torch.testing.assert_close(tuple(other), tuple(one), rtol=0, atol=1e-12)  # sums may go in another order


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_worked_in_float32(implementation, dtype):
    first, second, table, labels = make_head(dtype=dtype)
    settings = make_settings(uniform_weight=0.1)
    low = label_embedding_terms(first, second, table[labels], labels, settings, implementation=implementation)
    naive = naive_terms(first.double(), second.double(), table.double(), labels, settings)
    for name, value in low._asdict().items():
        assert value.dtype == torch.float32, name
        # The same rounded logits go into both, so only float32's own 6e-8 times a few sums may show.
        assert float(value) == pytest.approx(naive[name], rel=2e-6, abs=1e-6), name


def test_full_precision_changes_float16_and_bfloat16_only():
    for dtype in (torch.float16, torch.bfloat16):
        assert full_precision(torch.zeros(1, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        values = torch.zeros(1, dtype=dtype)
        assert full_precision(values) is values


def test_auto_takes_the_closed_form_in_eager_mode():
    first, second, table, labels = make_head()
    first.requires_grad_()
    auto = label_embedding_terms(first, second, table[labels], labels, make_settings())
    closed = label_embedding_terms(first, second, table[labels], labels, make_settings(), implementation="closed_form")
    assert type(auto.total.grad_fn) is type(closed.total.grad_fn)
    plain = label_embedding_terms(first, second, table[labels], labels, make_settings(), implementation="reference")
    assert type(plain.total.grad_fn) is not type(closed.total.grad_fn)
