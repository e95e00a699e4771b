"""How the variants of a comparison were tuned, as its ``comparison.json`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.formatting import NOTHING, counted, listed, number, seeds_text
from labelembed.lab.report.run_checks import number_in


@dataclass(frozen=True)
class TuningRow:
    """One variant, as people read it.

    Attributes:
        name: Of the variant in the comparison.
        metric: What was chosen by.
        space: What was tuned, and between what; nothing where there was nothing to tune.
        trials: How many, and how many of them have no score.
        chosen: The chosen values; nothing where the objective stayed as it was.
        first: The score of the objective as it was given.
        best: The score of what was chosen.
        rate_at_end: Whether the chosen learning rate lies near an end of its range.
    """

    name: str
    metric: str
    space: list[str]
    trials: str
    chosen: list[str]
    first: str
    best: str
    rate_at_end: bool = False


def tuning_rows(comparison: Comparison) -> list[TuningRow]:
    """Returns a row a variant; none where nothing was tuned, or its description is damaged."""
    tuning = comparison.tuning or {}
    variants, metric = tuning.get("variants"), str(tuning.get("metric"))
    entries = [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []

    def score(value: object) -> str:
        found = number_in(value)
        if found is None:
            return NOTHING
        return number(found, 4) if metric.endswith("NLL") else f"{number(100 * found, 2)} %"

    def keys(value: object) -> dict[str, Any]:
        found = value if isinstance(value, dict) else {}
        return {str(key).removeprefix("objective."): part for key, part in found.items()}

    return [
        TuningRow(
            name=str(entry.get("name")),
            metric=metric,
            space=[f"{key}: {text}" for key, text in keys(entry.get("space")).items()],
            trials=str(entry.get("trials") or NOTHING)
            + (f" ({failed} without a score)" if (failed := entry.get("without_score")) else ""),
            chosen=[f"{key}={value}" for key, value in keys(entry.get("arguments")).items()],
            first=score(entry.get("first_score")),
            best=score(entry.get("score")),
            rate_at_end=entry.get("rate_at_end") is True,
        )
        for entry in entries
    ]


def tuning_statement(comparison: Comparison) -> str:
    """Returns what was tuned of which variants, and by how many trials, for the verdict; empty where nothing was."""
    rows, tuning = tuning_rows(comparison), comparison.tuning or {}
    tuned = [row for row in rows if row.space]
    statements = []
    if tuned:
        seeds = tuning.get("seeds")
        of_seeds = f" ({seeds_text(seeds)})" if isinstance(seeds, list) else ""
        trials = counted(int(number_in(tuning.get("trials")) or 0), "trial")
        trials += " each" if len(tuned) > 1 else ""
        what = _what_was_tuned(tuned)
        statements.append(
            f"{listed([row.name for row in tuned])}: {trials}{of_seeds} chose {listed(what or ['nothing'])} on the "
            f"validation examples."
        )
        statements += [] if "the learning rate" in what else ["The learning rate is the recipe's for all."]
    if at_end := [row.name for row in rows if row.rate_at_end]:
        statements.append(
            f"The learning rate chosen for {listed(at_end)} lies near an end of its range: a wider one may change the "
            "answer."
        )
    if untuned := [row.name for row in rows if not row.space]:
        statements.append(f"{listed(untuned)} {'was' if len(untuned) == 1 else 'were'} not tuned.")
    return " ".join(statements)


def _what_was_tuned(rows: list[TuningRow]) -> list[str]:
    """Returns in words what was tuned: keys of the recipe that all share, and the objectives' own arguments."""
    tuned = [
        [key for key, _, how in (text.partition(": ") for text in row.space) if not how.startswith("held at")]
        for row in rows
    ]
    shared = [key for key in tuned[0] if "." in key and all(key in keys for keys in tuned)]
    own = [any("." not in key for key in keys) for keys in tuned]
    words = [f"the {key.partition('.')[2].replace('_', ' ')}" for key in shared]
    if any(own):
        words.append("the objective's own arguments" + ("" if all(own) else " (where it has any)"))
    return words


def tuning_lines(comparison: Comparison) -> list[str]:
    """Returns what was chosen, a line a variant, for the terminal."""
    return [
        f"{row.name}: {' '.join(row.chosen) or 'as it was'}, {row.metric} {row.best} (as it was {row.first}), "
        f"{row.trials} trials over {'; '.join(row.space)}"
        for row in tuning_rows(comparison)
        if row.space
    ]
