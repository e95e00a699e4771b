"""The runs of a tuning or a comparison made in this process: starting workers takes longer than small runs."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from labelembed.lab.runs.jobs import make


def run_jobs_here(jobs, run, *, processes=1, gpus=()):
    """Does what `jobs.run_jobs` does, one run after the other and without a log; nobody asks them to stop."""
    for job in jobs:
        yield make(run, replace(job, log=None), lambda progress: None, lambda: False)._replace(job=job)


def make_runs_here(monkeypatch, run_jobs=run_jobs_here):
    """Makes the runs of comparisons and tunings in this process for the time of a test."""
    monkeypatch.setattr("labelembed.lab.runs.machines.run_jobs", run_jobs)
    for verb in ("labelembed.lab.cli.compare_verb", "labelembed.lab.cli.tune_verb", "labelembed.lab.runs.comparison"):
        monkeypatch.setattr(f"{verb}.start_fork_server", lambda: None)


@contextlib.contextmanager
def sqlite_that_does_not_wait():
    """Lets optuna's studies be written without waiting for the disk, where no process is killed."""
    from sqlalchemy import Engine, event

    def connected(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)
