"""Learning with Adaptive Labels: terms, updates and gradients against the naive loops, and what predicts."""

from __future__ import annotations

import copy

import pytest
import torch

from labelembed.losses import distances
from labelembed.objectives import AdaptiveLabels
from labelembed.seeds import generator, seeded

from .naive.adaptive_labels import (
    naive_adaptive_labels_output,
    naive_centroids,
    naive_distance,
    naive_repel,
)
from .naive.cross_entropy import naive_linear
from .naive.differences import central_differences

torch.set_num_threads(1)
HIDDEN, LABELS = 4, 5
SETTINGS = {
    "published": {},
    "ten times": {"label_dimension": 10 * LABELS, "repel_weight": 10.0},
    "narrow": {"label_dimension": 2, "repel_weight": 0.7},
    "algorithm 1": {"loss": "before_update", "repel_weight": 3.0},
    "no gradient": {"gradient_through_centroids": False},
    "moving average": {"update": "moving_average", "momentum": 0.8},
    "epoch": {"update": "epoch"},
    "last": {"prediction": "last"},
}
# Made batches are small; what is asked of them holds at any size.
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def make(setting, *, dtype=torch.float64, **arguments):
    with seeded(0, "objective"):
        objective = AdaptiveLabels(HIDDEN, LABELS, bias=True, **(SETTINGS[setting] | arguments)).to(dtype)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
        objective.centroids.normal_()
    objective.start_epoch(0, 10, 10)
    return objective


def make_rows(count=13, *, ignored=True, seed=0, labels=LABELS):
    source = generator(seed, "rows")
    hidden = torch.randn(count, HIDDEN, generator=source, dtype=torch.float64)
    chosen = torch.randint(labels, (count,), generator=source)
    if ignored:
        chosen[::5] = -100
    return hidden, chosen


def naive_step(objective, hidden, labels, *, centroids=None, weight=None, bias=None):
    """Returns the terms by the loops and the label vectors after the step, for a step that updates."""
    weight = objective.output.weight if weight is None else weight
    bias = objective.output.bias if bias is None else bias
    old = (objective.centroids if centroids is None else centroids).tolist()
    z = [naive_linear(weight.tolist(), bias.tolist(), row) for row in hidden.tolist()]
    labels = labels.tolist()
    new = old if objective.update == "epoch" else naive_centroids(z, labels, old, momentum=objective.momentum)
    output = naive_adaptive_labels_output(z, labels, new if objective.loss == "after_update" else old)
    repel = naive_repel(z, labels) if objective.repel_weight > 0 else 0.0
    terms = {"total": output + objective.repel_weight * repel, "output": output, "repel": repel}
    return terms, new


@every_setting
@pytest.mark.parametrize(("count", "ignored"), [(13, True), (13, False), (40, True), (1, False)])
def test_terms_and_label_vectors_equal_the_naive_loops(setting, count, ignored):
    objective = make(setting)
    for step in range(3):
        hidden, labels = make_rows(count, ignored=ignored, seed=step, labels=LABELS - 1)  # the last label is absent
        expected, new = naive_step(objective, hidden, labels)
        terms = objective(hidden, labels)._asdict()
        assert list(terms) == list(expected)
        for name, value in terms.items():
            assert value.item() == pytest.approx(expected[name], abs=1e-10), name
        torch.testing.assert_close(objective.centroids.tolist(), new, rtol=0, atol=1e-12)


@every_setting
def test_one_label_in_the_batch_equals_the_naive_loops(setting):
    objective = make(setting)
    hidden, labels = make_rows(7, ignored=False)
    labels[:] = 2
    expected, _ = naive_step(objective, hidden, labels)
    terms = objective(hidden, labels)
    assert terms.output.item() == pytest.approx(expected["output"], abs=1e-10)
    assert terms.repel.item() == pytest.approx(0, abs=1e-12)  # no pair of different labels


