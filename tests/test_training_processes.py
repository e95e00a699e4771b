"""The loop in two processes, started as torchrun starts them, trains what one process trains."""

from __future__ import annotations

import shutil
import signal

import pytest

from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus import write_corpus
from tests.made_survival import gloo, start_two
from tests.made_training import CommandLines, assert_same_run, newest, train, wait_until

pytestmark = pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")

# The last of 9 batches has one row, so that one of the processes has none. Plain descent: Adam divides by the
# gradient's own size, so that where it is near 0 the rounding of another order of sums moves a whole learning rate.
SETTINGS = [
    "data.train_examples=401",
    "model.hidden_sizes=[16]",
    "batch_size=50",
    "optimizer={name: sgd, learning_rate: 0.1}",
]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return CommandLines(tmp_path_factory.mktemp("outputs"))


def train_words(folder, settings, recipe="digits-mlp"):
    options = [word for setting in settings for word in ("--set", setting)]
    return ["train", recipe, *options, "--out", str(folder), "--device", "cpu"]


@pytest.mark.parametrize("objective", ["label_embedding", "distillation"])
def test_two_processes_leave_the_run_folder_of_one(objective, commands, tmp_path):
    if objective == "distillation":
        teacher, _ = load_recipe("digits-mlp", settings=[*SETTINGS, "epochs=1", "objective=one_hot"])
        train(teacher, tmp_path / "teacher")
        objective = f"{{name: distillation, teacher: {tmp_path / 'teacher'}, temperature: 2}}"
    settings = [*SETTINGS, "epochs=3", f"objective={objective}", "checkpoints={minimum_seconds: 0}"]
    recipe, _ = load_recipe("digits-mlp", settings=settings)
    train(recipe, tmp_path / "one")
    # In each of them in three parts: 9, 8 and 8 rows; of the last step, of one row, there is one. E of label_embedding
    # takes means of each part.
    settings.append(f"micro_batches={1 if objective == 'label_embedding' else 3}")
    for command in start_two(commands, *train_words(tmp_path / "two", settings)):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "two", tmp_path / "one")
    losses = [line["train"]["total"] for line in RunFolder(tmp_path / "two").history()]
    assert losses[0] > losses[1] > losses[2]


def test_two_processes_with_batch_normalisation_select_the_same_epoch(commands, tmp_path):
    # Each has running statistics of its own; with this seed and patience they ended after different epochs.
    settings = ["model.batch_norm=true", "epochs=30", "seed=4", "selection.patience=2", "objective=one_hot"]
    for command in start_two(commands, *train_words(tmp_path / "two", settings)):
        assert command.code() == 0, command.output()
    assert RunFolder(tmp_path / "two").state() == "finished"


def test_two_processes_train_on_a_corpus_what_one_does(commands, tmp_path):
    # Batches of 7 pairs: a share of 4 and one of 3, of other lengths and so with other padding.
    settings = [
        f"data.path={write_corpus(tmp_path).folder}",
        "model={name: attention_lstm, width: 12, embedding_size: 8, dropout: 0.0}",
        "optimizer={name: sgd, learning_rate: 0.1}",
        "max_gradient_norm=0.5",
        "batch_size=7",
        "epochs=2",
        "checkpoints={minimum_seconds: 0}",
        "objective=one_hot",
    ]
    recipe, _ = load_recipe("translation-lstm", settings=settings)
    train(recipe, tmp_path / "one")
    settings.append("micro_batches=2")  # the last batch has pairs for one of the processes alone
    for command in start_two(commands, *train_words(tmp_path / "two", settings, "translation-lstm")):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "two", tmp_path / "one")
    written = [(tmp_path / run / "translations" / "test.txt").read_text() for run in ("one", "two")]
    assert written[0] == written[1]


def test_processes_whose_clocks_differ_stay_together_and_one_signal_stops_both(commands, tmp_path):
    settings = [*SETTINGS, "epochs=16", "objective=one_hot"]
    recipe, _ = load_recipe("digits-mlp", settings=settings)
    train(recipe, tmp_path / "one")
    # For one of them it is always time to save, for the other never.
    clocks = [("--set", f"checkpoints={{minimum_seconds: {seconds}}}") for seconds in (0, 1000)]
    first, second = start_two(commands, *train_words(tmp_path / "two", settings), last=clocks)
    wait_until(lambda: len(RunFolder(tmp_path / "two").history()) >= 2, first)
    second.signal(signal.SIGTERM)
    assert second.code() == 143, second.output()
    assert first.code() == 130, first.output()  # it had no signal of its own
    assert f"labelembed resume {tmp_path / 'two'}" in second.output()
    stopped_at = newest(tmp_path / "two").step
    assert 18 <= stopped_at < 144
    # It goes on in one process as in two.
    shutil.copytree(tmp_path / "two", tmp_path / "one of two")
    train(stored_recipe(RunFolder(tmp_path / "one of two")), tmp_path / "one of two")
    assert_same_run(tmp_path / "one of two", tmp_path / "one")
    for command in start_two(commands, "resume", str(tmp_path / "two"), "--device", "cpu"):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "two", tmp_path / "one")
