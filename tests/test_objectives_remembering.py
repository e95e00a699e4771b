"""What objectives remember of what the network said: online label smoothing of labels, retrospection of examples."""

from __future__ import annotations

import pytest
import torch

from labelembed.losses.soft_targets import SparseTargets, dense
from labelembed.objectives import OnlineLabelSmoothing

from .made_objectives import EXAMPLES, made_examples, made_mode, passes
from .naive.remembering import NaiveOnlineLabelSmoothing, naive_sparse, naive_staircase

LABELS = 5

# -------------------------------------------------------------------------- distributions by their largest entries


# ------------------------------------------------------------------------------------------ online label smoothing


@pytest.mark.parametrize(
    "arguments",
    [
        {"preset": "published"},
        {"preset": "moving_average", "momentum": 0.9},
        {"temperature": 3.0, "similarity_weight": 0.6, "uniform_weight": 0.4},
        {"momentum": 0.0, "similarity_weight": 0.2, "uniform_weight": 0.1},
    ],
)
def test_online_label_smoothing_equals_the_naive_loops_over_epochs(arguments):
    objective = made_mode("online_label_smoothing", **arguments)
    for table in filter(None, (objective.similarities, objective.gathering)):
        table.values.fill_(1 / LABELS)  # to the last digit of float64
    published = objective.momentum is None
    weights = {name: getattr(objective, name) for name in ("similarity_weight", "uniform_weight", "momentum")}
    naive = NaiveOnlineLabelSmoothing(LABELS, temperature=objective.temperature, **weights)
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
        table = objective.similarities.whole()
        torch.testing.assert_close(table.tolist(), naive.table, rtol=0, atol=1e-12)
    assert not torch.allclose(table, torch.full_like(table, 1 / LABELS), atol=0.02)  # it has learned something
    soft = objective.label_geometry().soft_targets()
    torch.testing.assert_close(soft, table.float(), rtol=1e-5, atol=1e-6)


def test_table_of_fifty_thousand_labels_takes_less_than_a_hundred_mebibytes():
    objective = OnlineLabelSmoothing(2, 50_000, preset="published")
    assert sum(buffer.numel() * buffer.element_size() for buffer in objective.buffers()) < 100 * 2**20
    objective.start_epoch(0, 2, 10)
    terms = objective(torch.randn(3, 2), torch.tensor([3, 49_999, 3]))
    terms.total.backward()
    assert terms.similarity.item() == pytest.approx(terms.total.item() * 2 - terms.output.item(), rel=1e-5)


def test_an_epoch_of_the_published_form_must_be_ended_and_may_be_started_again():
    objective = made_mode("online_label_smoothing, published")
    objective.start_epoch(0, 3, 10)  # started again, as after an interruption
    with pytest.raises(RuntimeError, match=r"epoch 0 was never ended, .* call objective\.end_epoch\(\)"):
        objective.start_epoch(1, 3, 10)
    objective.end_epoch()
    objective.start_epoch(1, 3, 10)


# -------------------------------------------------------------------------------------------------- retrospection


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
@pytest.mark.parametrize("top_k", [None, 2])
def test_what_is_stored_is_what_the_network_said_of_each_example(store, top_k):
    objective = made_mode("retrospection", store_every=2, store=store, top_k=top_k)
    hidden, labels, everything = after_epochs(objective, 2, of=10)
    assert torch.equal(objective.store.classes.long(), torch.where(labels >= 0, labels, -1))
    counts = labels >= 0
    soft = (objective.logits(hidden) / 5).softmax(dim=1).tolist()
    expected = torch.tensor([naive_sparse(row, top_k or LABELS) for row in soft])[counts]
    stored = objective.store.at(everything)
    stored = dense(stored, LABELS) if isinstance(stored, SparseTargets) else stored
    torch.testing.assert_close(stored[counts], expected, rtol=0, atol=2e-3)  # float16
    means = objective.label_geometry().vectors
    for label in labels[counts].unique():
        own = stored[labels == label].mean(dim=0)
        torch.testing.assert_close(means[label], own, rtol=0, atol=1e-3)
    # Evaluation reads nothing of it, and a state carries it.
    assert objective.eval()(hidden, labels).retrospection.item() == 0
    other = made_mode("retrospection", store_every=2, store=store, top_k=top_k, seed=1)
    other.load_state_dict(objective.state_dict())
    totals = []
    for one in (objective, other):
        one.train().start_epoch(2, 10, 10)
        totals.append(one(hidden, labels, everything).total)
    assert torch.equal(*totals)


@pytest.mark.parametrize("preset", ["paper", "published_port"])
def test_only_the_papers_form_leaves_alone_what_has_not_changed_since_storing(preset):
    objective = made_mode("retrospection", preset=preset)
    hidden, labels, everything = after_epochs(objective, 1, of=4)
    objective.train().start_epoch(1, 4, 10)
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels, everything).retrospection.backward()
    largest = leaf.grad.abs().max().item() * int((labels >= 0).sum())
    if preset == "paper":
        assert largest < 4e-3  # float16: 2^-12 of each entry, times the weights of the output layer
    else:
        assert largest > 0.3  # the output is pulled to its own softened form, changed or not


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper", [0, 0, 0.27, 0.27, 0.27, 0.54, 0.54, 0.54, 0.81, 0.81]),
        ("published_port", [0.09, 0.18, 0.27, 0.36, 0.45, 0.54, 0.63, 0.72, 0.81, 0.9]),
    ],
)
def test_the_weight_rises_as_the_preset_says(preset, expected):
    objective = made_mode("retrospection", store_every=3, preset=preset)
    found = []
    for epoch in range(10):
        objective.store.generations = 1  # as if stored
        objective.start_epoch(epoch, 10, 10)
        found.append(objective.beta)
    assert found == pytest.approx(expected)
    if preset == "paper":
        assert found == pytest.approx([naive_staircase(epoch, 10, 3, 0.9) for epoch in range(1, 11)])


def test_a_run_that_ends_before_anything_stored_is_read_is_refused():
    with pytest.raises(ValueError, match=r"`store_every` must be less than the number of epochs, 2, got 2"):
        made_mode("retrospection", store_every=2).start_epoch(0, 2, 10)


@pytest.mark.parametrize("store", ["pass", "steps"])
def test_a_loop_that_never_stores_is_refused_once_the_first_epochs_are_over(store):
    objective = made_mode("retrospection", store_every=2, store=store)
    objective.start_epoch(1, 10, 10)
    with pytest.raises(RuntimeError, match=r"2 epochs are over and no soft labels are stored: call objective\.end_"):
        objective.start_epoch(2, 10, 10)


@pytest.mark.parametrize("epochs", [2, 3, 5, 6])
def test_examples_are_stored_after_every_third_epoch(epochs):
    objective = made_mode("retrospection", store_every=3)
    after_epochs(objective, epochs, of=10)
    assert objective.store.generations == int(objective.store.generation) == epochs // 3
    assert objective.store.filled == (epochs >= 3)
