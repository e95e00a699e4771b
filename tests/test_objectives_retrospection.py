"""Retrospection: terms, and what is stored of every row, against the naive loops."""

from __future__ import annotations

import pytest
import torch

from labelembed.objectives import Retrospection
from labelembed.objectives.soft_labels import SoftLabelStore, bytes_needed
from labelembed.seeds import generator

from .made_remembering import HIDDEN, LABELS, filled, make_rows
from .naive.differences import central_differences
from .naive.remembering import (
    naive_retrospection_gradients,
    naive_retrospection_port_terms,
    naive_retrospection_terms,
    naive_sparse,
    naive_staircase,
)

torch.set_num_threads(1)
ROWS = 60


def train_epochs(objective, epochs, *, of):
    """Trains nothing, but shows every row once an epoch as the loop does; returns the terms of the last batch."""
    hidden, labels = make_rows(objective, ROWS)
    terms = None
    for epoch in range(epochs):
        objective.train().start_epoch(epoch, of, 10)
        for rows in torch.randperm(ROWS, generator=generator(epoch, "order")).split(25):
            terms = objective(hidden[rows], labels[rows], rows)
        parts = [(hidden[rows], labels[rows], rows) for rows in torch.arange(ROWS).split(40)]
        objective.eval().end_epoch(lambda parts=parts: parts)
    return hidden, labels, terms


def naive_terms(preset, logits, labels, stored, *, epoch, epochs, store_every):
    """The terms of either preset in epoch 1, 2, ..."""
    if preset == "published_port":
        return naive_retrospection_port_terms(logits, labels, stored, weight=0.9 * epoch / epochs)
    weight = naive_staircase(epoch, epochs, store_every, 0.9)
    return naive_retrospection_terms(logits, labels, stored, temperature=5.0, weight=weight)


