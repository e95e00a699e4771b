"""The runs of a tuning or a comparison made in this process: starting workers takes longer than small runs."""

from __future__ import annotations

from labelembed.lab.runs import pools


class HerePool:
    """Makes one run after the other."""

    def __init__(self, processes, *, gpus=()):
        self.waiting = []

    def submit(self, job):
        self.waiting.append(job)

    def poll(self, seconds):
        return [(job, pools.attempt(job)) for job in [self.waiting.pop(0)]]

    def stop(self):
        pass


def make_runs_here(monkeypatch, pool=HerePool):
    """Makes the runs of comparisons and tunings in this process for the time of a test."""
    monkeypatch.setattr(pools, "LocalPool", pool)
    monkeypatch.setattr(pools, "start_fork_server", lambda: None)
