"""Many runs on many machines, the client's side: dask.distributed hands them out and makes up for dead workers.

The same jobs and the same events as in `workers.run_jobs`, so whoever watches need not know where runs are made.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import ClusterError
from labelembed.training.cluster_connection import asked, connected, lost
from labelembed.training.cluster_worker import (
    PROBE,
    TOPIC,
    Ticket,
    fault_of,
    flag_name,
    look_around,
    make_run,
    versions,
)
from labelembed.training.files import make_writable_folder
from labelembed.training.progress import Progress
from labelembed.training.workers import Event, Job, Run

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_SECONDS = 2.0  # between two looks at which workers there are
_ATTEMPTS = 2  # at a run that leaves no answer; dask itself counts the workers that die of one


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
        warn: Called with what the user should know, for instance that there is no worker yet.

    Raises:
        ClusterError: When the scheduler cannot be reached or a worker cannot be used.
        RunFolderError: When the folder cannot be written.
    """
    folder = folder.absolute()
    with connected(address) as client:
        make_writable_folder(folder)
        ticket = Ticket(uuid.uuid4().hex, str(folder), tuple(files), versions(), tuple(sys.argv))
        probe = folder / PROBE
        try:
            probe.write_text(ticket.session, encoding="utf-8")
            cluster = Cluster(client, address, ticket, warn)
            cluster.wait_for_workers()
            yield cluster
        finally:
            probe.unlink(missing_ok=True)


class Cluster:
    """The workers of a dask scheduler; `open_cluster` makes one.

    Args:
        client: Connected.
        address: Of the scheduler.
        ticket: What every worker must agree with.
        warn: Called with what the user should know.
    """

    def __init__(self, client: Client, address: str, ticket: Ticket, warn: Callable[[str], None]) -> None:
        self.client, self.address, self.ticket, self.warn = client, address, ticket, warn
        self._fit: set[str] = set()
        self._unfit: set[str] = set()
        self._said_waiting = False
        self.numbers = itertools.count()  # of the runs handed over

    def wait_for_workers(self) -> None:
        """Waits until there is a worker.

        Raises:
            ClusterError: When one of those there are cannot be used.
        """
        while not self.workers(strict=True):
            time.sleep(_LOOK_SECONDS / 4)

    def workers(self, *, strict: bool = False) -> list[str]:
        """Returns the addresses of the workers that can make runs; those that have joined are looked at first.

        Args:
            strict: Raise ClusterError for one that cannot be used; otherwise it is left out with a warning.
        """
        here = list(asked(self.address, self.client.nthreads))
        new = [address for address in here if address not in self._fit | self._unfit]
        if new:
            found = asked(
                self.address, lambda: self.client.run(look_around, self.ticket, workers=new, on_error="return")
            )
            for address, about in found.items():
                if isinstance(about, OSError):
                    continue  # gone again
                fault = self._fault(address, about)
                if fault and strict:
                    raise ClusterError(f"--cluster {self.address}: {fault}")
                if fault:
                    self.leave_out(address, fault)
                else:
                    self._fit.add(address)
        fit = [address for address in here if address in self._fit]
        if not fit and not self._said_waiting:
            command = f"dask worker {self.address} --nworkers N --nthreads 1"
            self.warn(f"waiting for workers of {self.address}; to start N on a machine: {command}")
        self._said_waiting = not fit
        return fit

    def leave_out(self, address: str, fault: str) -> None:
        """Hands no more runs to a worker."""
        if address not in self._unfit:
            self.warn(f"left out: {fault}")
        self._unfit.add(address)
        self._fit.discard(address)

    def _fault(self, address: str, about: Any) -> str:
        if isinstance(about, dict):
            return fault_of(about, self.ticket, address=address, scheduler=self.address)
        reason = f"{type(about).__name__}: {about}".splitlines()[0]
        wanted = ", ".join(f"{name} {version}" for name, version in self.ticket.versions.items())
        return f"worker {address} cannot load labelembed ({reason}); install on all machines: {wanted}"

    def run_jobs(self, jobs: Iterable[Job], run: Run, *, threads: int = 1) -> Iterator[Event]:
        """Makes runs on the workers and yields what happens, as it happens; see `workers.run_jobs`.

        A worker that dies costs nothing but time: dask gives its run to another, where it goes on from its checkpoint,
        as often as the scheduler allows (`distributed.scheduler.allowed-failures`). When the caller leaves early, the
        runs in progress are asked to save where they stand, and waited for.

        Args:
            jobs: What to do; each is taken when a worker is free for it, so that it may depend on what was yielded.
            run: Called in a worker as ``run(payload, observe, stop)``; a function of a module that workers can import.
            threads: Torch's threads in each.

        Raises:
            TrainingError: When the scheduler is lost.
        """
        work = _Work(self, run, threads)
        try:
            yield from work.events(iter(jobs))
        finally:
            work.leave()


