"""Tuning: every variant of the objective gets the same number of trials, and is scored on the validation set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from labelembed.lab.errors import RecipeError, TrainingError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.recipes.variants import Variant, checked_variants
from labelembed.lab.runs.cluster import Cluster
from labelembed.lab.runs.comparison_plan import ComparisonPlan, plan_runs
from labelembed.lab.runs.display import ComparisonDisplay
from labelembed.lab.runs.jobs import Event, Job
from labelembed.lab.runs.machines import Machines, cluster_at, events_of, read_with_progress, say
from labelembed.lab.runs.recipe_diff import flat_recipe, refuse_other_recipe
from labelembed.lab.runs.run import job_for
from labelembed.lab.runs.search_spaces import Space, described, draws_of, recipe_with
from labelembed.lab.runs.training_network import network_for
from labelembed.lab.runs.trials import ROUND, Trials, curve_of, refuse_other_study, run_trial, studies_in
from labelembed.lab.runs.tuning_plan import METRICS, TuningPlan, plan_tuning
from labelembed.lab.training.comparison_folder import remove_comparison
from labelembed.lab.training.files import make_writable_folder, write_bytes, write_json
from labelembed.lab.training.run_folder import RunFolder

#: Of a comparison's folder: the trials of its variants.
TUNING_FOLDER = "tuning"
_RATE = "optimizer.learning_rate"
_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "RUNNING": "open"}


def run_tuning(
    plan: TuningPlan,
    *,
    fingerprint: str,
    jobs: int = 1,
    cluster: Cluster | None = None,
    device: str | None = None,
    observe: Callable[[Event], None] = lambda event: None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Makes the runs that are not finished, and writes ``tuning.json``, ``trials.csv`` and ``best/``.

    The caller has the folder's lock (`runs.run_lock`).

    Args:
        plan: What `tuning_plan.plan_tuning` returned.
        fingerprint: Of the data, which must stay the same for all trials.
        jobs: Worker processes of this machine, of one thread and, where there are GPUs, one GPU each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
        observe: Called with what happens to each run.

    Returns:
        What ``tuning.json`` holds, and why runs could not be made, by their name: such trials stay open, and the same
        call tries them again. A run that failed of itself, as one whose loss is not finite, is a trial without a score.

    Raises:
        RunFolderError: When the folder holds another tuning or is damaged.
        InterruptedTraining: After a signal.
    """
    make_writable_folder(plan.out)
    problems: dict[str, str] = {}
    with studies_in(plan.out) as storage:
        asked = {variant.folder: _asked(plan, variant, space, fingerprint) for variant, space in plan.tuned}
        for name, what in asked.items():  # before any study is added beside those of another tuning
            refuse_other_study(storage, plan.out, name, what)
        under_way = {
            variant.name: Trials(
                storage,
                variant.folder,
                space,
                objective=variant.objective["name"],
                metric=plan.metric,
                asked=asked[variant.folder],
            )
            for variant, space in plan.tuned
        }
        for begin in range(0, plan.trials, ROUND):
            todo = []
            for variant, space in plan.tuned:
                trials, first = under_way[variant.name], plan.recipe_of(variant, {}, plan.seeds[0])
                trials.propose(min(begin + ROUND, plan.trials), seed=plan.recipe.seed, first=draws_of(space, first))
                todo += _jobs(plan, variant, trials, begin, device=device)
            pruned: set[str] = set()
            with events_of(todo, run_trial, jobs=jobs, cluster=cluster, device=device) as at_work:
                for event in at_work:
                    observe(event)
                    folder = event.job.payload["folder"]
                    if event.kind == "failed" and RunFolder(folder).state() != "failed":
                        problems[event.job.name] = event.message
                    if event.kind == "done" and event.result.get("pruned"):
                        pruned.add(folder)
            for variant, _ in plan.tuned:
                for number, trial in enumerate(under_way[variant.name].all()[: begin + ROUND]):
                    if not trial.state.is_finished():
                        folders = [*plan.folders_of(variant, number).values()]
                        given_up = bool(pruned & {str(folder.path.absolute()) for folder in folders})
                        under_way[variant.name].settle(trial, folders, plan.metric, pruned=given_up)
            if problems:  # what would come next depends on them
                break
        about = {
            "format": 1,
            "recipe": plan.recipe_name,
            "metric": METRICS[plan.metric],
            "trials": plan.trials,
            "seeds": plan.seeds,
            "pruning": "median" if plan.prune else "none",
            "left_out": plan.left_out,
            "variants": [_variant_as_json(plan, *tuned, under_way.get(tuned[0].name)) for tuned in plan.spaces],
        }
    _write(plan, about)
    return about, problems


