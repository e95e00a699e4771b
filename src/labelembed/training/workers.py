"""Many runs in few processes: one thread each, one place that hears of their progress.

The processes are started anew (`spawn`), so that no thread or lock of the parent is copied half-way.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from labelembed.errors import InterruptedTraining, LabelEmbedError
from labelembed.training.interruption import StopRequest
from labelembed.training.loop import Progress


@dataclass(frozen=True)
class Job:
    """One run to make in a worker process.

    Args:
        name: For people, for instance "one_hot seed 3".
        payload: What `run` gets; must pickle.
    """

    name: str
    payload: Any


class Event(NamedTuple):
    """What happened to a job: `progress` while it runs, then `done` with its result, or `failed` with why."""

    job: Job
    kind: str
    progress: Progress | None = None
    result: Any = None
    message: str = ""


Run = Callable[[Any, Callable[[Progress], None], StopRequest], Any]

_worker: dict[str, Any] = {}


def _prepare_worker(run: Run, messages: Any, stop: Any, threads: int, parent: int) -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides, and tells the workers by `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _worker.update(run=run, messages=messages, stop=stop)

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _work(index: int, payload: Any) -> tuple[str, Any, str]:
    def observe(progress: Progress) -> None:
        _worker["messages"].put((index, progress))

    try:
        return "done", _worker["run"](payload, observe, StopRequest(also=_worker["stop"].is_set)), ""
    except InterruptedTraining as stopped:
        return "interrupted", None, str(stopped)
    except LabelEmbedError as error:
        return "failed", None, str(error)
    except Exception as error:  # one run's fault must not take the others with it
        return "failed", None, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"


def run_jobs(jobs: Iterable[Job], run: Run, *, processes: int, threads: int = 1) -> Iterator[Event]:
    """Makes runs in worker processes and yields what happens, as it happens.

    A worker that dies costs the runs in progress alone: they are begun again once in new processes (a run
    goes on from its checkpoint), then given up as failed.

    Args:
        jobs: What to do, in this order.
        run: Called in a worker as ``run(payload, observe, stop)``; a function of a module, for it is pickled.
        processes: How many at once.
        threads: Torch's threads in each.

    Raises:
        InterruptedTraining: After Ctrl-C or SIGTERM, when the runs in progress have saved their state.
    """
    todo = dict(enumerate(jobs))
    deaths = dict.fromkeys(todo, 0)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    messages = context.SimpleQueue()
    heard: queue.SimpleQueue[tuple[int, Progress] | None] = queue.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(messages, heard), daemon=True)
    listener.start()
    try:
        while todo:
            pool = ProcessPoolExecutor(
                min(processes, len(todo)),
                mp_context=context,
                initializer=_prepare_worker,
                initargs=(run, messages, stop, threads, os.getpid()),
            )
            try:
                yield from _drain(pool, todo, deaths, heard)
            except BaseException:  # Ctrl-C above all: the workers save where they stand
                stop.set()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        messages.put(None)
        listener.join(timeout=5)


def _listen(messages: Any, heard: queue.SimpleQueue[tuple[int, Progress] | None]) -> None:
    while (message := messages.get()) is not None:
        heard.put(message)


def _drain(
    pool: ProcessPoolExecutor,
    todo: dict[int, Job],
    deaths: dict[int, int],
    heard: queue.SimpleQueue[tuple[int, Progress] | None],
) -> Iterator[Event]:
    """Yields events until every job is over or a worker has died; takes the jobs that are over from `todo`."""
    futures: dict[Future[tuple[str, Any, str]], int] = {}
    begun: set[int] = set()
    for index, job in todo.items():
        futures[pool.submit(_work, index, job.payload)] = index
    while futures:
        over, _ = wait(futures, timeout=0.1, return_when=FIRST_COMPLETED)
        while not heard.empty():
            message = heard.get()
            if message is not None and message[0] in todo:
                begun.add(message[0])
                yield Event(todo[message[0]], "progress", progress=message[1])
        for future in over:
            index = futures.pop(future)
            try:
                kind, result, text = future.result()
            except BrokenProcessPool:
                yield from _bury(todo, deaths, begun)
                return
            yield Event(todo.pop(index), kind, result=result, message=text)


def _bury(todo: dict[int, Job], deaths: dict[int, int], begun: set[int]) -> Iterator[Event]:
    """Counts a death against every run that was in progress; gives up those it happened to twice."""
    for index in sorted(begun & set(todo)) or sorted(todo)[:1]:
        deaths[index] += 1
        if deaths[index] > 1:
            message = "its process died twice (killed, or out of memory)"
            yield Event(todo.pop(index), "failed", message=message)