@dataclass
class _Underway:
    """A run that was handed over."""

    job: Job
    attempts: int
    future: Future[Any]
    worker: str
    begun: bool = False


class _Work:
    """One call of `Cluster.run_jobs`."""

    def __init__(self, cluster: Cluster, run: Run, threads: int) -> None:
        self._cluster, self._client, self._run, self._threads = cluster, cluster.client, run, threads
        self._underway: dict[int, _Underway] = {}
        self._again: deque[tuple[Job, int]] = deque()
        # What dask's threads hear comes to this one here; None says that a run is over.
        self._inbox: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()

    def events(self, jobs: Iterator[Job]) -> Iterator[Event]:
        self._client.subscribe_topic(TOPIC, self._hear)
        more = True
        workers = self._cluster.workers()
        looked = time.monotonic()
        while True:
            taken = {underway.worker for underway in self._underway.values()}
            free = [address for address in workers if address not in taken]
            while free and len(self._underway) < len(workers) and (self._again or more):
                if self._again:
                    self._hand_over(*self._again.popleft(), free.pop(0))
                elif (job := next(jobs, None)) is not None:
                    self._hand_over(job, 0, free.pop(0))
                else:
                    more = False
            if not self._underway and not self._again and not more:
                return
            with contextlib.suppress(queue.Empty):
                number, message = self._inbox.get(timeout=_LOOK_SECONDS)
                event = self._heard(number, message)
                if event is not None:
                    yield event
            if time.monotonic() - looked > _LOOK_SECONDS:
                workers = self._cluster.workers()
                looked = time.monotonic()

    def _hand_over(self, job: Job, attempts: int, worker: str) -> None:
        number, ticket = next(self._cluster.numbers), self._cluster.ticket
        future = self._client.submit(
            make_run,
            self._run,
            job.payload,
            ticket,
            number=number,
            scheduler=self._cluster.address,
            threads=self._threads,
            key=f"labelembed-run-{ticket.session}-{number}",
            pure=False,
            workers=[worker],
            allow_other_workers=True,  # should this one die
        )
        self._underway[number] = _Underway(job, attempts, future, worker)
        future.add_done_callback(lambda future: self._inbox.put((number, None)))

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        if message.get("session") == self._cluster.ticket.session:
            self._inbox.put((message["number"], message))

    def _heard(self, number: int, message: dict[str, Any] | None) -> Event | None:
        underway = self._underway.get(number)
        if underway is None:
            return None
        if message is None:
            return self._over(self._underway.pop(number))
        underway.worker, underway.begun = message["worker"], True
        if message["kind"] == "begun":
            return None
        return Event(underway.job, "progress", progress=Progress(*json.loads(message["content"])))

    def _over(self, underway: _Underway) -> Event | None:
        from distributed import KilledWorker

        job, future = underway.job, underway.future
        if future.cancelled():  # by nobody but a client that has lost its scheduler
            raise lost(self._cluster.address)
        error = asked(self._cluster.address, future.exception)
        if isinstance(error, KilledWorker):
            return Event(job, "failed", message="workers died of it again and again (killed, or out of memory)")
        if error is not None:
            return self._once_more(underway, f"{type(error).__name__}: {error}")
        kind, result, message = asked(self._cluster.address, future.result)
        if kind == "unfit":
            self._cluster.leave_out(result, message)
            self._again.appendleft((job, underway.attempts))
            return None
        if kind == "interrupted":
            return self._once_more(underway, "its workers closed while it was made")
        return Event(job, kind, result=result, message=message)

    def _once_more(self, underway: _Underway, message: str) -> Event | None:
        if underway.attempts + 1 >= _ATTEMPTS:
            return Event(underway.job, "failed", message=message)
        self._again.appendleft((underway.job, underway.attempts + 1))
        return None

    def leave(self) -> None:
        """Asks the runs in progress to save where they stand, and waits for them."""
        from distributed import Event as Flag

        flag = Flag(flag_name(self._cluster.ticket), client=self._client)
        with contextlib.suppress(Exception):  # a scheduler that is gone is asked nothing
            if self._underway:
                flag.set()
            with contextlib.suppress(queue.Empty):  # what had begun and was not heard yet
                while True:
                    number, message = self._inbox.get_nowait()
                    if message is not None and number in self._underway:
                        self._heard(number, message)
            for underway in self._underway.values():
                if not underway.begun:
                    underway.future.cancel()
            while any(underway.begun and not underway.future.done() for underway in self._underway.values()):
                here = self._client.nthreads()
                for number in [number for number, run in self._underway.items() if run.worker not in here]:
                    del self._underway[number]  # it died, and what it made lies in its checkpoint
                time.sleep(0.1)
            if self._underway:
                flag.clear()
            self._client.unsubscribe_topic(TOPIC)
