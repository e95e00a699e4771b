"""Tuning: every variant of the objective gets the same number of trials, scored on the validation set.

The trials of a variant are an optuna study in memory. What it proposes follows from the recipe's seed, the number of
the trial and the scores of earlier rounds alone, so that a tuning that was stopped is replayed from the folders of its
trials, to the same proposals. A trial is an ordinary run, of one seed that the comparison does not use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import RecipeError, RunFolderError, TrainingError
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.recipes.variants import Variant, checked_variants
from labelembed.lab.runs.recipe_diff import check_same_recipe
from labelembed.lab.runs.search_spaces import (
    SHARED_TARGETS,
    Space,
    arguments_at,
    check_known_keys,
    described,
    draws_of,
    parse_space,
    recipe_with,
    space_of,
)
from labelembed.lab.training.run_folder import RunFolder
from labelembed.seeds import derived_seed

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

#: Of a comparison's folder: the trials of its variants.
TUNING_FOLDER = "tuning"
METRICS = {"error": "validation error", "nll": "validation NLL", "bleu": "validation BLEU"}
# Trials of a variant that are proposed together: a few at once keep several cores at work. Those of the first round are
# the recipe as it stands and points drawn at random.
_ROUND = 4
_MOST_TRIALS = 10_000
# Seeds from here on are nobody's first choice for a comparison.
_FIRST_SEED = 1_000
# `--space objective`: learning rate and weight decay stay the recipe's.
_OBJECTIVE_ONLY = "objective"

#: Makes the runs that are not finished: (name, recipe, folder) of each; returns why runs were lost, by their name.
MakeRuns = Callable[[Sequence[tuple[str, Recipe, Path]]], dict[str, str]]


@dataclass
class _Trials:
    """The trials of one variant: what is tuned, the study, and what each trial's arguments are."""

    variant: Variant
    space: Space
    study: Study
    asked: list[Trial] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuning:
    """A tuning, checked; `tune` makes it.

    Args:
        recipe: Everything but objective and seed.
        out: Where the trials go.
        spaces: What is tuned of each variant; nothing of some.
        trials: How many each of the others gets. The first is the variant as it was typed.
        seed: Of every trial.
        metric: What is chosen by, on the validation set: `error`, `nll` or `bleu`.
        left_out: Names of variants that differ from an earlier one only in what is tuned.
    """

    recipe: Recipe
    out: Path
    spaces: list[tuple[Variant, Space]]
    trials: int
    seed: int
    metric: str
    left_out: list[str]

    def recipe_of(self, variant: Variant, arguments: Mapping[str, Any]) -> Recipe:
        """Returns the recipe of a trial."""
        recipe = recipe_with(self.recipe, variant, arguments)
        return recipe.model_copy(update={"seed": self.seed, "comparison": None, "published": None})

    def folder_of(self, variant: Variant, number: int) -> Path:
        """Returns where the run of a trial is."""
        return self.out / variant.folder / f"trial-{number:03d}"

    def folders(self) -> list[Path]:
        """Returns where the runs of all trials are."""
        tuned = [variant for variant, space in self.spaces if space]
        return [self.folder_of(variant, number) for variant in tuned for number in range(self.trials)]


