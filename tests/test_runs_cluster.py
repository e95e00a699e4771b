"""Runs on a dask cluster: the same numbers and tables, no death costs a run, and what is wrong is said at once."""

from __future__ import annotations

import csv
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from labelembed.lab.runs.comparison_plan import plan_comparison
from labelembed.lab.runs.jobs import Job

from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import ClusterError, InterruptedTraining, TrainingError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs import cluster as cluster_module
from labelembed.lab.runs import machines
from labelembed.lab.runs.cluster import open_cluster
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_training import (
    CommandLines,
    attempt,
    contents,
    differences,
    do_job,
    fork_server,
    newest,
    wait_until,
)

dask = pytest.importorskip("dask", reason="the extra `cluster` (distributed) is not installed")
distributed = pytest.importorskip("distributed", reason="the extra `cluster` (distributed) is not installed")

PATIENCE_SECONDS = 100.0
SETTINGS = ["data.train_examples=190", "model.hidden_sizes=[12]", "batch_size=40", "epochs=3"]
WORDS = ["compare", "digits-mlp", "--device", "cpu", "--objectives", "one_hot,label_embedding"]
WORDS += [word for setting in SETTINGS for word in ("--set", setting)]
NO_SCHEDULER = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def two_processes():
    """The address of a scheduler with two workers, each a process of its own."""
    fork_server()  # of the made runs, where torch is imported already
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
        ) as local,
    ):
        yield local.scheduler_address


@pytest.fixture
def here():
    """Makes clusters whose scheduler and workers are threads of this process: quick, and open to a monkeypatch."""
    made = []

    def make(number=1, threads=1):
        local = distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=threads,
            processes=False,
            dashboard_address=":0",
            protocol="tcp://",
            host="127.0.0.1",
        )
        made.append(local)
        return local

    yield make
    for local in made:
        local.close()


def run_all(cluster, payloads, at=lambda event: None):
    """Makes jobs given by name; returns the last event of each, and all events."""
    events = []
    until = time.monotonic() + PATIENCE_SECONDS
    for event in cluster.run_jobs([Job(name, payload) for name, payload in payloads.items()], do_job):
        assert time.monotonic() < until
        events.append(event)
        at(event)
    over = [event.job.name for event in events if event.kind != "progress"]
    assert sorted(over) == sorted(payloads)  # each is over once
    last = {event.job.name: event for event in events}
    assert all(event.kind != "progress" for event in last.values())
    return last, events


def table(out):
    """Returns what comparison.csv says, without what says how long something took."""
    told = re.compile("seconds|time|memory")
    with (out / "comparison.csv").open() as file:
        return [{name: cell for name, cell in row.items() if not told.search(name)} for row in csv.DictReader(file)]


# ---- two processes, for runs and deaths that threads of this process cannot have


