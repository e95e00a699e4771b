"""How the variants of a comparison were tuned, as its ``comparison.json`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labelembed.report.comparison import Comparison
from labelembed.report.formatting import NOTHING, counted, listed, number, seeds_text
from labelembed.report.run_checks import number_in


@dataclass(frozen=True)
class TuningRow:
    """One variant, as people read it.

    Attributes:
        name: Of the variant in the comparison.
        measure: What was chosen by.
        space: What was tuned, and between what; nothing where there was nothing to tune.
        trials: How many, and how many of them have no score.
        chosen: The chosen values; nothing where the objective stayed as it was.
        first: The score of the objective as it was asked for.
        best: The score of what was chosen.
    """

    name: str
    measure: str
    space: list[str]
    trials: str
    chosen: list[str]
    first: str
    best: str


def tuning_rows(comparison: Comparison) -> list[TuningRow]:
    """Returns a row a variant; none where nothing was tuned, or what is said of it is damaged."""
    tuning = comparison.tuning or {}
    variants = tuning.get("variants")
    measure = str(tuning.get("measure"))
    found = []
    for entry in variants if isinstance(variants, list) else []:
        if not isinstance(entry, dict):
            continue
        trials, failed = entry.get("trials"), entry.get("without_score")
        without = f" ({failed} without a score)" if failed else ""
        found.append(
            TuningRow(
                name=str(entry.get("name")),
                measure=measure,
                space=[f"{_key(key)}: {text}" for key, text in _mapping(entry.get("space")).items()],
                trials=f"{trials}{without}" if trials else NOTHING,
                chosen=[f"{_key(key)}={value}" for key, value in _mapping(entry.get("arguments")).items()],
                first=_score(entry.get("first_score"), measure),
                best=_score(entry.get("score"), measure),
            )
        )
    return found


def tuning_statement(comparison: Comparison) -> list[str]:
    """Returns in a sentence or two that all were tuned alike, for the verdict; nothing where none was."""
    rows = tuning_rows(comparison)
    if not rows:
        return []
    tuning = comparison.tuning or {}
    tuned = [row.name for row in rows if row.space]
    untuned = [row.name for row in rows if not row.space]
    statements = []
    if tuned:
        seeds = tuning.get("seeds")
        of_seeds = f" ({seeds_text(seeds)})" if isinstance(seeds, list) else ""
        trials = counted(int(number_in(tuning.get("trials")) or 0), "trial")
        each = " each" if len(tuned) > 1 else ""
        verb = "were" if len(tuned) > 1 else "was"
        statements = [f"{listed(tuned)} {verb} chosen by {trials}{each}{of_seeds} on the development rows."]
    if untuned:
        statements.append(f"Of {listed(untuned)} there is nothing to tune.")
    return [" ".join(statements)]


def tuning_lines(comparison: Comparison) -> list[str]:
    """Returns what was chosen, a line a variant, for the terminal."""
    return [
        f"{row.name}: {' '.join(row.chosen) or 'as it was'}, {row.measure} {row.best} (as it was {row.first}), "
        f"{row.trials} trials over {'; '.join(row.space)}"
        for row in tuning_rows(comparison)
        if row.space
    ]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _key(key: str) -> str:
    return str(key).removeprefix("objective.")


def _score(value: object, measure: str) -> str:
    score = number_in(value)
    if score is None:
        return NOTHING
    return number(score, 4) if measure.endswith("NLL") else f"{number(100 * score, 2)} %"
