"""Where runs are made: in processes of this machine, or on the workers of a dask scheduler."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import ClusterError, InterruptedTraining
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.references import whole_paths
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.cluster import Cluster, open_cluster
from labelembed.lab.runs.display import reading_progress
from labelembed.lab.runs.jobs import VISIBLE_GPUS, Event, Job, Run, run_jobs
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.signals import Stopped


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What is to make the runs of a comparison or a tuning.

    Args:
        jobs: Runs at once, one thread each; None: one a GPU, else one a core.
        cluster: The dask scheduler whose workers make the runs, ``tcp://host:port``; None: this machine.
        device: `cpu`, `cuda`, `cuda:NUMBER`, `mps`; None or `auto` for what there is.

    Raises:
        ClusterError: Both a number of processes and a cluster are asked for.
        LabelEmbedError: There is no such device.
    """

    jobs: int | None = None
    cluster: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.cluster is not None and self.jobs is not None:
            raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
        if self.device not in (None, "auto", "cpu"):
            gpus = range(len(visible_gpus(None)))
            here = [*(["cuda"] if gpus else []), *(f"cuda:{number}" for number in gpus if self.cluster is None)]
            here += ["mps"] if torch.backends.mps.is_available() else []
            if self.device not in here:
                raise LabelEmbedError(f"device: must be {', '.join(['auto', 'cpu', *here])}, got {self.device!r}")

    def runs_at_once(self) -> int:
        """Returns how many runs this machine makes at once."""
        return self.jobs or default_jobs(self.device)


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def visible_gpus(device: str | None) -> list[str]:
    """Returns the GPUs that runs may use, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        device: `cpu`: none; `cuda:NUMBER`: that one; otherwise all that this process sees.
    """
    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get(VISIBLE_GPUS, "").split(",") if name.strip()]
    gpus = named[:count] or [str(number) for number in range(count)]
    number = (device or "").partition(":")[2]
    return [gpus[int(number)]] if number else gpus


def default_jobs(device: str | None) -> int:
    """Returns how many runs are made at once where nothing else is said: one a GPU, without a GPU one a core.

    Args:
        device: See `visible_gpus`.
    """
    return len(visible_gpus(device)) or available_cores()


def cluster_at(address: str | None, out: Path, recipes: Sequence[Recipe]) -> AbstractContextManager[Cluster | None]:
    """Gives the cluster that is to make runs below a folder; None: this machine.

    Args:
        address: Of the scheduler, None for this machine.
        out: Where the runs will be written.
        recipes: Of the runs; the workers must see the files that they name.
    """
    if address is None:
        return nullcontext()
    found: dict[str, None] = {}
    for recipe in recipes:
        run = with_whole_paths(recipe)
        named = [run.data.get("path"), run.model.get("weights"), *whole_paths(run, None).values()]
        found |= dict.fromkeys(str(value).removeprefix("text:") for value in named if value is not None)
    return open_cluster(address, folder=out, files=list(found), warn=say)


def events_of(
    todo: Sequence[Job], run: Run, *, jobs: int, cluster: Cluster | None, device: str | None
) -> AbstractContextManager[Iterator[Event]]:
    """Makes runs and gives what happens to them, as it happens.

    To leave the block, for whatever reason, tells the workers to stop, and waits for them.

    Args:
        todo: The runs.
        run: Makes one of them, see `jobs.run_jobs`.
        jobs: Worker processes of this machine, of one thread and, where there are GPUs, one GPU each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
    """
    events = (
        run_jobs(todo, run, processes=jobs, gpus=visible_gpus(device))
        if cluster is None
        else cluster.run_jobs(todo, run)
    )
    return contextlib.closing(cast("Generator[Event]", events))


def read_with_progress(recipe: Recipe, *, quiet: bool) -> TrainingData:
    """Reads the data of a recipe with progress shown, and says what is to be known of them."""
    with reading_progress(recipe.data["name"], quiet=quiet) as reading:
        data = build_data(recipe, progress=reading)
    for note in data.notes:
        say(f"data: {note}")
    return data


@contextlib.contextmanager
def until_stopped(command: str) -> Iterator[None]:
    """Says how to go on where a signal ends the block; the runs have saved where they stand.

    Args:
        command: What to give again: the recipe and its folder.
    """
    try:
        yield
    except Stopped as stopped:
        message = f"stopped; finished runs are kept. To go on, give the same command again ({command})"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None


def say(text: str) -> None:
    """Prints a line to standard error."""
    print(text, file=sys.stderr, flush=True)
