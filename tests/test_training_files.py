"""Files and run folders: whole or not there, and what is damaged is named."""

from __future__ import annotations

import os
import shutil

import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.run import start_over
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_runs import forget_checksums
from tests.made_training import small_recipe, stop_after, train

# ---- run folders


@pytest.fixture
def folder(tmp_path):
    """A run folder with a recipe and three lines of a history."""
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.write_recipe({"objective": {"name": "one_hot"}, "seed": 3})
    for epoch in (1, 2, 3):
        made.append_history({"epoch": epoch, "seconds": 0.5, "train": {"total": 1 / epoch}})
    return made


def epochs(folder):
    return [line["epoch"] for line in folder.history()]


def history_file(folder):
    return folder.path / "history.jsonl"


def test_last_line_of_the_history_may_be_torn_anywhere(folder):
    content = history_file(folder).read_bytes()
    last = content.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        history_file(folder).write_bytes(content[: len(content) - cut])
        assert epochs(folder) == [1, 2]
        folder.keep_history(3)
        folder.append_history({"epoch": 4})
        assert epochs(folder) == [1, 2, 4]


@pytest.mark.parametrize("line", [b'{"epoch": 2, "sec', b"[2]", b'{"epoch": "two"}', b"\xff\xfe"])
def test_damaged_line_in_the_middle_of_the_history_is_named(line, folder):
    lines = history_file(folder).read_bytes().split(b"\n")
    lines[1] = line
    history_file(folder).write_bytes(b"\n".join(lines))
    with pytest.raises(RunFolderError, match=r"history.jsonl: line 2 is damaged"):
        folder.history()


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


def test_folder_without_a_run_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(RunFolderError, match="no such folder"):
        RunFolder(tmp_path / "none").require_run()
    with pytest.raises(RunFolderError, match=r"no run folder, it has no recipe.yaml"):
        RunFolder(tmp_path).recipe()
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunFolderError, match="it is a comparison folder"):
        RunFolder(tmp_path).require_finished()


def test_starting_over_removes_the_run_and_nothing_else(tmp_path):
    stop_after(small_recipe(), tmp_path / "run", 7)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    start_over(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "notes.txt"]
    with pytest.raises(RunFolderError):
        start_over(tmp_path / "run")


# ---- what a finished run wrote


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run; tests copy it."""
    train(small_recipe(), tmp_path_factory.mktemp("done") / "run")
    return next(tmp_path_factory.getbasetemp().glob("done*/run"))


def flip(file, *, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "evaluate run"),
        ("model", "train digits-mlp --objective distillation:teacher=run --out student"),
        ("label_geometry", "labels run"),
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
    flip(file, bit=8 * file.stat().st_size - 9)  # in the last number
    called = call(*words.split())
    assert called.code == 2
    assert f"{name}.safetensors: has changed since the run wrote it" in called.err
    forget_checksums(tmp_path / "run")  # as a run of before, which still loads
    if not words.startswith("train"):
        succeed(*words.split())


@pytest.mark.parametrize(
    ("name", "content"),
    [("result.json", b"{"), ("result.json", b"[]"), ("environment.json", b"\xff{}"), ("recipe.yaml", b"- a list")],
)
def test_damaged_file_of_a_run_is_named(name, content, folder):
    (folder.path / name).write_bytes(content)
    reads = {"result.json": (folder.result, folder.state), "environment.json": (folder.environment,)}
    for read in reads.get(name, (folder.recipe,)):
        with pytest.raises(RunFolderError, match=f"{name}: damaged"):
            read()
