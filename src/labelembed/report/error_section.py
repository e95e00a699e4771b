"""What a page shows of errors: how many examples, which labels are confused, and the worst in detail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.errors_seen import ConfusedLikeness, SeenErrors, confused_likeness
from labelembed.report.formatting import counted, listed, number, p_text, seeds_text, shortened
from labelembed.report.reproduction import label_names
from labelembed.report.similarities import LabelSimilarities
from labelembed.report.tables import Cell, Heading, Line, Table
from labelembed.special_tokens import SPECIAL_TOKENS

_MOST_CONFUSED = 10
_LEVEL = 0.05
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Worst:
    """One of the examples with the highest loss: a picture or a text, with label and prediction as people read them."""

    png: str
    text: str
    row: int
    label: str
    predicted: str
    share: str
    predicted_share: str


@dataclass(frozen=True)
class ErrorsOf:
    """What one variant gets wrong: sentences, the confused labels, the worst examples."""

    variant: str
    sentences: list[str]
    confused: Table
    labels: list[tuple[int, int]]
    worst: list[Worst]
    worst_seed: int


@dataclass(frozen=True)
class ErrorSection:
    """What the page says of errors: of the method and the baseline, and which runs left no evidence."""

    split: str
    detailed: list[ErrorsOf]
    silent: list[str]


def error_section(
    comparison: Comparison,
    method: VariantRuns | None,
    errors: Mapping[str, SeenErrors],
    similarities: Mapping[str, LabelSimilarities],
) -> ErrorSection | None:
    """Returns what the page says of errors; None where no run left evidence of them.

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
    shown = [one for one in (method, comparison.baseline_runs) if one is not None and one.name in errors]
    return ErrorSection(
        split=next(iter(errors.values())).split,
        detailed=[
            _detail(variant, errors[variant.name], similarities.get(variant.name))
            for variant in {one.name: one for one in shown}.values()
        ],
        silent=silent,
    )


def _detail(variant: VariantRuns, errors: SeenErrors, similarities: LabelSimilarities | None) -> ErrorsOf:
    names, first = label_names(next(iter(variant.runs.values()))), 0
    if similarities is not None and len(similarities.names) + similarities.skipped == errors.labels:
        first = similarities.skipped
        names = (*SPECIAL_TOKENS[:first], *similarities.names)
    if len(names) != errors.labels:
        names = tuple(str(label) for label in range(errors.labels))
    called = [shortened(name, _NAME_LENGTH) for name in names]
    alike = confused_likeness(errors, similarities) if similarities is not None and similarities.names else None
    confused = errors.confused(_MOST_CONFUSED)
    return ErrorsOf(
        variant=variant.name,
        sentences=[text for text in (_how_many(errors), _correlation_text(alike)) if text],
        confused=_confused(errors, confused, called),
        labels=[(true - first, predicted - first) for true, predicted, _ in confused],
        worst=[
            Worst(
                png="".join((one.png or "").split()),
                text=one.text or "",
                row=one.row,
                label=called[one.label],
                predicted=called[one.predicted],
                share=f"{100 * one.share:.2g} %",
                predicted_share=f"{100 * one.predicted_share:.3g} %",
            )
            for one in errors.worst
        ],
        worst_seed=errors.worst_seed,
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
    if alike.p_value > _LEVEL:
        strength = "no relation is shown"
    elif alike.correlation > 0:
        strength = "the more similar two labels are, the more they are confused"
    else:
        strength = "the more similar two labels are, the less they are confused"
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
