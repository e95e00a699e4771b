"""What a tuning will run: which variants over which space, by how many trials with which seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from labelembed.errors import RecipeError, RunFolderError
from labelembed.recipes.loading import with_whole_paths
from labelembed.recipes.schema import Recipe
from labelembed.recipes.variants import Variant, given_seeds
from labelembed.training.run_folder import RunFolder
from labelembed.tuning.search_spaces import Dimension, Simplex
from labelembed.tuning.space import OBJECTIVE_ONLY, parse_space, recipe_with, refuse_unknown_keys, space_of

Pruning = Literal["none", "median"]
Measure = Literal["error", "nll", "bleu"]
MOST_TRIALS = 10_000
# Seeds from here on are nobody's first choice for a comparison.
FIRST_SEED = 1_000
_MEASURE_IN_WORDS = {"error": "validation error", "nll": "validation NLL", "bleu": "validation BLEU"}


@dataclass(frozen=True)
class TunedVariant:
    """One objective that is tuned.

    Args:
        variant: As it was asked for; its arguments are those of the first trial.
        space: What is tuned, by key of the recipe; empty where there is nothing.
    """

    variant: Variant
    space: dict[str, Dimension]


@dataclass(frozen=True)
class TuningPlan:
    """All of a tuning, checked.

    Args:
        recipe_name: For people.
        recipe: Everything but objective and seed.
        out: The tuning's folder.
        tuned: The objectives.
        trials: How many each of them gets, the first of which is the objective as it was asked for.
        seeds: Of every trial; its score is the mean over them.
        measure: What is chosen by, on the validation examples.
        pruning: `median`: a run that is worse than the median of the trials before it is given up.
        left_out: Variants that differ from an earlier one only in what is tuned.
    """

    recipe_name: str
    recipe: Recipe
    out: Path
    tuned: list[TunedVariant]
    trials: int
    seeds: list[int]
    measure: Measure
    pruning: Pruning = "none"
    left_out: list[Variant] = field(default_factory=list)

    @property
    def with_space(self) -> list[TunedVariant]:
        """Those of which there is something to tune."""
        return [tuned for tuned in self.tuned if tuned.space]

    @property
    def measure_in_words(self) -> str:
        """What is chosen by."""
        return _MEASURE_IN_WORDS[self.measure]

    def recipe_of(self, tuned: TunedVariant, arguments: dict[str, Any], seed: int) -> Recipe:
        """Returns the recipe of one run of a trial."""
        recipe = recipe_with(self.recipe, tuned.variant, arguments)
        return with_whole_paths(recipe.model_copy(update={"seed": seed, "comparison": None, "published": None}))

    def folder_of(self, tuned: TunedVariant, number: int, seed: int) -> RunFolder:
        """Returns where one run of a trial stands."""
        return RunFolder(self.out / "trials" / tuned.variant.folder / f"trial-{number:03d}" / f"seed-{seed}")

    def estimated_runs(self) -> list[tuple[Variant, int, Recipe, Path]]:
        """Returns one run for each that there will be at most, with the arguments of its variant's first trial."""
        return [
            (tuned.variant, seed, self.recipe_of(tuned, {}, seed), self.folder_of(tuned, number, seed).path)
            for tuned in self.with_space
            for number in range(self.trials)
            for seed in self.seeds
        ]


def plan_tuning(
    recipe: Recipe,
    recipe_name: str,
    out: Path,
    *,
    variants: Sequence[Variant],
    trials: int,
    seeds: str | None = None,
    taken_seeds: Sequence[int] = (),
    space: Sequence[str] = (),
    pruning: Pruning = "none",
) -> TuningPlan:
    """Returns what a tuning will run, with every recipe checked.

    Args:
        recipe: Everything but objective and seed.
        recipe_name: For people.
        out: The tuning's folder.
        variants: The objectives.
        trials: How many each gets.
        seeds: Of a trial: a number of them or a list; None: one. Those of a number are none of `taken_seeds`.
        taken_seeds: Those of the comparison, which must not be chosen by.
        space: What else or otherwise is tuned than learning rate, weight decay and the objective's own arguments, see
            `space.parse_space`; with ``objective`` among it, the objective's own arguments only.
        pruning: See `TuningPlan`.

    Raises:
        RecipeError: With every fault found.
        RunFolderError: When the folder holds something else.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise RecipeError([f"must be from 1 to {MOST_TRIALS:,}, got {trials}"], source="--trials")
    if not recipe.of_sentences and recipe.data["validation"] is None:
        message = "needs validation examples to choose by; hold some out with --set data.validation.fraction=0.1"
        raise RecipeError([message], source="tuning")
    _refuse_other_folder(out)
    recipe = with_whole_paths(recipe)
    objective_only = OBJECTIVE_ONLY in space
    given = parse_space([text for text in space if text != OBJECTIVE_ONLY])
    refuse_unknown_keys(given, variants, recipe)
    tuned: list[TunedVariant] = []
    left_out: list[Variant] = []
    for variant in variants:
        candidate = TunedVariant(variant, space_of(variant, recipe, given, objective_only=objective_only))
        alike = any(candidate.space and _untuned(candidate) == _untuned(other) for other in tuned)
        if alike:
            left_out.append(variant)
        else:
            tuned.append(candidate)
    return TuningPlan(
        recipe_name,
        recipe,
        out,
        tuned,
        trials,
        _trial_seeds(seeds, taken_seeds),
        _measure(recipe),
        pruning,
        left_out,
    )


def _refuse_other_folder(out: Path) -> None:
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    for name, what in (("recipe.yaml", "a single run"), ("comparison.json", "a comparison")):
        if (out / name).exists():
            raise RunFolderError(f"{out}: holds {what}; choose another folder with --out")


def _untuned(tuned: TunedVariant) -> dict[str, Any]:
    """Returns what of an objective is not tuned."""
    chosen: set[str] = set()
    for key, dimension in tuned.space.items():
        names = dimension.arguments if isinstance(dimension, Simplex) else (key.removeprefix("objective."),)
        chosen |= set(names)
    return {key: value for key, value in tuned.variant.objective.items() if key not in chosen}


def _trial_seeds(given: str | None, taken: Sequence[int]) -> list[int]:
    number = given_seeds(given) if given is not None else [0]
    if given is not None and "," in given:
        return number
    free = (seed for seed in count(FIRST_SEED) if seed not in taken)
    return [next(free) for _ in number]


def _measure(recipe: Recipe) -> Measure:
    by = recipe.selection.by
    if by in ("validation_error", "validation_nll", "validation_bleu"):
        return by.removeprefix("validation_")  # type: ignore[return-value]
    return "bleu" if recipe.of_sentences else "error"