def test_table_is_that_of_this_machine_and_the_second_call_makes_nothing(two_processes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere, and the folder is given relative to here
    first = succeed(*WORDS, "--seeds", 2, "--jobs", 2, "--out", "jobs")
    second = succeed(*WORDS, "--seeds", 2, "--cluster", two_processes, "--out", "machines")
    assert second.err.splitlines()[-1].startswith("[4/4]")
    assert len(table(tmp_path / "jobs")) == 2
    assert table(tmp_path / "machines") == table(tmp_path / "jobs")
    assert first.out.splitlines()[0] == second.out.splitlines()[0]
    for run in sorted((tmp_path / "jobs" / "runs").glob("*/seed-*")):
        other = tmp_path / "machines" / run.relative_to(tmp_path / "jobs")
        assert differences(contents(other), contents(run)) == []
        assert RunFolder(other).environment()["command"][1] == "compare"
        assert RunFolder(other).environment()["threads"] == 1
        assert (other / "worker.log").exists()
    assert sorted(path.name for path in (tmp_path / "machines").iterdir()) == sorted(
        path.name for path in (tmp_path / "jobs").iterdir()
    )  # no probe is left
    # No scheduler is asked for where nothing is left to do.
    again = succeed(*WORDS, "--seeds", 2, "--cluster", NO_SCHEDULER, "--out", "machines")
    assert again.err == "4 of 4 runs reused\n"


def test_ctrl_c_saves_what_is_under_way_and_the_same_command_goes_on(two_processes, tmp_path):
    # A process of its own, for it is signalled and killed.
    commands = CommandLines(tmp_path)
    out = tmp_path / "comparison"
    words = [*WORDS, "--seeds", "1", "--cluster", two_processes, "--out", str(out)]
    words += ["--set", "epochs=3000", "--set", "checkpoints.minimum_seconds=1000", "--quiet"]
    runs = [RunFolder(out / "runs" / name / "seed-0") for name in ("one_hot", "label_embedding")]

    command = commands.start(*words)
    wait_until(lambda: all(len(run.history()) > 1 for run in runs), command, pause=0.02)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.code() == 130, command.output()
    assert command.output().splitlines() == [
        f"stopped; finished runs are kept. To go on, give the same command again (digits-mlp, --out {out})"
    ]
    saved = []
    for run in runs:
        assert run.state() == "unfinished"
        epochs = [line["epoch"] for line in run.history()]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) * 5 <= newest(run.path).step < (len(epochs) + 1) * 5  # no step is lost
        saved.append(newest(run.path).step)

    # A client that is killed says nothing; the scheduler drops its tasks, and the runs save and leave all the same.
    command = commands.start(*words)
    wait_until(lambda: all(len(run.history()) * 5 > step + 5 for run, step in zip(runs, saved, strict=True)), command)
    command.signal(signal.SIGKILL)
    assert command.code() == -signal.SIGKILL
    until = time.monotonic() + PATIENCE_SECONDS
    while any(newest(run.path).step <= step for run, step in zip(runs, saved, strict=True)):
        assert time.monotonic() < until
        time.sleep(0.05)
    with distributed.Client(two_processes, set_as_default=False) as client:  # its workers are free again
        assert client.submit(os.getpid, pure=False).result(timeout=PATIENCE_SECONDS) != os.getpid()


# ---------------------------------------------------------------------- threads of this process: what can happen


def test_failing_job_costs_its_own_run_alone(here, tmp_path):
    with open_cluster(here(number=2).scheduler_address, folder=tmp_path) as cluster:
        last, events = run_all(
            cluster,
            {
                "before": {"do": "work", "value": 1},
                "an error of ours": {"do": "raise", "error": "ValueError"},
                "an error of the data": {"do": "raise", "error": "DataError"},
                "after": {"do": "work", "value": 2},
            },
        )
    assert {name: event.kind for name, event in last.items()} == {
        "before": "done",
        "an error of ours": "failed",
        "an error of the data": "failed",
        "after": "done",
    }
    assert last["an error of ours"].message == "ValueError: the job's own error"
    assert last["an error of the data"].message == "the job's own error"
    assert last["after"].result["value"] == 2
    assert any(event.kind == "progress" and event.progress.batches == 3 for event in events)


def leaves_early(payload, observe, stop):
    """Leaves by itself, as a run does whose worker closes, as often as the payload says."""
    if attempt(payload["file"]) <= payload["times"]:
        raise InterruptedTraining("saved")
    return "came to its end"


def test_run_whose_worker_closes_is_handed_out_again(here, tmp_path):
    jobs = [Job(str(times), {"file": str(tmp_path / str(times)), "times": times}) for times in (1, 99)]
    with open_cluster(here().scheduler_address, folder=tmp_path) as cluster:
        events = {event.job.name: event for event in cluster.run_jobs(jobs, leaves_early)}
    assert (events["1"].kind, events["1"].result) == ("done", "came to its end")
    assert (events["99"].kind, events["99"].message) == ("failed", "its workers closed while it was made")