@every_setting
def test_gradients_equal_finite_differences_of_the_naive_loops(setting):
    objective = make(setting)
    hidden, labels = make_rows(8)
    leaf = hidden.clone().requires_grad_()
    held = copy.deepcopy(objective)
    objective(leaf, labels).total.backward()
    tables = {"hidden": hidden, "weight": held.output.weight.detach(), "bias": held.output.bias.detach()}
    fixed = None
    if setting == "no gradient":  # the vectors are constants for the gradient: those of the step itself
        fixed = torch.tensor(naive_step(held, hidden, labels)[1], dtype=torch.float64)

    def total_of(changed):
        at, w, b = changed["hidden"], changed["weight"], changed["bias"]
        if fixed is None:
            return naive_step(held, at, labels, weight=w, bias=b)[0]["total"]
        z = [naive_linear(w.tolist(), b.tolist(), row) for row in at.tolist()]
        return naive_adaptive_labels_output(z, labels.tolist(), fixed.tolist())

    numeric = central_differences(tables, total_of)
    exact = {"hidden": leaf.grad, "weight": objective.output.weight.grad, "bias": objective.output.bias.grad}
    torch.testing.assert_close(exact, numeric, rtol=0, atol=1e-7)


def test_updates_come_every_k_steps_after_the_warm_up_and_repel_with_them():
    objective = make("ten times", update_every=3, warmup_steps=2)
    moved, pushed = [], []
    for step in range(10):
        before = objective.centroids.clone()
        terms = objective(*make_rows(seed=step))
        moved.append(not torch.equal(before, objective.centroids))
        pushed.append(bool(terms.repel != 0))
    assert moved == pushed == [step in (2, 5, 8) for step in range(10)]
    assert int(objective.steps) == 10


def test_the_count_of_steps_goes_on_after_a_state_dict():
    first = make("published", update_every=4)
    for step in range(3):
        first(*make_rows(seed=step))
    second = make("published", update_every=4)
    second.load_state_dict(first.state_dict())
    moved = []
    for step in range(3):
        before = second.centroids.clone()
        second(*make_rows(seed=step))
        moved.append(not torch.equal(before, second.centroids))
    assert moved == [False, True, False]  # steps 3, 4, 5


def test_evaluation_moves_nothing_and_goes_by_the_vectors_that_predict():
    objective = make("ten times").eval()
    objective.prediction_centroids.normal_()
    state = copy.deepcopy(objective.state_dict())
    hidden, labels = make_rows()
    terms = objective(hidden, labels)
    z = objective.output(hidden).tolist()
    expected = naive_adaptive_labels_output(z, labels.tolist(), objective.prediction_centroids.tolist())
    assert terms.total.item() == terms.output.item() == pytest.approx(expected, abs=1e-10)
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())


def test_a_row_on_its_own_label_vector_has_finite_gradients():
    objective = make("published", dtype=torch.float32)
    hidden = torch.randn(LABELS, HIDDEN, requires_grad=True)
    # One row a label: after the update every row stands on its vector.
    terms = objective(hidden, torch.arange(LABELS))
    terms.total.backward()
    assert terms.total.isfinite()
    assert bool(hidden.grad.isfinite().all())


def test_a_first_batch_of_about_one_example_a_class_is_warned_of_once():
    hidden, labels = make_rows(9, ignored=False)[0], torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    objective = make("published")
    said = r"fewer than two examples a class in the batch \(9 in 5 classes\), .* larger batches .* or update='epoch'"
    with pytest.warns(UserWarning, match=said):
        objective(hidden, labels)
    objective(hidden, labels)  # warnings are errors here
    for settled in ({"update": "epoch"}, {"update": "moving_average"}):
        calm = AdaptiveLabels(HIDDEN, LABELS, **settled).double()
        calm.start_epoch(0, 3, 10)
        calm(hidden, labels)
    enough = make("published")
    enough(hidden[:8], labels[:8] % 4)  # two of each class
    enough(hidden[:1], labels[:1])  # the last batch of an epoch


