"""The Triton heads in Triton's interpreter: run by `test_heads_triton.py`, for the variable must be set beforehand.

    TRITON_INTERPRET=1 python -m pytest tests/interpreted_triton.py

Sizes are small, for the interpreter takes milliseconds for a row.
"""

from __future__ import annotations

import pytest
import torch
from benchmarks import triton_head

from labelembed.heads import fused_triton_kernels as kernels
from labelembed.heads import label_embedding_cross_entropy, linear_cross_entropy
from labelembed.objectives import LabelEmbedding

from .made_heads import made_tensors, run_head, settings
from .naive.chunked_head import naive_smoothed_total
from .test_heads_chunked import SETTINGS, TOLERANCE
from .test_heads_chunked_behaviour import largest_of, trained

CASES = [("compressed", case) for case in SETTINGS]
SAMPLES = {
    "half": {"auxiliary_fraction": 0.5, "auxiliary_offset": 0.3},
    "half, shared": {"auxiliary_fraction": 0.5, "auxiliary_offset": 0.3, "shared": True},
    "sparse": {"sparse_gradients": True, "auxiliary_fraction": 0.7, "hinge_reduction": "sum"},
    "sparse, shared": {"sparse_gradients": True, "shared": True},
}
CASES += [("compressed", "half"), ("compressed", "half, shared"), *(("full", case) for case in SAMPLES)]
CASES += [("full", case) for case in ("plain", "shared", "summed squared hinge", "neither", "sharp")]
CASES += [("fixed", case) for case in ("plain", "summed hinge, uniform", "warm-up")]


def assert_same_head(tensors, labels, given, kind, *, scale=1.0, chunk_rows=None):
    plain = run_head(tensors, labels, given, kind, scale=scale, impl="reference")
    found = run_head(tensors, labels, given, kind, scale=scale, impl="triton", chunk_rows=chunk_rows)
    torch.testing.assert_close(found[0]._asdict(), plain[0]._asdict(), rtol=0, atol=TOLERANCE)
    for name, gradient in found[1].items():
        assert gradient.is_sparse == plain[1][name].is_sparse
        torch.testing.assert_close(gradient.to_dense(), plain[1][name].to_dense(), rtol=0, atol=TOLERANCE)
    return found


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_fused_head_is_that_of_the_plain_lines(kind, case):
    tensors, labels = made_tensors(9, 5)
    assert labels.bincount().max() > 2  # a label's rows are cut by a chunk's edge
    given = settings(**(SETTINGS | SAMPLES)[case])
    if given.shared:  # so that most rows are right here as well
        tensors["weight"], tensors["bias"] = tensors["auxiliary_weight"], tensors["auxiliary_bias"]
    assert_same_head(tensors, labels, given, kind, chunk_rows=4, scale=2.5)


def test_second_layer_in_bfloat16_moves_nothing_but_what_it_teaches():
    tensors, labels = made_tensors(20, 6)
    tensors = {name: value.float() for name, value in tensors.items()}
    low = settings(auxiliary_dtype=torch.bfloat16)
    exact, plain, found = (
        run_head(tensors, labels, given, "full", impl=impl)
        for given, impl in ((settings(), "reference"), (low, "reference"), (low, "triton"))
    )
    for name, gradient in found[1].items():
        near = 1e-6 if name in ("hidden", "weight", "bias") else 0.02 * float(exact[1][name].abs().max())
        torch.testing.assert_close(gradient, plain[1][name], rtol=0, atol=near)
    assert found[0].output == pytest.approx(exact[0].output.item(), abs=1e-6)
    assert found[0].auxiliary != exact[0].auxiliary


@pytest.mark.parametrize("kind", ["full", "compressed"])
@pytest.mark.parametrize("size", [(0, 5), (1, 1), (1, 5), (17, 1), (24, 2)])
def test_any_number_of_rows_and_labels(kind, size):
    tensors, labels = made_tensors(*size)
    assert_same_head(tensors, labels, settings(uniform_weight=0.2), kind)


@pytest.mark.parametrize(("kind", "shared"), [("full", True), ("compressed", False)])
def test_labels_that_fill_no_block_of_columns(kind, shared, monkeypatch):
    monkeypatch.setattr(kernels, "SLOPES_COLUMNS", 4)
    monkeypatch.setattr(kernels, "STATISTICS_COLUMNS", 8)
    tensors, labels = made_tensors(6, 19)
    assert_same_head(tensors, labels, settings(shared=shared, uniform_weight=0.2), kind)


