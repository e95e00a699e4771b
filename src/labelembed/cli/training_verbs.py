"""Verbs that train: train, resume, compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from labelembed.cli.launched import process_number
from labelembed.cli.options import (
    CalibrationOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    QuietOption,
    RecipeArgument,
    RunArgument,
    SetOption,
    TensorBoardOption,
)
from labelembed.cli.results import calibration_text, say_comparison, say_estimate

ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of torch; by default torch's own choice.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(epilog="Example: labelembed train mnist-mlp --data path/to/mnist --set epochs=5 --out runs/first")(
        train
    )
    app.command(epilog="Example: labelembed resume runs/first")(resume)
    app.command(
        epilog="Example: labelembed compare digits-mlp "
        "--objectives one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper:temperature=3 --seeds 5"
    )(compare)


def train(
    recipe: RecipeArgument,
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
    no_calibration: CalibrationOption = False,
    tensorboard: TensorBoardOption = False,
    dry_run: DryRunOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one network into a run folder."""
    from labelembed.cli.display import reading_shown
    from labelembed.errors import RunFolderError
    from labelembed.recipes.building import build_data, network_for
    from labelembed.recipes.loading import load_recipe
    from labelembed.recipes.running import refuse_other_recipe, start_over
    from labelembed.training.processes import one_for_all
    from labelembed.training.run_folder import RunFolder
    from labelembed.training.tensorboard import log_journal, require_tensorboard

    if tensorboard:
        require_tensorboard()
    settings = [*(settings or []), *(["calibration=false"] if no_calibration else [])]
    chosen, name = load_recipe(recipe, settings=settings, data=data, objective=objective)
    out = out or Path("runs") / name / str(chosen.objective["name"]) / f"seed-{chosen.seed}"
    folder = RunFolder(out)
    if dry_run:
        say_estimate(chosen, runs=1, finished=0, jobs=1, as_json=as_json)
        return
    if (out / "comparison.json").exists():
        raise RunFolderError(f"{out}: holds a comparison; choose another folder with --out")
    rows = None
    if overwrite and (out / "recipe.yaml").exists():
        # what is there goes only when what is to take its place can begin
        with reading_shown(quiet=quiet) as reading:
            rows = build_data(chosen, progress=reading)
        network_for(chosen, rows, to_try=True)
        with one_for_all(device=device) as first:
            if first:
                start_over(out)
    state = folder.state()
    if state != "empty":
        refuse_other_recipe(chosen, folder)
    if state == "finished":
        _say(f"{out}: finished already, nothing to do (--overwrite trains it anew)", err=True)
        if tensorboard and process_number() == 0:
            log_journal(out)
    elif state != "empty":
        how = "failed" if state == "failed" else "has begun and not finished"
        raise RunFolderError(
            f"{out}: this run {how}; to go on: labelembed resume {out}; to begin anew: add --overwrite"
        )
    more = {"data": rows, "tensorboard": tensorboard}
    _run(chosen, out, threads=threads, device=device, quiet=quiet, as_json=as_json, **more)


