"""Many runs on many machines: the workers of a dask scheduler make them.

Dask decides which worker makes which run, gives the run of a dead one to another, and carries progress back. What is
added here: a look at every worker before the first run, how a run hears that nobody wants it any more, and the same
events as `jobs.run_jobs` yields, so that whoever watches need not know where runs are made.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import re
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import ClusterError, InterruptedTraining, TrainingError
from labelembed.training.cluster_worker import PROBE, TOPIC, Needs, fault_here, keys_at_work, make_on_worker, versions
from labelembed.training.files import make_writable_folder
from labelembed.training.jobs import Event, Job, Outcome, Run, event_of
from labelembed.training.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 0.1  # between two looks at what dask has for us
_RETRIES = 3  # of a run whose worker closes in the middle; of deaths dask has its own count


def count_workers(address: str) -> int:
    """Returns how many workers a scheduler has now.

    Raises:
        ClusterError: When the scheduler cannot be reached.
    """
    with _connected(address) as client:
        return len(client.nthreads())


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
            for worker, found in client.run(fault_here, needs, on_error="return").items():
                fault = found if isinstance(found, str) else _cannot_load(worker, found)
                if fault:
                    raise ClusterError(f"--cluster {address}: {fault}")
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
        self.client, self.needs, self.session = client, needs, needs.session

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
        underway: dict[str, tuple[Job, Future[Outcome]]] = {}
        told: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        make_there = functools.partial(make_on_worker, run=run, needs=self.needs, threads=threads, words=sys.argv)
        self.client.subscribe_topic(TOPIC, lambda event: told.put(event[1]))
        completed = as_completed(loop=self.client.loop)
        try:
            while waiting or underway:
                # No more than there are workers: of a death dask blames every run that stands in line there.
                while waiting and len(underway) < self._count_workers():
                    key, job = f"labelembed-{uuid.uuid4().hex}", waiting.popleft()
                    future = self.client.submit(make_there, job, key=key, pure=False, retries=_RETRIES)
                    underway[key] = job, future
                    completed.add(future)
                with contextlib.suppress(queue.Empty):
                    while True:
                        message = told.get_nowait()
                        if message["key"] in underway:  # of this client, and not over
                            job, _ = underway[message["key"]]
                            yield Event(job, "progress", progress=Progress(*message["progress"]))
                for future in completed.next_batch(block=False):
                    yield self._over(*underway.pop(future.key))
                time.sleep(_LOOK_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                if self.client.status == "running":  # a scheduler that is gone cannot cancel
                    self.client.unsubscribe_topic(TOPIC)
                    self._leave(underway)

    def _count_workers(self) -> int:
        try:
            return len(self.client.nthreads())
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:  # closed in the middle, or closed before
            raise self._lost() from error

    def _lost(self) -> TrainingError:
        what = "finished runs are kept, those under way save where they stand"
        scheduler = self.needs.scheduler
        return TrainingError(
            f"the connection to the scheduler {scheduler} is lost; {what}: give the same command again"
        )

    def _over(self, job: Job, future: Future[Outcome]) -> Event:
        """Returns how a run has ended, or raises what ends them all."""
        from distributed import KilledWorker

        if future.cancelled():  # by nobody but a client that has lost its scheduler
            raise self._lost()
        try:
            kind, content = future.result()
        except KilledWorker:
            return event_of(job, ("failed", "workers died of it again and again (killed, or out of memory)"))
        except InterruptedTraining:
            return event_of(job, ("failed", "its workers closed while it was made"))
        if kind == "unfit":
            raise ClusterError(f"--cluster {self.needs.scheduler}: {content}; then give the same command again")
        return event_of(job, (kind, content))

    def _leave(self, underway: dict[str, tuple[Job, Future[Outcome]]]) -> None:
        """Cancels what is not over, and waits for the runs that save where they stand."""
        self.client.cancel([future for _, future in underway.values()])
        while any(underway.keys() & set(keys) for keys in self.client.run(keys_at_work, on_error="ignore").values()):
            time.sleep(_LOOK_SECONDS)


def _cannot_load(worker: str, error: Any) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    wanted = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"worker {worker} cannot load labelembed ({reason}); install on all machines: {wanted}"


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Gives a client that is connected, for the time of the block.

    Raises:
        ClusterError: When the address is none, dask is not installed, or the scheduler cannot be reached.
    """
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
    """Keeps dask from logging in this process: what goes wrong is said once, by us."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    loggers = [log for name in names if not (log := logging.getLogger(name)).disabled]  # each has a handler of its own
    for log in loggers:
        log.disabled = True
    try:
        yield
    finally:
        for log in loggers:
            log.disabled = False
