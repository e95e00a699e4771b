"""Many runs on one machine: each in a process of its own, as many at once as are asked for.

The standard library's fork server starts the processes. It has imported what a run needs, so that one is there at
once, and it does nothing else, so that no thread or lock is copied half-way. Each process has a pipe of its own to this
one and shares nothing with the others: one that is killed costs its own run alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import InterruptedTraining
from labelembed.lab.runs.fork_server import main_module_hidden, start_fork_server
from labelembed.lab.runs.worker_log import logged, opened_log, with_last_lines
from labelembed.lab.training.environment import peak_memory
from labelembed.lab.training.progress import Progress
from labelembed.lab.training.signals import SIGNALS, held_back, stop_at_once

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_ATTEMPTS = 2  # at a run whose process dies

Run = Callable[[Any, Callable[[Progress], None], Callable[[], bool]], Any]


@dataclass(frozen=True)
class Job:
    """One run to make in another process.

    Args:
        name: For people, for instance "one_hot seed 3".
        payload: What the run gets; must pickle.
        log: Where what its process writes is kept, see `worker_log`; None: nowhere.
    """

    name: str
    payload: Any
    log: Path | None = None


class Event(NamedTuple):
    """What happened to a job: `progress` while it runs, then `done` with its result, or `failed` with why.

    One that was `interrupted` has saved where it stands; it is begun again, or nobody waits for it.
    """

    job: Job
    kind: str
    progress: Progress | None = None
    result: Any = None
    message: str = ""


@dataclass
class _Running:
    """A job that a process makes."""

    job: Job
    attempt: int
    gpu: str | None
    process: BaseProcess
    is_over: bool = False


def run_jobs(
    jobs: Iterable[Job], run: Run, *, processes: int, threads: int = 1, gpus: Sequence[str] = ()
) -> Iterator[Event]:
    """Makes runs in processes of this machine and yields what happens, as it happens.

    A run whose process dies is begun again once (it goes on from its checkpoint), then given up as failed. When the
    caller leaves early, by Ctrl-C above all, the runs in progress are asked to save where they stand, and waited for.

    Args:
        jobs: What to do, in this order.
        run: Called in the process as ``run(payload, observe, stop)``; a function of a module, for it is pickled. `stop`
            is never true here, for a process is asked to stop by SIGTERM.
        processes: How many at once.
        threads: Torch's threads in each.
        gpus: As `CUDA_VISIBLE_DEVICES` names them. Each process sees one of them only, the one that the fewest others
            see; none: all see what this one sees.
    """
    waiting = deque((job, 1) for job in jobs)
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, processes):
                job, attempt = waiting.popleft()
                gpu = least_used(gpus, [one.gpu for one in running.values()])
                start_fork_server()
                with held_back():  # so do the processes begin
                    pipe, process = _started(job, run, threads, gpu)
                    running[pipe] = _Running(job, attempt, gpu, process)
            ready = wait(list(running))
            for pipe, one in [(pipe, one) for pipe, one in running.items() if pipe in ready]:
                try:
                    said = pipe.recv()
                except (EOFError, OSError):  # the process has ended
                    del running[pipe]
                    pipe.close()
                    one.process.join()
                    if not one.is_over and one.attempt < _ATTEMPTS:
                        waiting.appendleft((one.job, one.attempt + 1))
                    elif not one.is_over:
                        why = f"its process died twice ({_end_of(one.process)})"
                        yield Event(one.job, "failed", message=with_last_lines(why, one.job.log))
                    continue
                if isinstance(said, Progress):
                    yield Event(one.job, "progress", progress=said)
                elif said.kind != "interrupted":
                    one.is_over = True
                    yield said
    finally:
        for one in running.values():
            one.process.terminate()
        for pipe, one in running.items():
            with contextlib.suppress(EOFError, OSError):  # read on: a process must not block on a full pipe
                while True:
                    pipe.recv_bytes()
            one.process.join()


def least_used(gpus: Sequence[str], taken: Sequence[str | None]) -> str | None:
    """Returns the GPU that stands least often among those taken, the first of equals; None where there is none."""
    return min(gpus, key=taken.count, default=None)


def _started(job: Job, run: Run, threads: int, gpu: str | None) -> tuple[Connection, BaseProcess]:
    """Starts the process of a run and returns the way to it."""
    context = multiprocessing.get_context("forkserver")
    environment = dict(os.environ) | ({} if gpu is None else {VISIBLE_GPUS: gpu})
    pipe, theirs = context.Pipe()
    # Daemonic: where this process ends without a word it sends SIGTERM, on which a run saves and leaves.
    process = context.Process(target=_make_alone, args=(theirs, job, run, threads, environment), daemon=True)
    with main_module_hidden():
        process.start()
    theirs.close()  # so that the pipe ends when the process does
    return pipe, process


def _end_of(process: BaseProcess) -> str:
    """Returns how a process has ended."""
    code = process.exitcode or 0
    if code >= 0:
        return f"it ended with exit code {code} and no word"
    if code == -signal.SIGKILL:
        return "killed by SIGKILL: by a person, or by the system when memory ran out"
    return f"by {signal.Signals(-code).name}"


def _make_alone(pipe: Connection, job: Job, run: Run, threads: int, environment: dict[str, str]) -> None:
    """Makes one run in this process, which was started for it."""
    # Ctrl-C and a closed terminal reach every process of the terminal; the one that started this one sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()  # the fork server's own is as old as it is
    os.environ.update(environment)
    torch.set_num_threads(threads)

    def tell(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:  # the other process is gone, and nobody waits for this run
            signal.raise_signal(signal.SIGTERM)

    if job.log is not None:
        with opened_log(job.log) as log:
            for stream in (1, 2):  # what libraries write goes there too
                os.dup2(log.fileno(), stream)
    with stop_at_once():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        event = make(run, job, tell, lambda: False)
    with contextlib.suppress(OSError):
        pipe.send(event)


def make(run: Run, job: Job, tell: Callable[[Progress], None], stop: Callable[[], bool]) -> Event:
    """Makes one run in this process and returns how it ended.

    Its log has a line an epoch, where an unforeseen error was raised, and where a crash was.

    Args:
        run: See `run_jobs`.
        job: The run.
        tell: Called with where it stands.
        stop: Asked after every step whether to save and stop.
    """
    with logged(job.log, job.name) as note:

        def observe(progress: Progress) -> None:
            if progress.line is not None:
                loss = progress.line["train"].get("total", float("nan"))
                memory = peak_memory(torch.device("cpu"))
                needed = f", {int(memory['bytes']) >> 20:,} MiB of memory" if memory else ""
                note(f"epoch {progress.epoch} of {progress.epochs}: loss {loss:.6g}{needed}")
            tell(progress)

        try:
            return Event(job, "done", result=run(job.payload, observe, stop))
        except InterruptedTraining as stopped:
            return Event(job, "interrupted", message=str(stopped))
        except LabelEmbedError as error:
            return Event(job, "failed", message=str(error))
        except Exception as error:  # one run's error must not take the others with it
            note(traceback.format_exc())
            return Event(job, "failed", message=with_last_lines(f"{type(error).__name__}: {error}", job.log))
