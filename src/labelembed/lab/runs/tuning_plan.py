"""What a tuning will run: which variants over which space, by how many trials with which seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.recipes.variants import Variant, given_seeds
from labelembed.lab.runs.search_spaces import (
    SHARED_TARGETS,
    Space,
    parse_space,
    recipe_with,
    refuse_unknown_keys,
    space_of,
)
from labelembed.lab.runs.trials import Metric, require_optuna
from labelembed.lab.training.run_folder import RunFolder

MOST_TRIALS = 10_000
# `--space objective`: learning rate and weight decay stay the recipe's.
OBJECTIVE_ONLY = "objective"
# Seeds from here on are nobody's first choice for a comparison.
_FIRST_SEED = 1_000
METRICS: dict[str, str] = {"error": "validation error", "nll": "validation NLL", "bleu": "validation BLEU"}


@dataclass(frozen=True)
class TuningPlan:
    """All of a tuning, checked.

    Args:
        recipe_name: For people.
        recipe: Everything but objective and seed.
        out: The tuning's folder.
        spaces: What is tuned of each variant; nothing of some.
        trials: How many each of the others gets. The first is the variant as it was typed.
        seeds: Of every trial; its score is the mean over them.
        metric: What is chosen by, on the validation set.
        prune: Whether a run that is worse than the median of the trials before it is given up.
        left_out: Names of variants that differ from an earlier one only in what is tuned.
    """

    recipe_name: str
    recipe: Recipe
    out: Path
    spaces: list[tuple[Variant, Space]]
    trials: int
    seeds: list[int]
    metric: Metric
    prune: bool
    left_out: list[str]

    @property
    def tuned(self) -> list[tuple[Variant, Space]]:
        """Those of which there is something to tune."""
        return [(variant, space) for variant, space in self.spaces if space]

    def recipe_of(self, variant: Variant, arguments: Mapping[str, Any], seed: int) -> Recipe:
        """Returns the recipe of one run of a trial."""
        recipe = recipe_with(self.recipe, variant, arguments)
        return with_whole_paths(recipe.model_copy(update={"seed": seed, "comparison": None, "published": None}))

    def folders_of(self, variant: Variant, number: int) -> dict[int, RunFolder]:
        """Returns where the runs of a trial are, by seed."""
        trial = self.out / "trials" / variant.folder / f"trial-{number:03d}"
        return {seed: RunFolder(trial / f"seed-{seed}") for seed in self.seeds}

    def runs(self) -> list[tuple[Variant, int, Recipe, Path]]:
        """Returns the runs of all trials, each with the arguments of its variant's first trial."""
        return [
            (variant, seed, self.recipe_of(variant, {}, seed), folder.path)
            for variant, _ in self.tuned
            for number in range(self.trials)
            for seed, folder in self.folders_of(variant, number).items()
        ]

    def count_ended(self) -> int:
        """Returns how many runs of the trials have ended, those that failed too."""
        return sum((folder / "result.json").exists() for *_, folder in self.runs())


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
    prune: bool = False,
) -> TuningPlan:
    """Returns what a tuning will run, with every recipe checked.

    Args:
        recipe: Everything but objective and seed.
        recipe_name: For people.
        out: The tuning's folder.
        variants: What is tuned.
        trials: How many each gets.
        seeds: Of a trial: a number of them or a list; None: one. Those of a number are none of `taken_seeds`.
        taken_seeds: Those of the comparison, which must not be chosen by.
        space: What else or otherwise is tuned than learning rate, weight decay and the objective's own arguments, see
            `search_spaces.parse_space`; with ``objective`` among it, the objective's own arguments only.
        prune: See `TuningPlan`.

    Raises:
        LabelEmbedError: When optuna is not installed.
        RecipeError: With every error found.
        RunFolderError: When the folder holds something else.
    """
    require_optuna()
    if not 1 <= trials <= MOST_TRIALS:
        raise RecipeError([f"must be from 1 to {MOST_TRIALS:,}, got {trials}"], source="--trials")
    if not recipe.of_sentences and recipe.data["validation"] is None:
        message = "needs a validation set to choose by; hold one out with --set data.validation.fraction=0.1"
        raise RecipeError([message], source="tuning")
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    for name, what in (("recipe.yaml", "a single run"), ("comparison.json", "a comparison")):
        if (out / name).exists():
            raise RunFolderError(f"{out}: holds {what}; choose another folder with --out")
    recipe = with_whole_paths(recipe)
    typed = parse_space(text for text in space if text != OBJECTIVE_ONLY)
    refuse_unknown_keys(typed, variants, recipe)
    spaces: list[tuple[Variant, Space]] = []
    left_out = []
    for variant in variants:
        found = space_of(variant, recipe, typed, objective_only=OBJECTIVE_ONLY in space)
        if found and any(_untuned(variant, found) == _untuned(*other) for other in spaces):
            left_out.append(variant.name)
        else:
            spaces.append((variant, found))
    if seeds is None or "," not in seeds:
        free = (seed for seed in count(_FIRST_SEED) if seed not in taken_seeds)
        of_trials = [next(free) for _ in given_seeds(seeds or "1")]
    else:
        of_trials = given_seeds(seeds)
    by = recipe.selection.by.removeprefix("validation_")
    metric = cast("Metric", by if by in METRICS else "bleu" if recipe.of_sentences else "error")
    return TuningPlan(recipe_name, recipe, out, spaces, trials, of_trials, metric, prune, left_out)


def _untuned(variant: Variant, space: Space) -> dict[str, Any]:
    """Returns what of an objective is not tuned."""
    tuned = {key.removeprefix("objective.") for key in space}
    shared = {*SHARED_TARGETS.get(variant.objective["name"], ())}
    tuned |= shared if shared & tuned else set()
    return {key: value for key, value in variant.objective.items() if key not in tuned}
