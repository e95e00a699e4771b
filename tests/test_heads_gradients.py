"""The label-embedding head's gradients: closed form = plain lines = finite differences; who is moved by what."""

from __future__ import annotations

import pytest
import torch

from labelembed.heads import HeadTerms, label_embedding_terms

from .test_heads_terms import IMPLEMENTATIONS, make_head, make_settings

# Which of (first, second, embedded) each term may move.
MOVES = {
    "output": {"first"},
    "target": {"first"},
    "uniform": {"first"},
    "auxiliary": {"second"},
    "hinge": {"second"},
    "embedding": {"embedded"},
    "total": {"first", "second", "embedded"},
}


def make_leaves(count=7, num_labels=5, seed=0):
    first, second, table, labels = make_head(count, num_labels, seed)
    leaves = {"first": first, "second": second, "embedded": table[labels]}
    return {name: values.clone().requires_grad_() for name, values in leaves.items()}, labels


def head_gradients(settings, implementation, weights, *, count=7, num_labels=5, seed=0):
    """Returns the gradient of the weighted sum of terms at each input, zeros where the graph has none."""
    leaves, labels = make_leaves(count, num_labels, seed)
    terms = label_embedding_terms(*leaves.values(), labels, settings, implementation=implementation)
    loss = sum(weight * terms._asdict()[name] for name, weight in weights.items())
    loss.backward()
    return {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}


def random_weights(seed):
    source = torch.Generator().manual_seed(seed)
    return dict(zip(HeadTerms._fields, torch.randn(len(HeadTerms._fields), generator=source).tolist(), strict=True))


COMBINATIONS = [
    *({name: 1.0} for name in HeadTerms._fields),
    {"output": -0.4, "embedding": 2.0},
    random_weights(1),
    random_weights(2),
]


