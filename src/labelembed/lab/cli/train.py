"""Subcommands that train: train, resume, compare."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelembed.lab.cli import options as shared
from labelembed.lab.cli.app import subcommand
from labelembed.lab.training.device import process_index

if TYPE_CHECKING:
    from labelembed.lab.recipes.schema import Recipe
    from labelembed.lab.runs.options import RunOptions

_PANEL = "Train"


@subcommand(
    _PANEL,
    "labelembed train digits-mlp --epochs 5 --out runs/digits",
    "labelembed train --data reviews.csv --seed 1 --objective label_smoothing:smoothing=0.4",
)
def train(
    recipe: shared.RecipeArgument = None,
    data: shared.DataOption = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="NAME[:KEY=VALUE...]", help="The objective, instead of the recipe's."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="The seed of the run.")] = None,
    epochs: shared.EpochsOption = None,
    lr: shared.LearningRateOption = None,
    batch_size: shared.BatchSizeOption = None,
    settings: shared.SetOption = None,
    out: Annotated[
        Path | None, shared.out_option("DIR", "The run folder; runs/DATA-RECIPE/OBJECTIVE/seed-N by default.")
    ] = None,
    overwrite: shared.OverwriteOption = False,
    track: shared.TrackOption = None,
    device: shared.DeviceOption = None,
    quiet: shared.QuietOption = False,
    as_json: shared.JsonOption = False,
) -> None:
    """Train one network into a run folder; the same command resumes a stopped run."""
    from labelembed.lab.errors import RunFolderError
    from labelembed.lab.recipes.choosing import choose_recipe, folder_name
    from labelembed.lab.runs.display import say
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.training.reporter import tracker_names

    options = RunOptions(device=shared.use_device(device), track=tracker_names(track), overwrite=overwrite)
    typed = shared.recipe_settings(settings, seed=seed, epochs=epochs, lr=lr, batch_size=batch_size)
    chosen, name = choose_recipe(recipe, settings=typed, data=data, objective=objective, say=say)
    out = out or Path("runs") / folder_name(chosen, name) / str(chosen.objective["name"]) / f"seed-{chosen.seed}"
    if (out / "comparison.json").exists():
        raise RunFolderError(f"{out}: holds a comparison; choose another folder with --out")
    _run(chosen, out, options, quiet=quiet, as_json=as_json)


@subcommand(
    _PANEL,
    "labelembed resume runs/digits",
    "labelembed resume runs/digits --epochs 8 --set optimizer.learning_rate=0.0005",
)
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    epochs: shared.EpochsOption = None,
    settings: shared.SetOption = None,
    device: shared.DeviceOption = None,
    quiet: shared.QuietOption = False,
    as_json: shared.JsonOption = False,
) -> None:
    """Continue a run that was stopped, or train a finished one for more epochs."""
    from labelembed.lab.errors import RunFolderError
    from labelembed.lab.runs.build import changed_recipe, stored_recipe
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.training.run_folder import RunFolder

    folder, typed = RunFolder(run), shared.recipe_settings(settings, epochs=epochs)
    if typed and (run.resolve().parents[2:] or [run])[0].joinpath("comparison.json").is_file():
        raise RunFolderError(f"{run}: its comparison needs its settings as they are; change a copy of the folder")
    options = RunOptions(device=shared.use_device(device), change=bool(typed))
    recipe = changed_recipe(folder, typed) if typed else stored_recipe(folder)
    _run(recipe, run, options, quiet=quiet, as_json=as_json)


def _run(recipe: Recipe, out: Path, options: RunOptions, *, quiet: bool, as_json: bool) -> None:
    """Brings a run to its end, shows how far it is, and says what it reached."""
    from labelembed.lab.runs.display import RunDisplay, duration, metrics_text
    from labelembed.lab.runs.run import run_recipe

    display = RunDisplay(quiet=quiet)
    with display.watching():
        result = run_recipe(recipe, out, options=options, reporter=display)
    if process_index() > 0:  # all have to say the same
        return
    if as_json:
        typer.echo(json.dumps({"folder": str(out)} | result))
        return
    typer.echo(
        f"{recipe.objective['name']}: {metrics_text(result)} at epoch {result['selected_epoch']} of "
        f"{result['epochs']} (by {result['selected_by']}), {duration(result['seconds'])}"
    )
    if calibrated := result["calibrated"]:
        split = "test" if calibrated.get("test") else "validation"
        nll = f"{split} NLL {result[split]['nll']:.3f} -> {calibrated[split]['nll']:.3f}"
        typer.echo(f"temperature {result['temperature']:.3g}, {result['calibration']}: {nll}")
    elif "corpus" not in result["calibration"]:  # of which nobody expects one
        typer.echo(f"no temperature: {result['calibration']}")
    typer.echo(f"run folder: {out}    next: labelembed report {shlex.quote(str(out))}")


@subcommand(
    _PANEL,
    "labelembed compare digits-mlp --objectives one_hot,label_smoothing:smoothing=0.4,label_embedding --seeds 0-7",
    "labelembed compare --data reviews.csv --tuned --trials 10 --jobs 2",
)
def compare(
    recipe: shared.RecipeArgument = None,
    data: shared.DataOption = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives", metavar="NAME[:KEY=VALUE...],...", help="The objectives; by default those of the recipe."
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="N|A-B|A,B,...",
            help="How many seeds (8), or which (0-7, or 3,5); else the recipe's.",
        ),
    ] = None,
    baseline: shared.BaselineOption = None,
    tuned: Annotated[
        bool,
        typer.Option("--tuned", metavar="", help="First tune each objective: learning rate, weight decay, arguments."),
    ] = False,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="With --tuned: trials of each objective; by default 10.")
    ] = None,
    epochs: shared.EpochsOption = None,
    lr: shared.LearningRateOption = None,
    batch_size: shared.BatchSizeOption = None,
    settings: shared.SetOption = None,
    out: Annotated[
        Path | None, shared.out_option("DIR", "The comparison folder; by default comparisons/DATA-RECIPE or ...-tuned.")
    ] = None,
    overwrite: shared.OverwriteOption = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, metavar="N", help="Runs at once; by default one a GPU, else one a core."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ADDRESS", help="Train on the workers of a dask scheduler, tcp://HOST:PORT."),
    ] = None,
    track: shared.TrackOption = None,
    device: shared.DeviceOption = None,
    quiet: shared.QuietOption = False,
    as_json: shared.JsonOption = False,
) -> None:
    """Train several objectives with several seeds and say which is better, and how sure that is."""
    from labelembed.lab.runs.pools import start_fork_server

    if cluster is None and not (out or Path("comparisons", recipe or "")).exists():
        start_fork_server()  # it imports torch while this process does; of finished runs none is needed
    from labelembed.lab import report
    from labelembed.lab.runs.comparison import compare as make_comparison
    from labelembed.lab.runs.comparison import failure_of

    comparison = make_comparison(
        recipe,
        data=data,
        objectives=objectives,
        seeds=seeds,
        baseline=baseline,
        tuned=tuned,
        trials=trials,
        settings=shared.recipe_settings(settings, epochs=epochs, lr=lr, batch_size=batch_size),
        out=out,
        overwrite=overwrite,
        jobs=jobs,
        cluster=cluster,
        track=track or "",
        device=shared.use_device(device),
        quiet=quiet,
    )
    if as_json:
        typer.echo(json.dumps(comparison.rows(), allow_nan=False))
    else:
        report.print_comparison(comparison.read)
    if comparison.failed:
        raise failure_of(comparison)
