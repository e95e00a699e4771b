"""Files and run folders: whole or not there, and what is damaged is named."""

from __future__ import annotations

import shutil

import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_runs import forget_checksums
from tests.made_training import small_recipe, train


@pytest.fixture
def folder(tmp_path):
    """A run folder with a recipe and three lines of a history."""
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.write_recipe({"objective": {"name": "one_hot"}, "seed": 3})
    for epoch in (1, 2, 3):
        made.append_history({"epoch": epoch, "seconds": 0.5, "train": {"total": 1 / epoch}})
    return made


def test_last_line_of_the_history_may_be_torn_anywhere(folder):
    file = folder.path / "history.jsonl"
    content = file.read_bytes()
    for cut in range(1, len(content.splitlines(keepends=True)[-1]) + 1):
        file.write_bytes(content[: len(content) - cut])
        assert [line["epoch"] for line in folder.history()] == [1, 2]
        folder.keep_history(3)
        folder.append_history({"epoch": 4})
        assert [line["epoch"] for line in folder.history()] == [1, 2, 4]


def test_states_follow_one_another(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.state() == "empty"
    folder.path.mkdir()
    folder.write("environment.json", {"threads": 2})
    assert folder.state() == "empty"  # the recipe comes last of what a run begins with
    assert (folder.environment(), folder.result()) == ({"threads": 2}, {})
    folder.write_recipe({"seed": 1})
    assert folder.state() == "unfinished"
    with pytest.raises(RunFolderError, match="has not finished; labelembed resume"):
        folder.require_finished()
    folder.write("result.json", {"status": "failed", "message": "the loss is not finite"})
    assert folder.state() == "failed"
    with pytest.raises(RunFolderError, match="failed: the loss is not finite"):
        folder.require_finished()
    folder.write("result.json", {"status": "finished"})
    assert folder.state() == "finished"
    assert folder.result() == {"status": "finished"}


def test_recipe_of_another_version_is_refused_with_that_version(folder):
    folder.write("environment.json", {"packages": {"labelembed": "9.0.0"}})
    with pytest.raises(RunFolderError, match=r"made by 9\.0\.0"):
        stored_recipe(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run; tests copy it."""
    train(small_recipe(), tmp_path_factory.mktemp("done") / "run")
    return next(tmp_path_factory.getbasetemp().glob("done*/run"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "evaluate run"),
        ("model", "train digits-mlp --objective distillation:teacher=run --out student"),
        ("label_geometry", "labels run/label_geometry.safetensors"),
        ("label_geometry", "export run --format card"),
        ("label_geometry", "train digits-mlp --objective label_embedding:embedding=run/label_geometry.safetensors"),
        ("class_means", "labels run"),
    ],
)
def test_no_verb_reads_a_changed_file_of_a_run(name, words, done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(done, "run")
    file = tmp_path / "run" / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 64  # in the last number
    file.write_bytes(content)
    called = call(*words.split())
    assert called.code == 2
    assert f"{name}.safetensors: has changed since the run wrote it" in called.err
    forget_checksums(tmp_path / "run")  # as a run of before, which still loads
    if not words.startswith("train"):
        succeed(*words.split())