@pytest.mark.parametrize("num_labels", [1030, 2053])
def test_more_labels_than_a_block_holds(num_labels):
    tensors, labels = made_tensors(5, num_labels)
    labels[:2] = num_labels - 1
    assert_same_head(tensors, labels, settings(uniform_weight=0.2), "full", chunk_rows=3)


@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_rows_that_are_all_wrong_teach_the_embedding_nothing(kind):
    tensors, _ = made_tensors(7, 5)
    labels = (tensors["hidden"] @ tensors["auxiliary_weight"].T + tensors["auxiliary_bias"]).argmin(dim=1)
    terms, gradients = assert_same_head(tensors, labels, settings(), kind)
    assert terms.embedding == 0
    assert not any(bool(gradients[name].any()) for name in ("full", "left", "right"))
    assert bool(gradients["auxiliary_weight"].any())


@pytest.mark.parametrize("shared", [False, True])
def test_of_equal_logits_the_first_label_counts(shared):
    tensors, _ = made_tensors(6, 4)
    for name in ("weight", "bias", "auxiliary_weight", "auxiliary_bias"):
        tensors[name].zero_()
    tensors["bias"][2] = tensors["auxiliary_bias"][2] = -1.0
    labels = torch.tensor([0, 0, 1, 2, 3, 3])
    _, gradients = assert_same_head(tensors, labels, settings(shared=shared), "full")
    assert bool(gradients["full"][0].any())
    assert not gradients["full"][1:].any()


def test_rows_far_beyond_the_smallest_float_have_finite_terms():
    tensors, labels = made_tensors(8, 6)
    for name in ("weight", "auxiliary_weight"):
        tensors[name] *= 2000
    plain, _ = run_head(tensors, labels, settings(), "full", impl="reference")
    found, gradients = run_head(tensors, labels, settings(), "full", impl="triton")
    assert plain.output > 700  # the softmax of the true label is 0 in float64
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())
    torch.testing.assert_close(found._asdict(), plain._asdict(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "dtype", "digits"), [("full", torch.bfloat16, 8), ("compressed", torch.float16, 11)])
def test_low_precision_is_as_near_to_the_exact_gradients_as_the_plain_lines(kind, dtype, digits):
    tensors, labels = made_tensors(24, 9)
    low = {name: value.to(dtype) for name, value in tensors.items()}
    rounded = {name: value.double() for name, value in low.items()}
    # Rows whose two highest logits round to one may be right in one precision and wrong in the other.
    top = (rounded["hidden"] @ rounded["auxiliary_weight"].T + rounded["auxiliary_bias"]).topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > 0.1
    for tables in (low, rounded):
        tables["hidden"] = tables["hidden"][clear]
    labels, given = labels[clear], settings(uniform_weight=0.2)
    exact = run_head(rounded, labels, given, kind, impl="reference")
    plain = run_head(low, labels, given, kind, impl="reference")
    found = run_head(low, labels, given, kind, impl="triton", chunk_rows=12)
    for name, value in found[0]._asdict().items():
        assert value.dtype == torch.float32
        naive = abs(getattr(plain[0], name).item() - getattr(exact[0], name).item())
        # The logits of both are rounded, in products of another order.
        assert abs(value.item() - getattr(exact[0], name).item()) <= naive + 4 * 2**-digits, name
    for name, gradient in found[1].items():
        assert gradient.dtype == dtype
        reach = exact[1][name].abs().max()
        error = (gradient.double() - exact[1][name]).abs().max()
        naive = (plain[1][name].double() - exact[1][name]).abs().max()
        # A row's slopes are rounded and so are the sums: two roundings of half a unit, of which the naive has luck too.
        assert error <= naive + 2 * reach * 2**-digits, name


def test_autocast_computes_in_its_type_and_keeps_sums_in_float32():
    tensors, labels = made_tensors(12, 9)
    tensors = {name: value.float() for name, value in tensors.items()}
    exact = run_head(tensors, labels, settings(), "compressed", impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        terms, gradients = run_head(tensors, labels, settings(), "compressed", impl="triton")
    assert terms.output != exact[0].output
    for name, value in terms._asdict().items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(exact[0], name).item(), abs=0.1), name
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, exact[1][name], rtol=0, atol=0.03 * float(exact[1][name].abs().max()))


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_fused_cross_entropy_is_that_of_the_plain_lines_and_of_the_loops(smoothing, bias):
    for size, rows in (((0, 5), None), ((7, 11), 3)):
        tensors, labels = made_tensors(*size)
        names = ("hidden", "weight", "bias") if bias else ("hidden", "weight")
        results = []
        for how in ({"impl": "reference"}, {"impl": "triton", "chunk_rows": rows}):
            leaves = [tensors[name].clone().requires_grad_() for name in names]
            given = (*leaves, *([] if bias else [None]), labels)
            terms = linear_cross_entropy(*given, label_smoothing=smoothing, **how)
            (terms.total * 2.5).backward()
            results.append((terms._asdict(), [leaf.grad for leaf in leaves]))
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=TOLERANCE)
        layer = tensors["weight"].tolist(), (tensors["bias"] * bias).tolist()
        naive = naive_smoothed_total(tensors["hidden"].tolist(), layer, labels.tolist(), smoothing=smoothing)
        assert results[1][0]["total"].item() == pytest.approx(naive, abs=TOLERANCE)