def test_what_runs_read_is_known_by_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LabelGeometry([str(digit) for digit in range(10)], vectors=torch.eye(10)).save(tmp_path / "names.safetensors")
    recipe, name = load_recipe("mnist-mlp", data="mnist")
    objectives = "one_hot,static_labels:embedding=names.safetensors,static_labels:embedding=text:encoder"
    plan = plan_comparison(recipe, name, tmp_path / "out", objectives=objectives, seeds="2")
    asked = {}
    monkeypatch.setattr(machines, "open_cluster", lambda address, **how: asked.update(how))
    machines.cluster_at(NO_SCHEDULER, tmp_path, [recipe for *_, recipe, _ in plan.runs])
    assert asked["files"] == [str(tmp_path / path) for path in ("mnist", "names.safetensors", "encoder")]


def test_leaving_early_waits_until_the_runs_have_saved(here, tmp_path):
    payloads = [{"do": "wait", "file": str(tmp_path / str(number))} for number in range(3)]
    with open_cluster(here(number=2).scheduler_address, folder=tmp_path) as cluster:
        events = cluster.run_jobs([Job(str(number), payload) for number, payload in enumerate(payloads)], do_job)
        heard = {next(events).job.name, next(events).job.name}
        assert heard == {"0", "1"}
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt)
        assert [(tmp_path / f"{number}-saved").exists() for number in range(3)] == [True, True, False]
        last, _ = run_all(cluster, {"after": {"do": "work", "value": 5}})  # the workers are free again
    assert last["after"].result["value"] == 5


def test_worker_that_joins_later_and_cannot_be_used_is_named(here, tmp_path):
    local, joined = here(), []
    payloads = [{"do": "wait", "file": str(tmp_path / str(number))} for number in range(3)]
    with open_cluster(local.scheduler_address, folder=tmp_path) as cluster:
        events = cluster.run_jobs([Job(str(number), payload) for number, payload in enumerate(payloads)], do_job)
        assert next(events).job.name == "0"
        local.sync(start_worker, local, joined, 3)
        with pytest.raises(ClusterError, match=f"worker {joined[0].address} on .* has 3 threads"):
            list(events)
        assert (tmp_path / "0-saved").exists()
    local.sync(joined[0].close)


async def start_worker(local, joined, threads):
    joined.append(
        await distributed.Worker(local.scheduler_address, nthreads=threads, dashboard=False, host="127.0.0.1")
    )


def test_scheduler_that_is_lost_is_said_and_the_run_saves(here, tmp_path):
    local = here()
    file = tmp_path / "run"
    with open_cluster(local.scheduler_address, folder=tmp_path) as cluster:
        events = cluster.run_jobs([Job("run", {"do": "wait", "file": str(file)})], do_job)
        assert next(events).kind == "progress"
        closing = threading.Thread(target=local.close)
        closing.start()
        with pytest.raises(TrainingError, match=r"is lost; .*give the same command again") as error:
            list(events)
        assert error.value.exit_code == 1
    closing.join()
    until = time.monotonic() + PATIENCE_SECONDS
    while not (tmp_path / "run-saved").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_no_worker_yet_is_said_and_waited_for(here, tmp_path):
    local = here(number=0)
    said, joined = [], []

    def warn(line):
        said.append(line)
        local.sync(start_worker, local, joined, 1)

    with open_cluster(local.scheduler_address, folder=tmp_path, warn=warn) as cluster:
        last, _ = run_all(cluster, {"run": {"do": "work", "value": 1}})
    assert last["run"].result["value"] == 1
    address = local.scheduler_address
    command = f"dask worker {address} --nworkers N --nthreads 1"
    assert said == [f"waiting for workers of {address}; to start N on a machine: {command}"]
    local.sync(joined[0].close)


# ------------------------------------------------------------------------------------------------ what is refused


