"""AdaptiveLabels' own: how its label vectors move and predict, when it updates, its bias and its warning."""

from __future__ import annotations

import pytest
import torch

from .made_objectives import made_examples, made_mode, passes
from .naive.adaptive_labels import naive_centroids, naive_distance

HIDDEN, LABELS = 4, 5


def made(**arguments):
    return made_mode("adaptive_labels", **arguments)


def rows(objective, count=13, *, seed=0, **how):
    """Examples without the last label."""
    hidden, labels, _ = made_examples(objective, count, seed=seed, **how)
    return hidden, torch.where(labels == LABELS - 1, 0, labels)


def outputs(objective, hidden):
    return objective.output(hidden).tolist()


@pytest.mark.parametrize("arguments", [{}, {"preset": "paper"}])
@pytest.mark.parametrize("count", [13, 1])
def test_label_vectors_after_a_step_equal_the_loops_and_predict(arguments, count):
    objective = made(**arguments)
    for step in range(3):
        hidden, labels = rows(objective, count, seed=step, ignored=count > 1)
        old = objective.centroids.tolist()
        new = naive_centroids(outputs(objective, hidden), labels.tolist(), old)
        objective(hidden, labels)
        torch.testing.assert_close(objective.centroids.tolist(), new, rtol=0, atol=1e-12)
    distances = [[-naive_distance(row, vector) for vector in new] for row in outputs(objective, hidden)]
    torch.testing.assert_close(objective.logits(hidden).tolist(), distances, rtol=0, atol=1e-10)


def test_updates_come_every_k_steps_after_the_warm_up_repel_with_them_and_the_count_is_saved():
    objective = made(update_every=3, warmup_steps=2, repel_weight=10.0)
    moved, pushed = [], []
    for step in range(10):
        if step == 6:
            state, objective = objective.state_dict(), made(update_every=3, warmup_steps=2, repel_weight=10.0)
            objective.load_state_dict(state)
        before = objective.centroids.clone()
        terms = objective(*rows(objective, seed=step))
        moved.append(not torch.equal(before, objective.centroids))
        pushed.append(bool(terms.repel != 0))
    assert moved == pushed == [step in (2, 5, 8) for step in range(10)]
    assert int(objective.steps) == 10


def test_a_first_batch_of_about_one_example_a_class_is_warned_of_once():
    hidden, labels = rows(made(), 9, ignored=False)[0], torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    objective = made()
    with pytest.warns(UserWarning, match="9 examples of 5 classes"):
        objective(hidden, labels)
    objective(hidden, labels)  # warnings are errors here
    enough = made()
    enough(hidden[:8], labels[:8] % 4)  # two of each class
    enough(hidden[:1], labels[:1])  # the last batch of an epoch


@pytest.mark.parametrize("arguments", [{}, {"prediction": "last"}])
def test_a_pass_over_the_training_examples_gives_the_means_of_all(arguments):
    objective = made(**arguments)
    hidden, labels = rows(objective, 50)
    before = objective.centroids.clone()
    parts = [(hidden[part], labels[part], part) for part in torch.arange(50).split(20)]
    objective.eval().end_epoch(passes(*parts))
    means = torch.tensor(naive_centroids(outputs(objective, hidden), labels.tolist(), before.tolist())).double()
    if "prediction" not in arguments:
        torch.testing.assert_close(objective.prediction_centroids, means, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(objective.label_geometry().vectors, means.float())
    assert torch.equal(objective.centroids, before)  # training goes on from its own vectors


def test_the_papers_steps_are_counted_from_the_start_of_each_epoch():
    """Algorithm 1: with w = 1 and k = 2 an epoch of four steps updates in its second and fourth."""
    objective, moved = made(preset="paper", update_every=2, warmup_steps=1, prediction="last"), []
    for step in range(8):
        if step == 4:
            objective.end_epoch()
            objective.start_epoch(1, 10, 4)
        before = objective.centroids.clone()
        objective(*rows(objective, seed=step))
        moved.append(not torch.equal(before, objective.centroids))
    assert moved == [False, True] * 4