@pytest.mark.parametrize("case", ["label_smoothing", "full", "compressed"])
def test_objectives_train_to_the_same_parameters_with_ignored_rows_and_tied_weights(case):
    expected = trained(case, "reference", tied=True)
    torch.testing.assert_close(trained(case, "triton", tied=True), expected, rtol=0, atol=1e-11)  # three steps


def test_inputs_that_need_no_gradient_get_none():
    tensors, labels = made_tensors(5, 4)
    for frozen in ({"weight", "bias"}, {"hidden", "full"}, {"auxiliary_weight", "auxiliary_bias", "left"}):
        leaves = {name: value.clone().requires_grad_(name not in frozen) for name, value in tensors.items()}
        for kind in ("full", "compressed"):
            used = {"hidden", "weight", "bias", "auxiliary_weight", "auxiliary_bias"}
            used |= {"full"} if kind == "full" else {"left", "right"}
            for leaf in leaves.values():
                leaf.grad = None
            fused_total(leaves, labels, kind).backward()
            assert {name for name, leaf in leaves.items() if leaf.grad is not None} == used - frozen


def fused_total(leaves, labels, kind, term="total"):
    names = ("hidden", "weight", "bias", "auxiliary_weight", "auxiliary_bias")
    table = (leaves["left"], leaves["right"]) if kind == "compressed" else leaves["full"]
    given = [leaves[name] for name in names]
    return getattr(label_embedding_cross_entropy(*given, table, labels, settings(), impl="triton"), term)


def test_nothing_is_written_where_nothing_learns():
    tensors, labels = made_tensors(5, 4)
    with torch.no_grad():
        total = fused_total(tensors, labels, "compressed")
    expected = run_head(tensors, labels, settings(), "compressed", impl="reference")[0].total
    torch.testing.assert_close(total, expected, rtol=0, atol=TOLERANCE)
    assert not total.requires_grad


def test_no_tensor_of_all_rows_and_labels_is_made():
    tensors, labels = made_tensors(36, 50)
    del tensors["full"]
    found = largest_of(lambda: run_head(tensors, labels, settings(), "compressed", impl="triton", chunk_rows=4))
    # A chunk's logits, or a layer; the interpreter copies what a kernel is given as bytes, of which a number has 8.
    assert found <= 8 * 4 * 50 < 36 * 50


def test_second_derivatives_and_second_ways_back_are_refused():
    tensors, labels = made_tensors(3, 4)
    leaves = {name: value.requires_grad_() for name, value in tensors.items()}
    way_out = r"use `impl='reference'`"
    with pytest.raises(RuntimeError, match=rf"the fused label-embedding head can be differentiated once.*{way_out}"):
        torch.autograd.grad(fused_total(leaves, labels, "full"), leaves["weight"], create_graph=True)
    total = fused_total(leaves, labels, "full")
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=rf"retain_graph=True.*{way_out}"):
        total.backward()
    with pytest.raises(RuntimeError, match=rf"gradients of `total` and of no term alone; {way_out}"):
        fused_total(leaves, labels, "full", "output").backward()


def test_batch_of_nothing_but_ignored_rows_is_zero_and_goes_back():
    objective = LabelEmbedding(4, 12, impl="triton")
    terms = objective(torch.full((3, 4), torch.nan), torch.full((3,), -100))
    assert all(value.item() == 0 for value in terms)
    terms.total.backward()
    assert all(value.grad is None or not value.grad.any() for value in objective.parameters())


def test_benchmark_runs_small_and_compares_what_is_alike(capsys):
    triton_head.print_steps((6, 8, 20), torch.device("cpu"), rounds=2)
    assert len(capsys.readouterr().out.splitlines()) == 7
    inputs = triton_head.core_inputs(6, 20, torch.device("cpu"))
    plain = triton_head.plain_core(*inputs)
    found = triton_head.kernel_core(inputs[0].clone(), *inputs[1:])
    for value, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-2)  # bfloat16, of numbers near 1