def _asked(plan: TuningPlan, variant: Variant, space: Space, fingerprint: str) -> dict[str, Any]:
    flat = flat_recipe(plan.recipe_of(variant, {}, plan.recipe.seed).of_one_run())
    parts = {f"space {key}": described(part) for key, part in space.items()}
    how = {"seeds of trials": plan.seeds, "pruning": plan.prune, "chosen by": plan.metric}
    return flat | parts | how | {"content of the data": fingerprint}


def _jobs(plan: TuningPlan, variant: Variant, trials: Trials, begin: int, *, device: str | None) -> list[Job]:
    """Returns the runs of the trials from a number on that are not finished."""
    found, known = [], trials.all()[: plan.trials]
    finished = [number for number, trial in enumerate(known[:begin]) if trial.state.name == "COMPLETE"]
    for number, trial in [*enumerate(known)][begin : begin + ROUND]:
        for seed, folder in plan.folders_of(variant, number).items():
            recipe = plan.recipe_of(variant, trial.user_attrs["arguments"], seed)
            if folder.state() != "empty":
                refuse_other_recipe(recipe, folder)
            if trial.state.is_finished() or folder.state() in ("finished", "failed"):
                continue
            before = [plan.folders_of(variant, number)[seed] for number in finished] if plan.prune else []
            curves = [curve_of(folder, plan.metric) for folder in before]
            seeds = f" seed {seed}" if len(plan.seeds) > 1 else ""
            job = job_for(
                f"{variant.name} trial {number}{seeds}",
                recipe,
                folder.path,
                source=f"{plan.recipe_name}, {variant.name}, trial {number}",
                device=device,
                metric=plan.metric,
                epochs=recipe.epochs if isinstance(recipe.epochs, int) else max(map(len, curves), default=0),
                curves=curves,
            )
            found.append(job)
    return found


def _variant_as_json(plan: TuningPlan, variant: Variant, space: Space, trials: Trials | None) -> dict[str, Any]:
    """Returns what came of a variant; scores are fractions, of NLL nats."""
    known = [] if trials is None else trials.all()[: plan.trials]
    scores = {number: trial.value for number, trial in enumerate(known) if trial.state.name == "COMPLETE"}
    best = max if plan.metric == "bleu" else min
    chosen = best(scores, key=lambda number: scores[number], default=None)  # the first of equals
    arguments = {} if chosen is None else known[chosen].user_attrs["arguments"]
    settings = {key: value for key, value in arguments.items() if not key.startswith("objective.")}
    own = {key.removeprefix("objective."): value for key, value in arguments.items() if key not in settings}
    objective = variant.given | own
    given = [f"{key}={_text(value)}" for key, value in objective.items() if key != "name"]
    return {
        "name": variant.name,
        "objective": objective,
        "space": {key: described(part) for key, part in space.items()},
        "trials": [
            {
                "number": number,
                "arguments": trial.user_attrs["arguments"],
                "score": scores.get(number),
                **_ended(plan, variant, number, _STATES[trial.state.name]),
            }
            for number, trial in enumerate(known)
        ],
        "chosen": chosen,
        "arguments": arguments,
        "score": None if chosen is None else scores[chosen],
        "first_score": scores.get(0),
        "variant": ":".join([objective["name"], *given]),
        "settings": settings,
        "rate_at_end": _RATE in settings and _is_at_end(settings[_RATE], space[_RATE]),
    }


