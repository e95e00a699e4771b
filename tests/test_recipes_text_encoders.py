"""Runs through a transformers encoder: fixed features and fine-tuning, resumed and read without its folder."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from labelembed.errors import DataError
from labelembed.lab.data import TextFeatures, Texts, TextTokens
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from tests.made_cli import call, succeed
from tests.made_text_encoder import WORDS, write_encoder
from tests.made_texts import BAD, GOOD, reviews, write_csv
from tests.made_training import assert_same_run, no_flush, one_thread, stop_after  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_flush", "one_thread")
ENCODED = ["data.maximum_tokens=16", "batch_size=20", "epochs=3"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder")


def recipe_of(name, tmp_path, *settings, objective=None):
    file = write_csv(tmp_path / "reviews.csv", reviews(100), "Kommentar", "Urteil")
    given = [*ENCODED, f"data.encoder={tmp_path / 'encoder'}", *settings]
    return load_recipe(name, data=str(file), settings=given, objective=objective)[0]


FAST = {
    "text-features": ("optimizer.learning_rate=0.01", "epochs=15"),
    "text-finetune": ("optimizer.learning_rate=0.02", "model.learning_rate_factor=1", "epochs=8"),
}


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("name", list(FAST))
def test_a_run_learns_and_predicts_new_texts(name, tmp_path):
    run_recipe(recipe_of(name, tmp_path, *FAST[name]), tmp_path / "run")
    assert (
        json.loads((tmp_path / "run" / "result.json").read_text())["test"]["error"] <= 0.25
    )  # of 20 rows, guessed half
    (tmp_path / "reviews.csv").unlink()
    if name == "text-finetune":  # its weights are the run's own
        shutil.rmtree(tmp_path / "encoder")
    write_csv(tmp_path / "new.csv", [(" ".join(GOOD),), (" ".join(BAD),)], "Kommentar")
    new = tmp_path / "new.csv"
    rows = succeed("predict", tmp_path / "run", new, "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [(f"{new} row 2", "pos"), (f"{new} row 3", "neg")]
    called = succeed("predict", tmp_path / "run", " ".join(GOOD * 5), "--json")
    assert [row["label"] for row in called.lines] == ["pos"]
    note = r"note: 1 text is longer than \d+ tokens \(of 1\); the rest is not read, as in training\n"
    assert re.fullmatch(note, called.err)
    good = [row for row in reviews(20, seed=2) if row[1] == "pos"]
    good = write_csv(tmp_path / "good.csv", good, "Kommentar", "Urteil")
    measured = succeed("evaluate", tmp_path / "run", "--data", good, "--json").json
    assert (measured["examples"], measured["split"]) == (10, "all")


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("name", list(FAST))
def test_a_training_text_becomes_the_same_inputs_again(name, tmp_path):
    run_recipe(recipe_of(name, tmp_path, "epochs=1"), tmp_path / "run")
    saved = SavedRun.load(tmp_path / "run")
    data = saved.read_data()
    inputs, notes = saved.encode_texts([data.texts("train", row) for row in range(9)])
    assert notes == []
    if name == "text-finetune":
        assert torch.equal(inputs, data.train.inputs[:9])
    else:  # an encoder reads texts of like length together, and sums of other batches round otherwise
        torch.testing.assert_close(inputs, data.train.inputs[:9], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("encoder")
def test_fine_tuning_begins_with_the_encoder_and_moves_what_is_not_frozen(tmp_path):
    run_recipe(recipe_of("text-finetune", tmp_path, "model.layers_frozen=1", "epochs=1"), tmp_path / "frozen")
    begun = load_file(tmp_path / "encoder" / "model.safetensors")
    kept = load_file(tmp_path / "frozen" / "model.safetensors")
    names = [name for name in begun if not name.startswith("pooler.")]
    assert names
    assert all(torch.equal(kept[f"encoder.layers.{name}"], begun[name]) for name in names)
    run_recipe(recipe_of("text-finetune", tmp_path, "epochs=1"), tmp_path / "free")
    moved = load_file(tmp_path / "free" / "model.safetensors")
    assert not any(torch.equal(moved[f"encoder.layers.{name}"], begun[name]) for name in names if ".query.w" in name)


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("objective", ["label_embedding", "retrospection:store_every=1", "adaptive_labels"])
def test_fine_tuning_goes_on_without_the_encoder_to_the_same_end(tmp_path, objective):
    recipe = recipe_of("text-finetune", tmp_path, objective=objective)
    run_recipe(recipe, tmp_path / "whole", options=RunOptions(device="cpu"))
    stop_after(recipe, tmp_path / "begun", 6)
    (tmp_path / "encoder").rename(tmp_path / "gone")
    succeed("resume", tmp_path / "begun", "--quiet", "--device", "cpu")
    assert_same_run(tmp_path / "begun", tmp_path / "whole")


@pytest.mark.usefixtures("encoder")
def test_features_go_on_only_with_the_encoder_they_began_with(tmp_path):
    recipe = recipe_of("text-features", tmp_path)
    stop_after(recipe, tmp_path / "run", 3)
    shutil.rmtree(tmp_path / "encoder")
    refused = call("resume", tmp_path / "run")
    assert refused.code == 2
    assert "encoder: no transformers model (no such folder)" in refused.err
    write_encoder(tmp_path / "encoder", seed=1)
    refused = call("resume", tmp_path / "run")
    assert refused.code == 2
    assert "encoder: holds another encoder than the one this run was trained on; put that one back" in refused.err


@pytest.mark.usefixtures("encoder")
def test_compare_reads_the_texts_once_for_all_runs(tmp_path):
    file = write_csv(tmp_path / "reviews.csv", reviews(100), "Kommentar", "Urteil")
    words = ["compare", "text-features", "--data", file, "--out", tmp_path / "all", "--seeds", "1", "--jobs", "1"]
    words += [word for setting in ENCODED for word in ("--set", setting)]
    words += ["--set", "data.names=[dull, fine]"]  # words that the tokenizer knows
    words += ["--set", "data.encoder=encoder", "--objectives", "one_hot,static_labels:embedding=text:encoder"]
    assert "Too few seeds to tell: static labels" in succeed(*words, "--quiet").out
    # of the training, validation and test texts: the tokens and the features
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("text-features", "config.json", "encoder: no transformers model (no config.json in it); name a folder with"),
        ("text-finetune", "tokenizer.json", "encoder: has no tokenizer (none of tokenizer.json, vocab.txt, "),
        ("text-features", "model.safetensors", "encoder: cannot be read as a transformers model with model.safeten"),
        ("text-finetune", "model.safetensors", "encoder: cannot be read as a transformers model with model.safeten"),
    ],
)
def test_an_encoder_that_lacks_a_file_is_refused_in_one_message(name, spoil, message, encoder, tmp_path):
    (encoder / spoil).unlink()
    file = write_csv(tmp_path / "reviews.csv", reviews(100), "Kommentar", "Urteil")
    words = [word for setting in (*ENCODED, "data.encoder=encoder") for word in ("--set", setting)]
    refused = call("train", name, "--data", file, "--out", tmp_path / "run", *words)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.strip().splitlines()[-1].startswith("error: ")
    assert len(refused.err.strip().splitlines()) <= 4  # three may be notes on the data
    assert not (tmp_path / "run").exists()


def test_encodings_come_back_from_a_folder_or_are_refused(encoder, tmp_path):
    kept = tmp_path / "kept"
    (kept / "encoder").mkdir(parents=True)
    features, tokens = TextFeatures(str(encoder), 9), TextTokens(str(encoder), 9)
    features.digest, features.column, tokens.column = "0" * 64, "Kommentar", "Kommentar"
    for name, content in (features.files() | tokens.files()).items():
        (kept / name).write_bytes(content)
    assert not list((kept / "encoder").glob("*.safetensors"))
    assert TextFeatures.load(kept).files() == features.files()
    back = TextTokens.load(kept)
    assert (back.maximum_tokens, back.column) == (9, "Kommentar")
    rows, cut = back.transform(Texts(["film", "a plot of the film with music in it by its actors", ""]))
    assert cut == 1
    assert rows.tolist()[0] == [3, WORDS.index("film") + 1, 4, 0, 0, 0, 0, 0, 0]
    assert [int((row > 0).sum()) for row in rows] == [3, 9, 2]
    with pytest.raises(DataError, match="holds another encoder than the one this run was trained on"):
        features.transform(Texts(["film"]))
    for name in ("text-features.json", "text-tokens.json"):
        load = (TextFeatures if "features" in name else TextTokens).load
        about = json.loads((kept / name).read_text())
        (kept / name).write_text(json.dumps(about | {"maximum_tokens": "many"}))
        with pytest.raises(DataError, match=f"{name}: damaged"):
            load(kept)
        (kept / name).write_text("[" * 100_000)
        with pytest.raises(DataError, match=f"{name}: damaged"):
            load(kept)
        (kept / name).unlink()
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            load(kept)
