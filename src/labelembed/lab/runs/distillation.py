"""Distilling a comparison: its runs are an ensemble that is trained already, and one network learns from them all.

The students are one more variant of the comparison, so that its report says whether they are better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.errors import nearest
from labelembed.lab.data import LabelledData
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.loading import put_settings
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.recipes.variants import checked_variants
from labelembed.lab.runs.comparison_plan import ComparisonPlan, plan_runs
from labelembed.lab.runs.stored import stored_recipe
from labelembed.lab.runs.teacher import TableKind, open_table, write_table
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.comparison_folder import read_description, seeds_of_variant
from labelembed.lab.training.files import saving
from labelembed.lab.training.run_folder import RunFolder

#: What a student is trained on besides the label: the first of the weights in docs/evidence-plan.md.
MIXTURE = {"temperature": 1.0, "teacher_weight": 0.7, "uniform_weight": 0.15}
# Teachers whose training error is above this share of their validation error are said to underfit: a rule of thumb.
_UNDERFITS = 0.5


class Teachers(NamedTuple):
    """The runs of a comparison that teach.

    Attributes:
        variant: Their name in the comparison.
        folder: The folder that has them, a run for each seed.
        seeds: Those of the finished runs.
        recipe: Of the first of them.
        seconds: Of training, all together.
        validation_error: Their mean; infinite where a run has no validation set.
        left_out: Runs that have not finished, with the reason.
    """

    variant: str
    folder: Path
    seeds: list[int]
    recipe: Recipe
    seconds: float
    validation_error: float
    left_out: list[str]


def teachers_of(comparison: Path, *, variant: str | None = None, finished_only: bool = False) -> Teachers:
    """Returns the runs of a comparison that can teach.

    Args:
        comparison: The comparison folder.
        variant: Whose runs; None: the variant with the lowest mean validation error, distilled ones left aside.
        finished_only: Leave out runs that have failed or not finished.

    Raises:
        RunFolderError: There is no such variant, fewer than two runs have finished, or some have not and
            `finished_only` does not leave them out.
    """
    about = read_description(comparison)
    names = [one["name"] for one in about["variants"]]
    if variant is not None and variant not in names:
        hint = nearest(variant, names)
        raise RunFolderError(f"--variant: {variant!r} is none of the variants{hint}: {', '.join(names)}")
    asked = [
        one
        for one in about["variants"]
        if (one["name"] == variant if variant else one["objective"].get("name") != "distillation")
    ]
    found = [some for one in asked if (some := _finished_runs(comparison, about, one)) is not None]
    if not found:
        whose = f"of {variant!r} " if variant else "of any variant "
        raise RunFolderError(f"{comparison}: fewer than two runs {whose}have finished; several are needed to teach")
    teachers = min(found, key=lambda some: some.validation_error)
    if variant is None and math.isinf(teachers.validation_error):
        raise RunFolderError(f"{comparison}: its runs have no validation error; name by --variant whose runs teach")
    if teachers.left_out and not finished_only:
        raise RunFolderError(
            f"{comparison}: not finished: {', '.join(teachers.left_out)}; give the command of the comparison again, or "
            "leave them out with --finished-only"
        )
    return teachers


def _finished_runs(comparison: Path, about: dict[str, Any], variant: dict[str, Any]) -> Teachers | None:
    """Returns the finished runs of a variant; None where there are fewer than two."""
    folder = comparison / "runs" / variant["folder"]
    runs = {seed: RunFolder(folder / f"seed-{seed}") for seed in seeds_of_variant(about, variant)}
    states = {seed: run.state() for seed, run in runs.items()}
    seeds = [seed for seed, state in states.items() if state == "finished"]
    if len(seeds) < 2:
        return None
    results = [runs[seed].result() for seed in seeds]
    return Teachers(
        variant=variant["name"],
        folder=folder,
        seeds=seeds,
        recipe=stored_recipe(runs[seeds[0]]),
        seconds=sum(result.get("seconds", 0.0) for result in results),
        validation_error=fmean((result.get("validation") or {}).get("error", math.inf) for result in results),
        left_out=[f"{variant['name']} seed {seed} ({state})" for seed, state in states.items() if state != "finished"],
    )


def table_of(comparison: Path, teachers: Teachers) -> Path:
    """Returns the file in a comparison folder that holds the predictions of its teachers."""
    return comparison / f"teachers-{teachers.folder.name}-{len(teachers.seeds)}.safetensors"


def plan_of_students(comparison: Path, teachers: Teachers, settings: Sequence[str] = ()) -> ComparisonPlan:
    """Returns the plan that adds a student for each seed to the comparison of its teachers.

    A student has the recipe of its teachers, tuned settings included, but for the objective.

    Args:
        comparison: The comparison folder.
        teachers: See `teachers_of`.
        settings: Of the objective, as `--set` takes them: ``objective.teacher_weight=0.6``.

    Raises:
        RecipeError: A setting does not fit.
    """
    about, recipe = read_description(comparison), teachers.recipe.model_copy(update={"comparison": None})
    block = {"name": "distillation", "teacher": str(table_of(comparison, teachers)), **MIXTURE}
    values: dict[str, Any] = {"objective": dict(block)}
    errors = put_settings(values, settings)
    errors += [f"{key}: the students have the recipe of their teachers" for key in values if key != "objective"]
    if errors:
        raise RecipeError(errors, source="--set")
    (checked,) = checked_variants(recipe, [values["objective"]], source=f"distill {comparison}")
    own = {key: value for key, value in values["objective"].items() if block.get(key) != value}
    words = [f"{key}={value}" for key, value in own.items()]
    student = replace(
        checked,
        name=" ".join([f"distilled from {len(teachers.seeds)} {teachers.variant}", *words]),
        folder="-".join(["distilled", str(len(teachers.seeds)), teachers.folder.name, *words]),
    )
    return plan_runs(
        recipe,
        about["recipe"],
        comparison,
        variants=[student],
        baseline=about["baseline"],
        seeds=teachers.seeds,
        before=about,
    )


def write_predictions(comparison: Path, teachers: Teachers, recipe: Recipe, data: TrainingData) -> str | None:
    """Writes what the teachers predict of every training example; returns a warning where they still underfit.

    Args:
        comparison: The comparison folder.
        teachers: See `teachers_of`.
        recipe: Of a student.
        data: What it is trained on.

    Raises:
        RecipeError: When the data are not those of the teachers.
    """
    table = table_of(comparison, teachers)
    with saving(comparison, needed_bytes=TableKind.of(recipe, data).size):
        write_table(table, teachers.folder, recipe, data, device=torch.device("cpu"))
    predicted = open_table(table, recipe, data)
    if not isinstance(predicted, Tensor) or not isinstance(data, LabelledData):
        return None
    trained = float((predicted.argmax(dim=1) != data.train.labels.cpu()).float().mean())
    if math.isinf(teachers.validation_error) or trained <= _UNDERFITS * teachers.validation_error:
        return None
    return (
        f"the teachers still underfit: {trained:.1%} training error together, {teachers.validation_error:.1%} "
        "validation error each. Softer targets are likely to make the students worse; train longer first"
    )
