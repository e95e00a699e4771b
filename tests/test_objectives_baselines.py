"""The baselines of the second paper: every term, total and gradient against the naive loops, and their limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from labelembed.objectives import ConfidencePenalty, LabelSmoothing, OneHot, TeacherFree
from labelembed.seeds import seeded

from .made_objectives import build, made_examples
from .naive.confidence_penalty import naive_confidence_penalty_terms
from .naive.cross_entropy import naive_linear
from .naive.differences import central_differences
from .naive.distillation import naive_distillation_terms
from .naive.static_labels import naive_static_labels_terms
from .naive.teacher_free import naive_teacher_free_terms

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
FIRST = {"hidden", "output.weight", "output.bias"}


def confidence_penalty(objective, logits, labels, rows):
    return naive_confidence_penalty_terms(logits, labels, penalty_weight=objective.penalty_weight)


def teacher_free(objective, logits, labels, rows):
    return naive_teacher_free_terms(
        logits,
        labels,
        true_probability=objective.true_probability,
        temperature=objective.tau,
        teacher_weight=objective.teacher_weight,
        preset=objective.preset,
    )


def distillation(objective, logits, labels, rows):
    return naive_distillation_terms(
        logits,
        labels,
        rows,
        objective.teacher_logits.tolist(),
        temperature=objective.tau,
        teacher_weight=objective.teacher_weight,
    )


def static_labels(objective, logits, labels, rows):
    vectors = objective.vectors.tolist()
    return naive_static_labels_terms(logits, labels, vectors, loss=objective.loss, delta=objective.delta)


NAIVE = {
    "confidence_penalty": confidence_penalty,
    "teacher_free": teacher_free,
    "distillation": distillation,
    "static_labels": static_labels,
}
CASES = {
    "confidence_penalty": ("confidence_penalty", {}),
    "confidence_penalty, strong": ("confidence_penalty", {"penalty_weight": 0.7}),
    "teacher_free": ("teacher_free", {}),
    "teacher_free, paper": ("teacher_free", {"preset": "paper", "temperature": 3.0, "teacher_weight": 0.6}),
    "teacher_free, sure": ("teacher_free", {"preset": "paper", "true_probability": 1.0, "teacher_weight": 0.4}),
    "teacher_free, sharp": ("teacher_free", {"temperature": 0.5, "true_probability": 0.7, "teacher_weight": 1.0}),
    "distillation": ("distillation", {}),
    "distillation, warm": ("distillation", {"temperature": 1.0, "teacher_weight": 0.5}),
    "distillation, alone": ("distillation", {"temperature": 7.0, "teacher_weight": 1.0}),
    "static_labels": ("static_labels", {}),
    "static_labels, narrow": ("static_labels", {"delta": 0.3, "normalize": False}),
    "static_labels, squared": ("static_labels", {"loss": "squared"}),
    "static_labels, cosine": ("static_labels", {"loss": "cosine", "normalize": False}),
}
every_case = pytest.mark.parametrize("case", CASES)


def naive_terms(case, objective, hidden, labels, rows, *, weight=None, bias=None):
    """Returns the terms by the loops; another output layer may stand in the place of the objective's."""
    weight = objective.output.weight.tolist() if weight is None else weight.tolist()
    if objective.output.bias is None:
        bias = [0.0] * objective.output_size
    else:
        bias = objective.output.bias.tolist() if bias is None else bias.tolist()
    logits = [naive_linear(weight, bias, row) for row in hidden.reshape(-1, objective.hidden_size).tolist()]
    return NAIVE[CASES[case][0]](objective, logits, labels.flatten().tolist(), rows.flatten().tolist())


def made_batch(case, shape=(13,), *, ignored=True, hidden_size=4, num_labels=5, dtype=torch.float64, **arguments):
    name, given = CASES[case]
    with seeded(0, "objective"):
        objective = build(name, hidden_size, num_labels, **(given | arguments)).to(dtype)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
    return objective, *made_examples(objective, *shape, ignored=ignored)


def assert_naive(case, objective, hidden, labels, rows):
    naive = naive_terms(case, objective, hidden, labels, rows)
    terms = objective(hidden, labels, rows)._asdict()
    assert set(terms) == set(naive)
    for name, value in terms.items():
        assert value.dtype == torch.float64
        # Float64 sums of a hundred numbers near 1, in another order than the loops.
        assert value.item() == pytest.approx(naive[name], abs=1e-10), name


@every_case
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [13, 1])
def test_terms_equal_the_naive_loops(case, ignored, bias, count):
    assert_naive(case, *made_batch(case, (count,), ignored=ignored and count > 1, bias=bias))


@every_case
def test_terms_with_one_label_in_the_batch_equal_the_naive_loops(case):
    objective, hidden, labels, rows = made_batch(case, ignored=False)
    assert_naive(case, objective, hidden, torch.full_like(labels, 2), rows)


@every_case
def test_terms_with_an_absent_label_equal_the_naive_loops(case):
    objective, hidden, labels, rows = made_batch(case, (40,))
    labels[labels == 2] = 3
    assert_naive(case, objective, hidden, labels, rows)


@every_case
def test_terms_of_hundreds_of_labels_equal_the_naive_loops(case):
    assert_naive(case, *made_batch(case, (5,), num_labels=700))


@every_case
def test_gradients_equal_finite_differences_of_the_naive_loops(case):
    objective, hidden, labels, rows = made_batch(case, (6,), hidden_size=3, num_labels=4)
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels, rows).total.backward()
    tables = {"hidden": hidden, "weight": objective.output.weight.detach(), "bias": objective.output.bias.detach()}

    def total_of(changed):
        at, weight, bias = changed["hidden"], changed["weight"], changed["bias"]
        return naive_terms(case, objective, at, labels, rows, weight=weight, bias=bias)["total"]

    numeric = central_differences(tables, total_of)
    exact = {"hidden": leaf.grad, "weight": objective.output.weight.grad, "bias": objective.output.bias.grad}
    torch.testing.assert_close(exact, numeric, rtol=0, atol=1e-8)


