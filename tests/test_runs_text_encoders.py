"""Runs through a transformers encoder: fixed features and fine-tuning, resumed and read without its folder."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from tests.made_cli import call, succeed
from tests.made_text_encoder import write_encoder
from tests.made_texts import BAD, GOOD, reviews, write_csv
from tests.made_training import assert_same_run, stop_after

ENCODED = ["data.maximum_tokens=16", "batch_size=20", "epochs=3"]
FAST = {
    "text-features": ("optimizer.learning_rate=0.01", "epochs=30"),
    "text-finetune": ("optimizer.learning_rate=0.02", "model.learning_rate_factor=1", "epochs=8"),
}


@pytest.fixture(autouse=True)
def encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    return write_encoder(tmp_path / "encoder")


def recipe_of(name, tmp_path, *settings, objective=None):
    file = write_csv(tmp_path / "reviews.csv", reviews(100), "Kommentar", "Urteil")
    given = [*ENCODED, f"data.encoder={tmp_path / 'encoder'}", *settings]
    return load_recipe(name, data=str(file), settings=given, objective=objective)[0]


@pytest.mark.parametrize("name", list(FAST))
def test_a_run_learns_and_predicts_new_texts_with_what_it_keeps(name, tmp_path):
    run_recipe(recipe_of(name, tmp_path, *FAST[name]), tmp_path / "run")
    # of 20 examples, guessed half
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["error"] <= 0.25
    (tmp_path / "reviews.csv").unlink()
    if name == "text-finetune":  # its weights are the run's own
        shutil.rmtree(tmp_path / "encoder")
    new = write_csv(tmp_path / "new.csv", [(" ".join(GOOD),), (" ".join(BAD),)], "Kommentar")
    rows = succeed("predict", tmp_path / "run", new, "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [(f"{new} row 2", "pos"), (f"{new} row 3", "neg")]
    called = succeed("predict", tmp_path / "run", " ".join(GOOD * 5), "--json")
    assert [row["label"] for row in called.lines] == ["pos"]
    assert "1 of 1 texts are longer than" in called.err


def test_fine_tuning_begins_with_the_encoder_and_moves_it(encoder, tmp_path):
    begun = load_file(encoder / "model.safetensors")
    for name, rate in (("still", 1e-12), ("moved", 0.01)):
        run_recipe(recipe_of("text-finetune", tmp_path, f"optimizer.learning_rate={rate}", "epochs=1"), tmp_path / name)
        kept = load_file(tmp_path / name / "model.safetensors")
        weights = [name for name in begun if ".query.w" in name]
        same = [torch.allclose(kept[f"encoder.layers.{name}"], begun[name], atol=1e-8) for name in weights]
        assert same == [name == "still"] * len(weights)


@pytest.mark.parametrize("objective", ["label_embedding", "retrospection:store_every=1", "adaptive_labels"])
def test_fine_tuning_goes_on_without_the_encoder_to_the_same_end(tmp_path, objective):
    recipe = recipe_of("text-finetune", tmp_path, objective=objective)
    run_recipe(recipe, tmp_path / "whole", options=RunOptions(device="cpu"))
    stop_after(recipe, tmp_path / "begun", 6)
    (tmp_path / "encoder").rename(tmp_path / "gone")
    succeed("resume", tmp_path / "begun", "--quiet", "--device", "cpu")
    assert_same_run(tmp_path / "begun", tmp_path / "whole")


def test_features_go_on_only_with_the_encoder_they_began_with(tmp_path):
    stop_after(recipe_of("text-features", tmp_path), tmp_path / "run", 3)
    for word in ("no transformers model", "holds another encoder than the one this run was trained on"):
        shutil.rmtree(tmp_path / "encoder")
        if "another" in word:
            write_encoder(tmp_path / "encoder", seed=1)
        refused = call("resume", tmp_path / "run")
        assert refused.code == 2
        assert word in refused.err
        (tmp_path / "encoder").mkdir(exist_ok=True)
