"""What objectives remember of what the network said: online label smoothing of labels, retrospection of examples."""

from __future__ import annotations

import pytest
import torch

from .made_objectives import EXAMPLES, made_examples, made_mode, passes
from .naive.remembering import NaiveOnlineLabelSmoothing

LABELS = 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"preset": "published"},
        {"preset": "moving_average", "momentum": 0.9},
        {"similarity_weight": 0.6, "uniform_weight": 0.4},
        {"momentum": 0.0, "similarity_weight": 0.2, "uniform_weight": 0.1},
    ],
)
def test_online_label_smoothing_equals_the_naive_loops_over_epochs(arguments):
    objective = made_mode("online_label_smoothing", **arguments)
    objective.similarities.fill_(1 / LABELS)  # to the last digit of float64
    published = objective.preset == "published"
    weights = {name: getattr(objective, name) for name in ("similarity_weight", "uniform_weight", "momentum")}
    naive = NaiveOnlineLabelSmoothing(LABELS, **weights)
    for epoch in range(3):
        objective.start_epoch(epoch, 3, 10)
        for step in range(4):
            hidden, labels, _ = made_examples(objective, seed=10 * epoch + step)
            logits = objective.logits(hidden).tolist()
            expected = naive.terms(logits, labels.tolist())
            if objective.uniform_weight == 0:
                expected["uniform"] = 0.0  # not computed where it has no part
            for name, value in objective(hidden, labels)._asdict().items():
                assert value.item() == pytest.approx(expected[name], abs=1e-10), (name, epoch, step)
            (naive.gather if published else naive.follow)(logits, labels.tolist())
        objective.end_epoch()
        naive.next_epoch() if published else None
        table = objective.similarities
        torch.testing.assert_close(table.tolist(), naive.table, rtol=0, atol=1e-12)
    assert not torch.allclose(table, torch.full_like(table, 1 / LABELS), atol=0.02)  # it has learned something
    soft = objective.label_geometry().soft_targets()
    torch.testing.assert_close(soft, table.float(), rtol=1e-5, atol=1e-6)


def after_epochs(objective, epochs, *, of):
    """Trains nothing, but shows every example once an epoch as the loop does; returns the examples."""
    hidden, labels, _ = made_examples(objective, EXAMPLES)
    everything = torch.arange(EXAMPLES)
    parts = [(hidden[some], labels[some], some) for some in everything.split(100)]
    for epoch in range(epochs):
        objective.train().start_epoch(epoch, of, 10)
        for part in parts:
            objective(*part)
        objective.eval().end_epoch(passes(*parts))
    return hidden, labels, everything


@pytest.mark.parametrize("store", ["pass", "steps"])
def test_what_is_stored_is_what_the_network_said_of_each_example(store):
    objective = made_mode("retrospection", store_every=2, store=store)
    hidden, labels, everything = after_epochs(objective, 2, of=10)
    counts = labels >= 0
    soft = (objective.logits(hidden) / 5).softmax(dim=1)
    torch.testing.assert_close(objective.stored[counts].double(), soft[counts], rtol=0, atol=2e-3)  # float16
    assert not objective.stored[~counts].any()
    # Evaluation reads nothing of it, and a state carries it.
    assert objective.eval()(hidden, labels).retrospection.item() == 0
    other = made_mode("retrospection", store_every=2, store=store, seed=1)
    other.load_state_dict(objective.state_dict())
    other._open_epoch = None  # as a new process has it
    totals = []
    for one in (objective, other):
        one.train().start_epoch(2, 10, 10)
        totals.append(one(hidden, labels, everything).total)
    assert torch.equal(*totals)


def test_an_example_that_a_sampler_leaves_out_keeps_its_last_soft_label_or_its_label():
    objective = made_mode("retrospection", preset="progressive")
    hidden, labels, _ = made_examples(objective, EXAMPLES, ignored=False)
    said = []
    for epoch, seen in enumerate([torch.arange(10), torch.arange(5)]):
        objective.train().start_epoch(epoch, 4, 1)
        objective(hidden[seen], labels[seen], seen)
        objective.end_epoch()
        said.append(objective.stored.clone())
        with torch.no_grad():
            objective.output.weight.mul_(0.5)
    assert torch.equal(said[1][5:], said[0][5:])
    assert not torch.equal(said[1][:5], said[0][:5])
    objective.start_epoch(2, 4, 1)
    never = torch.arange(10, 12)
    terms = objective(hidden[never], labels[never], never)
    torch.testing.assert_close(terms.retrospection, terms.output)
    objective.stored.fill_(torch.nan)
    assert objective(hidden[never], labels[never], never).total.isnan()


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        # final weight 0.9 (progressive 0.8) of ten epochs: 3 x 0.09 at every third, 0.09 an epoch, 0.08 after the first
        ("paper", [0, 0, 0.27, 0.27, 0.27, 0.54, 0.54, 0.54, 0.81, 0.81]),
        ("published_port", [0.09, 0.18, 0.27, 0.36, 0.45, 0.54, 0.63, 0.72, 0.81, 0.9]),
        ("progressive", [0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48, 0.56, 0.64, 0.72]),
    ],
)
def test_the_weight_rises_as_the_preset_says(preset, expected):
    objective = made_mode("retrospection", store_every=3, preset=preset)
    found = []
    for epoch in range(10):
        objective.start_epoch(epoch, 10, 10)
        found.append(objective._beta)
        objective._stores_now = False  # nothing is stored here
        objective.end_epoch()
    assert found == pytest.approx(expected)
