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
    """Returns what `work` does, and says how to go on where a signal ends it; the runs have saved where they stand.

    Args:
        work: Makes the runs.
        command: What to give again to go on: the recipe and its folder.
    """
    from labelembed.errors import InterruptedTraining
    from labelembed.training.signals import Stopped

    try:
        return work()
    except Stopped as stopped:
        message = f"stopped; finished runs are kept. To go on, give the same command again ({command})"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None