def plan_tuning(
    recipe: Recipe,
    out: Path,
    *,
    variants: Sequence[Variant],
    trials: int,
    taken_seeds: Sequence[int] = (),
    space: Sequence[str] = (),
) -> Tuning:
    """Returns what a tuning will run, with every recipe checked; see `comparison.compare`.

    `taken_seeds` are those of the comparison, which must not be chosen by; with ``objective`` in the space, the
    objective's own arguments only are tuned.

    Raises:
        LabelEmbedError: When optuna is not installed.
        RecipeError: With every error found.
    """
    try:
        import optuna
    except ImportError as error:
        how = "pip install 'labelembed[lab]'"
        raise LabelEmbedError(f"tuning needs the package optuna: {how} ({error})") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not 1 <= trials <= _MOST_TRIALS:
        raise RecipeError([f"must be from 1 to {_MOST_TRIALS:,}, got {trials}"], source="--trials")
    if not recipe.of_sentences and recipe.data["validation"] is None:
        message = "needs a validation set to choose by; hold one out with --set data.validation.fraction=0.1"
        raise RecipeError([message], source="tuning")
    recipe = with_whole_paths(recipe)
    typed = parse_space(text for text in space if text != _OBJECTIVE_ONLY)
    check_known_keys(typed, variants, recipe)
    spaces: list[tuple[Variant, Space]] = []
    left_out = []
    for variant in variants:
        own = space_of(variant, recipe, typed, objective_only=_OBJECTIVE_ONLY in space)
        if own and any(_untuned(variant, own) == _untuned(*other) for other in spaces):
            left_out.append(variant.name)
        else:
            spaces.append((variant, own))
    seed = next(seed for seed in count(_FIRST_SEED) if seed not in taken_seeds)
    by = recipe.selection.by.removeprefix("validation_")
    metric = by if by in METRICS else "bleu" if recipe.of_sentences else "error"
    return Tuning(recipe, out, spaces, trials, seed, metric, left_out)


def _untuned(variant: Variant, space: Space) -> dict[str, Any]:
    """Returns what of an objective is not tuned."""
    tuned = {key.removeprefix("objective.") for key in space}
    shared = {*SHARED_TARGETS.get(variant.objective["name"], ())}
    tuned |= shared if shared & tuned else set()
    return {key: value for key, value in variant.objective.items() if key not in tuned}


def tune(tuning: Tuning, make_runs: MakeRuns) -> tuple[list[Variant], dict[str, Any]]:
    """Makes the trials that are not finished; returns the variants with what was chosen, and how, for the report.

    Raises:
        RunFolderError: When a folder holds a trial of another tuning, or is damaged.
        TrainingError: When runs were lost, which the same command tries again, or a variant has no trial with a score.
    """
    all_trials = [_Trials(variant, space, _study(tuning)) for variant, space in tuning.spaces]
    tuned = [trials for trials in all_trials if trials.space]
    for begin in range(0, tuning.trials, _ROUND):
        numbers = range(begin, min(begin + _ROUND, tuning.trials))
        todo = []
        for trials in tuned:
            for number in numbers:
                recipe = _proposed(tuning, trials, number)
                folder = RunFolder(tuning.folder_of(trials.variant, number))
                if folder.state() != "empty":
                    way_out = "it is a trial of another tuning: choose another --out, or start over with --overwrite"
                    check_same_recipe(recipe, folder, way_out=way_out)
                if folder.state() not in ("finished", "failed"):
                    todo.append((f"{trials.variant.name} trial {number}", recipe, folder.path))
        lost = make_runs(todo)
        lost = {name: why for name, _, path in todo if (why := lost.get(name)) and RunFolder(path).state() != "failed"}
        if lost:  # what would come next depends on them
            heading = f"{len(lost)} run{'s' if len(lost) > 1 else ''} could not be made; the same command tries again"
            raise TrainingError("\n".join([heading, *(f"{name}: {why.splitlines()[0]}" for name, why in lost.items())]))
        for trials in tuned:
            for number in numbers:
                _tell(tuning, trials, number)
    lacking = [f"{trials.variant.name}: {_reason(tuning, trials)}" for trials in tuned if not trials.scores]
    if lacking:
        raise TrainingError("\n".join(["no trial has a score", *lacking]))
    made = [_chosen(tuning, trials) for trials in all_trials]
    about = {"metric": METRICS[tuning.metric], "trials": tuning.trials, "seeds": [tuning.seed]}
    about |= {"folder": TUNING_FOLDER, "left_out": tuning.left_out, "variants": [entry for _, entry in made]}
    return [variant for variant, _ in made], about


def _study(tuning: Tuning) -> Study:
    import optuna

    return optuna.create_study(direction="maximize" if tuning.metric == "bleu" else "minimize")


