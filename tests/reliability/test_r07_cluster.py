"""R7 on a cluster: a run whose workers are killed is told with its last words, and alone is made again.

The workers are processes, for they are killed by real signals.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from labelembed.lab.runs.worker_log import LOG_FILE

from labelembed.lab.runs.cluster import open_cluster
from tests.made_failing_jobs import HARMS, harmed_job
from tests.made_training import contents, differences, fork_server, train
from tests.reliability.test_r07_killed_runs import LONGEST_SILENCE_SECONDS, compared, places_that_tell, planned, told_of

dask = pytest.importorskip("dask", reason="the extra `cluster` (distributed) is not installed")
distributed = pytest.importorskip("distributed", reason="the extra `cluster` (distributed) is not installed")

# Of dask, which gives a run to so many more workers than the first; by default to three.
MORE_WORKERS = 1
EPOCHS = 8
HOW = {
    "label_smoothing/seed-1": ("killed", 99),
    "label_smoothing/seed-0": ("killed", 1),
    "one_hot/seed-1": ("raises", 99),
    "one_hot/seed-2": ("a crash", 99),
}
DIED = "workers died of it again and again (killed, or out of memory)"


@pytest.fixture
def processes():
    """Makes a scheduler with workers, each a process of its own, and gives its address; a dead one is started anew."""
    fork_server()
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.scheduler.allowed-failures": MORE_WORKERS,
    }
    with contextlib.ExitStack() as made, dask.config.set(settings):
        how = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", "host": "127.0.0.1"}
        yield lambda number: made.enter_context(distributed.LocalCluster(n_workers=number, **how)).scheduler_address


def test_killed_runs_on_a_cluster_are_told_with_their_last_words_and_made_again_alone(
    processes, tmp_path, monkeypatch, figure
):
    monkeypatch.setattr("labelembed.lab.runs.comparison.run_job", harmed_job)
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere, and the folder is given relative to here
    out, address = Path("comparison"), processes(2)

    def plan():
        return planned(out, "one_hot,label_smoothing", 3, f"epochs={EPOCHS}")

    runs = plan().runs
    out.mkdir()
    (out / HARMS).write_text(json.dumps(HOW))
    names = {"/".join(folder.parts[-2:]): f"{variant.name} seed {seed}" for variant, seed, _, folder in runs}
    lost = {names[run] for run, (_, times) in HOW.items() if times > 1}
    with open_cluster(address, folder=out) as cluster:
        failed, made, silence = compared(plan(), out, cluster)
    assert set(failed) == lost
    assert set(made) == set(names.values()) - lost
    figure.count("results kept on a cluster", len(made), len(runs) - len(lost))
    figure.at_most("longest silence, in seconds", silence, LONGEST_SILENCE_SECONDS)

    error = "RuntimeError: the job's own error"
    expected = {
        "label_smoothing/seed-1": (DIED, f" of {EPOCHS}: loss "),  # after which it was killed
        "one_hot/seed-1": (error, error),
        "one_hot/seed-2": (DIED, ""),  # how much of its stack Python tells depends on its version
    }
    for run, (reason, end) in expected.items():
        assert failed[names[run]].startswith(f"{reason}; the last lines of its worker.log: ")
        assert end in failed[names[run]]
    places = places_that_tell(out, failed, told_of(out, failed))
    figure.count("places that tell of a lost run of a cluster with its last words", places, 5 * len(expected))
    logs = {run: (out / "runs" / run / LOG_FILE).read_text() for run in names}
    assert "Fatal Python error: Segmentation fault" in logs["one_hot/seed-2"]
    assert "in _harm" in logs["one_hot/seed-1"]  # where it was raised
    for run, log in logs.items():  # each has one of its own, and all of its attempts are in it
        attempts = (out / f"attempts-{run.replace('/', '-')}").read_text()
        assert log.count(f"{names[run]}: started in process ") == log.count(": started in process ") == len(attempts)
        if names[run] not in lost:
            # Not always in its last attempt: a run whose worker died before it was reported is found done.
            assert f" epoch {EPOCHS} of {EPOCHS}: loss " in log

    # One that was killed once has gone on elsewhere from its checkpoint, as if nothing had happened.
    (recipe, folder) = next(run[2:] for run in runs if run[3].parts[-2:] == ("label_smoothing", "seed-0"))
    train(recipe, tmp_path / "alone")
    assert differences(contents(folder), contents(tmp_path / "alone")) == []

    (out / HARMS).write_text("{}")
    with open_cluster(address, folder=out) as cluster:
        failed, made, _ = compared(plan(), out, cluster)
    assert (failed, set(made)) == ({}, lost)
    figure.count("runs of a cluster made again, the lost ones alone", len(made), len(lost))
