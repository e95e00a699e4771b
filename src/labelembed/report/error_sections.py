"""What a page shows of errors: figures of all variants, and of the method and the baseline the worst in detail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.drawing import Sketch
from labelembed.report.error_figures import (
    ConfusedLikeness,
    confused_likeness,
    confusion_figure,
    rank_figure,
    reliability_figure,
)
from labelembed.report.errors_seen import SeenErrors, seen_errors
from labelembed.report.formatting import counted, listed, number, p_text, seeds_text, shortened
from labelembed.report.ranking import by_weight, series_positions
from labelembed.report.reproduction import label_names
from labelembed.report.similarities import LabelSimilarities, SimilaritiesOf, label_similarities

_MOST_CONFUSED = 12
_LEVEL = 0.05
_NAME_LENGTH = 40
# Lines of more variants than these cannot be told apart.
_MOST_DRAWN = 7


def error_section(
    comparison: Comparison, method: VariantRuns | None, similarities_of: SimilaritiesOf = label_similarities
) -> dict[str, Any] | None:
    """Returns what the page says of errors; None where no run left evidence of its errors."""
    order = series_positions(comparison)
    found: list[tuple[VariantRuns, int, SeenErrors]] = []
    silent: list[str] = []
    older: list[str] = []
    for position, variant in enumerate(comparison.variants):
        errors = seen_errors(variant)
        if errors is not None:
            found.append((variant, order[position], errors))
            if errors.unknown:
                silent.append(f"{variant.name}, {seeds_text(errors.unknown)}: {next(iter(errors.unknown.values()))}")
        elif variant.runs:
            older.append(variant.name)
    if not found:
        return None
    if older:
        silent.append(f"{listed(older)}: the runs left no evidence of their errors, as those of older versions")
    drawn = _most_important(found, comparison)
    likeness: list[tuple[str, int, ConfusedLikeness]] = []
    detailed: list[dict[str, Any]] = []
    for variant, position, errors in drawn:
        similarities = similarities_of(variant)
        alike = confused_likeness(errors, similarities) if similarities is not None and similarities.names else None
        if alike is not None:
            likeness.append((variant.name, position, alike))
        if _is_shown(variant, comparison, method):
            detailed.append(_detail(comparison, variant, errors, similarities, alike))
    figures: list[Sketch | None] = [
        reliability_figure([(variant.name, position, errors) for variant, position, errors in drawn]),
        rank_figure(likeness),
    ]
    if len(drawn) < len(found):
        note = f"Drawn are {len(drawn)} of {len(found)} variants, the best and the baseline."
        figures = [sketch and replace(sketch, caption=f"{sketch.caption} {note}") for sketch in figures]
    return {
        "split": found[0][2].split,
        "figures": [sketch for sketch in figures if sketch is not None],
        "detailed": detailed,
        "silent": silent,
    }


def _most_important(
    found: Sequence[tuple[VariantRuns, int, SeenErrors]], comparison: Comparison
) -> list[tuple[VariantRuns, int, SeenErrors]]:
    """Returns those that can be told apart in one figure, in the comparison's order."""
    there = {variant.name for variant, _, _ in found}
    names = [variant.name for variant in by_weight(comparison) if variant.name in there][:_MOST_DRAWN]
    return [one for one in found if one[0].name in names]


def _is_shown(variant: VariantRuns, comparison: Comparison, method: VariantRuns | None) -> bool:
    shown = {comparison.baseline, method.name if method is not None else None}
    return variant.name in shown or len(comparison.variants) == 1


def _detail(
    comparison: Comparison,
    variant: VariantRuns,
    errors: SeenErrors,
    similarities: LabelSimilarities | None,
    alike: ConfusedLikeness | None,
) -> dict[str, Any]:
    names = similarities.names if similarities is not None and len(similarities.names) == errors.labels else None
    if names is None:
        known = label_names(next(iter(variant.runs.values())))
        names = known if len(known) == errors.labels else tuple(str(label) for label in range(errors.labels))
    key = f"confusion-{comparison.variants.index(variant)}"
    of_similarities = similarities is not None and len(similarities.names) == errors.labels
    return {
        "variant": variant.name,
        "figure": confusion_figure(errors, similarities, variant.name, key)
        if of_similarities and similarities is not None
        else None,
        "correlation": _correlation_text(alike),
        "confused": _confused(errors, names),
        "worst": [
            {
                "png": "".join(str(one.get("png", "")).split()),
                "text": one.get("text", ""),
                "row": one["row"],
                "label": shortened(names[one["label"]], _NAME_LENGTH),
                "predicted": shortened(names[one["predicted"]], _NAME_LENGTH),
                "share": f"{100 * one['share']:.2g} %",
                "predicted_share": f"{100 * one['predicted_share']:.3g} %",
            }
            for one in errors.worst
        ],
        "worst_seed": errors.worst_seed,
        "runs": counted(errors.runs, "run"),
        "mistakes": f"{errors.mistakes:,}",
    }


def _correlation_text(alike: ConfusedLikeness | None) -> str:
    if alike is None:
        return ""
    first = number(100 * float(alike.by_rank[0]), 1)
    chance = number(100 / len(alike.by_rank), 1)
    text = (
        f"In {first} % of {alike.mistakes:,} mistakes the prediction is the label most similar to the right one; by "
        f"chance it would be {chance} %."
    )
    if math.isnan(alike.correlation):
        return text
    if alike.p_value > _LEVEL:
        strength = "no relation is shown"
    elif alike.correlation > 0:
        strength = "the more alike two labels are, the more they are confused"
    else:
        strength = "the more alike two labels are, the less they are confused"
    return text + (
        f" Rank correlation of likeness and confusion over {alike.pairs:,} pairs of labels: "
        f"{number(alike.correlation, 2)} (p = {p_text(alike.p_value)} by Mantel's test: {strength})."
    )


def _confused(errors: SeenErrors, names: tuple[str, ...]) -> list[dict[str, Any]]:
    lines = []
    for one, other, count in errors.confused(_MOST_CONFUSED):
        there, back = errors.pairs.get((one, other), 0), errors.pairs.get((other, one), 0)
        rows = None if errors.of_label is None else int(errors.of_label[one] + errors.of_label[other])
        lines.append(
            {
                "one": shortened(names[one], _NAME_LENGTH),
                "other": shortened(names[other], _NAME_LENGTH),
                "count": count,
                "there": there,
                "back": back,
                "share": "" if not rows else f"{100 * count / rows:.2g}",
            }
        )
    return lines
