"""How much memory a step takes is known before it is made, and too little of it is one message."""

from __future__ import annotations

import pytest
import torch

from labelembed.lab.data import CorpusSettings, preprocess
from labelembed.lab.errors import NotEnoughMemory
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs import memory
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.estimate import estimate_run
from labelembed.lab.runs.memory import in_gib
from labelembed.lab.training.trainer import Trainer
from tests.made_cli import call, succeed
from tests.made_corpus import made_pairs, write_pair_files
from tests.made_corpus_runs import sequence_recipe

LSTM = {"name": "attention_lstm", "width": 12, "embedding_size": 8}


def corpus_with_line(folder, length):
    """A made corpus with one training pair of so many tokens."""
    pairs = [*made_pairs(30), (" ".join(["w1"] * length), " ".join(["v1"] * length))]
    parts = {"train": pairs, "validation": made_pairs(6, seed=1), "test": made_pairs(6, seed=2)}
    files = {name: write_pair_files(folder / "text", name, part) for name, part in parts.items()}
    preprocess(**files, out=folder / "corpus", settings=CorpusSettings())


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_step_keeps_its_activations_and_four_times_the_weights(micro_batches):
    settings = ["batch_size=200", f"micro_batches={micro_batches}", "model.hidden_sizes=[32]"]
    recipe, _ = load_recipe("digits-mlp", settings=settings, objective="one_hot")
    data = build_data(recipe)
    examples, labels = 200 // micro_batches, data.num_labels
    weights = 64 * 32 + 32 + 32 * labels + labels
    # scaled pixels, hidden states and log-probabilities, in float32; the mask of a dropout and such are small
    least = 4 * examples * (64 + 32 + labels) + 16 * weights
    assert least <= estimate_run(recipe, data).step_bytes <= 1.5 * least


def test_the_batch_with_the_longest_line_counts(tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    for folder, length in ((short, 20), (long, 400)):
        corpus_with_line(folder, length)
    recipes = [sequence_recipe(folder, model=LSTM, batch_size=4) for folder in (short, long)]
    few, many = (estimate_run(recipe, build_data(recipe)).step_bytes for recipe in recipes)
    assert many > 5 * few


def test_check_says_time_and_memory():
    shown = succeed("check", "digits-mlp", "--set", "epochs=2").out
    line = next(line for line in shown.splitlines() if line.startswith("  one run "))
    assert line.startswith("  one run     about ")
    assert " on one thread; memory " in line
    assert line.endswith(" MiB a step")
    assert " runs at once" in shown.splitlines()[-2]
    facts = succeed("check", "digits-mlp", "--set", "epochs=2", "--json").json
    assert 0 < facts["seconds"] < 600
    assert facts["step_bytes"] > 16 * facts["parameters"]


def test_too_long_a_line_is_told_with_its_length(tmp_path):
    corpus_with_line(tmp_path, 400)
    corpus = build_data(sequence_recipe(tmp_path, model=LSTM))
    with (
        pytest.raises(NotEnoughMemory) as error,
        memory.memory_errors_explained(lambda: "a step of this recipe", corpus),
    ):
        torch.empty(2**50)
    assert str(error.value) == (
        "a step of this recipe: there is not enough memory (4,194,304 GiB asked for at once); the longest training "
        "line has 400 tokens: leave such lines out (labelembed preprocess --max-length), or take a smaller batch_size"
    )


def test_a_step_without_memory_ends_the_run_with_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: torch.empty(2**50))
    called = call("train", "digits-mlp", "--set", "epochs=1", "--out", "run", "--quiet")
    assert called.code == 2
    assert called.err == (
        "error: run: step 1 (epoch 1): there is not enough memory (4,194,304 GiB asked for at once); "
        "take a smaller batch_size, or micro_batches=N to make a step in N parts\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    succeed("resume", "run", "--quiet")


def test_another_error_of_torch_is_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory.memory_errors_explained(lambda: "here", None):
        raise RuntimeError("shapes cannot be multiplied")


def test_bytes_are_said_as_people_do():
    assert [in_gib(size) for size in (5, 640 * 2**20, 3 * 2**29, 149 * 2**30)] == [
        "1 MiB",
        "640 MiB",
        "1.5 GiB",
        "149 GiB",
    ]
