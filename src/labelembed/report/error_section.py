"""What a page shows of errors: how many examples, which labels are confused, and the worst in detail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.errors_seen import ConfusedLikeness, SeenErrors, confused_likeness
from labelembed.report.evidence_files import WorstExample
from labelembed.report.formatting import counted, listed, number, p_text, seeds_text, shortened
from labelembed.report.similarities import LabelSimilarities
from labelembed.report.tables import Cell, Heading, Line, Table
from labelembed.special_tokens import SPECIAL_TOKENS

_MOST_CONFUSED = 10
_LEVEL = 0.05
_NAME_LENGTH = 40


class ErrorsOf(NamedTuple):
    """What one variant gets wrong.

    Attributes:
        variant: Whose.
        sentences: How many, and whether similar labels are the confused ones.
        confused: The most confused labels.
        labels: Of each line of `confused` the numbers of its labels among those of the figures.
        names: What each class is called.
        worst: The examples with the highest loss, by the first run.
        worst_seed: The seed of that run.
    """

    variant: str
    sentences: list[str]
    confused: Table
    labels: list[tuple[int, int]]
    names: list[str]
    worst: list[WorstExample]
    worst_seed: int


class ErrorSection(NamedTuple):
    """What the page says of errors: of the method and the baseline, and which runs left no diagnostics."""

    split: str
    detailed: list[ErrorsOf]
    silent: list[str]


def error_section(
    comparison: Comparison,
    method: VariantRuns | None,
    errors: Mapping[str, SeenErrors],
    similarities: Mapping[str, LabelSimilarities],
) -> ErrorSection | None:
    """Returns what the page says of errors; None where no run left diagnostics of them.

    Args:
        comparison: What is shown.
        method: The variant that the verdict is about.
        errors: What the variants get wrong, by name.
        similarities: What the variants learned about labels, by name.
    """
    if not errors:
        return None
    silent = [
        f"{name}, {seeds_text(found.unknown)}: {next(iter(found.unknown.values()))}"
        for name, found in errors.items()
        if found.unknown
    ]
    older = [variant.name for variant in comparison.variants if variant.runs and variant.name not in errors]
    if older:
        silent.append(f"{listed(older)}: the runs left no evidence of their errors, as those of older versions")
    shown = {one.name: one for one in (method, comparison.baseline_runs) if one is not None and one.name in errors}
    detailed = [_detail(one, errors[name], similarities.get(name)) for name, one in shown.items()]
    return ErrorSection(next(iter(errors.values())).split, detailed, silent)


def _detail(variant: VariantRuns, errors: SeenErrors, similarities: LabelSimilarities | None) -> ErrorsOf:
    found = next(iter(variant.runs.values())).data().get("names")
    names, first = [str(name) for name in found] if isinstance(found, list) else [], 0
    if similarities is not None and len(similarities.names) + similarities.skipped == errors.labels:
        first = similarities.skipped
        names = [*SPECIAL_TOKENS[:first], *similarities.names]
    if len(names) != errors.labels:
        names = [str(label) for label in range(errors.labels)]
    names = [shortened(name, _NAME_LENGTH) for name in names]
    alike = confused_likeness(errors, similarities) if similarities is not None and similarities.names else None
    confused = errors.confused(_MOST_CONFUSED)
    return ErrorsOf(
        variant.name,
        [text for text in (_how_many(errors), _correlation_text(alike)) if text],
        _confused(errors, confused, names),
        [(true - first, predicted - first) for true, predicted, _ in confused],
        names,
        errors.worst,
        errors.worst_seed,
    )


def _how_many(errors: SeenErrors) -> str:
    """Returns how many distinct examples are wrong."""
    if errors.ever_wrong is None:
        return f"{errors.mistakes:,} wrong predictions in {counted(errors.runs, 'run')}."
    of = f"{errors.ever_wrong:,} of {errors.examples:,} {errors.split} examples"
    if errors.runs == 1:
        return f"{of} are wrong."
    return (
        f"{of} are wrong in at least one of {counted(errors.runs, 'run')}, {errors.always_wrong:,} in every one; "
        f"{number(errors.mistakes / errors.runs, 1)} in a run."
    )


def _correlation_text(alike: ConfusedLikeness | None) -> str:
    if alike is None:
        return ""
    first, chance = number(100 * alike.nearest, 1), number(100 * alike.chance, 1)
    text = (
        f"In {first} % of the mistakes the predicted class is the label nearest to the true one; by chance it would be "
        f"{chance} %."
    )
    if math.isnan(alike.correlation):
        return text
    more = "more" if alike.correlation > 0 else "less"
    strength = f"the more similar two labels are, the {more} they are confused"
    strength = strength if alike.p_value <= _LEVEL else "no relation is shown"
    return text + (
        f" Rank correlation of similarity and confusion over {alike.pairs:,} pairs of labels: "
        f"{number(alike.correlation, 2)} (p = {p_text(alike.p_value)} by Mantel's test: {strength})."
    )


def _confused(errors: SeenErrors, confused: Sequence[tuple[int, int, int]], called: Sequence[str]) -> Table:
    headings = [Heading("true class"), Heading("predicted class", is_text=True), Heading("a run")]
    headings += [Heading("of the class", "%")] if errors.of_label is not None else []
    lines = []
    for true, predicted, count in confused:
        a_run = count / errors.runs
        cells = [Cell(called[predicted]), Cell(number(a_run, 1), a_run)]
        if errors.of_label is not None:
            share = 100 * a_run / max(int(errors.of_label[true]), 1)
            cells.append(Cell(number(share, 1), share))
        lines.append(Line(called[true], cells))
    return Table("confused", "Most confused", headings, lines)
