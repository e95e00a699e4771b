"""Making comparisons from Python and for the command line: `compare` trains variants, `distill` adds students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.lab import report
from labelembed.lab.errors import RecipeError, TrainingError
from labelembed.lab.results import Comparison

if TYPE_CHECKING:
    from labelembed.lab.recipes.schema import Recipe
    from labelembed.lab.runs.machines import Machines


def compare(
    recipe: str | None = None,
    *,
    data: str | Path | None = None,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: int | Sequence[int] | None = None,
    baseline: str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    out: str | Path | None = None,
    tuned: bool = False,
    trials: int | None = None,
    space: Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: str | Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Trains several objectives with several seeds and returns the comparison, as the verb `compare` does.

    A folder that holds a comparison of the same recipe gets what is new; finished runs are reused. Interrupted
    (Ctrl-C, or the notebook's stop button) it keeps what is done, and the same call goes on.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits `data`.
        data: Where the data are.
        objectives: Names, ``"label_smoothing:smoothing=0.2"``, or blocks of a recipe; None: the recipe's own list.
        seeds: How many, or which; None: the recipe's own.
        baseline: The variant that the others are compared with; None: the folder's, else the recipe's.
        settings: Other values for keys of the recipe, ``{"optimizer.learning_rate": 0.01}``.
        out: The comparison folder; None: ``comparisons/DATA-RECIPE``, of tuned ones with ``-tuned`` at its end.
        tuned: First tune learning rate, weight decay and arguments of each objective on the validation set.
        trials: With `tuned`: how many each objective gets; None: 10.
        space: With `tuned`: what else or otherwise is tuned, as ``"objective.smoothing=0.05:0.6"``.
        jobs: Runs at once, one thread each; None: one a GPU, else one a core.
        cluster: The dask scheduler whose workers make the runs, ``tcp://host:port``; None: this machine.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; None: what there is.
        track: Log each epoch to these trackers too: `tensorboard`, `wandb`, `mlflow`.
        overwrite: Start over: remove the comparison that is in the folder.
        quiet: Show no progress.

    Raises:
        RecipeError: With every error of recipe and variants.
        DataError: When the data cannot be used.
        RunFolderError: When the folder holds something else, a comparison of another recipe, or one that another
            process makes.
        TrainingError: When every run failed.
        LabelEmbedError: There is no such device or tracker.

    Example:
        >>> comparison = labelembed.compare("digits-mlp", objectives=["one_hot", "label_embedding"], seeds=8)
        >>> comparison.table()
    """
    from labelembed.lab.recipes.choosing import choose_recipe
    from labelembed.lab.runs.machines import Machines, say
    from labelembed.lab.training.tracking import tracker_names

    asked = [name for name, value in {"trials": trials, "space": space}.items() if value]
    if asked and not tuned:
        raise RecipeError(["goes with tuned=True"], source=asked[0])
    trackers = tracker_names(track)
    machines = Machines(jobs=jobs, cluster=cluster, device=device)
    where = None if data is None else str(data)
    chosen, name = choose_recipe(recipe, settings=_settings(settings), data=where, say=say)
    folder = comparison_folder(chosen, name, tuned=tuned) if out is None else Path(out)
    try:
        found, failed = make_comparison(
            chosen,
            name,
            folder,
            objectives=objectives,
            seeds=seeds,
            baseline=baseline,
            trials=(10 if trials is None else trials) if tuned else None,
            space=space,
            machines=machines,
            track=trackers,
            overwrite=overwrite,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        say("stopped; finished runs are kept. To go on, call the same again")
        raise
    if failed and not any(variant.runs for variant in found.read.variants):
        raise TrainingError("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failed.items()))
    return found


def distill(
    comparison: str | Path,
    *,
    variant: str | None = None,
    finished_only: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    device: str | None = None,
    track: str | Sequence[str] = (),
    quiet: bool = False,
) -> Comparison:
    """Trains one network for each seed on what the runs of a comparison predict together, as the verb `distill` does.

    The runs are there already. As an ensemble they are often better than each of them, and cost as many times as much
    to predict with. A student learns ``0.15 onehot + 0.7 (mean prediction of the runs) + 0.15 / C`` and costs what one
    run costs. The students become one more variant of the comparison and of its report.

    Args:
        comparison: The comparison folder; its runs have one training set, and other seeds.
        variant: Whose runs teach; None: those with the lowest mean validation error.
        finished_only: Leave out runs that have failed or not finished.
        settings: Arguments of the objective, ``{"objective.teacher_weight": 0.6}``.
        jobs: See `compare`.
        cluster: See `compare`.
        device: See `compare`.
        track: See `compare`.
        quiet: Show no progress.

    Raises:
        RecipeError: A setting does not fit, or the data are not those of the runs.
        RunFolderError: It is no comparison, or fewer than two runs of the variant have finished.
        TrainingError: When a run failed.
    """
    from labelembed.lab.runs.machines import Machines
    from labelembed.lab.training.tracking import tracker_names

    found, failed = make_students(
        Path(comparison),
        variant=variant,
        finished_only=finished_only,
        settings=_settings(settings),
        machines=Machines(jobs=jobs, cluster=cluster, device=device),
        track=tracker_names(track),
        quiet=quiet,
    )
    if failed:
        raise TrainingError("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failed.items()))
    return found


def make_students(
    folder: Path,
    *,
    variant: str | None = None,
    finished_only: bool = False,
    settings: Sequence[str] = (),
    machines: Machines,
    track: Sequence[str] = (),
    quiet: bool = False,
) -> tuple[Comparison, dict[str, str]]:
    """Adds students to a comparison; see `distill`. Returns it, and why runs failed, by their name."""
    from labelembed.lab.runs.comparison import make_runs
    from labelembed.lab.runs.distillation import plan_of_students, teachers_of, write_predictions
    from labelembed.lab.runs.machines import read_with_progress, say
    from labelembed.lab.runs.progress_text import duration
    from labelembed.lab.runs.run_lock import locked

    teachers = teachers_of(folder, variant=variant, finished_only=finished_only)
    with locked(folder, doing="made"):
        plan = plan_of_students(folder, teachers, settings)
        student = plan.runs[0][2]
        count, left = len(teachers.seeds), len(plan.runs) - len(plan.finished())
        if left:
            say(
                f"teachers: {count} runs of {teachers.variant}, trained in {duration(teachers.seconds)} together; "
                f"{left} students will take about {duration(teachers.seconds / count * left)} of training"
            )
            warning = write_predictions(folder, teachers, student, read_with_progress(student, quiet=quiet))
            if warning is not None:
                say(f"warning: {warning}")
        failed, made = make_runs(plan, student, folder, machines=machines, track=track, quiet=quiet)
        return Comparison(report.write_comparison(folder, redraw=made)), failed


def comparison_folder(recipe: Recipe, name: str, *, tuned: bool) -> Path:
    """Returns the default folder of a comparison."""
    from labelembed.lab.recipes.choosing import folder_name

    return Path("comparisons") / (folder_name(recipe, name) + ("-tuned" if tuned else ""))


def make_comparison(
    recipe: Recipe,
    name: str,
    out: Path,
    *,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    baseline: str | None = None,
    trials: int | None = None,
    space: Sequence[str] = (),
    machines: Machines,
    track: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> tuple[Comparison, dict[str, str]]:
    """Makes a comparison, the trials of its variants first, with its report; see `compare`.

    Args:
        recipe: A checked recipe.
        name: Of the recipe.
        out: The comparison folder.
        objectives: See `comparison_plan.plan_comparison`.
        seeds: The same.
        baseline: The same.
        trials: Of each objective; None: nothing is tuned.
        space: See `compare`.
        machines: What makes the runs.
        track: See `compare`.
        overwrite: See `compare`.
        quiet: Show no progress.

    Returns:
        The comparison, and why runs failed, by their name.
    """
    from labelembed.lab.runs.comparison import make_runs
    from labelembed.lab.runs.comparison_plan import plan_comparison, refuse_run_folder
    from labelembed.lab.runs.run_lock import locked
    from labelembed.lab.runs.tuning import tuned_plan

    refuse_run_folder(out)
    with locked(out, doing="made"):  # the trials of its tuning lie in it
        plan = plan_comparison(
            recipe,
            name,
            out,
            objectives=objectives,
            seeds=seeds,
            baseline=baseline,
            tuned=trials is not None,
            overwrite=overwrite,
        )
        if trials is not None:
            plan = tuned_plan(
                plan, recipe, out, trials=trials, space=space, overwrite=overwrite, machines=machines, quiet=quiet
            )
            overwrite = False  # what was there has gone already
        failed, made = make_runs(plan, recipe, out, machines=machines, track=track, overwrite=overwrite, quiet=quiet)
        return Comparison(report.write_comparison(out, redraw=made)), failed


def _settings(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Returns settings as `--set` takes them."""
    if not isinstance(given, Mapping):
        return list(given)
    import yaml

    return [
        f"{key}={yaml.safe_dump([value], default_flow_style=True, width=10**9)[1:-2]}" for key, value in given.items()
    ]