def test_prediction_is_the_nearest_vector_and_a_step_moves_what_predicts():
    objective = make("ten times")
    objective(*make_rows(40))
    hidden, _ = make_rows(20, seed=9)
    vectors, z = objective.centroids.tolist(), objective.output(hidden).tolist()
    expected = [[-naive_distance(row, vector) for vector in vectors] for row in z]
    torch.testing.assert_close(objective.logits(hidden).tolist(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("setting", ["published", "epoch", "last"])
def test_a_pass_over_the_training_rows_gives_the_means_of_all(setting):
    objective = make(setting)
    hidden, labels = make_rows(50, labels=LABELS - 1)
    before = objective.centroids.clone()
    objective.eval().end_epoch(lambda: ((hidden[part], labels[part], part) for part in torch.arange(50).split(20)))
    means = torch.tensor(
        naive_centroids(objective.output(hidden).tolist(), labels.tolist(), before.tolist()), dtype=torch.float64
    )
    if setting != "last":
        torch.testing.assert_close(objective.prediction_centroids, means, rtol=0, atol=1e-12)
        torch.testing.assert_close(objective.label_geometry().vectors, means.float())
    # Training goes on from its own vectors, unless they are those of the epoch.
    torch.testing.assert_close(objective.centroids, means if setting == "epoch" else before, rtol=0, atol=1e-12)


def test_label_vectors_start_as_one_hot_rows_padded_or_as_directions():
    assert torch.equal(AdaptiveLabels(3, 4).centroids, torch.eye(4))
    padded = AdaptiveLabels(3, 4, label_dimension=6).centroids
    assert torch.equal(padded, torch.eye(4, 6))
    narrow = AdaptiveLabels(3, 4, label_dimension=2).centroids
    torch.testing.assert_close(narrow.norm(dim=1), torch.ones(4))
    assert len({tuple(row) for row in narrow.tolist()}) == 4


def test_distances_keep_their_digits_far_from_the_origin():
    centres = torch.randn(6, 8, generator=generator(0, "centres"))
    rows = torch.randn(30, 8, generator=generator(0, "rows"))
    exact = torch.cdist(rows.double(), centres.double())
    # Moved by 100 the sum of squares alone would lose 4 of float32's 7 digits.
    moved = distances(rows + 100, centres + 100).double()
    assert (moved - exact).abs().max() < 2e-4
    assert (distances(rows, centres).double() - exact).abs().max() < 2e-6


@pytest.mark.parametrize("shape", [(7,), (3, 4), ()])
def test_gradients_of_distances_are_those_of_the_points(shape):
    rows = torch.randn(*shape, 5, generator=generator(0, "rows"), dtype=torch.float64, requires_grad=True)
    centres = torch.randn(6, 5, generator=generator(0, "centres"), dtype=torch.float64, requires_grad=True)
    weights = torch.randn(*shape, 6, generator=generator(0, "weights"), dtype=torch.float64)
    found = torch.autograd.grad((distances(rows, centres) * weights).sum(), (rows, centres))
    exact = torch.linalg.vector_norm(rows[..., None, :] - centres, dim=-1)
    torch.testing.assert_close(distances(rows, centres), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, torch.autograd.grad((exact * weights).sum(), (rows, centres)), rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(distances(rows, centres), exact, rtol=0, atol=1e-12)


def test_distances_are_float32_under_autocast():
    rows, centres = torch.randn(5, 8), torch.randn(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distances(rows, centres)
    assert torch.equal(found, distances(rows, centres))


def test_a_layer_of_another_width_is_the_label_dimension():
    layer = torch.nn.Linear(4, 30)
    objective = AdaptiveLabels.from_linear(layer, num_labels=3)
    assert objective.centroids.shape == (3, 30)
    assert objective.output is layer


def test_output_layer_has_no_bias_unless_asked_for_as_its_gradient_would_be_rounding():
    assert AdaptiveLabels(HIDDEN, LABELS).output.bias is None
    objective = make("published")
    objective(*make_rows(40, ignored=False)).total.backward()  # every label is there
    assert objective.output.bias.grad.abs().max() < 1e-15
    assert objective.output.weight.grad.abs().max() > 1e-3


def test_a_bias_stays_where_a_layer_has_one_and_where_saved_weights_have_one():
    layer = torch.nn.Linear(4, 30)
    assert AdaptiveLabels.from_linear(layer, num_labels=3).output.bias is layer.bias
    saved = AdaptiveLabels(4, 3, bias=True).state_dict()
    with pytest.raises(RuntimeError, match="no output bias unless it is asked for; build it with bias=True"):
        AdaptiveLabels(4, 3).load_state_dict(saved)
    AdaptiveLabels(4, 3, bias=True).load_state_dict(saved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_dimension": 0}, "`label_dimension` must be >= 1, got 0"),
        ({"update_every": 0}, "`update_every` must be >= 1, got 0"),
        ({"warmup_steps": -1}, "`warmup_steps` must be >= 0, got -1"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\), got 1.0"),
        ({"repel_weight": -1.0}, "`repel_weight` must be >= 0, got -1.0"),
        ({"update": "bach"}, "did you mean 'batch'"),
        ({"loss": "after"}, "`loss` must be one of 'after_update', 'before_update'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveLabels(4, 3, **arguments)
