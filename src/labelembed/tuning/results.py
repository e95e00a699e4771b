"""What came of a tuning: the best trial of each variant, as a variant to compare and as files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from labelembed.recipes.schema import Recipe
from labelembed.recipes.variants import Variant, checked_variants
from labelembed.training.files import write_bytes, write_json
from labelembed.training.run_folder import RunFolder
from labelembed.tuning.planning import TunedVariant, TuningPlan
from labelembed.tuning.search_spaces import Range
from labelembed.tuning.space import recipe_with
from labelembed.tuning.study import Trial

FILE = "tuning.json"
_RATE = "optimizer.learning_rate"
# Of the range's length, by its logarithm: of the default one a factor of 1.6.
_NEAR = 0.1


@dataclass(frozen=True)
class TrialRecord:
    """One trial with its runs.

    Args:
        trial: As the journal has it.
        folders: Of its runs, one a seed.
        message: Why it failed.
        same_as: The earlier trial with the same arguments, whose runs these are.
    """

    trial: Trial
    folders: list[RunFolder]
    message: str = ""
    same_as: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    Args:
        tuned: The variant and what was tuned.
        records: Its trials; none where there is nothing to tune.
        maximise: Whether more is better.
    """

    tuned: TunedVariant
    records: list[TrialRecord]
    maximise: bool = False

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best score, the first of equals; None where there is none."""
        scored = [record for record in self.records if record.trial.score is not None]
        sign = -1 if self.maximise else 1
        return min(scored, key=lambda record: sign * (record.trial.score or 0.0), default=None)

    @property
    def arguments(self) -> dict[str, Any]:
        """The chosen values by key of the recipe; none where the objective stays as it was."""
        return {} if self.best is None else self.best.trial.arguments

    def settings(self) -> dict[str, Any]:
        """Returns the chosen values that are not the objective's."""
        return {key: value for key, value in self.arguments.items() if not key.startswith("objective.")}

    def block(self) -> dict[str, Any]:
        """Returns the objective's block as it was asked for, with the chosen values."""
        chosen = {
            key.removeprefix("objective."): value
            for key, value in self.arguments.items()
            if key.startswith("objective.")
        }
        return self.tuned.variant.given | chosen

    def variant_text(self) -> str:
        """Returns the chosen objective as `--objectives` takes it."""
        block = self.block()
        return ":".join([block["name"], *(f"{key}={_text(value)}" for key, value in block.items() if key != "name")])


def _text(value: Any) -> str:
    """Returns a value as YAML that is read back as the same value."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def tuned_variants(plan: TuningPlan, outcomes: Sequence[Outcome]) -> list[Variant]:
    """Returns the variants of a comparison with their chosen arguments; those with nothing to tune as they are."""
    found = []
    for outcome in outcomes:
        variant = outcome.tuned.variant
        if not outcome.tuned.space:
            found.append(variant)
            continue
        settings = outcome.settings()
        recipe = recipe_with(plan.recipe, variant, settings)
        (chosen,) = checked_variants(recipe, [outcome.block()], source=f"{variant.name}, tuned")
        own = {block: getattr(recipe, block) for block in dict.fromkeys(key.partition(".")[0] for key in settings)}
        folder = "-".join([chosen.folder, *(f"{key}={_text(value)}" for key, value in settings.items())])
        found.append(replace(chosen, name=f"{variant.name} tuned", folder=folder, settings=own))
    return found


def tuning_as_json(plan: TuningPlan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns all of it as JSON values; scores are fractions, of NLL nats."""
    return {
        "format": 1,
        "recipe": plan.recipe_name,
        "measure": plan.measure_in_words,
        "trials": plan.trials,
        "seeds": plan.seeds,
        "pruning": plan.pruning,
        "left_out": [variant.name for variant in plan.left_out],
        "variants": [_variant_as_json(plan, outcome) for outcome in outcomes],
    }


def _variant_as_json(plan: TuningPlan, outcome: Outcome) -> dict[str, Any]:
    best, tuned = outcome.best, outcome.tuned
    return {
        "name": tuned.variant.name,
        "objective": outcome.block(),
        "space": {key: str(dimension) for key, dimension in tuned.space.items()},
        "trials": [_trial_as_json(plan, record) for record in outcome.records],
        "chosen": None if best is None else best.trial.number,
        "arguments": outcome.arguments,
        "score": None if best is None else best.trial.score,
        "first_score": outcome.records[0].trial.score if outcome.records else None,
        "variant": outcome.variant_text(),
        "settings": outcome.settings(),
        "rate_at_end": _rate_at_end(outcome),
    }


def _rate_at_end(outcome: Outcome) -> bool:
    """Tells whether the chosen learning rate lies near an end of its range, beyond which a better one may be."""
    rate, space = outcome.arguments.get(_RATE), outcome.tuned.space.get(_RATE)
    if rate is None or not isinstance(space, Range) or not space.log:
        return False
    share = math.log(rate / space.low) / math.log(space.high / space.low)
    return min(share, 1 - share) < _NEAR


def _trial_as_json(plan: TuningPlan, record: TrialRecord) -> dict[str, Any]:
    trial = record.trial
    return {
        "number": trial.number,
        "arguments": trial.arguments,
        "state": trial.state,
        "score": trial.score,
        "message": record.message or None,
        "same_as": record.same_as,
        "folders": [folder.path.relative_to(plan.out).as_posix() for folder in record.folders],
    }


def write_tuning(plan: TuningPlan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Writes ``tuning.json``, ``trials.csv`` and the best recipes below ``best/``; returns what the first one holds."""
    about = tuning_as_json(plan, outcomes)
    write_json(plan.out / FILE, about)
    write_bytes(plan.out / "trials.csv", _table(about).encode())
    for outcome in outcomes:
        if outcome.best is not None:
            folder = plan.out / "best"
            folder.mkdir(exist_ok=True)
            write_bytes(folder / f"{outcome.tuned.variant.folder}.yaml", _recipe_text(plan, outcome).encode())
    return about


def _recipe_text(plan: TuningPlan, outcome: Outcome) -> str:
    recipe: Recipe = recipe_with(plan.recipe, outcome.tuned.variant, outcome.arguments)
    heading = f"# {plan.recipe_name} with {outcome.variant_text()}, chosen by the {plan.measure_in_words}\n"
    comparison = plan.recipe.comparison
    values = recipe.of_one_run() | ({"comparison": comparison.model_dump()} if comparison else {})
    return heading + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _table(about: dict[str, Any]) -> str:
    keys = {key: None for variant in about["variants"] for trial in variant["trials"] for key in trial["arguments"]}
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["variant", "trial", "state", "score", "chosen", *keys])
    for variant in about["variants"]:
        for trial in variant["trials"]:
            score = "" if trial["score"] is None else repr(trial["score"])
            chosen = str(trial["number"] == variant["chosen"]).lower()
            cells = [variant["name"], trial["number"], trial["state"], score, chosen]
            rows.writerow([*cells, *(trial["arguments"].get(key, "") for key in keys)])
    return written.getvalue()
