"""Runs that are handed out to the workers of a cluster, and what is heard of them."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelembed.training.cluster_connection import asked, lost
from labelembed.training.cluster_worker import TOPIC, flag_name, make_run
from labelembed.training.jobs import Event, Job, Run
from labelembed.training.progress import Progress

if TYPE_CHECKING:
    from distributed import Future

    from labelembed.training.cluster import Cluster

LOOK_SECONDS = 2.0  # between two looks at which workers there are
_ATTEMPTS = 2  # at a run that leaves no answer; dask itself counts the workers that die of one
_DIED = "workers died of it again and again (killed, or out of memory)"


@dataclass
class _Task:
    """A run to hand over: how often it left no answer, and how often no worker was left that could go on with it."""

    job: Job
    attempts: int = 0
    stranded: int = 0


@dataclass
class _Underway:
    """A run that was handed over."""

    task: _Task
    future: Future[Any]
    worker: str
    begun: bool = False
    missing: bool = False  # at the last look no worker had it


class Work:
    """One call of `Cluster.run_jobs`: the runs that are handed out, and what is heard of them.

    Args:
        cluster: Whose workers make them.
        run: See `Cluster.run_jobs`.
        threads: Torch's threads in each.
    """

    def __init__(self, cluster: Cluster, run: Run, threads: int) -> None:
        self._cluster, self._client, self._run, self._threads = cluster, cluster.client, run, threads
        self._underway: dict[int, _Underway] = {}
        self._again: deque[_Task] = deque()
        # What dask's threads hear comes to this one here; None says that a run is over.
        self._inbox: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()

    def events(self, jobs: Iterator[Job]) -> Iterator[Event]:
        """Yields what happens, until every job is over."""
        self._client.subscribe_topic(TOPIC, self._hear)
        more = True
        workers = self._cluster.workers()
        looked = time.monotonic()
        while True:
            taken = {underway.worker for underway in self._underway.values()}
            free = [address for address in workers if address not in taken]
            while free and len(self._underway) < len(workers) and (self._again or more):
                if self._again:
                    self._hand_over(self._again.popleft(), free.pop(0))
                elif (job := next(jobs, None)) is not None:
                    self._hand_over(_Task(job), free.pop(0))
                else:
                    more = False
            if not self._underway and not self._again and not more:
                return
            with contextlib.suppress(queue.Empty):
                number, message = self._inbox.get(timeout=LOOK_SECONDS)
                event = self._heard(number, message)
                if event is not None:
                    yield event
            if time.monotonic() - looked > LOOK_SECONDS:
                workers = self._cluster.workers()
                if any(underway.worker not in workers for underway in self._underway.values()):
                    yield from self._stranded()
                looked = time.monotonic()

    def _hand_over(self, task: _Task, worker: str) -> None:
        job, number, ticket = task.job, next(self._cluster.numbers), self._cluster.ticket
        future = self._client.submit(
            make_run,
            self._run,
            job.payload,
            ticket,
            name=job.name,
            log=None if job.log is None else str(job.log.absolute()),  # workers stand elsewhere
            number=number,
            scheduler=self._cluster.address,
            threads=self._threads,
            key=f"labelembed-run-{ticket.session}-{number}",
            pure=False,
            workers=[worker],
            allow_other_workers=True,  # should this one die
        )
        self._underway[number] = _Underway(task, future, worker)
        future.add_done_callback(lambda future: self._inbox.put((number, None)))

    def _stranded(self) -> Iterator[Event]:
        """Takes back the runs that no worker has or will have, and yields those that were lost too often.

        When a worker dies, dask gives its run to another one; where there is none just then, it keeps the run for a
        worker of the same address, whoever else joins, and a worker that is started again has another address.
        """
        import dask

        placed = {key for keys in asked(self._cluster.address, self._client.processing).values() for key in keys}
        for number, underway in list(self._underway.items()):
            missing = underway.future.status == "pending" and underway.future.key not in placed
            if missing and underway.missing:  # twice: it may have been on its way
                del self._underway[number]
                underway.future.cancel()
                underway.task.stranded += 1
                if underway.task.stranded > dask.config.get("distributed.scheduler.allowed-failures"):
                    yield Event(underway.task.job, "failed", message=_DIED)
                else:
                    self._again.appendleft(underway.task)
            underway.missing = missing

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
        return Event(underway.task.job, "progress", progress=Progress(*json.loads(message["content"])))

    def _over(self, underway: _Underway) -> Event | None:
        from distributed import KilledWorker

        task, future = underway.task, underway.future
        if future.cancelled():  # by nobody but a client that has lost its scheduler
            raise lost(self._cluster.address)
        error = asked(self._cluster.address, future.exception)
        if isinstance(error, KilledWorker):
            return Event(task.job, "failed", message=_DIED)
        if error is not None:
            return self._once_more(task, f"{type(error).__name__}: {error}")
        kind, result, message = asked(self._cluster.address, future.result)
        if kind == "unfit":
            self._cluster.leave_out(result, message)
            self._again.appendleft(task)
            return None
        if kind == "interrupted":
            return self._once_more(task, "its workers closed while it was made")
        return Event(task.job, kind, result=result, message=message)

    def _once_more(self, task: _Task, message: str) -> Event | None:
        task.attempts += 1
        if task.attempts >= _ATTEMPTS:
            return Event(task.job, "failed", message=message)
        self._again.appendleft(task)
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