def refusal(*words):
    """What a comparison says that must be refused: one message, exit 2, nothing written."""
    called = call(*WORDS, "--seeds", 1, "--out", "out", *words)
    assert called.code == 2, called.err
    assert called.out == ""
    assert "Traceback" not in called.err
    assert not Path("out/runs").exists()
    assert not Path("out/comparison.json").exists()
    (line,) = called.err.splitlines()
    return line


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster_module, "_PROBE_SECONDS", 0.2)


@pytest.mark.parametrize(
    "address", ["machine:8786", "http://machine:8786", "tcp://machine", "tcp://:8786", "tcp://machine:x", "", "3"]
)
def test_address_of_another_form_is_refused(address, alone):
    expected = f"error: --cluster: must be tcp://HOST:PORT (or tls://HOST:PORT) of a dask scheduler, got {address!r}"
    assert refusal("--cluster", address) == expected


def test_cluster_and_jobs_together_are_refused(alone):
    line = refusal("--cluster", NO_SCHEDULER, "--jobs", 2)
    assert line == "error: --jobs: goes with one machine; with --cluster each worker makes one run at a time"


def test_scheduler_that_does_not_answer_is_refused(alone, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    line = refusal("--cluster", NO_SCHEDULER)
    assert line.startswith(f"error: --cluster {NO_SCHEDULER}: no dask scheduler can be reached there within 1 s (")
    assert line.endswith("; `dask scheduler` starts one and prints its address")


def test_missing_package_is_named_with_its_extra(alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refusal("--cluster", NO_SCHEDULER)
    assert line.startswith("error: --cluster needs the package distributed: pip install 'labelembed[cluster]'")


def test_workers_with_several_threads_are_refused(here, alone):
    address = here(threads=4).scheduler_address
    line = refusal("--cluster", address)
    assert line.startswith(f"error: --cluster {address}: worker tcp://127.0.0.1:")
    assert "has 4 threads; a run changes the state of its whole process" in line
    assert line.endswith(f"`dask worker {address} --nworkers 4 --nthreads 1`")


def test_other_versions_are_refused(here, alone, monkeypatch):
    theirs = cluster_module.versions()
    ours = iter([theirs | {"torch": "1.0", "python": "3.0"}])  # asked for first by the client
    monkeypatch.setattr(cluster_module, "versions", lambda: next(ours, theirs))
    line = refusal("--cluster", here().scheduler_address)
    assert f"has other versions: torch {theirs['torch']} there and 1.0 here, python {theirs['python']} there" in line
    assert "labelembed" not in line.partition("has other versions")[2]


def test_folder_that_a_worker_does_not_see_is_refused(here, alone, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster_module, "_sees_probe", lambda *_: False)
    line = refusal("--cluster", here().scheduler_address)
    assert f"does not see the folder {tmp_path / 'out'}; runs need a folder on a file system that all machines" in line
    assert os.uname().nodename in line
    assert line.endswith("name one with --out")
    assert not (tmp_path / "out").exists()  # with the lock goes a folder that holds nothing else


def test_files_that_a_worker_does_not_see_are_refused(here, tmp_path):
    missing = str(tmp_path / "data")
    with (
        pytest.raises(ClusterError, match=f"does not see {missing}; put it on a file system"),
        open_cluster(here().scheduler_address, folder=tmp_path, files=[str(tmp_path), missing]),
    ):
        pass


def test_worker_that_cannot_load_labelembed_is_refused(here, tmp_path, monkeypatch):
    def absent(*_):
        raise ModuleNotFoundError("No module named 'labelembed'")

    monkeypatch.setattr(cluster_module, "error_here", absent)
    wanted = (
        "cannot load labelembed .ModuleNotFoundError: No module named 'labelembed'.; install on all machines: labele"
    )
    with pytest.raises(ClusterError, match=wanted), open_cluster(here().scheduler_address, folder=tmp_path):
        pass