def resume(
    run: RunArgument,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was stopped; needs only its folder."""
    from labelembed.errors import RunFolderError
    from labelembed.recipes.running import stored_recipe
    from labelembed.training.run_folder import RunFolder

    folder = RunFolder(run)
    recipe = stored_recipe(folder)
    threads = None
    if folder.state() == "finished":
        _say(f"{run}: finished already, nothing to do", err=True)
    else:
        # The same number of threads adds up in the same order, so the numbers are those of an unbroken run.
        about = folder.environment()
        threads = about.get("threads")
        if not isinstance(about.get("data"), dict) or not (isinstance(threads, int) and threads > 0):
            what = "missing or damaged, it does not say what the run began with"
            raise RunFolderError(f"{run / 'environment.json'}: {what}")
    _run(recipe, run, threads=threads, device=device, quiet=quiet, as_json=as_json)


def _run(
    recipe: Any, out: Path, *, threads: int | None, device: str | None, quiet: bool, as_json: bool, **more: Any
) -> None:
    import torch

    from labelembed.cli.display import RunDisplay, duration, measures_text
    from labelembed.errors import RunFolderError
    from labelembed.recipes.running import run_recipe
    from labelembed.training.interruption import stop_on_signals

    if threads is not None:
        torch.set_num_threads(threads)
    display = RunDisplay(quiet=quiet or process_number() > 0)
    with stop_on_signals() as stop, display.watching():
        result = run_recipe(
            recipe,
            out,
            observe=display,
            stop=stop,
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


def compare(
    recipe: RecipeArgument,
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives",
            metavar="NAME[:KEY=VALUE...],...",
            help="Variants to compare, each a row; by default the recipe's own.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N|S1,S2,...", help="How many seeds, or which.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="VARIANT", help="What the others are compared with.")
    ] = None,
    data: DataOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The comparison folder; by default comparisons/RECIPE."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Runs at once, one thread each; by default one a core.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Make the runs on the workers of this dask scheduler (tcp://HOST:PORT) instead.",
        ),
    ] = None,
    no_calibration: CalibrationOption = False,
    tensorboard: TensorBoardOption = False,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train several objectives with several seeds and say which is better, and how sure that is."""
    from labelembed.cli.display import ComparisonDisplay, reading_shown
    from labelembed.errors import ClusterError
    from labelembed.recipes.comparing import (
        available_cores,
        plan_comparison,
        refuse_run_folder,
        run_comparison,
        try_networks,
    )
    from labelembed.recipes.loading import load_recipe
    from labelembed.recipes.running import cached_data
    from labelembed.training.cluster_connection import count_workers
    from labelembed.training.tensorboard import log_journal, require_tensorboard

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    if tensorboard:
        require_tensorboard()
    settings = [*(settings or []), *(["calibration=false"] if no_calibration else [])]
    chosen, name = load_recipe(recipe, settings=settings, data=data)
    out = out or Path("comparisons") / name
    refuse_run_folder(out)
    plan = plan_comparison(chosen, name, out, objectives=objectives, seeds=seeds, baseline=baseline)
    finished = len(plan.finished())
    runs = len(plan.runs)
    if dry_run and cluster is not None:
        jobs = max(1, count_workers(cluster))
    jobs = min(jobs or available_cores(), max(1, runs - finished))
    if dry_run:
        say_estimate(chosen, runs=runs, finished=finished, jobs=jobs, as_json=as_json, plan=plan)
        return
    if finished < runs:
        with reading_shown(quiet=quiet) as reading:
            rows = cached_data(chosen, progress=reading)
        for note in rows.notes:
            typer.echo(f"data: {note}", err=True)
        try_networks(plan, rows)  # a fault is said once, here, before anything is written
    if finished and not quiet:
        typer.echo(f"{finished} of {runs} runs reused", err=True)
    if finished < runs:
        display = ComparisonDisplay(total=runs, reused=finished, epochs=chosen.epochs, quiet=quiet)

        def work() -> dict[str, str]:
            with _cluster(cluster, plan, out) as machines, display.watching():
                how: dict[str, Any] = {"cluster": machines, "device": device, "tensorboard": tensorboard}
                return run_comparison(plan, out, jobs=jobs, observe=display, **how)

        failed = _until_stopped(work, recipe, out)
    else:
        failed = run_comparison(plan, out, jobs=jobs, device=device)
    for done in plan.finished() if tensorboard else ():
        log_journal(done)  # of runs that were made without it
    say_comparison(out, failed, anything_new=finished < runs, as_json=as_json)


def _cluster(address: str | None, plan: Any, out: Path) -> AbstractContextManager[Any]:
    """Gives the cluster that is to make the runs of a plan, None for this machine."""
    from labelembed.recipes.comparing import files_of
    from labelembed.training.cluster import open_cluster

    if address is None:
        return nullcontext()
    return open_cluster(address, folder=out, files=files_of(plan), warn=lambda text: typer.echo(text, err=True))


def _until_stopped(work: Callable[[], dict[str, str]], recipe: str, out: Path) -> dict[str, str]:
    """Returns what `work` does; at the first Ctrl-C or SIGTERM the runs save where they stand, a second one leaves."""
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
        message = f"stopped; finished runs are kept. To go on, give the same command again ({recipe}, --out {out})"
        raise InterruptedTraining(message, signal_number=asked[0] if asked else signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
