"""Many runs on many machines, the worker's side: what happens inside a process of a dask cluster."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from labelembed import __version__
from labelembed.training.interruption import StopRequest
from labelembed.training.jobs import Job, Run, make
from labelembed.training.progress import Progress

TOPIC = "labelembed"  # of dask's events; one for all comparisons, for a scheduler keeps every topic for ever
PROBE = ".cluster-probe"
_LOOK_SECONDS = 5.0  # a network file system may show a new file a little later
_TELL_SECONDS = 0.5
_WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Ticket:
    """What a worker must know of a client and agree with.

    Args:
        session: Names this use of the cluster.
        folder: The folder that all must see; the client has put a probe into it.
        files: What else must be there.
        versions: Of the packages, as the client has them.
        command: The client's words, which a run folder keeps.
        process: The client's, as `this_process` says it; what that one writes is no worker's.
    """

    session: str
    folder: str
    files: tuple[str, ...]
    versions: dict[str, str]
    command: tuple[str, ...]
    process: str = ""


def this_process() -> str:
    """Returns what tells this process from those of all machines."""
    return f"{socket.gethostname()} {os.getpid()}"


def versions() -> dict[str, str]:
    """Returns what must be the same everywhere for runs to be comparable.

    What stands behind a plus (``2.6.0+cpu``) is the build, and may differ.
    """
    try:
        ours = importlib.metadata.version("labelembed")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        ours = __version__
    python = ".".join(platform.python_version_tuple()[:2])
    return {"labelembed": ours, "torch": torch.__version__.split("+")[0], "python": python}


async def look_around(ticket: Ticket, dask_worker: Any) -> dict[str, Any]:
    """Returns what a client asks of a worker before it hands over runs, as JSON values.

    Args:
        ticket: The client's.
        dask_worker: Given by dask, where this is called through `Client.run`.
    """
    probe = Path(ticket.folder) / PROBE
    until = time.monotonic() + _LOOK_SECONDS
    while not (seen := _holds(probe, ticket.session)) and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return {
        "host": socket.gethostname(),
        "threads": int(dask_worker.state.nthreads),
        "versions": versions(),
        "sees": seen,
        "writes": os.access(ticket.folder, os.W_OK),
        "missing": [path for path in ticket.files if not Path(path).exists()],
    }


def _holds(probe: Path, session: str) -> bool:
    with suppress(OSError):
        os.listdir(probe.parent)  # has a network file system ask its server
        return probe.read_text(encoding="utf-8") == session
    return False


def fault_of(found: dict[str, Any], ticket: Ticket, *, address: str, scheduler: str) -> str:
    """Returns why a worker cannot be used, and what to do; empty when it can.

    Args:
        found: What `look_around` saw there.
        ticket: The client's.
        address: Of the worker.
        scheduler: Its address, for the commands that are told.
    """
    who = f"worker {address} on {found['host']}"
    if (threads := found["threads"]) != 1:
        return (
            f"{who} has {threads} threads; a run changes the state of its whole process, so each needs one of its own: "
            f"start workers with `dask worker {scheduler} --nworkers {max(threads, 1)} --nthreads 1`"
        )
    differing = [
        f"{name} {found['versions'].get(name)} there and {version} here"
        for name, version in ticket.versions.items()
        if found["versions"].get(name) != version
    ]
    if differing:
        return f"{who} has other versions: {', '.join(differing)}; install the same ones on all machines"
    if not found["sees"]:
        shared = "runs need a folder on a file system that all machines see under one path"
        return f"{who} does not see the folder {ticket.folder}; {shared}: name one with --out"
    if not found["writes"]:
        return f"{who} cannot write in the folder {ticket.folder}"
    if found["missing"]:
        return f"{who} does not see {found['missing'][0]}; put it on a file system that all machines see under one path"
    return ""


def make_run(
    run: Run,
    payload: Any,
    ticket: Ticket,
    *,
    name: str,
    log: str | None,
    number: int,
    scheduler: str,
    threads: int,
) -> tuple[str, Any, str]:
    """Makes one run in the process of a dask worker; what the client submits.

    It stops, having saved where it stands, when the client asks for it, when the client is gone (then the scheduler
    has no use for the task any more), and when the worker itself closes. What the process writes meanwhile, dask's own
    messages among it, is kept in the run's log, see `worker_log`.

    Returns:
        (`done`, result, ""), (`failed`, None, why), (`interrupted`, None, ""), or (`unfit`, address, why) from a worker
        that joined later and cannot be used.
    """
    from distributed import Event as Flag
    from distributed import get_client, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    flag = Flag(flag_name(ticket), client=get_client())
    if flag.is_set():
        return "interrupted", None, ""
    found = asyncio.run(look_around(ticket, worker))
    if fault := fault_of(found, ticket, address=worker.address, scheduler=scheduler):
        return "unfit", worker.address, fault

    def tell(kind: str, content: Any) -> None:
        about = {"session": ticket.session, "number": number, "kind": kind, "worker": worker.address}
        worker.log_event(TOPIC, about | {"content": json.dumps(content)})

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status.name == "running" and task is not None and task.state == "executing"

    tell("begun", None)
    path = None if log is None or ticket.process == this_process() else Path(log)
    with (
        _watched(flag) as asked,
        _in_place_of_a_command(ticket.command, threads),
    ):
        stop = StopRequest(also=lambda: asked.is_set() or not wanted())
        kind, content = make(run, Job(name, payload, path), _sparing(tell), stop)
        return (kind, content, "") if kind == "done" else (kind, None, content)


def flag_name(ticket: Ticket) -> str:
    """Returns the name of dask's event by which a client asks its runs to stop."""
    return f"labelembed-stop-{ticket.session}"


def _sparing(tell: Callable[[str, Any], None]) -> Callable[[Progress], None]:
    """Passes on the ends of epochs, and now and then what lies between, for all goes through one scheduler.

    Args:
        tell: Tells the client.
        to_log: Whether the run has a log, for the ends of epochs.
    """
    told = 0.0

    def observe(progress: Progress) -> None:
        nonlocal told
        if progress.line is not None or time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            tell("progress", progress)

    return observe


@contextmanager
def _watched(flag: Any) -> Iterator[threading.Event]:
    """Gives an event of this process that is set soon after dask's is; training does not wait for the network."""
    asked, over = threading.Event(), threading.Event()

    def watch() -> None:
        with suppress(Exception):  # the scheduler is gone: the worker closes, which a run notices by itself
            while not over.is_set():
                if flag.wait(timeout=f"{_WATCH_SECONDS}s"):
                    asked.set()
                    return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield asked
    finally:
        over.set()


@contextmanager
def _in_place_of_a_command(command: tuple[str, ...], threads: int) -> Iterator[None]:
    """Lets the process have torch's threads and the words of the client, for the time of a run."""
    before, words = torch.get_num_threads(), sys.argv
    torch.set_num_threads(threads)
    sys.argv = list(command)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        sys.argv = words
