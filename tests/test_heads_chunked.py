"""The chunked heads: terms and gradients are those of the plain lines and of the naive loops, however rows are cut."""

from __future__ import annotations

import pytest
import torch

from labelembed.heads import chunked, linear_cross_entropy

from .made_heads import made_tensors, run_head, settings
from .naive.chunked_head import naive_head_terms, naive_smoothed_total, naive_trained_total
from .naive.differences import central_differences
from .naive.label_embedding import naive_compressed_row

torch.set_num_threads(1)
# Float64 sums of some hundred numbers near 1, in another order.
TOLERANCE = 1e-10
KINDS = ("full", "compressed", "fixed")
SETTINGS = {
    "plain": {},
    "shared": {"shared": True},
    "summed squared hinge": {"hinge_norm": 2, "hinge_reduction": "sum"},
    "summed hinge, uniform": {"hinge_reduction": "sum", "uniform_weight": 0.3},
    "squared hinge": {"hinge_norm": 2, "confidence_limit": 0.0},
    "warm-up": {"target_weight": torch.zeros((), dtype=torch.float64)},
    "after warm-up": {"target_weight": torch.full((), 0.4, dtype=torch.float64)},
    "target only": {"output_weight": 0.0, "target_weight": 1.0},
    "neither": {"output_weight": 0.0, "target_weight": torch.zeros((), dtype=torch.float64)},
    "sharp": {"temperature": 0.3, "uniform_weight": 1.0},
    "flat": {"temperature": float("inf")},
}
# Rows and labels: none, one, more than a block of one label, one label in all, many labels seen once.
SIZES = ((0, 5), (1, 5), (40, 7), (33, 1), (150, 3), (60, 90))


def assert_same_head(tensors, labels, given, kind, *, scale=1.0, chunk_rows=None):
    plain = run_head(tensors, labels, given, kind, scale=scale, impl="reference")
    found = run_head(tensors, labels, given, kind, scale=scale, impl="chunked", chunk_rows=chunk_rows)
    torch.testing.assert_close(found[0]._asdict(), plain[0]._asdict(), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(found[1], plain[1], rtol=0, atol=TOLERANCE)
    return found


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_chunked_head_is_that_of_the_plain_lines(kind, case):
    for size in SIZES:
        tensors, labels = made_tensors(*size)
        for chunk_rows in (7, None):
            assert_same_head(tensors, labels, settings(**SETTINGS[case]), kind, chunk_rows=chunk_rows)


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 5, 8, 13, 39, 40, 41])
@pytest.mark.parametrize("kind", KINDS)
def test_chunk_edges_through_the_rows_of_a_label_change_nothing(kind, chunk_rows):
    tensors, labels = made_tensors(40, 3)
    assert labels.bincount().max() > 13  # so that most sizes cut a label's rows
    for scale in (1.0, 2.5):
        assert_same_head(tensors, labels, settings(uniform_weight=0.2), kind, scale=scale, chunk_rows=chunk_rows)


@pytest.mark.parametrize("kind", KINDS)
def test_both_layers_in_one_loop_are_cut_as_well_as_each_in_its_own(kind, monkeypatch):
    monkeypatch.setattr(chunked, "FEWEST_ROWS", 1)  # as with chunks of 512 rows and more
    for size in ((40, 3), (60, 90), (150, 3)):
        tensors, labels = made_tensors(*size)
        for chunk_rows in (1, 5, 13, 39):
            assert_same_head(tensors, labels, settings(uniform_weight=0.2), kind, chunk_rows=chunk_rows)


@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_rows_that_are_all_wrong_teach_the_embedding_nothing(kind):
    tensors, _ = made_tensors(12, 5)
    labels = (tensors["hidden"] @ tensors["auxiliary_weight"].T + tensors["auxiliary_bias"]).argmin(dim=1)
    terms, gradients = assert_same_head(tensors, labels, settings(), kind, chunk_rows=5)
    assert terms.embedding == 0
    assert not any(bool(gradients[name].any()) for name in ("full", "left", "right"))
    assert bool(gradients["hidden"].any())


