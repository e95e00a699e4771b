"""Comparisons: variants of the objective times seeds, one run folder each, finished ones reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.cluster import Cluster
from labelembed.lab.runs.comparison_plan import ComparisonPlan, half_done, run_name
from labelembed.lab.runs.display import ComparisonDisplay
from labelembed.lab.runs.fork_server import start_fork_server
from labelembed.lab.runs.jobs import Event
from labelembed.lab.runs.machines import Machines, cluster_at, events_of, read_with_progress, say
from labelembed.lab.runs.run import have_same_data, job_for, refuse_other_data, run_job
from labelembed.lab.runs.training_network import network_for
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.comparison_folder import DESCRIPTION_FILE, FORMAT_VERSION, merged, remove_comparison
from labelembed.lab.training.files import make_writable_folder, saving, write_json
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.tracking import track_ended

_DESCRIPTION_BYTES = 10_000


def try_networks(plan: ComparisonPlan, data: TrainingData) -> None:
    """Builds the network of every variant once and forgets it, so that what does not fit shows before any run.

    Raises:
        RecipeError: When a variant does not fit the data.
        DataError: When a saved geometry cannot be read.
    """
    first_runs = {variant.name: run for variant, _, run, _ in reversed(plan.runs)}
    for run in first_runs.values():
        network_for(run, data, to_try=True)


def make_runs(
    plan: ComparisonPlan,
    recipe: Recipe,
    out: Path,
    *,
    machines: Machines,
    track: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> tuple[dict[str, str], bool]:
    """Makes the runs of a comparison that are not finished, with progress shown; the caller has the folder's lock.

    Args:
        plan: What `plan_comparison` returned.
        recipe: That it was made of.
        out: The comparison folder.
        machines: What makes the runs.
        track: Trackers of `training.tracking` that the runs are logged to.
        overwrite: Remove the comparison that is in the folder, once the new one can begin.
        quiet: Show no progress.

    Returns:
        Why runs failed, by their name, and whether any run was made.
    """
    to_make = len(plan.runs) if overwrite else len(plan.runs) - len(plan.finished())
    folders = [] if overwrite else map(RunFolder, sorted(out.glob("runs/*/seed-*")))
    present = [folder for folder in folders if folder.state() != "empty"]
    if to_make and machines.cluster is None:
        start_fork_server()  # it imports while this process reads the data
    if to_make or not have_same_data(recipe, present):
        # An error is said once, here, before anything is written; the processes of the runs read the data themselves.
        data = read_with_progress(recipe, quiet=quiet)
        for folder in present:
            refuse_other_data(folder, data)
        if to_make:
            try_networks(plan, data)
    if overwrite:
        remove_comparison(out)
    reused = len(plan.runs) - to_make
    if not quiet:
        if reused:
            say(f"{reused} of {len(plan.runs)} runs reused")
        if plan.kept:
            say(f"in the table too, from before: {', '.join(plan.kept)}")
    display = ComparisonDisplay(
        total=len(plan.runs), reused=reused, epochs=recipe.epochs, half_done=half_done(plan.runs), quiet=quiet
    )
    # Where nothing is left to do, no cluster is opened and no progress is shown.
    recipes = [run for *_, run, _ in plan.runs]
    with (
        cluster_at(machines.cluster if to_make else None, out, recipes) as cluster,
        display.watching() if to_make else nullcontext(),
    ):
        failed = run_comparison(
            plan,
            out,
            jobs=min(machines.runs_at_once(), max(1, to_make)),
            cluster=cluster,
            device=machines.device,
            track=track,
            observe=display,
        )
    try:
        for done in plan.finished():
            track_ended(done, track, device=machines.device)  # of runs that were made without it
    except LabelEmbedError as error:  # the report is worth more
        say(f"warning: {error}")
    return failed, to_make > 0


def run_comparison(
    plan: ComparisonPlan,
    out: Path,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    device: str | None = None,
    track: Sequence[str] = (),
    observe: Callable[[Event], None] = lambda event: None,
) -> dict[str, str]:
    """Makes the runs that are not finished and writes ``comparison.json``; the caller has the folder's lock.

    Args:
        plan: What `plan_comparison` returned.
        out: The comparison folder.
        jobs: Worker processes of this machine, of one thread and, where there are GPUs, one GPU each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
        track: Log the runs' epochs to these trackers too, see `training.tracking`.
        observe: Called with what happens to each run.

    Returns:
        Why runs failed, by the name of the run; they are listed in the table and tried again next time.

    Raises:
        RunFolderError: When the folder cannot be written.
        TrainingError: When ``comparison.json`` cannot be saved.
        InterruptedTraining: After a signal.
    """
    make_writable_folder(out)
    done = plan.finished()
    missing = {
        run_name(variant, seed): (variant, seed, run, folder)
        for variant, seed, run, folder in plan.runs
        if folder not in done
    }
    todo = [
        job_for(name, run, folder, source=f"{plan.recipe_name}, {variant.name}", device=device, track=track)
        for name, (variant, _, run, folder) in missing.items()
    ]
    now = {
        "format": FORMAT_VERSION,
        "recipe": plan.recipe_name,
        "baseline": plan.baseline,
        "seeds": plan.seeds,
        "variants": [{"name": v.name, "folder": v.folder, "objective": v.objective} for v in plan.variants],
        "published": plan.published,
        "reused": len(done),
        "made": len(todo),
        **({} if plan.tuning is None else {"tuning": plan.tuning}),
    }
    about = merged(plan.before, now, plan.kept)
    failed: dict[str, str] = {}

    def write() -> None:
        way_on = "When it can be saved again, give the same command again"
        with saving(out, needed_bytes=_DESCRIPTION_BYTES, way_on=way_on):
            write_json(out / DESCRIPTION_FILE, about)

    write()
    with events_of(todo, run_job, jobs=jobs, cluster=cluster, device=device) as events:
        for event in events:
            observe(event)
            if event.kind == "failed":
                failed[event.job.name] = event.message
                variant, seed, _, folder = missing[event.job.name]
                if not _tells_its_failure(folder):
                    noted = {"variant": variant.name, "seed": seed, "message": event.message}
                    about["failed"] = [*about.get("failed", []), noted]
                    write()
    return failed


def _tells_its_failure(folder: Path) -> bool:
    """Tells whether a run that failed has written why into its folder; one that was killed has not."""
    try:
        return RunFolder(folder).state() == "failed"
    except RunFolderError:
        return False
