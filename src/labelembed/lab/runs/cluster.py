"""Many runs on many machines: the workers of a dask scheduler make them.

Dask decides which worker makes which run, gives the run of a dead one to another, and carries progress back. What is
added here: a look at every worker before it makes a run, how a run hears that nobody wants it any more, and the same
events as `jobs.run_jobs` yields, so that whoever watches need not know where runs are made.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import queue
import re
import socket
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labelembed import __version__
from labelembed.lab.errors import ClusterError, InterruptedTraining, TrainingError
from labelembed.lab.runs.jobs import Event, Job, Run, make
from labelembed.lab.runs.worker_log import with_last_lines
from labelembed.lab.training.files import make_writable_folder
from labelembed.lab.training.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

CONNECT_SECONDS = 10.0
PROBE = ".cluster-probe"
_PROBE_SECONDS = 5.0  # a network file system may show a new file a little later
_TOPIC = "labelembed"  # of dask's events; one for all comparisons, for a scheduler keeps every topic for ever
_LOOK_SECONDS = 0.1  # between two looks at what dask has for us
_TELL_SECONDS = 0.5  # between two messages of a run
_RETRIES = 3  # of a run whose worker closes in the middle; of deaths dask has its own count


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
    """Returns what must be the same everywhere for runs to be comparable."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"labelembed": __version__, "torch": torch.__version__.split("+")[0], "python": python}  # +cpu is the build


# ---- the side of the client