PRESETS = ["paper", "published_port"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("store", ["pass", "steps"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_retrospection_equals_the_naive_loops(store, top_k, preset):
    objective = filled(Retrospection, num_examples=ROWS, store_every=2, store=store, top_k=top_k, preset=preset)
    hidden, labels, last = train_epochs(objective, 2, of=10)
    assert last.total.item() == last.output.item()  # one-hot until soft labels are stored
    soft = (objective.logits(hidden) / 5).softmax(dim=1).tolist()
    soft = [naive_sparse(row, top_k or LABELS) for row in soft]
    with torch.no_grad():
        objective.output.weight.normal_()
    objective.train().start_epoch(2, 10, 10)
    rows = torch.randperm(ROWS)[:20]
    terms = objective(hidden[rows], labels[rows], rows)._asdict()
    logits = objective.logits(hidden[rows]).tolist()
    stored = [soft[int(r)] for r in rows]
    expected = naive_terms(preset, logits, labels[rows].tolist(), stored, epoch=3, epochs=10, store_every=2)
    for name, value in terms.items():
        # Stored in float16: 2^-11 of each entry; in the total of `paper` times 0.18 tau^2 = 4.5.
        assert value.item() == pytest.approx(expected[name], abs=1e-2 if name == "total" else 2e-3), name
    assert terms["retrospection"].item() > 0.01


@pytest.mark.parametrize("preset", PRESETS)
def test_retrospection_from_what_is_stored_is_exact_with_its_gradients(preset):
    objective = Retrospection(LABELS, LABELS, num_examples=ROWS, store_every=1, preset=preset, bias=False).double()
    objective.output.weight.data.copy_(torch.eye(LABELS))  # so that the hidden states are the logits
    source = generator(0, "logits")
    before, logits = (3 * torch.randn(ROWS, LABELS, generator=source, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(LABELS, (ROWS,), generator=source)
    labels[::5] = -100
    everything = torch.arange(ROWS)
    objective.start_epoch(0, 4, 10)
    objective.end_epoch(lambda: [(before, labels.clamp_min(0), everything)])
    objective.start_epoch(1, 4, 10)
    stored = objective.store.at(everything).double().tolist()
    leaf = logits.clone().requires_grad_()
    terms = objective(leaf, labels, everything)
    terms.total.backward()
    where = {"epoch": 2, "epochs": 4, "store_every": 1}
    expected = naive_terms(preset, logits.tolist(), labels.tolist(), stored, **where)
    for name, value in terms._asdict().items():
        assert value.item() == pytest.approx(expected[name], abs=1e-10), name
    port = preset == "published_port"
    gradients = naive_retrospection_gradients(
        logits.tolist(), labels.tolist(), stored, temperature=5.0, weight=0.45, port=port
    )
    torch.testing.assert_close(leaf.grad.tolist(), gradients, rtol=0, atol=1e-10)
    numeric = central_differences(
        {"logits": logits[:6]},
        lambda at: naive_terms(preset, at["logits"].tolist(), labels[:6].tolist(), stored[:6], **where)["total"],
    )
    few = naive_retrospection_gradients(
        logits[:6].tolist(), labels[:6].tolist(), stored[:6], temperature=5.0, weight=0.45, port=port
    )
    torch.testing.assert_close(few, numeric["logits"].tolist(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_papers_form_leaves_alone_what_has_not_changed_since_storing(preset):
    objective = filled(Retrospection, num_examples=ROWS, store_every=1, preset=preset)
    hidden, labels, _ = train_epochs(objective, 1, of=4)
    objective.train().start_epoch(1, 4, 10)
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels, torch.arange(ROWS)).retrospection.backward()
    largest = leaf.grad.abs().max().item() * int((labels >= 0).sum())
    if preset == "paper":
        assert largest < 2e-3  # float16: 2^-12 of each entry, times the weights of the output layer
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
    objective = filled(Retrospection, num_examples=ROWS, store_every=3, preset=preset)
    found = []
    for epoch in range(10):
        objective.store.generations = 1  # as if stored
        objective.start_epoch(epoch, 10, 10)
        found.append(objective.beta)
    assert found == pytest.approx(expected)
    if preset == "paper":
        assert found == pytest.approx([naive_staircase(epoch, 10, 3, 0.9) for epoch in range(1, 11)])


def test_an_argument_takes_the_place_of_the_presets():
    mixed = Retrospection(4, 3, preset="published_port", soften_output=True)
    assert (mixed.soften_output, mixed.weight_schedule) == (True, "linear")


def test_a_run_that_ends_before_anything_stored_is_read_is_refused():
    objective = filled(Retrospection, num_examples=ROWS, store_every=2)
    with pytest.raises(ValueError, match=r"`store_every` must be less than the number of epochs, 2, got 2"):
        objective.start_epoch(0, 2, 10)


@pytest.mark.parametrize("store", ["pass", "steps"])
def test_a_loop_that_never_stores_is_refused_once_the_first_epochs_are_over(store):
    objective = filled(Retrospection, num_examples=ROWS, store_every=2, store=store)
    for epoch in range(2):
        objective.start_epoch(epoch, 10, 10)
    with pytest.raises(RuntimeError, match=r"2 epochs are over and no soft labels are stored: call objective\.end_"):
        objective.start_epoch(2, 10, 10)


@pytest.mark.parametrize("epochs", range(1, 8))
def test_rows_are_stored_after_every_third_epoch(epochs):
    objective = filled(Retrospection, num_examples=ROWS, store_every=3)
    train_epochs(objective, epochs, of=10)
    assert objective.store.generations == int(objective.store.generation) == epochs // 3
    assert objective.store.filled == (epochs >= 3)


def test_rows_that_are_ignored_are_not_stored_and_the_geometry_is_of_the_others():
    objective = filled(Retrospection, num_examples=ROWS, store_every=1)
    hidden, labels, _ = train_epochs(objective, 1, of=4)
    assert torch.equal(objective.store.classes.long(), torch.where(labels >= 0, labels, -1))
    soft = (objective.logits(hidden) / 5).softmax(dim=1)
    expected = torch.stack([soft[labels == c].mean(dim=0) for c in labels[labels >= 0].unique()])
    found = objective.label_geometry().vectors[labels[labels >= 0].unique()].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_a_state_dict_carries_what_is_stored():
    first = filled(Retrospection, num_examples=ROWS, store_every=1, top_k=3)
    hidden, labels, _ = train_epochs(first, 1, of=4)
    second = Retrospection(HIDDEN, LABELS, num_examples=ROWS, store_every=1, top_k=3).double()
    second.load_state_dict(first.state_dict())
    for objective in (first, second):
        objective.train().start_epoch(1, 4, 10)
    rows = torch.arange(ROWS)
    assert torch.equal(first(hidden, labels, rows).total, second(hidden, labels, rows).total)


def test_store_of_a_million_rows_and_a_thousand_labels_is_possible():
    assert bytes_needed(1_200_000, 1_000) == 1_200_000 * 32 * 4  # 154 MB
    assert bytes_needed(1_200_000, 1_000, top_k=1_000) == 2_400_000_000
    store = SoftLabelStore(1_000, 1_000)
    held = sum(buffer.numel() * buffer.element_size() for buffer in (store.values, store.labels))
    assert held == bytes_needed(1_000, 1_000)


def test_evaluation_reads_nothing_that_is_stored():
    objective = filled(Retrospection, num_examples=ROWS, store_every=1)
    hidden, labels, _ = train_epochs(objective, 1, of=4)
    assert objective.eval()(hidden, labels).retrospection.item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": -1}, "`num_examples` must be >= 0"),
        ({"store_every": 0}, "`store_every` must be >= 1, got 0"),
        ({"temperature": -5.0}, "`temperature` must be > 0"),
        ({"final_weight": 1.2}, r"`final_weight` must be in \[0, 1\]"),
        ({"preset": "published"}, "`preset` must be one of 'paper', 'published_port', got 'published'"),
        ({"weight_schedule": "steps"}, "`weight_schedule` must be one of 'staircase', 'linear', got 'steps'"),
    ],
)
def test_bad_arguments_of_retrospection_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Retrospection(4, 3, **arguments)
