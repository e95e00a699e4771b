"""Runs the jobs of a comparison in processes of this machine, or on the workers of a dask scheduler.

A pool takes jobs and reports how each one ended; a run's progress is in its folder, its result in ``result.json``.
This module does not import torch at its top: the command imports it while the fork server does, in parallel.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import ClusterError, InterruptedTraining, TrainingError
from labelembed.lab.training.device import SIGNALS, block_signals, stop_at_once

if TYPE_CHECKING:
    from labelembed.lab.recipes.schema import Recipe

LOG_FILE = "worker.log"
#: Of the folder of a run that is made by another process: how many epochs it has made, as `1.25`.
PROGRESS_FILE = "worker.progress"
#: What the server of which processes are forked imports.
PRELOADED = ["filelock", "sklearn.datasets", "torch._dynamo", "labelembed.lab.runs.run"]
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_LOCK_SECONDS = 20.0  # a process that was lost may still be saving when its run is handed on
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """One run to make in another process: its display name, its recipe and folder with absolute paths."""

    name: str
    recipe: Recipe
    folder: Path
    track: Sequence[str] = ()
    device: str | None = None


def visible_gpus(device: str | None) -> list[str]:
    """Returns the GPUs that runs may use, as `CUDA_VISIBLE_DEVICES` names them; of the device `cpu` none."""
    import torch

    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get(_VISIBLE_GPUS, "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]


def default_jobs(device: str | None) -> int:
    """Returns the default number of runs at once: one per GPU, or without a GPU one per core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return len(visible_gpus(device)) or cores


def attempt(job: Job, stop: Callable[[], bool] = lambda: False) -> str:
    """Makes a run in this process; returns the reason of a failure or "", and raises InterruptedTraining."""
    from labelembed.lab.runs.display import say
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.runs.run import run_recipe
    from labelembed.lab.training.reporter import Progress, Reporter

    progress_file = job.folder / PROGRESS_FILE

    class JobReporter(Reporter):
        def progress(self, progress: Progress) -> None:
            with contextlib.suppress(OSError):  # of a full disk the run's own files tell
                progress_file.write_text(str(progress.epoch + progress.batch / max(progress.batches, 1)))

        def warn(self, text: str) -> None:
            say(text)

        def wants_stop(self) -> bool:
            return stop()

    _remove(progress_file)  # of a run that was killed, or a link
    options = RunOptions(device=job.device, track=job.track, lock_seconds=_LOCK_SECONDS)
    try:
        run_recipe(job.recipe, job.folder, options=options, reporter=JobReporter())
        return ""
    except InterruptedTraining:
        raise
    except LabelEmbedError as error:
        return str(error)
    except Exception as error:  # one run's error must not take the others with it
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        _remove(progress_file)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


# ---- processes of this machine
# The standard library's fork server starts them. It has imported what a run needs, so that one is there at once, and it
# does nothing else, so that no thread or lock is copied half-way. A process that is killed costs its own run alone.


def start_fork_server() -> None:
    """Starts the fork server if there is none yet; its imports go on while this process does something else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # first, because starting it would let signals come again
    with block_signals():
        forkserver.ensure_running()


class LocalPool:
    """Processes of this machine, so many at once, one a run, each of one thread.

    A run whose process dies is resumed in another once, then counts as failed. Where there are GPUs each process
    sees one, the one that the fewest others see.
    """

    def __init__(self, processes: int, *, gpus: Sequence[str] = ()) -> None:
        self._most, self._gpus = max(1, processes), gpus
        self._waiting: deque[Job] = deque()
        self._died: set[str] = set()  # once, by name
        # By process: its job, its GPU, and the pipe through which it says why the run failed.
        self._running: dict[Any, tuple[Job, str | None, Any]] = {}

    def submit(self, job: Job) -> None:
        """Takes a job."""
        self._waiting.append(job)

    def poll(self, seconds: float) -> list[tuple[Job, str]]:
        """Starts what there is room for; returns, after so many seconds at most, what has ended and why it failed."""
        while self._waiting and len(self._running) < self._most:
            self._start(self._waiting.popleft())
        connection.wait([process.sentinel for process in self._running], timeout=seconds)
        ended: list[tuple[Job, str]] = []
        for process in [process for process in self._running if not process.is_alive()]:
            job, _, (reason, _) = self._running.pop(process)
            code = process.exitcode
            if code == 0 or reason.poll():
                ended.append((job, "" if code == 0 else reason.recv()))
            elif job.name in self._died:
                how = f"exit code {code}" if code > 0 else f"{signal.strsignal(-code)}; is there enough memory?"
                ended.append((job, f"its process died twice ({how})" + _last_lines(job.folder)))
            else:
                self._died.add(job.name)
                self._waiting.appendleft(job)
        return ended

    def stop(self) -> None:
        """Lets the runs in progress save where they stand, and waits for them."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.join()
        self._running.clear()

    def _start(self, job: Job) -> None:
        taken = [gpu for _, gpu, _ in self._running.values()]
        gpu = min(self._gpus, key=taken.count, default=None)
        environment = dict(os.environ) | ({} if gpu is None else {_VISIBLE_GPUS: gpu})
        start_fork_server()
        context = multiprocessing.get_context("forkserver")
        pipe = context.Pipe(duplex=False)
        # Daemonic: where this process ends without a word it sends SIGTERM, on which a run saves and leaves.
        process = context.Process(target=_make_alone, args=(job, environment, pipe[1]), daemon=True)
        # A new process would import the main module, and a script may call `labelembed.compare` at its top.
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            with block_signals():  # so do the processes begin
                process.start()
                self._running[process] = (job, gpu, pipe)
        finally:
            sys.modules["__main__"] = main


