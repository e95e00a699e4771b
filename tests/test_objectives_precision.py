"""Objectives in bfloat16, float16, under autocast and compiled: float32 terms, close to the exact ones."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from labelembed.objectives import LabelSmoothing, OneHot

from .made_objectives import made_case
from .test_objectives_baselines import BASELINES
from .test_objectives_naive import make_label_embedding, make_rows

MAKERS = {
    "one_hot": lambda **arguments: OneHot(4, 5, **arguments).double(),
    "label_smoothing": lambda **arguments: LabelSmoothing(4, 5, smoothing=0.2, **arguments).double(),
    "full": lambda **arguments: make_label_embedding("full", uniform_weight=0.1, **arguments),
    "compressed": lambda **arguments: make_label_embedding("compressed", **arguments),
    "fixed": lambda **arguments: make_label_embedding("fixed", **arguments),
} | {case: partial(made_case, case) for case in BASELINES}
every_objective = pytest.mark.parametrize("name", MAKERS)


def low_and_exact(name, dtype):
    """Returns an objective and a batch in `dtype`, and the same rounded numbers in float64."""
    low = MAKERS[name]().to(dtype)
    exact = MAKERS[name]()
    exact.load_state_dict(low.state_dict())
    hidden, labels = make_rows(exact, count=33)
    hidden = hidden.to(dtype)
    if getattr(exact, "auxiliary", None) is not None:
        # Logits that round to a tie may be right in one precision and wrong in the other
        top = exact.auxiliary(hidden.double()).topk(2, dim=1).values
        labels[(top[:, 0] - top[:, 1]) < 0.1] = -100
    return low, exact, hidden, labels


@every_objective
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_low_precision_terms_are_float32_and_close(name, dtype, digits):
    low, exact, hidden, labels = low_and_exact(name, dtype)
    rows = torch.arange(len(labels))
    terms = low(hidden, labels, rows)
    expected = exact(hidden.double(), labels, rows)._asdict()
    for key, value in terms._asdict().items():
        assert value.dtype == torch.float32, key
        # Logits of up to 8 are rounded to 2^-digits of themselves; a term is a mean of a few of these differences.
        assert value.item() == pytest.approx(expected[key].item(), abs=8 * 2**-digits), key
    terms.total.backward()
    assert {parameter.grad.dtype for parameter in low.parameters()} == {dtype}
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in low.parameters())


@every_objective
def test_bfloat16_counts_more_rows_than_it_has_digits_for(name):
    """1,000 equal rows: a count, or a sum over rows, in bfloat16 would stop at 256."""
    low, _, hidden, labels = low_and_exact(name, torch.bfloat16)
    row = int((labels != -100).nonzero()[0])
    place = torch.tensor([6])
    one = low(hidden[row : row + 1], labels[row : row + 1], place)._asdict()
    many = low(hidden[row : row + 1].expand(1000, -1), labels[row : row + 1].expand(1000), place.expand(1000))._asdict()
    torch.testing.assert_close(many, one, rtol=1e-5, atol=1e-6)  # a float32 sum of 1,000 equal numbers


@every_objective
def test_autocast_gives_float32_terms_close_to_the_exact_ones(name):
    exact = MAKERS[name]().float()
    hidden, labels = make_rows(exact, count=33)
    rows = torch.arange(len(labels))
    expected = exact(hidden, labels, rows)._asdict()
    with torch.autocast("cpu", torch.bfloat16):
        terms = exact(hidden, labels, rows)
    # Not the same numbers, or autocast would not have been on.
    assert terms.total.item() != expected["total"].item()
    for key, value in terms._asdict().items():
        assert value.dtype == torch.float32, key
        # bfloat16 inputs, weights and logits of up to 8, 2^-8 each; some rows may change sides.
        assert value.item() == pytest.approx(expected[key].item(), abs=0.2), key
    terms.total.backward()
    assert {parameter.grad.dtype for parameter in exact.parameters()} == {torch.float32}
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in exact.parameters())


@every_objective
def test_autocast_takes_bfloat16_hidden_rows_with_float32_parameters(name):
    objective = MAKERS[name]().float()
    hidden, labels = make_rows(objective, count=33)
    with torch.autocast("cpu", torch.bfloat16):
        expected = objective(hidden.bfloat16().float(), labels, torch.arange(len(labels)))
        terms = objective(hidden.bfloat16(), labels, torch.arange(len(labels)))
    assert all(torch.equal(*pair) for pair in zip(terms, expected, strict=True))  # rounded before or inside: the same


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", [name for name in MAKERS if "," not in name])
@pytest.mark.usefixtures("fresh_compiler")
# torch's own, where it looks at the selected rows between two graphs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_objective_gives_the_same_terms_and_gradients(name):
    objective = MAKERS[name]()
    compiled = torch.compile(objective, backend="aot_eager")
    for ignored in (False, True):
        hidden, labels = make_rows(objective, ignored=ignored)
        results = []
        for function in (objective, compiled):
            objective.zero_grad()
            leaf = hidden.clone().requires_grad_()
            terms = function(leaf, labels, torch.arange(len(labels)))
            terms.total.backward()
            gradients = {key: value.grad for key, value in objective.named_parameters()}
            results.append((terms._asdict(), gradients, leaf.grad))
        torch.testing.assert_close(*results, rtol=0, atol=1e-12)  # float64; the closed form against the plain lines


@pytest.mark.parametrize("name", [name for name in MAKERS if "," not in name])
@pytest.mark.usefixtures("fresh_compiler")
def test_objective_that_ignores_nothing_compiles_into_one_graph(name):
    objective = MAKERS[name](ignore_index=None)
    hidden, labels = make_rows(objective, ignored=False)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    rows = torch.arange(len(labels))
    torch.testing.assert_close(compiled(hidden, labels, rows)._asdict(), objective(hidden, labels, rows)._asdict())


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_warmup_counts_its_steps():
    objective = make_label_embedding("full", target_warmup_steps=2, target_weight=0.3, ignore_index=None)
    plain = make_label_embedding("full", target_warmup_steps=2, target_weight=0.3, ignore_index=None)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    hidden, labels = make_rows(objective, ignored=False)
    for _ in range(4):
        torch.testing.assert_close(compiled(hidden, labels)._asdict(), plain(hidden, labels)._asdict())
    assert objective.steps.item() == 4