@every_case
def test_every_term_moves_the_output_layer_and_hidden(case):
    objective, hidden, labels, rows = made_batch(case)
    for term in objective(hidden, labels, rows)._asdict():
        objective.zero_grad()
        leaf = hidden.clone().requires_grad_()
        getattr(objective(leaf, labels, rows), term).backward()
        gradients = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
        assert {name for name, grad in gradients.items() if grad is not None and bool(grad.any())} == FIRST, term


# ------------------------------------------------------------------------------------------ what they are made for


def copied(objective, other):
    other.output.load_state_dict(objective.output.state_dict())
    return other


def total_and_gradients(objective, hidden, labels, rows):
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    total = objective(leaf, labels, rows).total
    total.backward()
    return {"total": total.detach(), "hidden": leaf.grad} | {
        name: value.grad for name, value in objective.output.named_parameters()
    }


@pytest.mark.parametrize(
    ("case", "no_weight"),
    [
        ("confidence_penalty", {"penalty_weight": 0.0}),
        ("teacher_free", {"teacher_weight": 0.0}),
        ("distillation", {"teacher_weight": 0.0}),
    ],
)
def test_no_weight_is_one_hot(case, no_weight):
    objective, hidden, labels, rows = made_batch(case, **no_weight)
    one_hot = copied(objective, OneHot(4, 5).double())
    expected = total_and_gradients(one_hot, hidden, labels, rows)
    torch.testing.assert_close(total_and_gradients(objective, hidden, labels, rows), expected, rtol=0, atol=1e-13)


def test_entropy_is_that_of_torch_and_reaches_the_logarithm_of_the_labels():
    objective, hidden, labels, rows = made_batch("confidence_penalty", ignored=False)
    distribution = torch.distributions.Categorical(logits=objective.logits(hidden))
    assert objective(hidden, labels, rows).entropy.item() == pytest.approx(distribution.entropy().mean().item(), 1e-12)
    with torch.no_grad():
        objective.output.weight.zero_()
        objective.output.bias.zero_()
    flat = objective(hidden, labels, rows)
    assert flat.entropy.item() == pytest.approx(torch.tensor(5.0).double().log().item(), 1e-12)


def test_outputs_that_are_sure_have_no_entropy_and_finite_gradients():
    objective, hidden, labels, rows = made_batch("confidence_penalty", ignored=False, dtype=torch.float32)
    found = total_and_gradients(objective, hidden * 1e6, labels, rows)
    assert objective(hidden * 1e6, labels, rows).entropy.item() == pytest.approx(0, abs=1e-6)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


def test_training_with_the_penalty_leaves_more_entropy():
    """What the paper is about: less sure outputs."""
    entropies = []
    for weight in (0.0, 1.0):
        objective, hidden, labels, rows = made_batch("confidence_penalty", penalty_weight=weight)
        optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
        for _ in range(200):
            optimizer.zero_grad()
            objective(hidden, labels, rows).total.backward()
            optimizer.step()
        entropies.append(objective(hidden, labels, rows).entropy.item())
    assert entropies[1] > entropies[0] + 0.1


def test_virtual_teacher_is_label_smoothing_of_its_own_share():
    """With the teacher alone the gradients are those of cross entropy against the softened teacher."""
    objective, hidden, labels, rows = made_batch("teacher_free", teacher_weight=1.0)
    counts = labels != -100
    given = torch.full((5, 5), 0.01 / 4, dtype=torch.float64).fill_diagonal_(0.99)
    teacher = torch.softmax(given / 20, dim=1)
    smoothing = copied(objective, LabelSmoothing(4, 5, smoothing=5 * teacher[0, 1].item()).double())
    expected = total_and_gradients(smoothing, hidden, labels, rows)
    found = total_and_gradients(objective, hidden, labels, rows)
    entropy = torch.distributions.Categorical(probs=teacher[0]).entropy()
    torch.testing.assert_close(found.pop("total"), expected.pop("total") - entropy, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # The code published with the paper: a mean over rows and labels, times the multiplier C.
    logits = objective.logits(hidden[counts])
    code = F.kl_div(logits.log_softmax(dim=1), teacher[labels[counts]], reduction="none").mean() * 5
    assert objective(hidden, labels, rows).teacher.item() == pytest.approx(code.item(), abs=1e-12)


@pytest.mark.parametrize("preset", ["published_code", "paper"])
@pytest.mark.parametrize("true_probability", [1e-300, 0.2, 0.99, 1.0])
@pytest.mark.parametrize("temperature", [1e-9, 1.0, 1e9])
def test_teacher_free_is_finite_at_the_ends_of_its_arguments(preset, true_probability, temperature):
    for num_labels in (1, 2, 5):
        objective, hidden, labels, rows = made_batch(
            "teacher_free",
            num_labels=num_labels,
            preset=preset,
            true_probability=true_probability,
            temperature=temperature,
        )
        found = total_and_gradients(objective, hidden, labels, rows)
        assert all(bool(torch.isfinite(value).all()) for value in found.values())
        assert objective(hidden, labels, rows).teacher.item() >= -1e-12


def test_one_label_leaves_nothing_to_learn():
    for objective in (ConfidencePenalty(4, 1), TeacherFree(4, 1), TeacherFree(4, 1, preset="paper")):
        found = total_and_gradients(objective, torch.randn(3, 4), torch.zeros(3, dtype=torch.int64), torch.arange(3))
        assert all(bool((value == 0).all()) for value in found.values())
