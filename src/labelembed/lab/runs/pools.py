"""Where runs are made: processes of this machine, or the workers of a dask scheduler.

Both take jobs and say how each one ended. A run's progress is in its history, its result in its folder, and what its
process had to say in its ``worker.log``. Nothing here imports torch at once, so that the server of which processes are
forked can import it while the command does.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import ClusterError, InterruptedTraining
from labelembed.lab.training.device import SIGNALS, block_signals, stop_at_once

if TYPE_CHECKING:
    from labelembed.lab.recipes.schema import Recipe

LOG_FILE = "worker.log"
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
#: What the server of which processes are forked imports.
PRELOADED = ["labelembed.lab.runs.preloaded"]
_ATTEMPTS = 2  # at a run whose process dies
_LOCK_SECONDS = 20.0  # a process that was lost may still be saving when its run is handed on


@dataclass(frozen=True)
class Job:
    """One run to make in another process.

    Args:
        name: For people, for instance "one_hot seed 3".
        recipe: As plain values, with whole paths.
        folder: Of the run, as a whole path.
        source: What the recipe is called in messages.
        device: `cpu`, or None for the GPU that the process sees.
        track: Trackers that the epochs are logged to.
    """

    name: str
    recipe: dict[str, Any]
    folder: Path
    source: str
    device: str | None = None
    track: Sequence[str] = ()


class Ended(NamedTuple):
    """How a job ended: finished where `error` is empty, otherwise failed, and why."""

    job: Job
    error: str = ""


class Pool(Protocol):
    """What makes runs."""

    def submit(self, job: Job) -> None:
        """Takes a job; the pool begins with the first."""

    def poll(self, seconds: float) -> list[Ended]:
        """Starts what there is room for and returns what has ended, after so many seconds at the latest."""

    def stop(self) -> None:
        """Lets the runs in progress save where they stand, and waits for them."""


def job_for(
    name: str, recipe: Recipe, folder: Path, *, source: str, device: str | None, track: Sequence[str] = ()
) -> Job:
    """Returns the job of a run of a comparison or a tuning."""
    from labelembed.lab.recipes.loading import with_whole_paths

    values = with_whole_paths(recipe).of_one_run()
    return Job(name, values, folder.absolute(), source, "cpu" if device == "cpu" else None, tuple(track))


# ---- the machine


def check_machines(*, jobs: int | None, cluster: str | None, device: str | None) -> None:
    """Raises LabelEmbedError where there is no such device, or both processes and a cluster are asked for."""
    import torch

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    if device not in (None, "auto", "cpu"):
        gpus = range(len(visible_gpus(None)))
        here = [*(["cuda"] if gpus else []), *(f"cuda:{number}" for number in gpus if cluster is None)]
        here += ["mps"] if torch.backends.mps.is_available() else []
        if device not in here:
            raise LabelEmbedError(f"device: must be {', '.join(['auto', 'cpu', *here])}, got {device!r}")


def visible_gpus(device: str | None) -> list[str]:
    """Returns the GPUs that runs may use, as `CUDA_VISIBLE_DEVICES` names them: of `cpu` none, of `cuda:1` that one."""
    import torch

    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get(VISIBLE_GPUS, "").split(",") if name.strip()]
    gpus = named[:count] or [str(number) for number in range(count)]
    number = (device or "").partition(":")[2]
    return [gpus[int(number)]] if number else gpus


def default_jobs(device: str | None) -> int:
    """Returns how many runs are made at once where nothing else is said: one a GPU, without a GPU one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return len(visible_gpus(device)) or cores


# ---- a run in another process, whichever it is


def run_job(job: Job, stop: Callable[[], bool] = lambda: False) -> None:
    """Makes the run of a job in this process."""
    from labelembed.lab.recipes.schema import parse_recipe
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.runs.run import run_recipe
    from labelembed.lab.training.reporter import Progress, Reporter

    class JobReporter(Reporter):
        def progress(self, progress: Progress) -> None:
            if progress.line is not None:
                loss = progress.line["train"].get("total", float("nan"))
                write_log(job.folder, f"epoch {progress.epoch} of {progress.epochs}: loss {loss:.6g}")

        def warn(self, text: str) -> None:
            write_log(job.folder, text)

        def wants_stop(self) -> bool:
            return stop()

    options = RunOptions(device=job.device, track=job.track, lock_seconds=_LOCK_SECONDS)
    run_recipe(parse_recipe(job.recipe, source=job.source), job.folder, options=options, reporter=JobReporter())


def attempt(job: Job, stop: Callable[[], bool] = lambda: False) -> str:
    """Makes the run of a job in this process; returns why it failed, or nothing.

    Raises:
        InterruptedTraining: When it was asked to stop; it has saved where it stands.
    """
    write_log(job.folder, f"{job.name}{_BEGUN}{os.getpid()} on {platform.node()}")
    try:
        run_job(job, stop)
        return ""
    except InterruptedTraining:
        raise
    except LabelEmbedError as error:
        return str(error)
    except Exception as error:  # one run's error must not take the others with it
        write_log(job.folder, traceback.format_exc())
        return with_last_lines(f"{type(error).__name__}: {error}", job.folder)


# ---- the log of a run: the last lines of a process that was killed

_TAIL_BYTES, _LINES, _LINE_LETTERS = 32_000, 3, 100
_BEGUN = ": started in process "
_FAULT = "Fatal Python error: "  # so begins what `faulthandler` writes


