"""What the chunked heads promise beside their numbers: memory, precision, refusals, and when they are taken."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labelembed.heads import label_embedding_cross_entropy, linear_cross_entropy, linear_heads, release_scratch
from labelembed.heads.chunks import default_chunk_rows
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot
from labelembed.seeds import seeded

from .made_heads import made_tensors, run_head, settings

torch.set_num_threads(1)
ROWS, LABELS, CHUNK = 300, 50, 20


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any tensor had that an operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        found = [value.numel() for value in tree_leaves(made) if isinstance(value, torch.Tensor)]
        self.elements = max([self.elements, *found])
        return made


def largest_of(function):
    release_scratch()
    with LargestTensor() as seen:
        function()
    return seen.elements


@pytest.mark.parametrize(("kind", "shared"), [("compressed", False), ("compressed", True), ("full", False)])
def test_no_tensor_of_all_rows_and_labels_is_made(kind, shared):
    tensors, labels = made_tensors(ROWS, LABELS)
    if kind == "compressed":
        del tensors["full"]
    given = settings(shared=shared, uniform_weight=0.3)
    chunked = largest_of(lambda: run_head(tensors, labels, given, kind, impl="chunked", chunk_rows=CHUNK))
    assert largest_of(lambda: run_head(tensors, labels, given, kind, impl="reference")) == ROWS * LABELS
    # A chunk ends with a whole block, which is as large as a chunk at most; E is [C, C] itself.
    assert chunked <= max(2 * CHUNK * LABELS, LABELS**2 if kind == "full" else 0)


def test_cross_entropy_makes_no_tensor_of_all_rows_and_labels():
    tensors, labels = made_tensors(ROWS, LABELS)
    leaves = [tensors[name].requires_grad_() for name in ("hidden", "weight", "bias")]

    def step(impl):
        linear_cross_entropy(*leaves, labels, label_smoothing=0.1, impl=impl, chunk_rows=CHUNK).total.backward()

    assert largest_of(lambda: step("reference")) == ROWS * LABELS
    assert largest_of(lambda: step("chunked")) <= max(CHUNK * LABELS, ROWS * 4)


def test_chunks_hold_fewer_rows_of_more_labels_but_never_few():
    assert default_chunk_rows(100) == 2**24 // 400
    assert default_chunk_rows(8000) == 524
    assert default_chunk_rows(32000) == 512
    assert default_chunk_rows(131_072) == 512
    assert default_chunk_rows(10**6) == 67  # 256 MiB of logits
    assert default_chunk_rows(10**8) == 32
    assert default_chunk_rows(10**6, device="cuda") == 512
    assert default_chunk_rows(10**7, device="cuda") == 53  # 2 GiB


@pytest.mark.parametrize("kind", ["full", "compressed"])
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_low_precision_is_as_near_to_the_exact_gradients_as_the_plain_lines(kind, dtype, digits):
    tensors, labels = made_tensors(60, 9)
    low = {name: value.to(dtype) for name, value in tensors.items()}
    rounded = {name: value.double() for name, value in low.items()}
    # Rows whose two highest logits round to one may be right in one precision and wrong in the other.
    top = (rounded["hidden"] @ rounded["auxiliary_weight"].T + rounded["auxiliary_bias"]).topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > 0.1
    for tables in (low, rounded):
        tables["hidden"] = tables["hidden"][clear]
    labels = labels[clear]
    exact = run_head(rounded, labels, settings(uniform_weight=0.2), kind, impl="reference")
    plain = run_head(low, labels, settings(uniform_weight=0.2), kind, impl="reference")
    found = run_head(low, labels, settings(uniform_weight=0.2), kind, impl="chunked", chunk_rows=16)
    for name, value in found[0]._asdict().items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(exact[0], name).item(), abs=8 * 2**-digits), name
    for name, gradient in found[1].items():
        assert gradient.dtype == dtype
        reach = exact[1][name].abs().max()
        error = (gradient.double() - exact[1][name]).abs().max()
        naive = (plain[1][name].double() - exact[1][name]).abs().max()
        assert error <= naive + reach * 2**-digits, name


def test_autocast_computes_in_its_type_and_keeps_sums_in_float32():
    tensors, labels = made_tensors(60, 9)
    tensors = {name: value.float() for name, value in tensors.items()}
    exact = run_head(tensors, labels, settings(), "full", impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        terms, gradients = run_head(tensors, labels, settings(), "full", impl="chunked")
    assert terms.output != exact[0].output
    for name, value in terms._asdict().items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(getattr(exact[0], name).item(), abs=0.1), name
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


def head_of(tensors, labels, **how):
    leaves = [tensors[name].requires_grad_() for name in ("hidden", "weight", "bias")]
    second = [tensors[name].requires_grad_() for name in ("auxiliary_weight", "auxiliary_bias")]
    full = tensors["full"].requires_grad_()
    return label_embedding_cross_entropy(*leaves, *second, full, labels, settings(), impl="chunked", **how)


def test_second_derivatives_and_second_ways_back_are_refused():
    tensors, labels = made_tensors(8, 4)
    with pytest.raises(RuntimeError, match=r"differentiated once, not twice; use `impl='reference'`"):
        torch.autograd.grad(head_of(tensors, labels).total, tensors["weight"], create_graph=True)
    terms = head_of(tensors, labels)
    terms.total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"retain_graph=True.*use `impl='reference'`"):
        terms.total.backward()
    with pytest.raises(RuntimeError, match=r"gradients of `total` and of no term alone; use `impl='reference'`"):
        head_of(tensors, labels).output.backward()
    smooth = linear_cross_entropy(tensors["hidden"], tensors["weight"], None, labels, impl="chunked")
    with pytest.raises(RuntimeError, match="cross-entropy head has gradients of `total`"):
        smooth.uniform.backward()


def test_without_gradients_the_terms_are_the_same_and_nothing_is_kept():
    tensors, labels = made_tensors(30, 6)
    expected = head_of(tensors, labels, chunk_rows=7)
    for mode in (torch.no_grad(), torch.inference_mode()):
        release_scratch()
        with mode:
            found = head_of(tensors, labels, chunk_rows=7)
        assert not found.total.requires_grad
        torch.testing.assert_close(tuple(found), tuple(term.detach() for term in expected), rtol=0, atol=1e-12)
        head_of(tensors, labels, chunk_rows=7).total.backward()  # the memory kept from there can be written to


def test_frozen_inputs_get_no_gradient_and_leave_the_others_theirs():
    names = ("hidden", "weight", "bias", "auxiliary_weight", "auxiliary_bias", "full")
    tensors, labels = made_tensors(20, 5)
    head_of(tensors, labels).total.backward()
    expected = {name: tensors[name].grad for name in names}
    for frozen in names:
        tensors, labels = made_tensors(20, 5)
        leaves = [tensors[name].requires_grad_(name != frozen) for name in names]
        terms = label_embedding_cross_entropy(*leaves, labels, settings(), impl="chunked", chunk_rows=6)
        terms.total.backward()
        assert tensors[frozen].grad is None
        for name in set(names) - {frozen}:
            torch.testing.assert_close(tensors[name].grad, expected[name], rtol=0, atol=1e-12)


def test_threads_do_not_write_to_each_others_memory():
    cases = [made_tensors(200, 30, seed=seed) for seed in range(2)]
    expected = [run_head(*case, settings(), "full", impl="chunked", chunk_rows=16)[0].total for case in cases]
    found = [[], []]

    def work(number):
        for _ in range(5):
            terms, _ = run_head(*cases[number], settings(), "full", impl="chunked", chunk_rows=16)
            found[number].append(terms.total)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(total, expected[number]) for number in range(2) for total in found[number])
    assert [len(totals) for totals in found] == [5, 5]


@pytest.mark.parametrize("shape", [(), (7,), (0,), (50, 3)])
def test_top_k_is_that_of_all_logits_and_never_holds_them(shape, monkeypatch):
    monkeypatch.setattr("labelembed.objectives.objective.default_chunk_rows", lambda num_labels: 8)
    objective = OneHot(4, 40)
    hidden = torch.randn(*shape, 4, requires_grad=True)
    with torch.no_grad():
        scores, labels = objective.logits(hidden).topk(3, dim=-1)
    found = objective.top_k(hidden, 3)
    assert torch.equal(found[1], labels)
    torch.testing.assert_close(found[0], scores)
    assert not found[0].requires_grad
    assert largest_of(lambda: objective.top_k(hidden, 3)) <= max(8 * 40, hidden.numel())
    with pytest.raises(ValueError, match=r"`k` must be in 1\.\.40, the number of labels, got 41"):
        objective.top_k(hidden, 41)


OBJECTIVES = {
    "one_hot": (OneHot, {}),
    "label_smoothing": (LabelSmoothing, {"smoothing": 0.2}),
    "full": (LabelEmbedding, {"uniform_weight": 0.1}),
    "compressed": (LabelEmbedding, {"embedding": "compressed", "rank": 3, "target_warmup_steps": 2}),
    "shared": (LabelEmbedding, {"auxiliary": "shared"}),
}


def trained(case, impl, *, tied=False, bias=True):
    """Returns the parameters after three steps of a small network, some rows ignored."""
    kind, arguments = OBJECTIVES[case]
    with seeded(0, "network"):
        table = nn.Embedding(12, 4, dtype=torch.float64)
        objective = kind(4, 12, impl=impl, bias=bias, **arguments).double()
        if tied:
            objective.output.weight = table.weight
        words, labels = torch.randint(12, (2, 3, 10))
    labels[:, ::3] = -100
    parameters = list({id(value): value for value in [*table.parameters(), *objective.parameters()]}.values())
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        objective(table(words).tanh(), labels).total.backward()
        optimizer.step()
    return {name: value.detach() for name, value in objective.named_parameters()} | {"table": table.weight.detach()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("case", OBJECTIVES)
def test_objectives_train_to_the_same_parameters_tied_or_not(case, tied):
    for bias in (True, False):
        expected = trained(case, "reference", tied=tied, bias=bias)
        found = trained(case, "chunked", tied=tied, bias=bias)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)  # float64, three steps


@pytest.mark.parametrize("case", OBJECTIVES)
def test_batch_of_nothing_but_ignored_rows_is_zero_and_goes_back(case):
    kind, arguments = OBJECTIVES[case]
    objective = kind(4, 12, impl="chunked", **arguments)
    terms = objective(torch.full((3, 4), torch.nan), torch.full((3,), -100))
    assert all(value.item() == 0 for value in terms)
    terms.total.backward()
    assert all(value.grad is None or not value.grad.any() for value in objective.parameters())


def test_auto_takes_chunks_for_many_labels_and_plain_layers(monkeypatch):
    taken = []
    original = linear_heads.chunked.label_embedding_terms
    monkeypatch.setattr(
        linear_heads.chunked, "label_embedding_terms", lambda *given, **how: taken.append(1) or original(*given, **how)
    )
    monkeypatch.setattr(linear_heads, "CHUNKED_LABELS", 12)
    hidden, labels = torch.randn(5, 4), torch.arange(5)
    LabelEmbedding(4, 11)(hidden, labels)
    assert not taken
    LabelEmbedding(4, 12)(hidden, labels)
    assert len(taken) == 1
    LabelEmbedding(4, 12, impl="closed_form")(hidden, labels)
    hooked = LabelEmbedding(4, 12)
    seen = []
    hooked.output.register_forward_hook(lambda *given: seen.append(1))
    hooked(hidden, labels)
    assert len(taken) == 1
    assert seen == [1]
    hooked.impl = "chunked"
    with pytest.raises(ValueError, match=r"`impl` 'chunked' reads the weights of an nn\.Linear without hooks"):
        hooked(hidden, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"impl": "chunkd"}, r"`impl` must be one of 'auto', .*, got 'chunkd' \(did you mean 'chunked'\?\)"),
        ({"chunk_rows": 0}, r"`chunk_rows` must be >= 1, or None, got 0"),
        ({"weight": (5, 3)}, r"`weight` must be \[C, H\] for hidden rows \[8, 4\] \[n, H\], got \[5, 3\]"),
        ({"labels": 7}, r"`labels` must be \[n\] for hidden rows \[8, 4\] \[n, H\], got \[7\]"),
        ({"bias": (6,)}, r"`bias` must be \[C\] for `weight` \[5, 4\], got \[6\]"),
        ({"auxiliary_weight": (6, 4)}, r"`auxiliary_weight` must be \[C, H\] for `weight` \[5, 4\], got \[6, 4\]"),
        ({"auxiliary_bias": (4,)}, r"`auxiliary_bias` must be \[C\] for `weight` \[5, 4\], got \[4\]"),
        ({"embedding": (5, 6)}, r"`embedding` must be \[C, C\] for `weight` \[5, 4\], got \[5, 6\]"),
        ({"pair": ((5, 3), (4, 5))}, r"`embedding` must be A \[C, K\] and B \[K, C\] .*, got '\[5, 3\] and \[4, 5\]'"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_shapes(change, message):
    shapes = {"weight": (5, 4), "bias": (5,), "auxiliary_weight": (5, 4), "auxiliary_bias": (5,), "embedding": (5, 5)}
    how = {name: value for name, value in change.items() if name in ("impl", "chunk_rows")}
    shapes |= {name: value for name, value in change.items() if name in shapes}
    tensors = [torch.zeros(shape) for shape in shapes.values()]
    if "pair" in change:
        tensors[-1] = tuple(torch.zeros(shape) for shape in change["pair"])
    labels = torch.zeros(change.get("labels", 8), dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        label_embedding_cross_entropy(torch.zeros(8, 4), *tensors, labels, settings(), **how)


def test_smoothing_out_of_range_and_another_device_are_refused():
    hidden, weight, labels = torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\], got 1.5"):
        linear_cross_entropy(hidden, weight, None, labels, label_smoothing=1.5)
    with pytest.raises(ValueError, match="`weight` must be on the device of the hidden rows, cpu, got 'meta'"):
        linear_cross_entropy(hidden, weight.to("meta"), None, labels)
