"""`linear_cross_entropy` with soft targets: what `F.cross_entropy` makes of probabilities, in every form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from labelembed.heads import linear_cross_entropy

from .made_heads import made_tensors
from .naive.chunked_head import naive_soft_total

torch.set_num_threads(1)
TOLERANCE = 1e-10  # float64 sums of some hundred numbers near 1, in another order
WAYS = [("reference", None), ("chunked", 1), ("chunked", 7), ("chunked", None)]


def made(count, num_labels, *, whole=True):
    tensors, _ = made_tensors(count, num_labels)
    targets = torch.rand(count, num_labels, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if whole:
        targets = targets.pow(4) / targets.pow(4).sum(dim=1, keepdim=True)
    return tensors, targets


def run(tensors, targets, *, bias=True, **how):
    leaves = [tensors[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")[: 2 + bias]]
    terms = linear_cross_entropy(*leaves, *([] if bias else [None]), None, soft_targets=targets, **how)
    (terms.total * 2.5).backward()
    return {name: value.detach() for name, value in terms._asdict().items()}, [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_soft_targets_are_those_of_torch_and_of_the_loops(whole, smoothing, bias):
    for size in ((1, 5), (20, 1), (33, 9)):
        tensors, targets = made(*size, whole=whole)
        leaves = [tensors[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")[: 2 + bias]]
        # torch smooths the target and not the loss, which is the same where targets sum to 1.
        mixed = (1 - smoothing) * targets + smoothing / size[1]
        (F.cross_entropy(F.linear(*leaves), mixed) * 2.5).backward()
        layer = tensors["weight"].tolist(), (tensors["bias"] * bias).tolist()
        naive = naive_soft_total(tensors["hidden"].tolist(), layer, targets.tolist(), smoothing=smoothing)
        for impl, rows in WAYS:
            how = {"impl": impl, "chunk_rows": rows, "label_smoothing": smoothing, "bias": bias}
            terms, gradients = run(tensors, targets, **how)
            assert terms["total"].item() == pytest.approx(naive, abs=TOLERANCE)
            torch.testing.assert_close(gradients, [leaf.grad for leaf in leaves], rtol=0, atol=TOLERANCE)
            plain, _ = run(tensors, targets, label_smoothing=smoothing, bias=bias, impl="reference")
            torch.testing.assert_close(terms, plain, rtol=0, atol=TOLERANCE)


def test_one_hot_targets_are_labels():
    tensors, labels = made_tensors(30, 6)
    targets = F.one_hot(labels, 6).double()
    for impl, rows in WAYS:
        leaves = [tensors[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")]
        terms = linear_cross_entropy(*leaves, labels, impl=impl, chunk_rows=rows, label_smoothing=0.1)
        (terms.total * 2.5).backward()
        found = run(tensors, targets, impl=impl, chunk_rows=rows, label_smoothing=0.1)
        expected = {name: value.detach() for name, value in terms._asdict().items()}
        torch.testing.assert_close(found, (expected, [leaf.grad for leaf in leaves]), rtol=0, atol=TOLERANCE)


def test_no_rows_are_0_and_logits_of_thousands_stay_finite():
    tensors, targets = made(0, 5)
    terms, gradients = run(tensors, targets, impl="chunked")
    assert all(value == 0 for value in terms.values())
    assert not gradients[1].any()
    tensors, targets = made(20, 6)
    tensors["weight"] *= 2000
    plain = run(tensors, targets, impl="reference")
    found = run(tensors, targets, impl="chunked", chunk_rows=7)
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)


def test_targets_that_learn_take_the_plain_lines():
    tensors, targets = made(8, 5)
    targets.requires_grad_()
    given = [tensors[name] for name in ("hidden", "weight", "bias")]
    linear_cross_entropy(*given, None, soft_targets=targets).total.backward()
    expected = -F.log_softmax(F.linear(*given), dim=1) / 8
    torch.testing.assert_close(targets.grad, expected)
    with pytest.raises(ValueError, match="`soft_targets` must need no gradient with impl='chunked'"):
        linear_cross_entropy(*given, None, soft_targets=targets, impl="chunked")
    with torch.no_grad():
        linear_cross_entropy(*given, None, soft_targets=targets, impl="chunked")


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        (None, None, "`soft_targets` must be given in the place of `labels`.*got 'neither'"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4, 3), "got 'both'"),
        (None, torch.zeros(4, 2), r"`soft_targets` must be \[n, C\] = \[4, 3\] .*, got \[4, 2\]"),
        (None, torch.zeros(4, 3, dtype=torch.int64), "must be floating point: labels go to `labels`"),
        (None, torch.zeros(4, 3, device="meta"), "`soft_targets` must be on the device of the hidden rows, cpu"),
    ],
)
def test_what_does_not_fit_is_refused(labels, targets, message):
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(torch.zeros(4, 2), torch.zeros(3, 2), None, labels, soft_targets=targets)
