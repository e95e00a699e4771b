"""The chunked loss against the plain lines: terms, every gradient, memory, precision; and distances."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labelembed.losses import chunked
from labelembed.objectives import LabelEmbedding, OneHot

from .made_objectives import made_examples, made_mode

HIDDEN = 4
# Float64 sums of some hundred numbers near 1, in another order.
TOLERANCE = 1e-12
KINDS = {
    "full": {},
    "compressed": {"embedding": "compressed"},
    "fixed": {"embedding": "SAVED"},
    "shared": {"auxiliary": "shared"},
    "shared, compressed": {"auxiliary": "shared", "embedding": "compressed"},
}
SETTINGS = {
    "plain": {},
    "uniform": {"uniform_weight": 0.3},
    "hinge summed": {"preset": "published_code", "uniform_weight": 0.3, "confidence_limit": 0.0},
    "target only": {"output_weight": 0.0, "target_weight": 1.0},
    "neither": {"output_weight": 0.0, "target_weight": 0.0},
    "sharp": {"temperature": 0.3, "uniform_weight": 1.0},
    "flat": {"temperature": float("inf")},
    "warmup": {"target_warmup": 0.5},
}
# Examples and labels: none, one, more than a block of one label, one label in all, many labels seen once.
SIZES = ((0, 5), (1, 5), (40, 7), (33, 1), (150, 3), (60, 90))
BOTH = ("reference", "chunked")


def made(kind, num_labels, *, impl="reference", dtype=torch.float64, **arguments):
    """An objective away from its start."""
    given = KINDS[kind] | {"confidence_limit": 0.3, "output_weight": 0.7, "target_weight": 0.4, "rank": 3} | arguments
    return made_mode("label_embedding", num_labels=num_labels, impl=impl, **given).to(dtype)


def result_of(objective, hidden, labels, *, scale=1.0):
    """The terms, and the gradients of ``scale * total``."""
    leaf = hidden.detach().clone().requires_grad_()
    objective.zero_grad()
    terms = objective(leaf, labels)
    (terms.total * scale).backward()
    gradients = {name: value.grad for name, value in objective.named_parameters()}
    return {name: term.detach() for name, term in terms._asdict().items()}, gradients | {"hidden": leaf.grad}


def assert_alike(kind, count, num_labels, *, scale=1.0, ignored=False, **arguments):
    plain, fast = (made(kind, num_labels, impl=impl, **arguments) for impl in BOTH)
    hidden, labels, _ = made_examples(plain, count, ignored=ignored)
    expected, found = (result_of(one, hidden, labels, scale=scale) for one in (plain, fast))
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture
def chunks_of(monkeypatch):
    """Makes chunks hold so many examples."""
    return lambda size: monkeypatch.setattr(chunked, "chunk_size", lambda num_labels: size)


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_have_the_terms_and_gradients_of_the_plain_lines(kind, case, chunks_of):
    for size in SIZES:
        assert_alike(kind, *size, **SETTINGS[case])
    for chunk in (1, 7, 39):  # edges fall between the examples of a label
        chunks_of(chunk)
        assert_alike(kind, 40, 7, scale=2.5, ignored=True, **SETTINGS[case])


@pytest.mark.parametrize("impl", BOTH)
def test_of_equal_logits_the_first_counts_as_the_prediction(impl):
    objective = made("full", 6, impl=impl)
    hidden, *_ = made_examples(objective, 20)
    with torch.no_grad():
        objective.auxiliary.weight.zero_()
        objective.auxiliary.bias.zero_()  # all labels tie
    _, gradients = result_of(objective, hidden, torch.arange(20) % 6)
    assert gradients["embedding.weight"].any(dim=1).tolist() == [True] + [False] * 5


def test_auto_takes_chunks_for_many_labels_and_plain_layers(monkeypatch):
    taken = []
    original = chunked.label_embedding_terms
    monkeypatch.setattr(chunked, "label_embedding_terms", lambda *given: taken.append(1) or original(*given))
    monkeypatch.setattr("labelembed.losses.linear.CHUNKED_LABELS", 12)
    hidden, labels = torch.randn(5, 4), torch.arange(5)
    LabelEmbedding(4, 11)(hidden, labels)
    LabelEmbedding(4, 12, impl="reference")(hidden, labels)
    assert not taken
    LabelEmbedding(4, 12)(hidden, labels)
    assert len(taken) == 1
    hooked = LabelEmbedding(4, 12)
    seen = []
    hooked.output.register_forward_hook(lambda *given: seen.append(1))
    hooked(hidden, labels)
    assert (len(taken), seen) == (1, [1])
    wrapped = OneHot(4, 12)
    wrapped.output = nn.Sequential(wrapped.output)
    for special in (hooked, wrapped):
        special.impl = "chunked"
        with pytest.raises(ValueError, match=r"`impl` 'chunked' reads the weights of an nn\.Linear without hooks"):
            special(hidden, labels)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any tensor had that an operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        found = [value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        self.elements = max([self.elements, *found])
        return result


@pytest.mark.parametrize("kind", ["compressed", "shared, compressed"])
def test_no_tensor_of_all_examples_and_labels_is_made(kind, chunks_of):
    chunks_of(20)
    found = {}
    for impl in BOTH:
        objective = made(kind, 50, impl=impl, uniform_weight=0.3)
        hidden, labels, _ = made_examples(objective, 250, ignored=False)
        with LargestTensor() as seen:
            result_of(objective, hidden, labels)
        found[impl] = seen.elements
    assert found["reference"] == 250 * 50
    assert found["chunked"] <= max(20 * 50, 250 * HIDDEN)


@pytest.mark.parametrize("impl", BOTH)
def test_a_scaled_loss_keeps_small_gradients_of_float16(impl):
    objective = made("full", 6, impl=impl, dtype=torch.float32)
    hidden, labels, _ = made_examples(objective, 40, ignored=False)
    hidden = hidden.half().requires_grad_()
    exact = hidden.detach().float().requires_grad_()
    of_many = 2**24  # examples a step, so that the factor of each, 6e-8, is the smallest number of float16
    with torch.autocast("cpu", dtype=torch.float16):
        total = objective(hidden, labels, num_items_in_step=of_many).total
    (total * of_many).backward()
    (objective(exact, labels, num_items_in_step=of_many).total * of_many).backward()
    torch.testing.assert_close(hidden.grad.float(), exact.grad, rtol=0.02, atol=0.01 * float(exact.grad.abs().max()))


def test_in_chunks_weights_that_are_learned_are_refused():
    objective = made("full", 6, impl="chunked")
    hidden, labels, _ = made_examples(objective, 12, ignored=False)
    total = objective(hidden, labels, sample_weight=torch.ones(12, dtype=hidden.dtype, requires_grad=True)).total
    with pytest.raises(RuntimeError, match="no weight gets one; set `impl='reference'`"):
        total.backward()


def test_chunks_are_differentiated_once_and_by_their_total_alone():
    objective = made("full", 6, impl="chunked")
    hidden, labels, _ = made_examples(objective, 12, ignored=False)
    hidden.requires_grad_()
    terms = objective(hidden, labels)
    for silent in (terms.output, terms.total + terms.uniform):
        with pytest.raises(RuntimeError, match="`total` alone"):
            silent.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once, not twice"):
        torch.autograd.grad(terms.total, hidden, create_graph=True)
    terms = objective(hidden, labels)
    terms.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once, not twice"):
        terms.total.backward()
    objective.output.requires_grad_(False)
    result_of(objective, hidden, labels)
    assert objective.output.weight.grad is None
    assert objective.auxiliary.weight.grad.any()