def _proposed(tuning: Tuning, trials: _Trials, number: int) -> Recipe:
    """Asks for the next trial and returns its recipe; the first is the variant as it was typed."""
    from optuna.samplers import TPESampler

    # A sampler of its own for each trial: it draws what it would have drawn without a stop.
    own_seed = derived_seed(tuning.recipe.seed, "tuning", trials.variant.folder, number) % 2**32
    trials.study.sampler = TPESampler(seed=own_seed, n_startup_trials=_ROUND)
    arguments: dict[str, Any] = {}
    if number == 0:
        first = draws_of(trials.space, tuning.recipe_of(trials.variant, {}))
        trials.study.enqueue_trial(first)
        space = {key: part for key, part in trials.space.items() if key in first}
        trials.asked.append(trials.study.ask(space))
    else:
        trials.asked.append(trials.study.ask(trials.space))
        arguments = arguments_at(trials.space, trials.asked[-1].params, trials.variant.objective["name"])
    trials.arguments.append(arguments)
    return tuning.recipe_of(trials.variant, arguments)


def _tell(tuning: Tuning, trials: _Trials, number: int) -> None:
    """Tells the study how a trial ended: its score, or that it has none."""
    from optuna.trial import TrialState

    folder = RunFolder(tuning.folder_of(trials.variant, number))
    if folder.state() == "failed":
        trials.study.tell(trials.asked[number], state=TrialState.PRUNED)  # the worst to the sampler; FAIL it forgets
        return
    validation = folder.result().get("validation")
    score = validation.get(tuning.metric) if isinstance(validation, dict) else None
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise RunFolderError(f"{folder.path / 'result.json'}: damaged, it has no finite validation {tuning.metric}")
    trials.scores[number] = float(score)
    trials.study.tell(trials.asked[number], float(score))


def _reason(tuning: Tuning, trials: _Trials) -> str:
    return str(RunFolder(tuning.folder_of(trials.variant, 0)).result().get("message"))


def _chosen(tuning: Tuning, trials: _Trials) -> tuple[Variant, dict[str, Any]]:
    """Returns a variant with the arguments of its best trial, and what the report says of it."""
    variant, space, scores = trials.variant, trials.space, trials.scores
    best = (max if tuning.metric == "bleu" else min)(scores, key=lambda one: scores[one], default=None)
    arguments = {} if best is None else trials.arguments[best]
    rate = arguments.get("optimizer.learning_rate")
    entry = {
        "name": variant.name,
        "was": variant.name,
        "space": {key: described(part) for key, part in space.items()},
        "arguments": arguments,
        "score": None if best is None else scores[best],
        "first_score": scores.get(0),
        "trials": len(trials.asked),
        "without_score": len(trials.asked) - len(scores),
        "rate_at_end": rate is not None and _is_at_end(rate, space["optimizer.learning_rate"]),
    }
    if not space:
        return variant, entry
    settings = {key: value for key, value in arguments.items() if not key.startswith("objective.")}
    own = {key.removeprefix("objective."): value for key, value in arguments.items() if key not in settings}
    source = f"{variant.name}, tuned"
    recipe = recipe_with(tuning.recipe, variant, settings)
    (chosen,) = checked_variants(recipe, [variant.given | own], source=source)
    blocks = {block: getattr(recipe, block) for block in dict.fromkeys(key.partition(".")[0] for key in settings)}
    folder = "-".join([chosen.folder, *(f"{key}={_text(value)}" for key, value in settings.items())])
    tuned = replace(chosen, name=f"{variant.name} tuned", folder=folder, settings=blocks)
    return tuned, entry | {"name": tuned.name}


def _text(value: Any) -> str:
    """Returns a value as YAML that is read back as the same value."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def _is_at_end(rate: float, part: Any) -> bool:
    """Tells whether a learning rate lies within a tenth of an end of its range, beyond which a better one may be."""
    if not getattr(part, "log", False):
        return False
    share = math.log(rate / part.low) / math.log(part.high / part.low)
    return min(share, 1 - share) < 0.1
