"""What `--dry-run` says: how many runs there are and how long they take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer


def say_estimate(
    runs: Sequence[tuple[Any, int, Any, Any]],
    *,
    ended: int,
    jobs: int | None,
    cluster: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Prints how many runs are to be made, how long they will take, and on how many GPUs.

    Args:
        runs: One (variant, seed, recipe, folder) for each.
        ended: How many of them are not made again.
        jobs: Runs at once; None: one a GPU, else one a core, of a cluster one a worker.
        cluster: The scheduler whose workers make them; None: this machine.
        device: `cpu`, or None for what there is.
        as_json: Print JSON.
    """
    from labelembed.runs.cluster import count_workers
    from labelembed.runs.comparison_plan import half_done
    from labelembed.runs.estimate import seconds_of_run
    from labelembed.runs.machines import default_jobs, visible_gpus
    from labelembed.runs.progress_text import duration

    if not runs:
        typer.echo('{"runs": 0}' if as_json else "nothing to tune (nothing was written)")
        return
    gpus = None if cluster is not None else len(visible_gpus(device))
    at_once = jobs or (max(1, count_workers(cluster)) if cluster is not None else default_jobs(device))
    at_once = min(at_once, max(1, len(runs) - ended))
    by_objective = {json.dumps(run.objective, default=str): run for _, _, run, _ in runs}
    seconds_of = {key: seconds_of_run(run) for key, run in by_objective.items()}
    each = sum(seconds_of[json.dumps(run.objective, default=str)] for _, _, run, _ in runs) / len(runs)
    epochs = runs[0][2].epochs
    half = sum(half_done(runs).values()) / epochs if isinstance(epochs, int) else 0.0
    seconds = each * (len(runs) - ended - half) / at_once
    if as_json:
        told = {"runs": len(runs), "finished": ended, "jobs": at_once, "seconds": round(seconds, 1)}
        typer.echo(json.dumps(told if gpus is None else told | {"gpus": gpus}))
        return
    reused = f", {ended} of them finished already" if ended else ""
    how = f" with {at_once} at once" if at_once > 1 else ""
    if gpus and at_once == 1:
        how = ", one at a time on a GPU"
    elif gpus:
        how += f", {'one' if at_once <= gpus else f'up to {-(-at_once // gpus)}'} on a GPU"
    typer.echo(
        f"{len(runs)} run{'s' if len(runs) != 1 else ''}{reused}; about {duration(seconds)}{how} (nothing was written)"
    )
