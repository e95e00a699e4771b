"""Verbs that train one network: train, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.lab.cli.launched import say
from labelembed.lab.cli.options import (
    DataOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RecipeArgument,
    RunArgument,
    SetOption,
    TrackOption,
    out_option,
)
from labelembed.lab.cli.program import verb

if TYPE_CHECKING:
    from labelembed.lab.recipes.schema import Recipe
    from labelembed.lab.runs.options import RunOptions


@verb(
    "Train",
    "labelembed train digits-mlp --epochs 5 --out runs/digits",
    "labelembed train mnist-mlp --data path/to/mnist --lr 0.001 --objective label_smoothing:smoothing=0.4",
    "labelembed train --data reviews.csv --seed 1 --set model.dropout=0.2",
)
def train(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="NAME[:KEY=VALUE...]", help="The objective, instead of the recipe's."),
    ] = None,
    out: Annotated[
        Path | None, out_option("DIR", "The run folder; by default runs/DATA-RECIPE/OBJECTIVE/seed-N.")
    ] = None,
    overwrite: OverwriteOption = False,
    track: TrackOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one network into a run folder."""
    from labelembed.lab.errors import RunFolderError
    from labelembed.lab.recipes.choosing import choose_recipe, folder_name
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.training.reporter import tracker_names

    options = RunOptions(device=device, track=tracker_names(track), overwrite=overwrite, begin_only=True)
    chosen, name = choose_recipe(recipe, settings=settings or [], data=data, objective=objective, say=say)
    out = out or Path("runs") / folder_name(chosen, name) / str(chosen.objective["name"]) / f"seed-{chosen.seed}"
    if (out / "comparison.json").exists():
        raise RunFolderError(f"{out}: holds a comparison; choose another folder with --out")
    _run(chosen, out, options, quiet=quiet, as_json=as_json)


@verb(
    "Train",
    "labelembed resume runs/digits",
    "labelembed resume runs/digits --epochs 8 --lr 0.0005",
)
def resume(
    run: RunArgument,
    settings: SetOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue a run that was stopped, or train a finished one further with a changed recipe."""
    import torch

    from labelembed.lab.errors import RunFolderError
    from labelembed.lab.runs.build import changed_recipe, stored_recipe
    from labelembed.lab.runs.options import RunOptions
    from labelembed.lab.runs.recipe_diff import check_same_recipe, differences
    from labelembed.lab.training.run_folder import RunFolder

    folder = RunFolder(run)
    recipe = changed_recipe(folder, settings) if settings else stored_recipe(folder)
    check_same_recipe(recipe, folder, may_change=True, way_out="train again in another folder")
    if folder.state() != "finished" or differences(recipe, folder):
        # The same number of threads adds up in the same order, so the numbers are those of an unbroken run.
        about = folder.environment()
        threads = about.get("threads")
        if not isinstance(about.get("data"), dict) or not (isinstance(threads, int) and threads > 0):
            what = "missing or damaged, it does not say what the run began with"
            raise RunFolderError(f"{run / 'environment.json'}: {what}")
        torch.set_num_threads(threads)
    _run(recipe, run, RunOptions(device=device, change=bool(settings)), quiet=quiet, as_json=as_json)


def _run(recipe: Recipe, out: Path, options: RunOptions, *, quiet: bool, as_json: bool) -> None:
    """Brings a run to its end, shows how far it is, and says what it reached."""
    from labelembed.lab.errors import RunFolderError
    from labelembed.lab.runs.display import RunDisplay
    from labelembed.lab.runs.progress_text import duration, metrics_text
    from labelembed.lab.runs.run import run_recipe
    from labelembed.lab.training.device import process_index

    display = RunDisplay(recipe.data["name"], quiet=quiet or process_index() > 0)
    with display.watching():
        result = run_recipe(recipe, out, options=options, reporter=display)
    try:
        reached = (
            f"{recipe.objective['name']}: {metrics_text(result)} at epoch {result['selected_epoch']} of "
            f"{result['epochs']} (by {result['selected_by']}), {duration(result['seconds'])}"
        )
        calibration = _calibration_text(result)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{out / 'result.json'}: damaged, it does not say what the run reached") from error
    if process_index() > 0:  # all have to say the same
        return
    if as_json:
        typer.echo(json.dumps({"folder": str(out)} | result))
        return
    typer.echo(reached)
    if calibration:
        typer.echo(calibration)
    typer.echo(f"run folder: {out}    next: labelembed report {out}")


def _calibration_text(result: dict[str, Any]) -> str:
    """Returns in a line what came of the temperature; nothing of a corpus, which has none."""
    how, calibrated = result["calibration"], result["calibrated"]
    if how == "none, for a corpus":
        return ""
    if calibrated is None:
        return "no temperature: calibration is off" if how == "off" else f"no temperature: {how}"
    split = "test" if calibrated.get("test") else "validation"
    before, after = result[split], calibrated[split]
    moved = [
        f"NLL {before['nll']:.3f} -> {after['nll']:.3f}",
        f"calibration error {before['calibration_error']:.1%} -> {after['calibration_error']:.1%}",
    ]
    return f"temperature {result['temperature']:.3g}, {how}: {split} {', '.join(moved)}"