def _ended(plan: TuningPlan, variant: Variant, number: int, state: str) -> dict[str, Any]:
    """Returns how a trial ended: its state, why it failed, and its run folders."""
    folders = [*plan.folders_of(variant, number).values()]
    failed = [str(folder.result().get("message")) for folder in folders if folder.state() == "failed"]
    return {
        "state": "failed" if failed else state,
        "message": failed[0] if failed else None,
        "folders": [folder.path.relative_to(plan.out).as_posix() for folder in folders],
    }


def _text(value: Any) -> str:
    """Returns a value as YAML that is read back as the same value."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _is_at_end(rate: float, part: Any) -> bool:
    """Tells whether a learning rate lies within a tenth of an end of its range, beyond which a better one may be."""
    if not getattr(part, "log", False):
        return False
    share = math.log(rate / part.low) / math.log(part.high / part.low)
    return min(share, 1 - share) < 0.1


def _write(plan: TuningPlan, about: dict[str, Any]) -> None:
    """Writes ``tuning.json``, ``trials.csv`` and the best recipes below ``best/``."""
    write_json(plan.out / "tuning.json", about)
    rows: list[dict[str, Any]] = []
    for (variant, _), entry in zip(plan.spaces, about["variants"], strict=True):
        for trial in entry["trials"]:
            row = {"variant": entry["name"], "trial": trial["number"], "state": trial["state"], "score": trial["score"]}
            rows.append(row | {"chosen": trial["number"] == entry["chosen"], **trial["arguments"]})
        if entry["chosen"] is not None:
            recipe = recipe_with(plan.recipe, variant, entry["arguments"])
            heading = f"# {plan.recipe_name} with {entry['variant']}, chosen by the {about['metric']}\n"
            comparison = plan.recipe.comparison
            values = recipe.of_one_run() | ({"comparison": comparison.model_dump()} if comparison else {})
            text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)
            (plan.out / "best").mkdir(exist_ok=True)
            write_bytes(plan.out / "best" / f"{variant.folder}.yaml", (heading + text).encode())
    write_bytes(plan.out / "trials.csv", pd.DataFrame(rows, dtype=object).to_csv(index=False).encode())


def tuned_variants(plan: TuningPlan, about: dict[str, Any]) -> list[Variant]:
    """Returns the variants of a comparison with what was chosen; those with nothing to tune as they are."""
    found = []
    for (variant, space), entry in zip(plan.spaces, about["variants"], strict=True):
        if not space:
            found.append(variant)
            continue
        settings = entry["settings"]
        recipe = recipe_with(plan.recipe, variant, settings)
        (chosen,) = checked_variants(recipe, [entry["objective"]], source=f"{variant.name}, tuned")
        own = {block: getattr(recipe, block) for block in dict.fromkeys(key.partition(".")[0] for key in settings)}
        folder = "-".join([chosen.folder, *(f"{key}={_text(value)}" for key, value in settings.items())])
        found.append(replace(chosen, name=f"{variant.name} tuned", folder=folder, settings=own))
    return found


def make_tuning(plan: TuningPlan, *, machines: Machines, quiet: bool) -> tuple[dict[str, Any], TrainingError | None]:
    """Makes the trials with progress shown; the caller has the folder's lock.

    Args:
        plan: What `tuning_plan.plan_tuning` returned.
        machines: What makes the runs.
        quiet: Show no progress.

    Returns:
        What ``tuning.json`` holds, see `run_tuning`, and why there is not a chosen trial of every variant.
    """
    for name in plan.left_out:
        say(f"note: {name} is left out: it differs from another only in what is tuned")
    data = read_with_progress(plan.recipe, quiet=quiet)
    firsts = [plan.recipe_of(variant, {}, plan.seeds[0]) for variant, _ in plan.tuned]
    for recipe in firsts:
        network_for(recipe, data, to_try=True)  # an error is said once, here, before anything is written
    total, finished = len(plan.runs()), plan.count_ended()
    if finished and not quiet:
        say(f"{finished} runs of trials reused")
    display = ComparisonDisplay(total=total, reused=finished, epochs=plan.recipe.epochs, quiet=quiet)
    # Where nothing is left to do, no cluster is opened.
    address = machines.cluster if finished < total else None
    with cluster_at(address, plan.out, firsts) as cluster, display.watching():
        about, problems = run_tuning(
            plan,
            fingerprint=data.fingerprint(),
            jobs=machines.runs_at_once(),
            cluster=cluster,
            device=machines.device,
            observe=display,
        )
    return about, failure_of(about, problems)


def failure_of(about: dict[str, Any], problems: dict[str, str]) -> TrainingError | None:
    """Returns why there is not a chosen trial of every variant; None where there is."""
    if problems:
        runs = "1 run" if len(problems) == 1 else f"{len(problems)} runs"
        heading = f"{runs} could not be made; the same command tries again"
        reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in problems.items()]
        return TrainingError("\n".join([heading, *reasons]))
    reasons = [
        f"{one['name']}: {next((trial['message'] for trial in one['trials'] if trial['message']), 'given up')}"
        for one in about["variants"]
        if one["space"] and one["chosen"] is None
    ]
    return TrainingError("\n".join(["no trial has a score", *reasons])) if reasons else None


def tuned_plan(
    plan: ComparisonPlan,
    recipe: Recipe,
    out: Path,
    *,
    trials: int,
    space: Sequence[str],
    overwrite: bool,
    machines: Machines,
    quiet: bool,
) -> ComparisonPlan:
    """Tunes the variants of a comparison, with seeds that are none of its own, and returns it with what was chosen.

    Args:
        plan: The comparison.
        recipe: That it was made of.
        out: The comparison folder; the trials lie in it.
        trials: See `tuning_plan.plan_tuning`.
        space: The same.
        overwrite: Remove the comparison that is in the folder, once the tuning can begin.
        machines: What makes the runs.
        quiet: Show no progress.

    Raises:
        RecipeError: When it cannot be tuned, or the baseline would be left out.
        TrainingError: When a variant has no trial with a score, or runs could not be made.
    """
    tuning = plan_tuning(
        recipe,
        plan.recipe_name,
        out / TUNING_FOLDER,
        variants=plan.variants,
        trials=trials,
        taken_seeds=plan.seeds,
        space=space,
    )
    if plan.baseline in tuning.left_out:
        message = f"{plan.baseline} differs from another variant only in what is tuned; name that one"
        raise RecipeError([message], source="--baseline")
    if overwrite:
        remove_comparison(out)
    total = len(tuning.runs())
    if not quiet and tuning.count_ended() < total:
        say(f"tuning first: {total} runs of trials, then {len(plan.runs)} runs of the comparison")
    about, failure = make_tuning(tuning, machines=machines, quiet=quiet)
    if failure is not None:
        raise failure
    variants = tuned_variants(tuning, about)
    names = {entry["name"]: variant.name for entry, variant in zip(about["variants"], variants, strict=True)}
    for_the_report = [
        {
            **{key: entry[key] for key in ("space", "arguments", "score", "first_score", "rate_at_end")},
            "name": names[entry["name"]],
            "was": entry["name"],
            "trials": len(entry["trials"]),
            "without_score": sum(trial["score"] is None for trial in entry["trials"]),
        }
        for entry in about["variants"]
    ]
    kept = {key: about[key] for key in ("metric", "trials", "seeds", "pruning", "left_out")}
    return plan_runs(
        recipe,
        plan.recipe_name,
        out,
        variants=variants,
        baseline=names.get(plan.baseline, plan.baseline),
        seeds=plan.seeds,
        tuning={"folder": TUNING_FOLDER, **kept, "variants": for_the_report},
    )