@pytest.mark.parametrize("shared", [False, True])
def test_of_equal_logits_the_first_label_counts(shared):
    tensors, _ = made_tensors(6, 4)
    for name in ("weight", "bias", "auxiliary_weight", "auxiliary_bias"):
        tensors[name].zero_()
    tensors["bias"][2] = tensors["auxiliary_bias"][2] = -1.0
    labels = torch.tensor([0, 0, 1, 2, 3, 3])
    terms, gradients = assert_same_head(tensors, labels, settings(shared=shared), "full")
    assert bool(gradients["full"][0].any())
    assert not gradients["full"][1:].any()
    assert terms.embedding > 0


def test_rows_far_beyond_the_smallest_float_have_finite_terms():
    tensors, labels = made_tensors(20, 6)
    for name in ("weight", "auxiliary_weight"):
        tensors[name] *= 2000
    plain, _ = run_head(tensors, labels, settings(), "full", impl="reference")
    found, gradients = run_head(tensors, labels, settings(), "full", impl="chunked", chunk_rows=7)
    assert plain.output > 700  # the softmax of the true label is 0 in float64
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())
    torch.testing.assert_close(found._asdict(), plain._asdict(), rtol=1e-12, atol=1e-12)


def as_lists(tensors, names):
    return [tensors[name].tolist() for name in names]


def naive_parts(tensors, kind):
    """Returns hidden rows, both layers and the function label -> e as the naive forms take them."""
    layers = (as_lists(tensors, ("weight", "bias")), as_lists(tensors, ("auxiliary_weight", "auxiliary_bias")))
    if kind == "full":
        table = tensors["full"].tolist()
        return tensors["hidden"].tolist(), layers, table.__getitem__
    left, right = as_lists(tensors, ("left", "right"))
    return tensors["hidden"].tolist(), layers, lambda label: naive_compressed_row(left, right, label)


@pytest.mark.parametrize("case", ["plain", "summed squared hinge", "summed hinge, uniform", "sharp"])
@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_terms_and_gradients_are_those_of_the_naive_loops(kind, case):
    given = settings(**SETTINGS[case])
    tensors, labels = made_tensors(9, 4, hidden_size=3, rank=2)
    constants = {
        "temperature": given.temperature,
        "confidence_limit": given.confidence_limit,
        "hinge_norm": given.hinge_norm,
        "hinge_reduction": given.hinge_reduction,
    }
    names = ("output_weight", "target_weight", "uniform_weight")
    weights = {name: getattr(given, name) for name in names}
    hidden, layers, embedding_of = held = naive_parts(tensors, kind)
    expected = naive_head_terms(hidden, layers, embedding_of, labels.tolist(), weights=weights, **constants)
    if given.uniform_weight == 0:
        expected["uniform"] = 0.0  # not computed where it has no part

    def trained(moved):
        parts = naive_parts(moved, kind)
        return naive_trained_total(*parts, held, labels.tolist(), weights=weights, **constants)

    terms, gradients = run_head(tensors, labels, given, kind, impl="chunked", chunk_rows=4)
    for name, value in terms._asdict().items():
        assert value.item() == pytest.approx(expected[name], abs=TOLERANCE), name
    # Central differences with steps of 1e-6: 1e-12 from the third derivative, 1e-10 from rounding.
    torch.testing.assert_close(gradients, central_differences(tensors, trained), rtol=0, atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_chunked_cross_entropy_is_that_of_the_plain_lines_and_of_the_loops(smoothing, bias):
    for size in SIZES:
        tensors, labels = made_tensors(*size)
        names = ("hidden", "weight", "bias") if bias else ("hidden", "weight")
        results = []
        for impl, rows in (("reference", None), ("chunked", 1), ("chunked", 7), ("chunked", None)):
            leaves = [tensors[name].clone().requires_grad_() for name in names]
            terms = linear_cross_entropy(
                *leaves, *([] if bias else [None]), labels, label_smoothing=smoothing, impl=impl, chunk_rows=rows
            )
            (terms.total * 2.5).backward()
            results.append((terms._asdict(), [leaf.grad for leaf in leaves]))
        for found in results[1:]:
            torch.testing.assert_close(found, results[0], rtol=0, atol=TOLERANCE)
        layer = tensors["weight"].tolist(), (tensors["bias"] * bias).tolist()
        naive = naive_smoothed_total(tensors["hidden"].tolist(), layer, labels.tolist(), smoothing=smoothing)
        assert results[-1][0]["total"].item() == pytest.approx(naive, abs=TOLERANCE)
