"""Comparisons on the workers of a dask scheduler: the table of this machine, killed workers, stops, refusals."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

import labelembed
from labelembed.lab.errors import ClusterError
from labelembed.lab.runs import pools
from labelembed.lab.runs.pools import DaskPool, Job
from tests.made_failing_jobs import HARMS
from tests.made_training import fork_server

dask = pytest.importorskip("dask", reason="the extra `cluster` (distributed) is not installed")
distributed = pytest.importorskip("distributed", reason="the extra `cluster` (distributed) is not installed")

SETTINGS = {"data.train_examples": 190, "model.hidden_sizes": [12], "batch_size": 40, "epochs": 4}
SETTINGS |= {"checkpoints": {"minimum_seconds": 0}}


@pytest.fixture(scope="module")
def cluster():
    """Gives the address of a scheduler with two workers, each a process of its own; a dead one is started anew."""
    fork_server()
    settings = {"distributed.worker.multiprocessing-method": "forkserver", "distributed.scheduler.allowed-failures": 1}
    how = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", "host": "127.0.0.1"}
    with dask.config.set(settings), distributed.LocalCluster(n_workers=2, **how) as made:
        yield made.scheduler_address


def compare(out, **more):
    asked = {"objectives": "one_hot,label_smoothing", "seeds": 2, "settings": SETTINGS, "quiet": True, "out": out}
    return labelembed.compare("digits-mlp", **asked, **more)


def test_killed_workers_cost_a_run_at_most_and_the_rest_is_the_table_of_this_machine(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere, and the folder is given relative to here
    out = Path("comparison")
    out.mkdir()
    harms = {"one_hot/seed-0": ["killed", 1], "one_hot/seed-1": ["killed", 99], "label_smoothing/seed-1": ["raises", 9]}
    (out / HARMS).write_text(json.dumps(harms))
    failed = compare(out, cluster=cluster).failed
    assert set(failed) == {"one_hot seed 1", "label_smoothing seed 1"}
    assert failed["one_hot seed 1"].startswith("workers died of it again and again")
    assert failed["label_smoothing seed 1"].startswith("RuntimeError: the job's own error")
    (out / HARMS).write_text("{}")
    again, here = compare(out, cluster=cluster), compare("here", jobs=1, device="cpu")
    assert again.failed == {}
    assert again.table()["test_error_mean"].tolist() == here.table()["test_error_mean"].tolist()


def test_stopping_ends_the_runs_that_wait_for_it(cluster, tmp_path):
    pool = DaskPool(cluster)
    jobs = [Job(name, {"do": "wait"}, tmp_path / name) for name in "ab"]
    for job in jobs:
        job.folder.mkdir()
        pool.submit(job)
    until = time.monotonic() + 60
    while not all((job.folder / "facts.json").exists() for job in jobs):
        assert pool.poll(0.1) == []
        assert time.monotonic() < until
    pool.stop()
    with contextlib.closing(distributed.Client(cluster, set_as_default=False)) as client:
        while any(client.run(lambda dask_worker: list(dask_worker.active_threads)).values()):
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize("address", ["here", "tcp://127.0.0.1:1"])
def test_scheduler_that_does_not_answer_is_refused_with_its_address(address, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterError, match=f"tcp://HOST:PORT of a dask scheduler.*got '{address}'"):
        compare(tmp_path / "out", cluster=address)
    assert not (tmp_path / "out/runs").exists()


def test_workers_with_several_threads_are_refused(tmp_path):
    how = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": ":0", "protocol": "tcp"}
    with distributed.LocalCluster(**how) as made, pytest.raises(ClusterError, match="--nthreads 1"):
        compare(tmp_path / "out", cluster=made.scheduler_address)
