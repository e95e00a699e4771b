"""Many runs on many machines, the worker's side: what happens inside a process of a dask cluster."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labelembed import __version__
from labelembed.errors import InterruptedTraining
from labelembed.training.jobs import Job, Outcome, Run, make
from labelembed.training.progress import Progress

if TYPE_CHECKING:
    from distributed import Worker

TOPIC = "labelembed"  # of dask's events; one for all comparisons, for a scheduler keeps every topic for ever
PROBE = ".cluster-probe"
_PROBE_SECONDS = 5.0  # a network file system may show a new file a little later
_TELL_SECONDS = 0.5  # between two messages of a run


@dataclass(frozen=True)
class Needs:
    """What every worker must have.

    Args:
        scheduler: Its address.
        session: Names this use of the cluster; the client has put it into a file of the folder.
        folder: Where runs are written.
        files: What else must be there.
        versions: Of the packages, as the client has them.
    """

    scheduler: str
    session: str
    folder: str
    files: tuple[str, ...]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Returns what must be the same everywhere for runs to be comparable.

    What stands behind a plus (``2.6.0+cpu``) is the build, and may differ.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    return {"labelembed": __version__, "torch": torch.__version__.split("+")[0], "python": python}


def fault_here(needs: Needs, dask_worker: Worker) -> str:
    """Returns why a worker cannot be used, and what to do; empty when it can.

    Args:
        needs: What it must have.
        dask_worker: Given by dask, where this is called through `Client.run`.
    """
    who = f"worker {dask_worker.address} on {socket.gethostname()}"
    if (threads := dask_worker.state.nthreads) != 1:
        return (
            f"{who} has {threads} threads; a run changes the state of its whole process, so each needs one of its own: "
            f"start workers with `dask worker {needs.scheduler} --nworkers {max(threads, 1)} --nthreads 1`"
        )
    here = versions()
    differing = [
        f"{name} {here.get(name)} there and {version} here"
        for name, version in needs.versions.items()
        if here.get(name) != version
    ]
    if differing:
        return f"{who} has other versions: {', '.join(differing)}; install the same ones on all machines"
    if not _seen(Path(needs.folder) / PROBE, needs.session):
        shared = "runs need a folder on a file system that all machines see under one path"
        return f"{who} does not see the folder {needs.folder}; {shared}: name one with --out"
    if not os.access(needs.folder, os.W_OK):
        return f"{who} cannot write in the folder {needs.folder}"
    for path in needs.files:
        if not Path(path).exists():
            return f"{who} does not see {path}; put it on a file system that all machines see under one path"
    return ""


def _seen(probe: Path, session: str) -> bool:
    until = time.monotonic() + _PROBE_SECONDS
    while True:
        with contextlib.suppress(OSError):
            os.listdir(probe.parent)  # has a network file system ask its server
            if probe.read_text(encoding="utf-8") == session:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def keys_at_work(dask_worker: Worker) -> list[str]:
    """Returns the keys of the tasks that a worker's threads are busy with, also of those that are cancelled."""
    return [str(key) for key in dask_worker.active_threads.values()]


def make_on_worker(job: Job, *, run: Run, needs: Needs, threads: int, words: Sequence[str]) -> Outcome:
    """Makes one run in the process of a dask worker; what the client submits.

    It stops, having saved where it stands, when dask has no use for the task any more (the client has cancelled it or
    is gone) and when the worker closes.

    Args:
        job: The run.
        run: See `Cluster.run_jobs`.
        needs: What the worker must have; it may have joined after the first look.
        threads: Torch's threads.
        words: Of the client's command, which a run folder keeps.

    Returns:
        What `jobs.make` does, or (`unfit`, why).

    Raises:
        InterruptedTraining: When the worker closes; dask gives the run to another one.
    """
    from distributed import Status, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if fault := fault_here(needs, worker):
        return "unfit", fault
    last = 0.0

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        open_still = worker.status in (Status.running, Status.paused)
        return open_still and task is not None and task.state == "executing"

    def tell(progress: Progress) -> None:  # not all, for it goes through one scheduler
        nonlocal last
        if progress.line is not None or time.monotonic() - last > _TELL_SECONDS:
            last = time.monotonic()
            worker.log_event(TOPIC, {"key": key, "progress": list(progress)})

    with _as_the_client(words, threads):
        outcome = make(run, job, tell, lambda: not wanted())
    if outcome[0] == "interrupted":
        raise InterruptedTraining(outcome[1])
    return outcome


@contextlib.contextmanager
def _as_the_client(words: Sequence[str], threads: int) -> Iterator[None]:
    """Lets the process have the client's words and torch's threads, for the time of a run."""
    before, own = torch.get_num_threads(), sys.argv
    torch.set_num_threads(threads)
    sys.argv = list(words)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        sys.argv = own
