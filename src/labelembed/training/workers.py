"""Many runs in few processes: one thread each, one place that hears of their progress.

The processes are started anew (`spawn`), so that no thread or lock of the parent is copied half-way. Each has
a pipe of its own and shares nothing with the others: a process that is killed leaves no lock held, no torn
message in anybody's way, and no doubt about which run it was making.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from labelembed.errors import InterruptedTraining, LabelEmbedError
from labelembed.training.interruption import StopRequest
from labelembed.training.leaving import SIGNALS, held_back, leave_now
from labelembed.training.progress import Progress
from labelembed.training.worker_log import note_progress, output_kept


@dataclass(frozen=True)
class Job:
    """One run to make in a worker process.

    Args:
        name: For people, for instance "one_hot seed 3".
        payload: What `run` gets; must pickle.
        log: Where what its process writes is kept, see `worker_log`; None: nowhere.
    """

    name: str
    payload: Any
    log: Path | None = None


class Event(NamedTuple):
    """What happened to a job: `progress` while it runs, then `done` with its result, or `failed` with why."""

    job: Job
    kind: str
    progress: Progress | None = None
    result: Any = None
    message: str = ""


Run = Callable[[Any, Callable[[Progress], None], StopRequest], Any]

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_LEAVE = "leave"  # to a worker: save where the run stands, then end


def run_jobs(
    jobs: Iterable[Job], run: Run, *, processes: int, threads: int = 1, gpus: Sequence[str] = ()
) -> Iterator[Event]:
    """Makes runs in worker processes and yields what happens, as it happens.

    A worker that dies costs its own run alone: it is begun again once in a new process (a run goes on from
    its checkpoint), then given up as failed. When the caller leaves early, by Ctrl-C above all, the runs in
    progress are asked to save where they stand, and waited for.

    Args:
        jobs: What to do, in this order.
        run: Called in a worker as ``run(payload, observe, stop)``; a function of a module, for it is pickled.
        processes: How many at once.
        threads: Torch's threads in each.
        gpus: As `CUDA_VISIBLE_DEVICES` names them. Each process sees one of them only, the one that the fewest others
            see; none: all see what this one sees.
    """
    todo = dict(enumerate(jobs))
    waiting = deque(todo)
    deaths = dict.fromkeys(todo, 0)
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        while todo:
            idle = [worker for worker in workers if worker.index is None]
            while waiting and (idle or len(workers) < max(1, processes)):
                if not idle:
                    gpu = least_used(gpus, [worker.gpu for worker in workers])
                    workers.append(_Worker(context, run, threads, gpu))
                    idle.append(workers[-1])
                first = waiting.popleft()
                idle.pop().begin(first, todo[first])
            ready = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                kind, content, text = worker.hear()
                index = worker.index if kind == "progress" else worker.forget()
                if kind in ("died", "interrupted"):  # by a signal of its own: it leaves
                    workers.remove(worker)
                    worker.wait_for_end()
                if index is None:
                    continue
                if kind == "progress":
                    yield Event(todo[index], "progress", progress=content)
                elif kind in ("died", "interrupted"):
                    deaths[index] += 1
                    if deaths[index] > 1:
                        message = f"its process died twice ({worker.end_told()})"
                        yield Event(todo.pop(index), "failed", message=message)
                    else:
                        waiting.appendleft(index)
                else:
                    yield Event(todo.pop(index), kind, result=content, message=text)
    finally:
        for worker in workers:
            worker.ask_to_leave()
        for worker in workers:
            worker.wait_for_end()


def least_used(gpus: Sequence[str], taken: Sequence[str | None]) -> str | None:
    """Returns the GPU that stands least often among those taken, the first of equals; None where there is none."""
    return min(gpus, key=taken.count, default=None)


class _Worker:
    """The parent's side of one process: which run it makes, and the way to it."""

    def __init__(self, context: SpawnContext, run: Run, threads: int, gpu: str | None = None) -> None:
        self.index: int | None = None
        self.gpu = gpu
        self.pipe, theirs = context.Pipe()
        # Daemonic: should the parent end without a word, it sends SIGTERM, on which a worker saves and leaves.
        self._process = context.Process(target=_serve, args=(theirs, run, threads, gpu), daemon=True)
        resource_tracker.ensure_running()  # multiprocessing would start it below, and let the signals pass again
        with held_back():  # until the process has its own answer to them, see `_serve`
            self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def begin(self, index: int, job: Job) -> None:
        """Gives the process, which is idle, a run to make."""
        self.index = index
        with contextlib.suppress(OSError):  # dead already: `hear` will say so
            self.pipe.send(job)

    def hear(self) -> tuple[str, Any, str]:
        """Returns the next message as (kind, content, text); `died` when there will be none."""
        try:
            message: tuple[str, Any, str] = self.pipe.recv()
        except (EOFError, OSError):
            return "died", None, ""
        return message

    def forget(self) -> int | None:
        """Returns the run that is over, and makes the process idle."""
        index, self.index = self.index, None
        return index

    def end_told(self) -> str:
        """Returns how the process, which has ended, did."""
        code = self._process.exitcode or 0
        if code >= 0:
            return f"it ended with exit code {code} and no word"
        names = {signal.SIGKILL: "killed by SIGKILL: by somebody, or by the system for want of memory"}
        return names.get(signal.Signals(-code), f"by {signal.Signals(-code).name}")

    def ask_to_leave(self) -> None:
        """Asks for the state to be saved, and the process to end."""
        with contextlib.suppress(OSError):
            self.pipe.send(_LEAVE)

    def wait_for_end(self) -> None:
        """Waits for the process; what it still has to say is passed over, for it must not block on a full pipe."""
        with contextlib.suppress(OSError):
            while os.read(self.pipe.fileno(), 65_536):
                pass
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, run: Run, threads: int, gpu: str | None = None) -> None:
    """Makes the runs that come through the pipe, until told to leave."""
    if gpu is not None:  # torch looks there once, at the first call that needs a GPU: none has come yet
        os.environ[VISIBLE_GPUS] = gpu
    torch.set_num_threads(threads)
    stop = threading.Event()
    request = StopRequest(also=stop.is_set)
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    with contextlib.suppress(AttributeError, OSError, ValueError):  # where there is no standard error
        faulthandler.enable()  # a fault of memory leaves where it was in the log

    def leave(*_: object) -> None:
        stop.set()
        jobs.put(None)
        if request.at_once:  # no step to wait for, and what is on the disk is enough to go on
            leave_now(0)

    # Ctrl-C and a closed terminal reach every process of the terminal; the parent decides, and tells the workers.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except Exception:  # the parent is gone, and nobody waits for the run
                leave_now(1)
            if message == _LEAVE:
                leave()
            else:
                jobs.put(message)

    threading.Thread(target=listen, daemon=True).start()

    def tell(progress: Progress, *, to_log: bool) -> None:
        pipe.send(("progress", progress, ""))
        if to_log:
            note_progress(progress)

    while (job := jobs.get()) is not None and not stop.is_set():
        with output_kept(job.log, job.name) as kept:
            outcome = outcome_of(run, job.payload, partial(tell, to_log=kept), request)
        pipe.send(outcome)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is saved, and taking torch down in order would keep the user waiting for a second


def outcome_of(run: Run, payload: Any, observe: Callable[[Progress], None], stop: StopRequest) -> tuple[str, Any, str]:
    """Makes one run and returns how it ended: (`done`, result, ""), or `interrupted` or `failed` with a message.

    Args:
        run: See `run_jobs`.
        payload: What it gets.
        observe: Called with where the run stands.
        stop: Whether it should save where it stands and stop.
    """
    try:
        return "done", run(payload, observe, stop), ""
    except InterruptedTraining as stopped:
        return "interrupted", None, str(stopped)
    except LabelEmbedError as error:
        return "failed", None, str(error)
    except Exception as error:  # one run's fault must not take the others with it
        traceback.print_exc()
        return "failed", None, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"
