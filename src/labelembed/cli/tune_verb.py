"""The verb `tune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.options import (
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    FittingRecipeArgument,
    JobsOption,
    JsonOption,
    PruneOption,
    QuietOption,
    SetOption,
    SpaceOption,
)


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed tune digits-mlp --objectives label_smoothing,label_embedding --trials 10")(
        tune
    )


def tune(
    recipe: FittingRecipeArgument = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Trials of each objective.")] = 10,
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives",
            metavar="NAME[:KEY=VALUE...],...",
            help="What to tune; by default the recipe's own variants. Their values are the first trial's.",
        ),
    ] = None,
    space: SpaceOption = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N|S1,S2,...", help="Of each trial; by default one that compare does not use."),
    ] = None,
    prune: PruneOption = "none",
    data: DataOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The tuning's folder; by default tuning/RECIPE.")
    ] = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find a good learning rate, weight decay and arguments of each objective on the validation set."""
    from labelembed.cli.tuning_runs import make_tuning, say_tuning_estimate, tuning_lines
    from labelembed.recipes.variants import seeds_of, variants_of
    from labelembed.runs.tuning_plan import plan_tuning
    from labelembed.training.run_lock import locked

    chosen, name = chosen_recipe(recipe, settings=settings, data=data)
    plan = plan_tuning(
        chosen,
        name,
        out or Path("tuning") / name,
        variants=variants_of(chosen, objectives),
        trials=trials,
        seeds=seeds,
        taken_seeds=seeds_of(chosen, None),
        space=space or [],
        prune=prune == "median",
    )
    if dry_run:
        say_tuning_estimate(plan, jobs=jobs, device=device, as_json=as_json)
        return
    command = f"{recipe or name}, --out {plan.out}"
    with locked(plan.out, doing="made"):
        about, failure = make_tuning(plan, command, jobs=jobs, cluster=cluster, device=device, quiet=quiet)
    typer.echo(json.dumps(about, allow_nan=False) if as_json else "\n".join(tuning_lines(about, plan.out)))
    if failure is not None:
        raise failure
