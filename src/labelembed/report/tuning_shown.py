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
        rate_at_end: Whether the chosen learning rate lies near an end of its range.
    """

    name: str
    measure: str
    space: list[str]
    trials: str
    chosen: list[str]
    first: str
    best: str
    rate_at_end: bool = False


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
                rate_at_end=entry.get("rate_at_end") is True,
            )
        )
    return found


def tuning_statement(comparison: Comparison) -> list[str]:
    """Returns what was tuned of which variants, and by how many trials, for the verdict; nothing where none was."""
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
        what, rest = _what_was_tuned([row for row in rows if row.space])
        statements = [f"{listed(tuned)}: {trials}{each}{of_seeds} chose {what} on the validation examples.{rest}"]
    if at_end := [row.name for row in rows if row.rate_at_end]:
        statements.append(
            f"The learning rate chosen for {listed(at_end)} lies near an end of its range: a wider one may change the "
            "answer."
        )
    if untuned:
        statements.append(f"{listed(untuned)} {'was' if len(untuned) == 1 else 'were'} not tuned.")
    return [" ".join(statements)]


def _what_was_tuned(rows: list[TuningRow]) -> tuple[str, str]:
    """Returns in words what was tuned of variants, and that the learning rate was not where that is so."""
    tuned = [
        [key for key, _, how in (text.partition(": ") for text in row.space) if not how.startswith("held at")]
        for row in rows
    ]
    shared = [
        f"the {key.partition('.')[2].replace('_', ' ')}"
        for key in tuned[0]
        if "." in key and all(key in keys for keys in tuned)
    ]
    own = [any("." not in key for key in keys) for keys in tuned]
    if any(own):
        shared.append("the objective's own arguments" + ("" if all(own) else " (where it has any)"))
    kept = "" if "the learning rate" in shared else " The learning rate is the recipe's for all."
    return listed(shared or ["nothing"]), kept


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
