"""Which variant the verdict is about, what its differences show, and how many seeds or examples would show more."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import fmean

from labelembed.lab.report.comparison import Comparison, RunRecord, Split, VariantRuns
from labelembed.metrics import PairedComparison
from labelembed.metrics.joint_interval import variance_of_mean
from labelembed.metrics.statistics import detectable_shift

LEVEL = 0.05
#: Fewer seeds give no verdict: the minimum detectable difference would be too large to be of use.
FEWEST_SEEDS = 5
# More seeds, or times as many examples, than these are not suggested.
_MOST_SEEDS, _MOST_TIMES_EXAMPLES = 100, 100
#: Lines of more variants than these cannot be told apart; of more the first by `by_weight` are drawn.
MOST_DRAWN = 7
SMOOTHING, ONE_HOT = "label_smoothing", "one_hot"
# They treat all wrong classes alike: nothing about the labels is learned or given.
_ALL_LABELS_ALIKE = {ONE_HOT, SMOOTHING, "confidence_penalty", "teacher_free"}


def outcome(paired: PairedComparison, *, smallest_gain: float, more_is_better: bool = False) -> str:
    """Returns the outcome of a difference: too few seeds, no interval, better, worse, small gain or open.

    "better" and "worse" have the same standard, see `shown_sign`. "small gain": the upper ends of both intervals are
    below the smallest gain that is worth anything.
    """
    if paired.n < FEWEST_SEEDS:
        return "too few seeds"
    if math.isnan(paired.interval_low):
        return "no interval"
    better = 1 if more_is_better else -1
    if shown_sign(paired) == -better:
        return "worse"
    if largest_gain(paired, more_is_better=more_is_better) < smallest_gain:
        return "small gain"
    return "better" if shown_sign(paired) == better else "open"


def largest_gain(paired: PairedComparison, *, more_is_better: bool = False) -> float:
    """Returns the largest gain that any of the intervals leaves possible."""
    ends = (*paired[2:4], *(paired.joint[:2] if paired.joint else ()))
    return float(max(ends) if more_is_better else -min(ends))


def shown_sign(found: PairedComparison) -> int:
    """Returns -1 or 1, the sign of a difference that is beyond chance, else 0.

    Both intervals exclude zero, and the p after Holm's correction, where there is one, is at most 5 %. Without a joint
    interval the one over seeds decides.
    """
    return 0 if contradicted_by_p(found) else sign_of_intervals(found)


def sign_of_intervals(found: PairedComparison) -> int:
    """Returns the sign of a difference of which both intervals exclude zero, else 0."""
    sign = sign_of(found.interval_low, found.interval_high)
    return 0 if found.joint is not None and sign_of(*found.joint[:2]) != sign else sign


def sign_of(low: float, high: float) -> int:
    """Returns the sign of an interval that excludes zero, else 0."""
    return int(low > 0) - int(high < 0)


def contradicted_by_p(found: PairedComparison) -> bool:
    """Returns whether there is a p, corrected where it was, and it is above 5 %."""
    p_value = found.p_value if found.p_holm is None else found.p_holm
    return p_value is not None and p_value > LEVEL


def detectable(found: PairedComparison, seeds: int, examples: int) -> float:
    """Returns the true difference that so many seeds and examples would show, by both intervals, with 80 % power."""
    if found.joint is None:
        deviation = found.detectable * found.n**0.5 / detectable_shift(found.n - 1)
        return float(detectable_shift(seeds - 1) * deviation / seeds**0.5)
    of_seeds, of_examples, left = found.joint.mean_squares
    # MS_s grows with the number of examples by the part that is the seeds' own, MS_e with that of seeds.
    of_seeds += (examples / found.joint.examples - 1) * max(of_seeds - left, 0.0)
    of_examples += (seeds / found.n - 1) * max(of_examples - left, 0.0)
    total, degrees = variance_of_mean(of_seeds, of_examples, left, seeds, examples)
    squares = max(detectable_shift(degrees) ** 2 * total, detectable_shift(seeds - 1) ** 2 * of_seeds)
    return float((squares / (seeds * examples)) ** 0.5)


def needed(found: PairedComparison) -> tuple[str, int]:
    """Returns how many ``seeds`` or ``examples`` would show the observed difference with 80 % power, or nothing and 0.

    Examples come first where the seeds agree already, and neither where it is more than anybody would wait for.
    """
    gain, examples = abs(found.difference), found.joint.examples if found.joint else 0
    counts = (range(found.n + 1, _MOST_SEEDS + 1), range(examples + 1, _MOST_TIMES_EXAMPLES * examples + 1))
    # The first count from which on all are enough.
    seeds = bisect_left(counts[0], True, key=lambda count: detectable(found, count, examples) <= gain)
    more = bisect_left(counts[1], True, key=lambda count: detectable(found, found.n, count) <= gain)
    more_seeds, more_examples = (
        of[index] if index < len(of) else 0 for of, index in zip(counts, (seeds, more), strict=True)
    )
    if more_examples and (sign_of(found.interval_low, found.interval_high) or not more_seeds):
        return "examples", more_examples
    return "seeds" if more_seeds else "", more_seeds


def still_improving(runs: Sequence[RunRecord]) -> bool:
    """Returns whether in every run the best epoch, chosen by validation examples, was the last of several.

    Not where each run had that error before: of equal errors the NLL decides, which may fall much longer.
    """
    results, curves = [run.result for run in runs], [run.curve("validation", "error").tolist() for run in runs]
    is_last = [run.get("selected_epoch") == run.get("epochs") != 1 for run in results]
    is_chosen = [run.get("selected_by") != "last epoch" for run in results]
    is_lower = [not set(errors[-1:]) & set(errors[:-1]) for errors in curves]
    return all([*is_last, *is_chosen]) and any(is_lower)


def ranked(variants: Sequence[VariantRuns], comparison: Comparison) -> tuple[list[VariantRuns], str]:
    """Returns variants by their mean on validation examples, the best first, and what they were ranked by in words.

    It is by test examples only where one has no validation examples. A variant without a number comes last.
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

    The learned methods; where there are none the others, then label smoothing, then cross entropy.
    """
    others = [variant for variant in comparison.finished if variant.name != comparison.baseline]
    learned = [variant for variant in others if variant.objective_name not in _ALL_LABELS_ALIKE]
    methods = learned or [variant for variant in others if variant.objective_name not in (SMOOTHING, ONE_HOT)]
    return methods or [variant for variant in others if variant.objective_name == SMOOTHING] or others


def by_weight(comparison: Comparison) -> list[VariantRuns]:
    """Returns all variants: the verdict's, the baseline, the best of each objective, the others from the best on."""
    order = ranked(comparison.finished, comparison)[0]
    best: dict[str, VariantRuns] = {}
    for one in order:
        best.setdefault(one.objective_name, one)
    first = [one for one in (best_method(comparison), comparison.baseline_runs) if one is not None]
    return list({one.name: one for one in [*first, *best.values(), *order, *comparison.variants]}.values())


def drawn_variants(comparison: Comparison) -> dict[str, int]:
    """Returns the variants that figures draw, in the comparison's order, and for each the index of its colour."""
    names = {variant.name for variant in by_weight(comparison)[:MOST_DRAWN]}
    others = [one.name for one in comparison.variants if one.name in names and one.name != comparison.baseline]
    places = {name: index for index, name in enumerate(filter(None, [comparison.baseline, *others]))}
    return {one.name: places[one.name] for one in comparison.variants if one.name in names}