@pytest.mark.parametrize("weights", COMBINATIONS, ids=lambda weights: "+".join(weights))
@pytest.mark.parametrize("uniform_weight", [0.0, 0.3])
@pytest.mark.parametrize(("hinge_norm", "hinge_reduction"), [(1, "mean"), (1, "sum"), (2, "mean"), (2, "sum")])
def test_closed_form_gradients_equal_the_plain_lines(weights, uniform_weight, hinge_norm, hinge_reduction):
    if uniform_weight == 0:  # then the plain lines give a constant 0, which has nothing to go back to
        weights = {name: weight for name, weight in weights.items() if name != "uniform"} or {"total": 1.0}
    settings = make_settings(hinge_norm=hinge_norm, hinge_reduction=hinge_reduction, uniform_weight=uniform_weight)
    for count, num_labels in ((7, 5), (1, 3), (20, 40)):
        sizes = {"count": count, "num_labels": num_labels}
        plain = head_gradients(settings, "reference", weights, **sizes)
        closed = head_gradients(settings, "closed_form", weights, **sizes)
        # Float64, gradients below 1 (below 20 for the summed hinge): 1e-12 is thousands of roundings.
        torch.testing.assert_close(closed, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("term", HeadTerms._fields)
def test_each_term_moves_the_inputs_that_the_paper_says(implementation, term):
    settings = make_settings(uniform_weight=0.3)
    gradients = head_gradients(settings, implementation, {term: 1.0})
    moved = {name for name, gradient in gradients.items() if bool((gradient != 0).any())}
    assert moved == MOVES[term]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("hinge_norm", [1, 2])
@pytest.mark.parametrize("hinge_reduction", ["mean", "sum"])
@pytest.mark.parametrize(("term", "moved"), [(term, *moved) for term, moved in MOVES.items() if len(moved) == 1])
def test_each_term_passes_gradcheck_in_what_it_moves(implementation, hinge_norm, hinge_reduction, term, moved):
    settings = make_settings(hinge_norm=hinge_norm, hinge_reduction=hinge_reduction, uniform_weight=0.3)
    leaves, labels = make_leaves()
    held = {name: leaf.detach() for name, leaf in leaves.items()}

    def one_term(values):
        terms = label_embedding_terms(
            *(held | {moved: values}).values(), labels, settings, implementation=implementation
        )
        return terms._asdict()[term]

    assert torch.autograd.gradcheck(one_term, (leaves[moved],))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("moved", ["first", "second", "embedded"])
def test_the_trained_part_of_the_total_passes_gradcheck(implementation, moved):
    """The total's gradient is the sum of the parts that are not detached, with their weights."""
    settings = make_settings(uniform_weight=0.3)
    leaves, labels = make_leaves()
    held = {name: leaf.detach() for name, leaf in leaves.items()}
    trained = {
        "first": {"output": 0.7, "target": 0.4, "uniform": 0.3},
        "second": {"auxiliary": 1.0, "hinge": 1.0},
        "embedded": {"embedding": 1.0},
    }[moved]

    def trained_part(values):
        terms = label_embedding_terms(*(held | {moved: values}).values(), labels, settings, implementation="reference")
        return sum(weight * terms._asdict()[name] for name, weight in trained.items())

    step = 1e-6
    numeric = torch.zeros_like(held[moved])
    for index in range(numeric.numel()):
        shift = torch.zeros_like(numeric).view(-1)
        shift[index] = step
        shift = shift.view_as(numeric)
        numeric.view(-1)[index] = (trained_part(held[moved] + shift) - trained_part(held[moved] - shift)) / (2 * step)
    gradient = head_gradients(settings, implementation, {"total": 1.0})[moved]
    # Central differences with steps of 1e-6: 1e-12 from the third derivative, 1e-10 from rounding.
    torch.testing.assert_close(gradient, numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_embedding_gradient_is_zero_in_rows_that_are_wrong(implementation):
    leaves, labels = make_leaves()
    label_embedding_terms(*leaves.values(), labels, make_settings(), implementation=implementation).total.backward()
    right = leaves["second"].argmax(dim=1) == labels
    moved = (leaves["embedded"].grad != 0).any(dim=1)
    assert moved.tolist() == right.tolist()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_inputs_that_need_no_gradient_get_none(implementation):
    for frozen in ("first", "second", "embedded"):
        leaves, labels = make_leaves()
        leaves[frozen].requires_grad_(False)
        terms = label_embedding_terms(*leaves.values(), labels, make_settings(), implementation=implementation)
        terms.total.backward()
        given = {name for name, leaf in leaves.items() if leaf.grad is not None}
        assert given == set(leaves) - {frozen}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_get_gradients_of_their_own_type(implementation, dtype):
    exact, labels = make_leaves()
    low = {name: leaf.detach().to(dtype).requires_grad_() for name, leaf in exact.items()}
    rounded = {name: leaf.detach().double().requires_grad_() for name, leaf in low.items()}
    for leaves in (low, rounded):
        label_embedding_terms(*leaves.values(), labels, make_settings(), implementation=implementation).total.backward()
    for name, leaf in low.items():
        assert leaf.grad.dtype == dtype
        # Worked in float32 and rounded once at the end: half a unit in the last place, 2^-9 of bfloat16.
        torch.testing.assert_close(leaf.grad.double(), rounded[name].grad, rtol=2**-8, atol=1e-6)


def test_closed_form_refuses_a_second_derivative():
    leaves, labels = make_leaves()
    terms = label_embedding_terms(*leaves.values(), labels, make_settings(), implementation="closed_form")
    with pytest.raises(RuntimeError, match="implementation='reference'"):
        torch.autograd.grad(terms.total, leaves["first"], create_graph=True)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_head_of_no_rows_is_zero_and_goes_back(implementation):
    leaves = [torch.zeros(0, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    labels = torch.zeros(0, dtype=torch.int64)
    terms = label_embedding_terms(*leaves, labels, make_settings(uniform_weight=0.1), implementation=implementation)
    assert [term.item() for term in terms] == [0.0] * len(terms)
    terms.total.backward()
    assert all(leaf.grad.shape == (0, 4) for leaf in leaves)