def write_log(folder: Path, text: str) -> None:
    """Adds a line with the time to the log of a run; a log that is a link, or cannot be written, stays as it is."""
    if not (folder / LOG_FILE).is_symlink():
        with contextlib.suppress(OSError):  # the run itself says what is wrong with its folder
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / LOG_FILE).open("a", encoding="utf-8", errors="replace") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _log_lines(folder: Path) -> list[str]:
    """Returns the lines of the last attempt at a run, as they can be printed."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = ["".join(letter if letter.isprintable() else " " for letter in line).strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.endswith("(most recent call first):")]
    return lines[max((number for number, line in enumerate(lines) if _BEGUN in line), default=0) :]


def with_last_lines(message: str, folder: Path) -> str:
    """Returns why a run failed with the last lines of its log, of a crash the first that tell of it, in one line."""
    lines = [line[:_LINE_LETTERS] for line in _log_lines(folder)]
    fault = next((number for number, line in enumerate(lines) if line.startswith(_FAULT)), None)
    shown = lines[-_LINES:] if fault is None else lines[fault:][:_LINES]
    first = (message.splitlines() or ["no reason"])[0]
    return f"{first}; the last lines of its {LOG_FILE}: {' | '.join(shown)}" if shown else first


# ---- processes of this machine
# The standard library's fork server starts them. It has imported what a run needs, so that one is there at once, and it
# does nothing else, so that no thread or lock is copied half-way. A process that is killed costs its own run alone.


def start_fork_server() -> None:
    """Starts the fork server if there is none yet; its imports go on while this process does something else."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # first, because starting it would let signals come again
    with block_signals(), _main_module_hidden():
        forkserver.ensure_running()


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Hides the main module, which a new process would import: a script may call `labelembed.compare` at its top."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@dataclass
class _Running:
    job: Job
    attempt: int
    gpu: str | None
    message: Path
    process: BaseProcess


class LocalPool:
    """Processes of this machine, one a run, each of one thread.

    A run whose process dies is begun again once (it goes on from its checkpoint), then given up as failed.

    Args:
        processes: How many at once.
        gpus: As `CUDA_VISIBLE_DEVICES` names them; each process sees one only, the one that the fewest others see.
    """

    def __init__(self, processes: int, *, gpus: Sequence[str] = ()) -> None:
        self._most, self._gpus = max(1, processes), gpus
        self._waiting: deque[tuple[Job, int]] = deque()
        self._running: dict[int, _Running] = {}
        self._messages = tempfile.TemporaryDirectory(prefix="labelembed-")  # why runs failed

    def submit(self, job: Job) -> None:
        """Takes a job."""
        self._waiting.append((job, 1))

    def poll(self, seconds: float) -> list[Ended]:
        """See `Pool.poll`."""
        while self._waiting and len(self._running) < self._most:
            self._start(*self._waiting.popleft())
        ended: list[Ended] = []
        ready = connection.wait(list(self._running), timeout=seconds) if self._running else []
        for sentinel in [one for one in self._running if one in ready]:
            one = self._running.pop(sentinel)
            one.process.join()
            code = one.process.exitcode
            if code == 0:
                ended.append(Ended(one.job))
            elif one.message.exists():
                ended.append(Ended(one.job, one.message.read_text(encoding="utf-8")))
            elif one.attempt < _ATTEMPTS:
                self._waiting.appendleft((one.job, one.attempt + 1))
            else:
                why = f"its process died twice ({_end_of(code)})"
                ended.append(Ended(one.job, with_last_lines(why, one.job.folder)))
        return ended

    def stop(self) -> None:
        """See `Pool.stop`."""
        for one in self._running.values():
            one.process.terminate()
        for one in self._running.values():
            one.process.join()
        self._running.clear()
        self._messages.cleanup()

    def _start(self, job: Job, number: int) -> None:
        taken = [one.gpu for one in self._running.values()]
        gpu = min(self._gpus, key=taken.count, default=None)
        environment = dict(os.environ) | ({} if gpu is None else {VISIBLE_GPUS: gpu})
        start_fork_server()
        context = multiprocessing.get_context("forkserver")
        message = Path(self._messages.name) / f"{uuid.uuid4().hex}.txt"
        # Daemonic: where this process ends without a word it sends SIGTERM, on which a run saves and leaves.
        process = context.Process(target=_make_alone, args=(job, message, environment), daemon=True)
        with block_signals(), _main_module_hidden():  # so do the processes begin
            process.start()
            self._running[process.sentinel] = _Running(job, number, gpu, message, process)


def _end_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"it ended with exit code {code} and no word"
    if code == -signal.SIGKILL:
        return "killed by SIGKILL: by a person, or by the system when memory ran out"
    return f"by {signal.Signals(-code).name}"


def _make_alone(job: Job, message: Path, environment: dict[str, str]) -> None:
    """Makes one run in this process, which was started for it."""
    # Ctrl-C and a closed terminal reach every process of the terminal; the one that started this one sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()  # the fork server's own is as old as it is
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    log = job.folder / LOG_FILE
    if not log.is_symlink():
        with contextlib.suppress(OSError):  # the run itself says what is wrong with its folder
            job.folder.mkdir(parents=True, exist_ok=True)
            with log.open("ab", buffering=0) as opened:
                for stream in (1, 2):  # what libraries write goes there too
                    os.dup2(opened.fileno(), stream)
            faulthandler.enable(2, all_threads=False)
    with stop_at_once():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        failure = attempt(job, _parent_is_gone())
    if failure:
        message.write_text(failure, encoding="utf-8")
        sys.exit(1)


def _parent_is_gone() -> Callable[[], bool]:
    """Returns what tells, once a second, whether the process that waits for this one was killed."""
    parent, looked = multiprocessing.parent_process(), time.monotonic()

    def is_gone() -> bool:
        nonlocal looked
        if parent is None or time.monotonic() - looked < 1:
            return False
        looked = time.monotonic()
        return not parent.is_alive()

    return is_gone
