"""R14: of several processes that want one folder one writes it, the others say which and write nothing."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time

import filelock
import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.run_lock import LOCK, locked
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, listing, succeed
from tests.made_training import after_steps, small_recipe, train, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and SIGKILL")

SMALL = ["data.train_examples=190", "model.hidden_sizes=[12]", "batch_size=40", "objective=one_hot"]
ENDLESS = [*SMALL, "epochs=100000", "checkpoints={minimum_seconds: 1000}"]


def words(verb, out, settings=ENDLESS, *more):
    options = [word for setting in settings for word in ("--set", setting)]
    return [verb, "digits-mlp", *options, "--out", str(out), "--device", "cpu", "--quiet", *more]


def owner(folder):
    """Returns the process in the lock's file; None while it is being written."""
    number, _, host = (folder / LOCK).read_text().strip().partition(" on ")
    assert host in ("", socket.gethostname())
    return int(number) if host else None


def test_of_twenty_starts_at_once_one_runs_and_the_others_name_it(commands, tmp_path, figure):
    out = tmp_path / "run"
    started = [commands.start(*words("train", out)) for _ in range(20)]
    until = time.monotonic() + 150
    while len(left := [command for command in started if command.running()]) > 1:
        assert time.monotonic() < until, [command.output() for command in left]
        time.sleep(0.02)
    (running,) = left
    wait_until(lambda: len(RunFolder(out).history()) > 1, running)
    assert owner(out) == running.process.pid
    said = f"error: {out}: is being trained by process {running.process.pid} on {socket.gethostname()}; wait for it"
    others = [command for command in started if command is not running]
    refused = [command for command in others if command.code() == 2 and command.output().startswith(said)]
    figure.count("starts refused with the pid of the one that runs", len(refused), 19)
    # Resuming and starting over are refused alike, and what the run has written is left as it is.
    for late in (["resume", str(out), "--quiet"], words("train", out, ENDLESS, "--overwrite")):
        command = commands.start(*late)
        assert command.code() == 2, command.output()
        assert command.output().startswith(said)
    assert running.running()
    running.signal(signal.SIGTERM)
    assert running.code() == 143, running.output()
    history = RunFolder(out).history()
    assert [line["epoch"] for line in history] == list(range(1, len(history) + 1))
    assert sorted(os.listdir(out)) == [LOCK, "checkpoints", "environment.json", "history.jsonl", "recipe.yaml"]


def test_second_comparison_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with locked(tmp_path, doing="made"):
        before = listing(tmp_path)
        called = call(*words("compare", tmp_path, SMALL, "--objectives", "label_smoothing"))
        assert called.code == 2
        said = f"error: {tmp_path}: is being made by process {os.getpid()} on {socket.gethostname()}; wait for it or"
        assert called.err.startswith(said)
        assert listing(tmp_path) == before


def test_a_lock_is_refused_at_once_or_waited_for_and_an_empty_folder_goes_with_it(tmp_path):
    run = tmp_path / "run"
    with locked(run):
        with pytest.raises(RunFolderError, match=f"is being trained by process {os.getpid()} on"):
            locked(run).__enter__()
        (run / LOCK).write_text("")  # one that names nobody is a lock all the same
        with pytest.raises(RunFolderError, match="by another process"):
            locked(run).__enter__()
    assert list(tmp_path.iterdir()) == []
    held = threading.Event()

    def hold():
        with locked(run):
            (run / "file").touch()
            held.set()
            time.sleep(0.3)

    threading.Thread(target=hold).start()
    held.wait()
    with locked(run, patience=60):  # as a run of a comparison waits for the process that had it before
        assert owner(run) == os.getpid()
    assert sorted(path.name for path in run.iterdir()) == [LOCK, "file"]


def test_library_call_refuses_a_run_that_is_being_made_and_readers_do_not(tmp_path):
    recipe, folder, refused = small_recipe(), tmp_path / "run", []

    def look():
        with pytest.raises(RunFolderError, match="is being trained by process"):
            train(recipe, folder)
        refused.append(RunFolder(folder).state())

    with after_steps(7, look):
        train(recipe, folder)
    assert set(refused) == {"unfinished"}
    with locked(folder):  # a finished run is read, also while somebody has the folder
        before = listing(folder)
        succeed("labels", str(folder), "3")
        succeed("report", str(folder), "-o", str(tmp_path / "page.html"))
        assert listing(folder) == before


def test_folder_that_cannot_be_locked_is_refused_with_the_reason(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(RunFolderError, match=os.strerror(errno.EROFS)):
        run_recipe(small_recipe(), tmp_path / "run", options=RunOptions(device="cpu"))
    assert list(tmp_path.iterdir()) == []
