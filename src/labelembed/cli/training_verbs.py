"""Verbs that train one network: train, resume."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.launched import process_number
from labelembed.cli.options import (
    CalibrationOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    FittingRecipeArgument,
    JsonOption,
    QuietOption,
    RunArgument,
    SetOption,
    TrackOption,
)
from labelembed.cli.results import calibration_text, say_estimate

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe

ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on with the run in the folder with a changed recipe, where its weights fit.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of torch; by default torch's own choice.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(epilog="Example: labelembed train mnist-mlp --data path/to/mnist --set epochs=5 --out runs/first")(
        train
    )
    app.command(epilog="Example: labelembed resume runs/first")(resume)


def train(
    recipe: FittingRecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="NAME:KEY=VALUE", help="Take this objective instead.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run folder; by default runs/RECIPE/OBJECTIVE/seed-N."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the run that is in the folder.")] = False,
    force: ForceOption = False,
    no_calibration: CalibrationOption = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one network into a run folder."""
    from labelembed.errors import RunFolderError
    from labelembed.training.run_folder import RunFolder
    from labelembed.training.run_lock import locked
    from labelembed.training.tracking import tracker_names

    trackers = tracker_names(track)
    settings = [*(settings or []), *(["calibration=false"] if no_calibration else [])]
    chosen, name = chosen_recipe(recipe, settings=settings, data=data, objective=objective)
    out = out or Path("runs") / name / str(chosen.objective["name"]) / f"seed-{chosen.seed}"
    folder = RunFolder(out)
    if dry_run:
        say_estimate(chosen, runs=1, finished=0, jobs=1, as_json=as_json)
        return
    if (out / "comparison.json").exists():
        raise RunFolderError(f"{out}: holds a comparison; choose another folder with --out")
    if not overwrite and not force and folder.state() == "finished":
        held: AbstractContextManager[None] = nullcontext()
    else:
        held = locked(out)  # from the first look into the folder on
    with held:
        _train(
            chosen,
            out,
            overwrite=overwrite,
            force=force,
            track=trackers,
            threads=threads,
            device=device,
            quiet=quiet,
            as_json=as_json,
        )


def _train(
    chosen: Recipe,
    out: Path,
    *,
    overwrite: bool,
    force: bool,
    track: list[str],
    device: str | None,
    quiet: bool,
    **rest: Any,
) -> None:
    from labelembed.errors import RunFolderError
    from labelembed.runs.build import build_data
    from labelembed.runs.display import reading_shown
    from labelembed.runs.recipe_diff import differences, refuse_other_recipe
    from labelembed.runs.run_setup import start_over
    from labelembed.runs.training_network import network_for
    from labelembed.training.device import one_for_all
    from labelembed.training.run_folder import RunFolder
    from labelembed.training.tracking import track_ended

    folder, rows = RunFolder(out), None
    if overwrite and (out / "recipe.yaml").exists():
        # what is there goes only when what is to take its place can begin
        with reading_shown(chosen.data["name"], quiet=quiet) as reading:
            rows = build_data(chosen, progress=reading)
        network_for(chosen, rows, to_try=True)
        with one_for_all(device=device) as first:
            if first:
                start_over(out)
    state = folder.state()
    if state != "empty":
        refuse_other_recipe(chosen, folder, force=force)
    changed = force and state != "empty" and bool(differences(chosen, folder))
    if state == "finished" and not changed:
        _say(f"{out}: finished already, nothing to do (--overwrite trains it anew)", err=True)
        track_ended(out, track, device=device)
    elif state != "empty" and not force:
        how = "failed" if state == "failed" else "has begun and not finished"
        raise RunFolderError(
            f"{out}: this run {how}; to go on: labelembed resume {out}; to begin anew: add --overwrite"
        )
    _run(chosen, out, device=device, quiet=quiet, data=rows, track=track, has_lock=True, force=force, **rest)


def resume(
    run: RunArgument,
    settings: SetOption = None,
    force: ForceOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was stopped; needs only its folder."""
    from labelembed.errors import RunFolderError
    from labelembed.runs.recipe_diff import changed_recipe, differences, refuse_other_recipe, stored_recipe
    from labelembed.training.run_folder import RunFolder

    folder = RunFolder(run)
    recipe = changed_recipe(folder, settings) if settings else stored_recipe(folder)
    refuse_other_recipe(recipe, folder, force=force, anew="train anew in another folder")
    threads = None
    if folder.state() == "finished" and not differences(recipe, folder):
        _say(f"{run}: finished already, nothing to do", err=True)
    else:
        # The same number of threads adds up in the same order, so the numbers are those of an unbroken run.
        about = folder.environment()
        threads = about.get("threads")
        if not isinstance(about.get("data"), dict) or not (isinstance(threads, int) and threads > 0):
            what = "missing or damaged, it does not say what the run began with"
            raise RunFolderError(f"{run / 'environment.json'}: {what}")
    _run(recipe, run, threads=threads, device=device, quiet=quiet, as_json=as_json, force=force)


def _run(
    recipe: Any, out: Path, *, threads: int | None, device: str | None, quiet: bool, as_json: bool, **more: Any
) -> None:
    import torch

    from labelembed.errors import RunFolderError
    from labelembed.runs.display import RunDisplay
    from labelembed.runs.progress_text import duration, measures_text
    from labelembed.runs.run import run_recipe

    if threads is not None:
        torch.set_num_threads(threads)
    display = RunDisplay(recipe.data["name"], quiet=quiet or process_number() > 0)
    with display.watching():
        result = run_recipe(
            recipe,
            out,
            observe=display,
            device=device,
            warn=lambda text: _say(text, err=True),
            reading=display.reading,
            asking=display.asking,
            **more,
        )
    try:
        reached = (
            f"{recipe.objective['name']}: {measures_text(result)} at epoch {result['selected_epoch']} of "
            f"{result['epochs']} (by {result['selected_by']}), {duration(result['seconds'])}"
        )
        calibration = calibration_text(result)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{out / 'result.json'}: damaged, it does not say what the run reached") from error
    if as_json:
        _say(json.dumps({"folder": str(out)} | result))
        return
    _say(reached)
    if calibration:
        _say(calibration)
    _say(f"run folder: {out}    next: labelembed report {out}")


def _say(text: str, *, err: bool = False) -> None:
    """Prints what all processes of a run have to say alike: once."""
    if process_number() == 0:
        typer.echo(text, err=err)
