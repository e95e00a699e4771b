"""Runs in worker processes: the same numbers, nobody's death costs another, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
from torch.nn.modules.module import register_module_forward_hook

from labelembed.errors import RunFolderError, TrainingError
from labelembed.objectives import Objective
from labelembed.recipes.loading import load_recipe
from labelembed.runs.comparison import plan_comparison, run_comparison
from labelembed.training import workers
from labelembed.training.run_folder import RunFolder
from labelembed.training.workers import Job, least_used, run_jobs
from tests.made_training import (
    CommandLines,
    contents,
    differences,
    do_job,
    fork_server,
    job_of,
    newest,
    one_thread,  # noqa: F401
    small_recipe,
    stop_after,
    train,
    wait_until,
)

PATIENCE_SECONDS = 100.0  # within which everything here has come to its end, on a machine with much else to do


@pytest.fixture
def quick(monkeypatch):
    """Starts workers from the fork server, where torch is imported already, instead of anew."""
    context = fork_server()
    monkeypatch.setattr(workers, "multiprocessing", SimpleNamespace(get_context=lambda kind: context))


def run_all(payloads, *, processes, at=lambda event: None, threads=1, gpus=()):
    """Runs jobs given by name; returns the last event of each, and all events."""
    jobs = [Job(name, payload) for name, payload in payloads.items()]
    events = []
    until = time.monotonic() + PATIENCE_SECONDS
    for event in run_jobs(jobs, do_job, processes=processes, threads=threads, gpus=gpus):
        assert time.monotonic() < until
        events.append(event)
        at(event)
    assert {event.kind for event in events} <= {"progress", "done", "failed"}
    over = [event.job.name for event in events if event.kind != "progress"]
    assert sorted(over) == sorted(payloads)  # each is over once
    last = {event.job.name: event for event in events}
    assert all(event.kind != "progress" for event in last.values())
    return last, events


def epochs_told(events, name):
    """Returns the epochs of a run whose end was reported, in order."""
    heard = [event.progress for event in events if event.job.name == name and event.kind == "progress"]
    return [progress.epoch for progress in heard if progress.line]


def test_runs_are_the_same_in_one_process_and_in_two(quick, tmp_path):
    cases = [(name, seed) for name in ("one_hot", "label_embedding") for seed in (0, 1)]
    recipes = {f"{name} {seed}": small_recipe(objective=name, seed=seed) for name, seed in cases}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        payloads = {name: {"do": "train", "job": job_of(recipe, folder / name)} for name, recipe in recipes.items()}
        last, events = run_all(payloads, processes=processes)
        for name, event in last.items():
            assert event.kind == "done"
            assert event.result == RunFolder(folder / name).result()
            assert epochs_told(events, name) == [1, 2, 3]
    for name, recipe in recipes.items():
        train(recipe, tmp_path / "here" / name)
        here = contents(tmp_path / "here" / name)
        assert differences(contents(tmp_path / "1" / name), here) == []
        assert differences(contents(tmp_path / "2" / name), here) == []


def test_jobs_share_processes_of_the_threads_asked_for(quick):
    last, _ = run_all({str(number): {"do": "work", "value": number} for number in range(6)}, processes=2, threads=2)
    assert {name: event.result["value"] for name, event in last.items()} == {str(number): number for number in range(6)}
    assert {event.result["threads"] for event in last.values()} == {2}
    processes = {event.result["pid"] for event in last.values()}
    assert len(processes) <= 2
    assert os.getpid() not in processes


@pytest.mark.parametrize("gpus", [["4", "GPU-7"], []])
def test_each_process_sees_a_gpu_of_its_own(quick, gpus):
    payloads = {str(number): {"do": "work"} for number in range(5)}
    last, _ = run_all(payloads, processes=2, gpus=gpus)
    seen = {(event.result["pid"], event.result["gpu"]) for event in last.values()}
    assert len(seen) == len({pid for pid, _ in seen}) == 2  # the same one in all runs of a process
    assert {gpu for _, gpu in seen} == set(gpus or [os.environ.get("CUDA_VISIBLE_DEVICES")])


def test_a_new_process_gets_the_gpu_that_the_fewest_use():
    assert least_used(["0", "1"], []) == "0"
    assert least_used(["0", "1"], ["0"]) == "1"
    assert least_used(["0", "1"], ["1"]) == "0"  # the process on the first has died
    assert least_used(["0", "1"], ["0", "1", "0"]) == "1"
    assert least_used([], [None]) is None


def test_no_jobs_need_no_process(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", None)
    assert list(run_jobs([], do_job, processes=4)) == []


def test_job_that_raises_costs_its_own_run_alone(quick):
    last, _ = run_all(
        {
            "before": {"do": "work", "value": 1},
            "a fault of ours": {"do": "raise", "error": "ValueError"},
            "a fault of the data": {"do": "raise", "error": "DataError"},
            "after": {"do": "work", "value": 2},
        },
        processes=1,
    )
    assert {name: event.kind for name, event in last.items()} == {
        "before": "done",
        "a fault of ours": "failed",
        "a fault of the data": "failed",
        "after": "done",
    }
    assert last["a fault of ours"].message.startswith("ValueError: the job's own fault\n")
    assert "in _raise" in last["a fault of ours"].message  # where it happened
    assert last["a fault of the data"].message == "the job's own fault"
    assert last["before"].result["pid"] == last["after"].result["pid"]  # the process went on


def test_killed_worker_costs_its_own_run_alone(quick, tmp_path):
    finished = tmp_path / "the others are over"

    def note(event):
        if event.job.name == "killed twice" and event.kind == "failed":
            finished.touch()

    last, _ = run_all(
        {
            "bystander": {"do": "wait", "file": str(tmp_path / "bystander"), "until": str(finished)},
            "killed once": {"do": "die", "file": str(tmp_path / "once"), "deaths": 1},
            "told to end": {"do": "die", "file": str(tmp_path / "told"), "deaths": 1, "signal": signal.SIGTERM},
            "killed twice": {"do": "die", "file": str(tmp_path / "twice"), "deaths": 2},
            "after": {"do": "work", "value": 1},
        },
        processes=2,
        at=note,
    )
    assert {name: event.kind for name, event in last.items()} == {
        "bystander": "done",
        "killed once": "done",
        "told to end": "done",
        "killed twice": "failed",
        "after": "done",
    }
    assert "died twice" in last["killed twice"].message
    assert last["killed once"].result == last["told to end"].result == "survived"
    assert (tmp_path / "told-wait-saved").exists()  # SIGTERM left it the time to save
    # How often each was begun: the bystander saw all four deaths, and none of them was its own.
    assert {name: (tmp_path / name).read_text() for name in ("bystander", "once", "told", "twice")} == {
        "bystander": "x",
        "once": "xx",
        "told": "xx",
        "twice": "xx",
    }


def test_killed_run_goes_on_from_its_checkpoint(quick, tmp_path):
    recipe = small_recipe(checkpoints={"every_steps": 1, "time_share": 1})
    train(recipe, tmp_path / "unbroken")
    folder, file = tmp_path / "run", tmp_path / "attempts"
    killed = []

    def kill_after_the_first_epoch(event):
        if event.kind == "progress" and event.progress.line and not killed:
            killed.append(event.progress.epoch)
            os.kill(int((tmp_path / "attempts-pid").read_text()), signal.SIGKILL)

    payload = {"do": "train", "job": job_of(recipe, folder), "file": str(file)}
    last, events = run_all({"run": payload}, processes=1, at=kill_after_the_first_epoch)
    assert file.read_text() == "xx"
    assert last["run"].kind == "done"
    told_of = epochs_told(events, "run")
    assert (told_of[0], told_of[-1]) == (1, 3)
    assert len(set(told_of)) == len(told_of)  # no epoch that was told is made again
    assert differences(contents(folder), contents(tmp_path / "unbroken")) == []


@pytest.mark.parametrize("what", ["wait", "chatter"])
def test_leaving_early_lets_the_runs_save_and_ends_every_process(what, quick, tmp_path):
    payloads = [{"do": what, "file": str(tmp_path / str(number))} for number in range(3)]
    events = run_jobs([Job(str(number), payload) for number, payload in enumerate(payloads)], do_job, processes=2)
    begun = time.monotonic()
    heard = {next(events).job.name}
    while heard != {"0", "1"}:
        heard.add(next(events).job.name)
    if what == "chatter":
        time.sleep(0.3)  # until the pipes, which nobody reads, are full
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)  # as Ctrl-C does
    assert time.monotonic() - begun < PATIENCE_SECONDS
    assert [(tmp_path / f"{number}-saved").exists() for number in range(3)] == [True, True, False]


# ---- comparisons

SETTINGS = [
    "data.train_rows=190",
    "model.hidden_sizes=[12]",
    "batch_size=40",
    "epochs=3",
    "checkpoints={minimum_seconds: 0, time_share: 1}",
]


def planned(out, objectives="one_hot,label_embedding", seeds="2", settings=()):
    recipe, name = load_recipe("digits-mlp", settings=[*SETTINGS, *settings])
    return plan_comparison(recipe, name, out, objectives=objectives, seeds=seeds)


def told(out):
    about = json.loads((out / "comparison.json").read_text())
    return {key: about[key] for key in ("baseline", "seeds", "reused", "made")}


def test_comparison_makes_what_is_missing_and_reuses_what_is_finished(quick, tmp_path, monkeypatch):
    out = tmp_path / "comparison"
    plan = planned(out)
    by_name = {f"{variant.name} seed {seed}": (recipe, folder) for variant, seed, recipe, folder in plan.runs}
    assert list(by_name) == [f"{name} seed {seed}" for seed in (0, 1) for name in ("one_hot", "label_embedding")]
    # One run was broken off, one failed, one has finished; one was never begun.
    stop_after(*by_name["one_hot seed 0"], 7)
    break_run(*by_name["label_embedding seed 0"])
    train(*by_name["label_embedding seed 1"])
    before = RunFolder(by_name["label_embedding seed 1"][1]).result()

    events = []
    assert run_comparison(plan, out, jobs=2, device="cpu", observe=events.append) == {}
    made = [event.job.name for event in events if event.kind == "done"]
    assert sorted(made) == ["label_embedding seed 0", "one_hot seed 0", "one_hot seed 1"]
    assert told(out) == {"baseline": "one_hot", "seeds": [0, 1], "reused": 1, "made": 3}
    assert RunFolder(by_name["label_embedding seed 1"][1]).result() == before
    assert epochs_told(events, "one_hot seed 0") == [2, 3]  # it went on, and did not begin again
    for name, (recipe, folder) in by_name.items():
        train(recipe, tmp_path / "here" / name)
        assert differences(contents(folder), contents(tmp_path / "here" / name)) == []

    # The second time nothing is left to do, and no process is started.
    monkeypatch.setattr(workers, "_Worker", None)
    again = planned(out)
    assert len(again.finished()) == 4
    assert run_comparison(again, out, jobs=2, device="cpu") == {}
    assert told(out) == {"baseline": "one_hot", "seeds": [0, 1], "reused": 4, "made": 0}


def break_run(recipe, folder):
    """Makes a run fail in its second epoch."""
    made = 0

    def spoil(module, arguments, terms):
        nonlocal made
        if not isinstance(module, Objective):
            return None
        made += 1
        return terms._replace(total=terms.total * float("nan")) if made == 7 else None

    handle = register_module_forward_hook(spoil)
    try:
        with pytest.raises(TrainingError):
            train(recipe, folder)
    finally:
        handle.remove()
    assert RunFolder(folder).state() == "failed"


def test_failed_runs_of_a_comparison_are_told_and_the_others_made(quick, tmp_path, monkeypatch):
    out = tmp_path / "comparison"
    plan = planned(out, seeds="1")
    # A file stands where the folder of one of the runs should be.
    folder = plan.runs[1][3]
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    failed = run_comparison(plan, out, jobs=1, device="cpu")
    assert list(failed) == ["label_embedding seed 0"]
    assert str(folder) in failed["label_embedding seed 0"]
    assert RunFolder(plan.runs[0][3]).state() == "finished"
    folder.unlink()
    assert run_comparison(planned(out, seeds="1"), out, jobs=1, device="cpu") == {}
    assert told(out) == {"baseline": "one_hot", "seeds": [0], "reused": 1, "made": 1}


def test_comparison_refuses_the_runs_of_another_recipe(tmp_path):
    out = tmp_path / "comparison"
    plan = planned(out, seeds="1")
    stop_after(*plan.runs[0][2:], 4)
    with pytest.raises(RunFolderError) as error:
        planned(out, seeds="1", settings=["batch_size=50", "optimizer.learning_rate=0.5"])
    assert str(plan.runs[0][3]) in str(error.value)
    assert "batch_size: here 40, asked for 50" in str(error.value)
    assert "optimizer.learning_rate: here 0.001, asked for 0.5" in str(error.value)
    assert newest(plan.runs[0][3]).step == 4
    planned(out, seeds="1")  # the recipe it was begun with is welcome


def group_is_empty(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


def test_killed_comparison_leaves_no_worker_and_one_stopped_by_a_terminal_saves_what_is_under_way(tmp_path):
    commands = CommandLines(tmp_path)
    out = tmp_path / "comparison"
    options = [word for setting in [*SETTINGS, "epochs=3000"] for word in ("--set", setting)]
    words = ["compare", "digits-mlp", *options, "--objectives", "one_hot", "--seeds", "1", "--jobs", "1"]
    words += ["--out", str(out), "--device", "cpu", "--quiet"]
    run = RunFolder(out / "runs" / "one_hot" / "seed-0")

    command = commands.start(*words)
    wait_until(lambda: len(run.journal()) > 1, command, pause=0.01)
    command.signal(signal.SIGKILL)
    assert command.code() == -signal.SIGKILL
    until = time.monotonic() + PATIENCE_SECONDS
    while not group_is_empty(command.process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)

    before = len(run.journal())
    command = commands.start(*words)  # the same words go on with it
    wait_until(lambda: len(run.journal()) > before, command, pause=0.01)
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does: the program and its worker both get it
    assert command.code() == 130, command.output()
    assert "To go on, give the same command again" in command.output()
    assert "Traceback" not in command.output()
    assert group_is_empty(command.process.pid)
    assert run.state() == "unfinished"
    journal = run.journal()
    assert [line["epoch"] for line in journal] == list(range(1, len(journal) + 1))
    assert len(journal) * 5 <= newest(run.path).step < (len(journal) + 1) * 5  # no step is lost
