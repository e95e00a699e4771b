"""R14: of several processes that want one folder one writes it, the others say which and write nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path

import filelock
import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.run_lock import LOCK, locked
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, listing, succeed
from tests.made_training import (
    CommandLines,
    after_steps,
    fork_server,
    small_recipe,
    train,
    wait_until,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and SIGKILL")

SMALL = ["data.train_examples=190", "model.hidden_sizes=[12]", "batch_size=40", "objective=one_hot"]
ENDLESS = [*SMALL, "epochs=100000", "checkpoints={minimum_seconds: 1000}"]


def words(verb, out, settings=ENDLESS, *more):
    options = [word for setting in settings for word in ("--set", setting)]
    return [verb, "digits-mlp", *options, "--out", str(out), "--device", "cpu", "--quiet", *more]


@pytest.fixture
def commands(tmp_path):
    (tmp_path / "outputs").mkdir()
    return CommandLines(tmp_path / "outputs")


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
    wait_until(lambda: len(RunFolder(out).history()) > 1, running, pause=0.02)
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


@pytest.mark.parametrize("verb", ["compare", "compare --tuned"])
def test_second_comparison_or_tuning_of_a_folder_is_refused(verb, tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "file").touch()
    with locked(tmp_path, doing="made"):
        before = listing(tmp_path)
        called = call(*words(verb.split()[0], tmp_path, SMALL, *verb.split()[1:], "--objectives", "label_smoothing"))
        assert called.code == 2
        said = f"error: {tmp_path}: is being made by process {os.getpid()} on {socket.gethostname()}; wait for it or"
        assert called.err.startswith(said)
        assert listing(tmp_path) == before


def test_lock_of_a_killed_process_is_taken_over(commands, tmp_path):
    out = tmp_path / "run"
    command = commands.start(*words("train", out))
    wait_until(lambda: len(RunFolder(out).history()) > 1, command, pause=0.02)
    command.signal(signal.SIGKILL)
    assert command.code() == -signal.SIGKILL
    assert owner(out) == command.process.pid
    again = commands.start("resume", str(out), "--device", "cpu", "--quiet")
    wait_until(lambda: owner(out) == again.process.pid, again, pause=0.02)
    again.signal(signal.SIGTERM)
    assert again.code() == 143, again.output()


@pytest.mark.parametrize("text", ["", "12", "\xff\n\n"])
def test_lock_that_names_nobody_is_a_lock_all_the_same(text, tmp_path):
    with locked(tmp_path):
        (tmp_path / LOCK).write_bytes(text.encode("latin-1"))
        with pytest.raises(RunFolderError, match="is being trained by another process; wait for it or stop it"):
            locked(tmp_path).__enter__()


def test_one_folder_twice_in_a_process_is_refused_at_once(tmp_path):
    with locked(tmp_path / "run"):
        with pytest.raises(RunFolderError, match=f"is being trained by process {os.getpid()} on"):
            locked(tmp_path / "run").__enter__()
        assert owner(tmp_path / "run") == os.getpid()
        with locked(tmp_path / "other"):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing came into the folders
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [LOCK, "file"]


def test_library_call_refuses_a_run_that_is_being_made_and_readers_do_not(tmp_path):
    recipe, folder, refused = small_recipe(), tmp_path / "run", []

    def look():
        if refused:
            return
        with pytest.raises(RunFolderError, match="is being trained by process") as error:
            train(recipe, folder)
        refused.append(error)
        assert RunFolder(folder).state() == "unfinished"
        assert RunFolder(folder).recipe()["epochs"] == 3

    with after_steps(7, look):
        train(recipe, folder)
    assert len(refused) == 1
    assert RunFolder(folder).state() == "finished"
    with locked(folder):  # a finished run is read, also while somebody has the folder
        before = listing(folder)
        succeed("labels", str(folder), "3")
        succeed("export", str(folder), "--format", "card", "-o", str(tmp_path / "card.md"))
        succeed("report", str(folder), "-o", str(tmp_path / "page.html"))
        assert listing(folder) == before


def test_run_of_a_comparison_waits_for_the_process_that_made_it_before(tmp_path):
    held = threading.Event()

    def hold():
        with locked(tmp_path):
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with locked(tmp_path, patience=60):
        thread.join()


def test_other_processes_of_a_run_take_no_lock(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    with locked(tmp_path):
        assert owner(tmp_path) == os.getpid()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_folder_that_cannot_be_locked_is_refused_with_the_reason(number, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(RunFolderError, match=rf"run: cannot write here \({os.strerror(number)}\); choose"):
        run_recipe(small_recipe(), tmp_path / "run", options=RunOptions(device="cpu"))
    assert list(tmp_path.iterdir()) == []


def _count(folder, times):
    """Adds to a number in a file again and again, each time with the lock."""
    counter = Path(folder) / "counter"
    for _ in range(times):
        with locked(Path(folder), patience=100):
            before = counter.read_text()
            os.sched_yield()
            counter.write_text(f"{int(before) + 1}")


def test_no_two_processes_have_a_lock(tmp_path, figure):
    (tmp_path / "counter").write_text("0")
    times = 25
    context: multiprocessing.context.ForkServerContext = fork_server()
    processes = [context.Process(target=_count, args=(str(tmp_path), times)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    held = int((tmp_path / "counter").read_text())
    figure.count("times that a contended lock was held by one alone", held, 4 * times)
