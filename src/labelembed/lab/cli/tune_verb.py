"""The verb `tune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from labelembed.lab.cli.launched import say
from labelembed.lab.cli.options import (
    ClusterOption,
    DataOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    ObjectivesOption,
    QuietOption,
    RecipeArgument,
    SeedsOption,
    SetOption,
    SpaceOption,
    out_option,
)
from labelembed.lab.cli.program import verb
from labelembed.lab.runs.fork_server import start_fork_server

_WIDEST_REASON = 60


@verb(
    "Train",
    "labelembed tune digits-mlp --objectives label_smoothing,label_embedding --trials 10",
    "labelembed tune digits-mlp --space objective.smoothing=0.05:0.6 --space optimizer.learning_rate=1e-4:1e-1:log "
    "--out tuning/wider",
)
def tune(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objectives: ObjectivesOption = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Trials of each objective.")] = 10,
    space: SpaceOption = None,
    seeds: SeedsOption = None,
    prune: Annotated[
        Literal["none", "median"],
        typer.Option("--prune", help="`median` stops runs that are worse than the median of earlier trials."),
    ] = "none",
    out: Annotated[Path | None, out_option("DIR", "The tuning folder; by default tuning/DATA-RECIPE.")] = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find a good learning rate, weight decay and arguments of each objective on the validation set.

    Each trial has one seed that `compare` does not use, or those of --seeds. The recipe's values are the first trial.
    """
    if cluster is None:
        start_fork_server()  # it imports torch while this process does
    from labelembed.lab.recipes.choosing import choose_recipe, folder_name
    from labelembed.lab.recipes.variants import seeds_of, variants_of
    from labelembed.lab.runs.machines import Machines, until_stopped
    from labelembed.lab.runs.run_lock import locked
    from labelembed.lab.runs.tuning import make_tuning
    from labelembed.lab.runs.tuning_plan import plan_tuning

    chosen, name = choose_recipe(recipe, settings=settings or [], data=data, say=say)
    plan = plan_tuning(
        chosen,
        name,
        out or Path("tuning") / folder_name(chosen, name),
        variants=variants_of(chosen, objectives),
        trials=trials,
        seeds=seeds,
        taken_seeds=seeds_of(chosen, None),
        space=space or [],
        prune=prune == "median",
    )
    machines = Machines(jobs=jobs, cluster=cluster, device=device)
    with until_stopped(f"{recipe or name}, --out {plan.out}"), locked(plan.out, doing="made"):
        about, failure = make_tuning(plan, machines=machines, quiet=quiet)
    typer.echo(json.dumps(about, allow_nan=False) if as_json else "\n".join(_lines(about, plan.out)))
    if failure is not None:
        raise failure


def _lines(about: dict[str, Any], out: Path) -> list[str]:
    """Returns what `tune` prints: a table of trials for each variant, and what was chosen."""
    lines: list[str] = []
    for variant in about["variants"]:
        if not variant["space"]:
            lines += [f"{variant['name']}: nothing to tune", ""]
            continue
        space = "; ".join(f"{key.removeprefix('objective.')} {text}" for key, text in variant["space"].items())
        of_seeds = f"seed{'s' if len(about['seeds']) > 1 else ''} {', '.join(map(str, about['seeds']))}"
        lines += [f"{variant['name']}: {len(variant['trials'])} trials ({of_seeds}) over {space}"]
        lines += [f"  trial  {about['metric']}  arguments"]
        lines += [_trial_line(trial, about["metric"], variant["chosen"]) for trial in variant["trials"]]
        if variant["chosen"] is not None:
            settings = "".join(f" --set {key}={value}" for key, value in variant["settings"].items())
            lines += [f"  best: {variant['variant']}{settings}"]
        lines += [""]
    return [*lines, f"tuning: {out / 'tuning.json'}    best recipes: {out / 'best'}    table: {out / 'trials.csv'}"]


def _trial_line(trial: dict[str, Any], metric: str, chosen: int | None) -> str:
    score = {"failed": "failed", "pruned": "given up", "open": "not finished"}.get(trial["state"])
    if score is None:
        score = f"{trial['score']:.4f}" if metric.endswith("NLL") else f"{100 * trial['score']:.2f} %"
    arguments = " ".join(f"{key.removeprefix('objective.')}={value}" for key, value in trial["arguments"].items())
    why = f" ({trial['message'].splitlines()[0][:_WIDEST_REASON]})" if trial["message"] else ""
    best = "*" if trial["number"] == chosen else " "
    return f"{best:>2}{trial['number']:>5}  {score:>{len(metric)}}  {arguments or 'as it was'}{why}"