def _make_alone(job: Job, environment: dict[str, str], reason: connection.Connection) -> None:
    """Makes one run in this process, which was started for it."""
    # Ctrl-C and a closed terminal reach every process of the terminal; the one that started this one sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()  # the fork server's own is as old as it is
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(OSError):  # the run itself says what is wrong with its folder
        job.folder.mkdir(parents=True, exist_ok=True)
        log = os.open(job.folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        for stream in (1, 2):
            os.dup2(log, stream)
    faulthandler.enable(2, all_threads=False)
    with stop_at_once():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        if error := attempt(job):
            reason.send(error[:10_000])
            sys.exit(1)


def _leave_with_parent() -> None:
    """Ends the run as SIGTERM does, once the process that waits for it was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _last_lines(folder: Path) -> str:
    """Returns the end of a run's log for a message."""
    with contextlib.suppress(OSError):
        text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
        if lines := ["".join(filter(str.isprintable, line))[:100] for line in text.splitlines() if line.strip()]:
            return f"; the last lines of its {LOG_FILE}: {' | '.join(lines[-4:])}"
    return ""


# ---- the workers of a dask scheduler


class DaskPool:
    """The workers of a dask scheduler, one run at a time each; its methods are those of `LocalPool`.

    Dask gives the run of a dead worker to another, as often as `distributed.scheduler.allowed-failures` says.
    """

    def __init__(self, address: str) -> None:
        self._waiting: deque[Job] = deque()
        self._running: dict[Any, Job] = {}
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # each error is said once
        try:
            from distributed import Client

            self._client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except ImportError as error:
            raise ClusterError("--cluster: needs pip install 'labelembed[cluster]'") from error
        except Exception as error:  # each kind of address and network raises its own
            wanted = "must be tcp://HOST:PORT of a dask scheduler that answers; `dask scheduler` starts one"
            raise ClusterError(f"--cluster: {wanted}, got {address!r} ({error})") from error

    def submit(self, job: Job) -> None:
        """Takes a job."""
        self._waiting.append(job)

    def poll(self, seconds: float) -> list[tuple[Job, str]]:
        """Submits a run for each free worker; see `LocalPool.poll`. Raises TrainingError without a scheduler."""
        try:
            threads = self._client.nthreads()
            if any(number != 1 for number in threads.values()):
                raise ClusterError("--cluster: a run needs a process of its own; start workers with --nthreads 1")
            # No more than there are workers: of a death dask blames every run that stands in line there.
            while self._waiting and len(self._running) < len(threads):
                job = self._waiting.popleft()
                self._running[self._client.submit(_make_on_worker, job, sys.argv, pure=False, retries=3)] = job
            until = time.monotonic() + seconds
            while time.monotonic() < until and not any(future.done() for future in self._running):
                time.sleep(0.05)
            done = [future for future in self._running if future.done()]
            return [(job, _error_of(future, job)) for future in done for job in [self._running.pop(future)]]
        except (OSError, TimeoutError, RuntimeError, ValueError, CancelledError) as error:
            raise TrainingError(f"the dask scheduler is lost ({error}); the same command goes on") from error

    def stop(self) -> None:
        """Tells the runs in progress to save where they stand."""
        with contextlib.suppress(Exception):  # what is gone needs no goodbye
            self._client.cancel(list(self._running))
            self._client.close(timeout=2)


def _error_of(future: Any, job: Job) -> str:
    from distributed import KilledWorker

    try:
        error = str(future.result())
    except (KilledWorker, InterruptedTraining):
        return "workers died of it again and again, or were closed"
    if not error and not (job.folder / "result.json").exists():
        return f"{job.folder}: a worker has made it elsewhere; all machines must see this folder under one path"
    return error


def _make_on_worker(job: Job, command: list[str]) -> str:
    """Makes a run in the process of a dask worker, until dask has no use for it any more or the worker closes."""
    import torch
    from distributed import Status, get_worker

    worker: Any = get_worker()
    key = worker.get_current_task()

    def is_unwanted() -> bool:
        task = worker.state.tasks.get(key)
        is_open = worker.status in (Status.running, Status.paused)
        return not (is_open and task is not None and task.state == "executing")

    torch.set_num_threads(1)
    sys.argv = command  # which the run folder keeps
    return attempt(job, is_unwanted)
