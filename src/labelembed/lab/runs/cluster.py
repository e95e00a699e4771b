"""Runs made by the workers of a dask scheduler, on as many machines as there are."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labelembed.lab.errors import ClusterError, InterruptedTraining, TrainingError
from labelembed.lab.runs.pools import (
    Ended,
    Job,
    LocalPool,
    Pool,
    attempt,
    default_jobs,
    visible_gpus,
    with_last_lines,
)

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def opened_pool(*, jobs: int | None, cluster: str | None, device: str | None, most: int) -> Iterator[Pool]:
    """Gives what makes runs, at most so many at once; what is in progress stops with the block."""
    pool: Pool
    if cluster is not None:
        pool = DaskPool(cluster)
    else:
        pool = LocalPool(min(jobs or default_jobs(device), most), gpus=visible_gpus(device))
    try:
        yield pool
    finally:
        pool.stop()


class DaskPool:
    """The workers of a dask scheduler, one run at a time each.

    Dask gives the run of a dead worker to another one, where it goes on from its checkpoint, as often as the scheduler
    allows (`distributed.scheduler.allowed-failures`).

    Raises:
        ClusterError: The package `distributed` is missing, or no scheduler can be reached at the address.
    """

    def __init__(self, address: str) -> None:
        self._address, self._client = address, _connected(address)
        self._waiting: deque[Job] = deque()
        self._running: dict[Future[str], Job] = {}
        if not self._client.nthreads():
            how = f"dask worker {address} --nworkers N --nthreads 1"
            print(f"waiting for workers of {address}; to start N on a machine: {how}", file=sys.stderr, flush=True)

    def submit(self, job: Job) -> None:
        """See `Pool.submit`."""
        self._waiting.append(job)

    def poll(self, seconds: float) -> list[Ended]:
        """See `Pool.poll`.

        Raises:
            TrainingError: When the scheduler is lost.
            ClusterError: When a worker cannot make runs.
        """
        try:
            workers = len(self._client.nthreads())
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise self._lost() from error
        # No more than there are workers: of a death dask blames every run that stands in line there.
        while self._waiting and len(self._running) < workers:
            job = self._waiting.popleft()
            key = f"labelembed-{uuid.uuid4().hex}"
            future = self._client.submit(_make_on_worker, job, sys.argv, key=key, pure=False, retries=3)
            self._running[future] = job
        until = time.monotonic() + seconds
        while time.monotonic() < until and not any(future.done() for future in self._running):
            time.sleep(0.05)
        return [self._ended(future) for future in list(self._running) if future.done()]

    def stop(self) -> None:
        """See `Pool.stop`."""
        with _silent_log(), contextlib.suppress(Exception):  # what is gone needs no goodbye
            keys = {future.key for future in self._running}
            if self._client.status == "running":
                self._client.cancel(list(self._running))
                while self._at_work() & keys:  # runs that save where they stand
                    time.sleep(0.1)
            self._client.close(timeout=2)

    def _ended(self, future: Future[str]) -> Ended:
        from distributed import KilledWorker

        job = self._running.pop(future)
        if future.cancelled():  # by nobody but a client that has lost its scheduler
            raise self._lost()
        try:
            error = future.result()
        except KilledWorker:
            why = "workers died of it again and again (killed, or out of memory)"
            return Ended(job, with_last_lines(why, job.folder))
        except InterruptedTraining:
            return Ended(job, with_last_lines("its workers closed while it was made", job.folder))
        if not error and not (job.folder / "result.json").exists():
            error = f"{job.folder}: a worker has made it elsewhere; all machines must see this folder under one path"
        return Ended(job, error)

    def _lost(self) -> TrainingError:
        what = "finished runs are kept, those under way save their state: give the same command again"
        return TrainingError(f"the connection to the scheduler {self._address} is lost; {what}")

    def _at_work(self) -> set[str]:
        """Returns the keys of the tasks that the workers' threads are busy with, also of those that are cancelled."""
        tasks = self._client.run(lambda dask_worker: list(dask_worker.active_threads.values()), on_error="ignore")
        return {str(key) for keys in tasks.values() for key in keys}


def _connected(address: str) -> Client:
    if not re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):\d{1,5}", address):
        what = f"must be tcp://HOST:PORT (or tls://HOST:PORT) of a dask scheduler, got {address!r}"
        raise ClusterError(f"--cluster: {what}")
    try:
        import distributed
    except ImportError as error:
        wanted = "--cluster needs the package distributed: pip install 'labelembed[cluster]'"
        raise ClusterError(f"{wanted} ({error})") from error
    with _silent_log():
        try:
            return distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="labelembed")
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            what = f"no dask scheduler can be reached there within {_CONNECT_SECONDS:.0f} s ({reason})"
            way_out = "`dask scheduler` starts one and prints its address"
            raise ClusterError(f"--cluster {address}: {what}; {way_out}") from error


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Keeps dask from logging and warning in this process: each error is printed once."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _make_on_worker(job: Job, words: list[str]) -> str:
    """Makes a run in the process of a dask worker, until dask has no use for it any more or the worker closes.

    `words` are those of the client's command, which a run folder keeps.
    """
    import torch
    from distributed import Status, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    if worker.state.nthreads != 1:
        what = f"worker {worker.address} has {worker.state.nthreads} threads, and a run needs a process of its own"
        raise ClusterError(f"--cluster: {what}; start workers with --nworkers N --nthreads 1")

    def is_unwanted() -> bool:
        task = worker.state.tasks.get(key)
        is_open = worker.status in (Status.running, Status.paused)
        return not (is_open and task is not None and task.state == "executing")

    torch.set_num_threads(1)
    sys.argv = words
    return attempt(job, is_unwanted)
