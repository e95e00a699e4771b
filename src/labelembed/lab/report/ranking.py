"""Which variants come first: the one that the verdict is about, the baseline, then the others, the best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from labelembed.lab.report.comparison import Comparison, Split, VariantRuns

#: Lines of more variants than these cannot be told apart; of more the first by `by_weight` are drawn.
MOST_NAMED = 12
SMOOTHING, ONE_HOT = "label_smoothing", "one_hot"
# They treat all wrong classes alike: nothing about the labels is learned or given.
_ALL_LABELS_ALIKE = {ONE_HOT, SMOOTHING, "confidence_penalty", "teacher_free"}


def ranked(variants: Sequence[VariantRuns], comparison: Comparison) -> tuple[list[VariantRuns], str]:
    """Returns variants by their mean on validation examples, the best first, and in words what they were ranked by.

    By test examples only where one of them has no validation examples. A variant without a number comes last.
    """
    metric = comparison.headline
    validated = all(variant.metrics("validation", metric) for variant in variants)
    chosen_on: Split = "validation" if validated else comparison.split

    def loss(variant: VariantRuns) -> float:
        values = variant.metrics(chosen_on, metric).values()
        return (-fmean(values) if metric == "bleu" else fmean(values)) if values else math.inf

    flattered = " itself, which flatters it" if chosen_on == comparison.split and len(variants) > 1 else ""
    return sorted(variants, key=loss), f"{chosen_on} {'BLEU' if metric == 'bleu' else 'error'}{flattered}"


def best_method(comparison: Comparison) -> VariantRuns | None:
    """Returns the best of `method_candidates`, which the verdict is about; None where no run has finished."""
    candidates = method_candidates(comparison) or comparison.finished
    return ranked(candidates, comparison)[0][0] if candidates else None


def method_candidates(comparison: Comparison) -> list[VariantRuns]:
    """Returns the finished variants that the verdict's method is chosen among; the baseline is none of them.

    The learned methods, those that use how labels relate; where there are none the other methods, then label smoothing,
    then cross entropy.
    """
    others = [variant for variant in comparison.finished if variant.name != comparison.baseline]
    learned = [variant for variant in others if variant.objective_name not in _ALL_LABELS_ALIKE]
    methods = learned or [variant for variant in others if variant.objective_name not in (SMOOTHING, ONE_HOT)]
    return methods or [variant for variant in others if variant.objective_name == SMOOTHING] or others


def by_weight(comparison: Comparison) -> list[VariantRuns]:
    """Returns all variants: the verdict's, the baseline, the other finished ones, the best first, and the rest."""
    first = [one for one in (best_method(comparison), comparison.baseline_runs) if one is not None]
    order = [*first, *(ranked(comparison.finished, comparison)[0]), *comparison.variants]
    return list({one.name: one for one in order}.values())


def drawn_variants(comparison: Comparison) -> dict[str, int]:
    """Returns the variants that figures draw each for itself, in the comparison's order, with the place of its colour.

    The baseline has 0, the grey one; the others count from 1.
    """
    names = {variant.name for variant in by_weight(comparison)[:MOST_NAMED]}
    others = [one.name for one in comparison.variants if one.name in names and one.name != comparison.baseline]
    places = {str(comparison.baseline): 0} | {name: index for index, name in enumerate(others, start=1)}
    return {one.name: places[one.name] for one in comparison.variants if one.name in names}
