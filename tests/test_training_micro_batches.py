"""A run whose steps come in micro-batches leaves what a run with whole batches leaves."""

from __future__ import annotations

import pytest

from tests.made_corpus import write_corpus
from tests.made_training import assert_same_run, small_recipe, train, with_saved_geometry

# No dropout, whose masks are drawn for each micro-batch; plain descent, which does not blow up what rounding does to
# gradients near 0. The last batch of an epoch has 30 rows: micro-batches of 8, 8, 7 and 7.
PLAIN = {"model": {"name": "mlp", "hidden_sizes": [12]}, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
OBJECTIVES = {
    "label_embedding, saved": {"name": "label_embedding", "embedding": "SAVED"},
    "chunked": {"name": "label_embedding", "embedding": "SAVED", "impl": "chunked"},
    "online, published": {"name": "online_label_smoothing", "preset": "published"},
    "class weights": {"name": "label_smoothing", "weight": [0.5, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 0.25, 1.0, 1.0]},
    "retrospection, in its steps": {"name": "retrospection", "store_every": 1, "store": "steps"},
    "distillation": {"name": "distillation", "teacher": "TEACHER"},
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_run_in_micro_batches_leaves_what_whole_batches_leave(case, tmp_path):
    objective = with_saved_geometry(OBJECTIVES[case], tmp_path)
    for count in (1, 4):
        notes = []
        recipe = small_recipe(objective=objective, micro_batches=count, max_gradient_norm=2.0, **PLAIN)
        train(recipe, tmp_path / str(count), warn=notes.append)
        assert not [note for note in notes if "micro_batches" in note]
    assert_same_run(tmp_path / "4", tmp_path / "1")


@pytest.mark.parametrize("batch_size", [7, {"tokens": 60}], ids=["sentences", "tokens"])
def test_corpus_in_micro_batches_leaves_what_whole_batches_leave(batch_size, tmp_path):
    changes = {
        "data": {"name": "corpus", "path": str(write_corpus(tmp_path).folder)},
        "model": {"name": "attention_lstm", "width": 12, "embedding_size": 8, "dropout": 0.0},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "objective": {"name": "label_smoothing"},
        "epochs": 2,
        "batch_size": batch_size,
    }
    for count in (1, 3):
        train(small_recipe(micro_batches=count, **changes), tmp_path / str(count))
    assert_same_run(tmp_path / "3", tmp_path / "1")


@pytest.mark.parametrize(("name", "reason"), [("adaptive_labels", "label vectors"), ("label_embedding", "E learns")])
def test_objective_that_couples_rows_says_so(name, reason, tmp_path):
    notes = []
    recipe = small_recipe(objective={"name": name}, micro_batches=2, epochs=1)
    train(recipe, tmp_path, warn=notes.append)
    (told,) = [note for note in notes if note.startswith("micro_batches: ")]
    assert reason in told
