"""`compare --tuned`: every objective gets the same number of trials before it is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.cli.results import say_estimate
from labelembed.cli.tuning_runs import finished_runs, make_tuning, tuning_failure

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe
    from labelembed.runs.comparison_plan import ComparisonPlan
    from labelembed.tuning import TuningPlan

FOLDER = "tuning"


def plan_of_tuning(
    plan: ComparisonPlan, recipe: Recipe, out: Path, *, trials: int, seeds: str | None, space: list[str], prune: Any
) -> TuningPlan:
    """Returns the tuning of a comparison's variants, with seeds that are none of its own; see `tuning.plan_tuning`.

    Raises:
        RecipeError: When it cannot be, or a seed of the comparison is asked for.
    """
    from labelembed.errors import RecipeError
    from labelembed.tuning import plan_tuning

    tuning = plan_tuning(
        recipe,
        plan.recipe_name,
        out / FOLDER,
        variants=plan.variants,
        trials=trials,
        seeds=seeds,
        taken_seeds=plan.seeds,
        space=space,
        pruning=prune,
    )
    both = sorted({*tuning.seeds} & {*plan.seeds})
    if both:
        message = f"seed {both[0]} is one of the comparison's; arguments chosen with it would look too good"
        raise RecipeError([message], source="--trial-seeds")
    if plan.baseline in [variant.name for variant in tuning.left_out]:
        message = f"{plan.baseline} differs from another variant only in what is tuned; name that one"
        raise RecipeError([message], source="--baseline")
    return tuning


def say_both_estimates(
    plan: ComparisonPlan, tuning: TuningPlan, recipe: Recipe, *, jobs: int, gpus: int | None, as_json: bool
) -> None:
    """Prints how many runs trials and comparison are together, and how long they take."""
    kept = [run for run in plan.runs if run[0].name not in [variant.name for variant in tuning.left_out]]
    both = replace(plan, runs=[*tuning.estimated_runs(), *kept])
    finished = min(finished_runs(tuning), len(tuning.estimated_runs()))
    say_estimate(recipe, runs=len(both.runs), finished=finished, jobs=jobs, gpus=gpus, as_json=as_json, plan=both)


def tuned_plan(
    plan: ComparisonPlan,
    tuning: TuningPlan,
    recipe: Recipe,
    out: Path,
    command: str,
    *,
    jobs: int | None,
    cluster: str | None,
    device: str | None,
    quiet: bool,
) -> ComparisonPlan:
    """Makes the trials and returns the comparison of what they chose.

    Raises:
        TrainingError: When a variant has no trial with a score, or runs could not be made.
    """
    from labelembed.runs.comparison_plan import plan_runs
    from labelembed.tuning import tuned_variants, write_tuning

    outcomes, problems = make_tuning(tuning, command, jobs=jobs, cluster=cluster, device=device, quiet=quiet)
    about = write_tuning(tuning, outcomes)
    failure = tuning_failure(about, problems)
    if failure is not None:
        raise failure
    variants = tuned_variants(tuning, outcomes)
    names = {outcome.tuned.variant.name: variant.name for outcome, variant in zip(outcomes, variants, strict=True)}
    how: dict[str, Any] = {"baseline": names.get(plan.baseline, plan.baseline), "seeds": plan.seeds}
    tuning_block = _for_the_report(about, names)
    return plan_runs(recipe, plan.recipe_name, out, variants=variants, tuning=tuning_block, **how)


def _for_the_report(about: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    variants = [
        {
            "name": names[entry["name"]],
            "was": entry["name"],
            "space": entry["space"],
            "trials": len(entry["trials"]),
            "without_score": sum(trial["score"] is None for trial in entry["trials"]),
            "arguments": entry["arguments"],
            "score": entry["score"],
            "first_score": entry["first_score"],
            "rate_at_end": entry["rate_at_end"],
        }
        for entry in about["variants"]
    ]
    kept = {key: about[key] for key in ("measure", "trials", "seeds", "pruning", "left_out")}
    return {"folder": FOLDER, **kept, "variants": variants}
