"""Tuning: every variant of the objective gets the same number of trials, scored on the validation set.

The trials of a variant are an optuna study in memory, whose proposals depend only on the recipe's seed, the number of
the trial and the scores of earlier rounds. A stopped tuning is therefore replayed from the folders of its trials. Each
trial is an ordinary run with a seed that the comparison does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from labelembed.lab.errors import RecipeError, TrainingError
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.recipes.variants import Variant, variant_folder
from labelembed.lab.runs.display import say
from labelembed.lab.runs.pools import Job
from labelembed.lab.runs.recipe_diff import check_same_recipe
from labelembed.lab.training.run_folder import RunFolder
from labelembed.seeds import derived_seed

#: A search space by key of the recipe: a range (low, high), one on a log scale, or a list of values.
Space = dict[str, tuple[float, float] | tuple[float, float, str] | list[str]]
#: Of each objective's arguments.
SEARCH_SPACES: dict[str, Space] = {
    "one_hot": {},
    "label_smoothing": {"smoothing": (0.02, 0.9)},
    "label_embedding": {
        "temperature": (1, 8, "log"),
        "output_weight": (0, 1),
        "target_weight": (0, 1),
        "uniform_weight": (0, 1),
        "embedding_learning_rate": (0.3, 10, "log"),
    },
    "adaptive_labels": {"preset": ["published_code", "paper"], "repel_weight": (0, 10)},
    "retrospection": {"final_weight": (0.1, 0.95), "temperature": (1, 10, "log")},
    "online_label_smoothing": {"similarity_weight": (0, 0.6), "uniform_weight": (0, 0.4)},
    "confidence_penalty": {"penalty_weight": (0.01, 2, "log")},
    "teacher_free": {"teacher_weight": (0.05, 0.95), "temperature": (1, 40, "log")},
    "distillation": {"teacher_weight": (0.1, 1), "temperature": (1, 10, "log")},
    "static_labels": {"delta": (0.1, 3, "log")},
}
#: Of a comparison's folder: the trials of its variants.
TUNING_FOLDER = "tuning"
# Trials of a variant that are proposed together, to keep several cores at work. Those of the first round are the recipe
# as it stands and points drawn at random.
_ROUND = 4
# Comparisons hardly use seeds from here on.
_FIRST_SEED = 1_000


def search_space(variant: Variant, recipe: Recipe) -> Space:
    """Returns the search space of a variant: its own arguments, learning rate and weight decay.

    Those from a tenth of the recipe's value to ten times as much; without weight decay that from 1e-6 to 1e-2, with
    AdamW, which takes the decay times the learning rate from each weight, from 1e-4 to 1.
    """
    space: Space = {f"objective.{key}": part for key, part in SEARCH_SPACES[variant.objective["name"]].items()}
    for key in {"learning_rate", "weight_decay"} & recipe.optimizer.keys():
        value, without = recipe.optimizer[key], (1e-4, 1) if recipe.optimizer["name"] == "adamw" else (1e-6, 1e-2)
        low, high = (value / 10, value * 10) if value else without
        space[f"optimizer.{key}"] = (low, high, "log")
    if "objective.teacher_weight" in space and (uniform := variant.objective.get("uniform_weight")):
        space["objective.teacher_weight"] = (0.1 * (1 - uniform), 1 - uniform)  # with the uniform part at most 1
    return dict(sorted(space.items()))


def to_tune(recipe: Recipe, variants: Sequence[Variant]) -> list[Variant]:
    """Returns the variants without those that differ from another only in tuned keys, and prints a note."""
    first: dict[str, Variant] = {}
    for one in variants:
        space = search_space(one, recipe)
        fixed = repr({key: value for key, value in one.objective.items() if f"objective.{key}" not in space})
        if (other := first.setdefault(fixed, one)) is not one:
            say(f"note: {one.name} is left out: it differs from {other.name} only in what is tuned")
    return list(first.values())


def tuned_variant(recipe: Recipe, variant: Variant, arguments: Mapping[str, Any]) -> Variant:
    """Returns a variant with other values of some keys of its objective and of the optimizer."""
    blocks = {"optimizer": dict(recipe.optimizer), "objective": dict(variant.objective)}
    for key, value in arguments.items():
        block, _, name = key.partition(".")
        blocks[block][name] = value
    parsed = parse_recipe(recipe.of_one_run() | blocks, source=variant.name)
    return replace(variant, objective=parsed.objective, settings={"optimizer": parsed.optimizer})


def _distribution(part: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(part, list):
        return CategoricalDistribution(part)
    return FloatDistribution(*part[:2], log="log" in part)


class _Trials:
    """The trials of one variant: the first is the variant as it was typed, an optuna study proposes the others."""

    def __init__(self, variant: Variant, space: Space, tuning: Tuning) -> None:
        import optuna

        self.variant, self.space, self._tuning = variant, space, tuning
        self._study = optuna.create_study(direction="maximize" if tuning.metric == "bleu" else "minimize")
        self.arguments: dict[int, dict[str, Any]] = {0: {}}
        self.scores: dict[int, float] = {}

    def folder(self, number: int) -> RunFolder:
        """Returns the run folder of a trial."""
        return RunFolder(self._tuning.out / self.variant.folder / f"trial-{number:03d}")

    def job(self, number: int) -> Job:
        """Asks for the next trial and returns its run."""
        from optuna.samplers import TPESampler

        recipe, folder = self._tuning.recipe, self.folder(number)
        if number:  # a sampler of its own for each trial: it draws what it would have drawn without a stop
            own_seed = derived_seed(recipe.seed, "tuning", self.variant.folder, number) % 2**32
            self._study.sampler = TPESampler(seed=own_seed, n_startup_trials=_ROUND - 1)
            drawn = self._study.ask({key: _distribution(part) for key, part in self.space.items()}).params
            # To three digits, so that what is printed is what ran.
            short = {key: float(f"{value:.3g}") for key, value in drawn.items() if isinstance(value, float)}
            self.arguments[number] = drawn | short
        own = tuned_variant(recipe, self.variant, self.arguments[number]).recipe_of(recipe, self._tuning.seed)
        if folder.state() != "empty":
            way_out = "it is a trial of another tuning: choose another --out, or start over with --overwrite"
            check_same_recipe(own, folder, way_out=way_out)
        return Job(f"{self.variant.name} trial {number}", own, folder.path)

    def tell(self, number: int) -> None:
        """Tells the study how a trial ended: its score, or that it has none."""
        from optuna.trial import TrialState

        folder = self.folder(number)
        if folder.state() == "finished":
            self.scores[number] = float(folder.result()["validation"][self._tuning.metric])
        if number:  # without a score the worst to the sampler; FAIL it forgets
            state = None if number in self.scores else TrialState.PRUNED
            self._study.tell(number - 1, self.scores.get(number), state)

    def chosen(self) -> tuple[Variant, dict[str, Any]]:
        """Returns the variant with the arguments of its best trial, and what ``comparison.json`` says of it."""
        sign = -1 if self._tuning.metric == "bleu" else 1

        def loss(number: int) -> tuple[float, float]:  # of equal scores that with the lowest NLL
            return sign * self.scores[number], self.folder(number).result()["validation"].get("nll", 0.0)

        best = min(self.scores, key=loss, default=0)  # the variant as it was typed
        arguments, name = self.arguments[best], f"{self.variant.name} tuned"
        tuned = tuned_variant(self._tuning.recipe, self.variant, arguments)
        entry = {"name": name, "was": self.variant.name, "space": self.space, "trials": self._tuning.trials}
        entry |= {"arguments": arguments, "score": self.scores.get(best)}
        return replace(tuned, name=name, folder=variant_folder({"name": self.variant.folder} | arguments)), entry


class Tuning:
    """The trials of the variants of a comparison, whose own seeds are `taken_seeds` and must not be chosen by.

    Raises RecipeError where nothing can be tuned.
    """

    def __init__(
        self, recipe: Recipe, out: Path, variants: Sequence[Variant], *, trials: int, taken_seeds: Sequence[int] = ()
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if trials < 1:
            raise RecipeError([f"must be >= 1, got {trials}"], source="--trials")
        by = recipe.selection.by.removeprefix("validation_")
        self.metric = by if by in ("error", "nll", "bleu") else "bleu" if recipe.of_sentences else "error"
        self.seed = next(seed for seed in count(_FIRST_SEED) if seed not in taken_seeds)
        self.recipe, self.out, self.trials = recipe, out, trials
        self.variants = [_Trials(variant, search_space(variant, recipe), self) for variant in variants]

    def make(
        self, make_runs: Callable[[Sequence[Job], int, int], dict[str, str]]
    ) -> tuple[list[Variant], dict[str, Any]]:
        """Makes the trials that are not finished; returns the variants with what was chosen, and how, for the report.

        `make_runs` gets runs, how many are done and of how many; TrainingError: it returned why some were lost.
        """
        for begin in range(0, self.trials, _ROUND):
            numbers = range(begin, min(begin + _ROUND, self.trials))
            jobs = [trials.job(number) for trials in self.variants for number in numbers]
            todo, total = [job for job in jobs if not _has_ended(job)], self.trials * len(self.variants)
            for job in todo:
                (job.folder / "result.json").unlink(missing_ok=True)  # of one that failed for want of room or memory
            lost = make_runs(todo, begin * len(self.variants) + len(jobs) - len(todo), total)
            if still_open := [job.name for job in jobs if not _has_ended(job)]:  # what comes next depends on them
                heading = "these trials could not be made; the same command tries again"
                raise TrainingError("\n".join([heading, *(f"{name}: {lost.get(name)}" for name in still_open)]))
            for trials in self.variants:
                for number in numbers:
                    trials.tell(number)
        chosen = [trials.chosen() for trials in self.variants]
        about = {"metric": self.metric, "trials": self.trials, "seeds": [self.seed]}
        return [variant for variant, _ in chosen], about | {"variants": [entry for _, entry in chosen]}


def _has_ended(job: Job) -> bool:
    folder = RunFolder(job.folder)
    return folder.state() == "finished" or folder.result().get("diverged_at_step") is not None
