"""The runs of a tuning or a comparison made in this process: starting workers takes longer than small runs."""

from __future__ import annotations

from labelembed.training.interruption import StopRequest
from labelembed.training.workers import Event, outcome_of


def run_jobs_here(jobs, run, *, processes=1, gpus=()):
    """Does what `workers.run_jobs` does, one run after the other; nobody asks them to stop."""
    for job in jobs:
        kind, result, message = outcome_of(run, job.payload, lambda progress: None, StopRequest())
        yield Event(job, kind, result=result, message=message)
