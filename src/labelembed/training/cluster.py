"""Many runs on many machines, the client's side: dask.distributed hands them out and makes up for dead workers.

The same jobs and the same events as in `jobs.run_jobs`, so whoever watches need not know where runs are made.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labelembed.errors import ClusterError
from labelembed.training.cluster_connection import asked, connected
from labelembed.training.cluster_work import Work
from labelembed.training.cluster_worker import (
    PROBE,
    Ticket,
    fault_of,
    look_around,
    this_process,
    versions,
)
from labelembed.training.files import make_writable_folder
from labelembed.training.jobs import Event, Job, Run

if TYPE_CHECKING:
    from distributed import Client


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
        ticket = Ticket(uuid.uuid4().hex, str(folder), tuple(files), versions(), tuple(sys.argv), this_process())
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
        self.numbers = itertools.count()  # of the runs handed over
        self._known: dict[str, Literal["asked", "fit", "unfit"]] = {}
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._said_waiting = False

    def wait_for_workers(self) -> None:
        """Waits until there is a worker, and all there are have been looked at.

        Raises:
            ClusterError: When one of them cannot be used.
        """
        while not self.workers(strict=True) or "asked" in self._known.values():
            time.sleep(0.1)

    def workers(self, *, strict: bool = False) -> list[str]:
        """Returns the addresses of the workers that can make runs now; those that have joined are looked at first.

        Args:
            strict: Raise ClusterError for one that cannot be used; otherwise it is left out with a warning.
        """
        here = asked(self.address, self.client.nthreads)
        self._known = {address: state for address, state in self._known.items() if address in here}
        if new := [address for address in here if address not in self._known]:
            self._known |= dict.fromkeys(new, "asked")
            threading.Thread(target=self._look_at, args=(new,), daemon=True).start()
        with contextlib.suppress(queue.Empty):
            while True:
                for address, about in self._answers.get_nowait().items():
                    self._note(address, about, strict=strict)
        fit = [address for address in here if self._known.get(address) == "fit"]
        waiting = not fit and "asked" not in self._known.values()
        if waiting and not self._said_waiting:
            command = f"dask worker {self.address} --nworkers N --nthreads 1"
            self.warn(f"waiting for workers of {self.address}; to start N on a machine: {command}")
        self._said_waiting = waiting
        return fit

    def _look_at(self, new: list[str]) -> None:
        """Asks workers what a run needs; in a thread, for one that must import torch first takes its time."""
        try:
            found = self.client.run(look_around, self.ticket, workers=new, on_error="return")
        except Exception as error:  # a lost scheduler, which is noticed elsewhere
            found = dict.fromkeys(new, OSError(str(error)))
        self._answers.put(found)

    def _note(self, address: str, about: Any, *, strict: bool) -> None:
        if isinstance(about, OSError):  # gone again; should it still be there, it is asked once more
            self._known.pop(address, None)
            return
        fault = self._fault(address, about)
        if fault and strict:
            raise ClusterError(f"--cluster {self.address}: {fault}")
        if fault:
            self.leave_out(address, fault)
        elif self._known.get(address) == "asked":
            self._known[address] = "fit"

    def leave_out(self, address: str, fault: str) -> None:
        """Hands no more runs to a worker."""
        if self._known.get(address) != "unfit":
            self.warn(f"left out: {fault}")
        self._known[address] = "unfit"

    def _fault(self, address: str, about: Any) -> str:
        if isinstance(about, dict):
            return fault_of(about, self.ticket, address=address, scheduler=self.address)
        reason = f"{type(about).__name__}: {about}".splitlines()[0]
        wanted = ", ".join(f"{name} {version}" for name, version in self.ticket.versions.items())
        return f"worker {address} cannot load labelembed ({reason}); install on all machines: {wanted}"

    def run_jobs(self, jobs: Iterable[Job], run: Run, *, threads: int = 1) -> Iterator[Event]:
        """Makes runs on the workers and yields what happens, as it happens; see `jobs.run_jobs`.

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
        work = Work(self, run, threads)
        try:
            yield from work.events(iter(jobs))
        finally:
            work.leave()
