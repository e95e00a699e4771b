"""Many runs under one verb: where they are made, and what stops them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import typer

Made = TypeVar("Made")


def cluster_to(address: str | None, out: Path, files: Sequence[str]) -> AbstractContextManager[Any]:
    """Gives the cluster that is to make runs below a folder; None: this machine.

    Args:
        address: Of the scheduler, None for this machine.
        out: Where the runs will be written.
        files: What else the workers must see.
    """
    from labelembed.training.cluster import open_cluster

    if address is None:
        return nullcontext()
    return open_cluster(address, folder=out, files=files, warn=lambda text: typer.echo(text, err=True))


def until_stopped(work: Callable[[], Made], command: str) -> Made:
    """Returns what `work` does; at the first Ctrl-C or SIGTERM the runs save where they stand, a second one leaves.

    Args:
        work: Makes the runs.
        command: What to give again to go on: the recipe and its folder.
    """
    import os
    import signal

    from labelembed.errors import InterruptedTraining

    asked: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if number in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            # Held back here, while a worker starts, but another thread took it: let it wait for this one.
            signal.raise_signal(number)
            return
        if asked:
            os._exit(128 + number)
        asked.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return work()
    except KeyboardInterrupt:
        message = f"stopped; finished runs are kept. To go on, give the same command again ({command})"
        raise InterruptedTraining(message, signal_number=asked[0] if asked else signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