@contextlib.contextmanager
def open_cluster(
    address: str,
    *,
    folder: Path,
    files: Sequence[str] = (),
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[Cluster]:
    """Connects to a dask scheduler and gives its workers, once there is one and all of them can make runs.

    Args:
        address: Of the scheduler: ``tcp://host:port``, or ``tls://`` with dask's own configuration.
        folder: Where runs will be written; every worker must see it under this path.
        files: What else every worker must see.
        warn: Called with what the user should know: that there is no worker yet.

    Raises:
        ClusterError: When the scheduler cannot be reached or a worker cannot be used.
        RunFolderError: When the folder cannot be written.
    """
    folder = folder.absolute()
    needs = Needs(address, uuid.uuid4().hex, str(folder), tuple(files), versions())
    with _connected(address) as client:
        make_writable_folder(folder)
        probe = folder / PROBE
        try:
            probe.write_text(needs.session, encoding="utf-8")
            if not client.nthreads():
                command = f"dask worker {address} --nworkers N --nthreads 1"
                warn(f"waiting for workers of {address}; to start N on a machine: {command}")
                client.wait_for_workers(1)
            for worker, found in client.run(error_here, needs, on_error="return").items():
                if not isinstance(found, str):
                    wanted = ", ".join(f"{name} {version}" for name, version in needs.versions.items())
                    reason = f"{type(found).__name__}: {found}".splitlines()[0]
                    found = f"worker {worker} cannot load labelembed ({reason}); install on all machines: {wanted}"
                if found:
                    raise ClusterError(f"--cluster {address}: {found}")
            yield Cluster(client, needs)
        finally:
            probe.unlink(missing_ok=True)


class Cluster:
    """The workers of a dask scheduler; `open_cluster` makes one.

    Args:
        client: Connected.
        needs: What every worker must have.
    """

    def __init__(self, client: Client, needs: Needs) -> None:
        self.client, self.needs = client, needs

    def run_jobs(self, jobs: Iterable[Job], run: Run, *, threads: int = 1) -> Iterator[Event]:
        """Makes runs on the workers and yields what happens, as it happens; see `jobs.run_jobs`.

        A worker that dies costs nothing but time: dask gives its run to another, where it goes on from its checkpoint,
        as often as the scheduler allows (`distributed.scheduler.allowed-failures`). When the caller leaves early, the
        runs in progress are cancelled, on which they save where they stand, and waited for.

        Args:
            jobs: What to do; dask begins with the first.
            run: Called in a worker as ``run(payload, observe, stop)``; a function of a module that workers can import.
            threads: Torch's threads in each.

        Raises:
            TrainingError: When the scheduler is lost.
            ClusterError: When a worker that has joined later cannot be used.
        """
        from distributed import as_completed

        waiting = deque(jobs)
        underway: dict[str, tuple[Job, Future[Event]]] = {}
        told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        make_there = functools.partial(make_on_worker, run=run, needs=self.needs, threads=threads, words=sys.argv)
        self.client.subscribe_topic(_TOPIC, lambda event: told.put(event[1]))
        completed = as_completed(loop=self.client.loop)
        try:
            while waiting or underway:
                # No more than there are workers: of a death dask blames every run that stands in line there.
                while waiting and len(underway) < self._count_workers():
                    key, job = f"labelembed-{uuid.uuid4().hex}", waiting.popleft()
                    future = self.client.submit(make_there, job, key=key, pure=False, retries=_RETRIES)
                    underway[key] = job, future
                    completed.add(future)
                while not told.empty():
                    message = told.get()
                    if message["key"] in underway:  # of this client, and not over
                        job, _ = underway[message["key"]]
                        yield Event(job, "progress", progress=Progress(*message["progress"]))
                for future in completed.next_batch(block=False):
                    yield self._ended(*underway.pop(future.key))
                time.sleep(_LOOK_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                if self.client.status == "running":  # a scheduler that is gone cannot cancel
                    self.client.unsubscribe_topic(_TOPIC)
                    self.client.cancel([future for _, future in underway.values()])
                    while self._at_work() & underway.keys():  # runs that save where they stand
                        time.sleep(_LOOK_SECONDS)

    def _count_workers(self) -> int:
        try:
            return len(self.client.nthreads())
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:  # closed in the middle, or closed before
            raise self._lost() from error

    def _ended(self, job: Job, future: Future[Event]) -> Event:
        """Returns how a run has ended, or raises what ends them all."""
        from distributed import KilledWorker

        if future.cancelled():  # by nobody but a client that has lost its scheduler
            raise self._lost()
        try:
            return future.result()
        except KilledWorker:
            why = "workers died of it again and again (killed, or out of memory)"
        except InterruptedTraining:
            why = "its workers closed while it was made"
        return Event(job, "failed", message=with_last_lines(why, job.log))

    def _lost(self) -> TrainingError:
        what = "finished runs are kept, those under way save their state: give the same command again"
        return TrainingError(f"the connection to the scheduler {self.needs.scheduler} is lost; {what}")

    def _at_work(self) -> set[str]:
        """Returns the keys of the tasks that the workers' threads are busy with, also of those that are cancelled."""
        found = self.client.run(lambda dask_worker: list(dask_worker.active_threads.values()), on_error="ignore")
        return {str(key) for keys in found.values() for key in keys}


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Gives a client that is connected; raises ClusterError where the scheduler cannot be reached, or asked at all."""
    if not re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):\d{1,5}", address):
        raise ClusterError(
            f"--cluster: must be tcp://HOST:PORT (or tls://HOST:PORT) of a dask scheduler, got {address!r}"
        )
    try:
        import distributed
    except ImportError as error:
        wanted = "--cluster needs the package distributed: pip install 'labelembed[cluster]'"
        raise ClusterError(f"{wanted} ({error})") from error
    with _silent_log():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the versions that matter are compared later
                client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="labelembed")
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            message = f"--cluster {address}: no dask scheduler can be reached there within {CONNECT_SECONDS:.0f} s"
            raise ClusterError(f"{message} ({reason}); `dask scheduler` starts one and prints its address") from error
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):  # what is gone needs no goodbye
                client.close(timeout=2)


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keeps dask from logging in this process: each error is printed once."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    with contextlib.ExitStack() as after:
        for log in map(logging.getLogger, names):  # each has a handler of its own
            after.callback(setattr, log, "disabled", log.disabled)
            log.disabled = True
        yield


# ---- the side of a worker


def error_here(needs: Needs, dask_worker: Worker) -> str:
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
    if not _sees_probe(Path(needs.folder), needs.session):
        shared = "runs need a folder on a file system that all machines see under one path"
        return f"{who} does not see the folder {needs.folder}; {shared}: name one with --out"
    if not os.access(needs.folder, os.W_OK):
        return f"{who} cannot write in the folder {needs.folder}"
    for path in needs.files:
        if not Path(path).exists():
            return f"{who} does not see {path}; put it on a file system that all machines see under one path"
    return ""


def _sees_probe(folder: Path, session: str) -> bool:
    until = time.monotonic() + _PROBE_SECONDS
    while True:
        with contextlib.suppress(OSError):
            os.listdir(folder)  # has a network file system ask its server
            if (folder / PROBE).read_text(encoding="utf-8") == session:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def make_on_worker(job: Job, *, run: Run, needs: Needs, threads: int, words: Sequence[str]) -> Event:
    """Makes one run in the process of a dask worker; what the client submits.

    It stops, having saved where it stands, when dask has no use for the task any more (the client has cancelled it or
    is gone) and when the worker closes.

    Args:
        job: The run.
        run: See `Cluster.run_jobs`.
        needs: What the worker must have; it may have joined after the first look.
        threads: Torch's threads.
        words: Of the client's command, which a run folder keeps.

    Raises:
        ClusterError: The worker cannot be used.
        InterruptedTraining: When the worker closes; dask gives the run to another one.
    """
    from distributed import Status, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if error := error_here(needs, worker):
        raise ClusterError(f"--cluster {needs.scheduler}: {error}; then give the same command again")
    last = 0.0

    def is_unwanted() -> bool:
        task = worker.state.tasks.get(key)
        is_open = worker.status in (Status.running, Status.paused)
        return not (is_open and task is not None and task.state == "executing")

    def tell(progress: Progress) -> None:  # not all, for it goes through one scheduler
        nonlocal last
        if progress.line is not None or time.monotonic() - last > _TELL_SECONDS:
            last = time.monotonic()
            worker.log_event(_TOPIC, {"key": key, "progress": list(progress)})

    before, own = torch.get_num_threads(), sys.argv
    torch.set_num_threads(threads)
    sys.argv = list(words)
    try:
        event = make(run, job, tell, is_unwanted)
    finally:
        torch.set_num_threads(before)
        sys.argv = own
    if event.kind == "interrupted":
        raise InterruptedTraining(event.message)
    return event
