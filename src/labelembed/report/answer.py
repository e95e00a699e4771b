"""Whether to use the method, and what would tell where nobody can tell yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from labelembed.metrics import PairedComparison
from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.formatting import counted, listed, p_text, points
from labelembed.report.table import Row, smallest_corrected_p

Answer = Literal["Use it", "Do not use it", "Cannot tell yet", ""]
_LEVEL = 0.05
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01}
# Nobody waits for more seeds or examples than these.
_MOST_SEEDS, _MOST_TIMES_EXAMPLES = 100, 100
# 80 % power at a two-sided 5 %: a difference of so many standard errors.
_STANDARD_ERRORS = 2.8
_UNTRAINED_BLEU = 0.01


class Contrast(NamedTuple):
    """The method against one reference: `headline` is what decides, `of` all paired differences."""

    method: VariantRuns
    reference: VariantRuns
    headline: PairedComparison | None
    of: dict[str, PairedComparison]


def clear_of_zero(found: PairedComparison) -> bool:
    """Returns whether the interval over seeds leaves zero out."""
    return found.interval_low > 0 or found.interval_high < 0


def answer_of(one: Contrast, comparison: Comparison, rows: Sequence[Row]) -> tuple[Answer, list[str]]:
    """Returns whether to use the method, and what would tell."""
    found, other = one.headline, one.reference.name
    if found is None or found.n == 1:
        return "Cannot tell yet", ["Run several seeds (--seeds 8)."]
    # From here on a gain is positive, whatever the metric.
    sign = 1 if comparison.headline == "bleu" else -1
    gain, seeds = sign * found.difference, sorted(sign * end for end in (found.interval_low, found.interval_high))
    joint = sorted(sign * end for end in found.joint[:2]) if found.joint else None
    if math.isnan(found.interval_low):
        return "Cannot tell yet", ["All seeds differ by the same: more seeds, or a larger test set, would tell."]
    if seeds[1] < 0:
        return "Do not use it", [f"It is worse than {other}."]
    best = max(seeds[1], joint[1] if joint else 0.0)
    reference = fmean(one.reference.measures(comparison.split, comparison.headline).values())
    if best < _SMALL[comparison.headline] * reference:
        return "Do not use it", [f"At best it gains {points(best)[0]} points on {other}."]
    if seeds[0] > 0 and p_caveat(found, rows):
        return "Cannot tell yet", ["The p leaves it open: more seeds, or fewer variants, would tell."]
    if seeds[0] > 0 and (joint is None or joint[0] > 0):
        sure = "of seeds; of the examples it is not known" if joint is None else "of seeds and examples"
        return "Use it", [f"It is better than {other} beyond the chance {sure}."]
    return "Cannot tell yet", _what_would_tell(found, gain, comparison)


def _what_would_tell(found: PairedComparison, gain: float, comparison: Comparison) -> list[str]:
    """Returns how many seeds, or examples, would show a difference as large as the one that was seen."""
    split = comparison.split
    limit = f"With {counted(found.n, 'seed')} a difference of {points(found.detectable)[0]} points would be seen (80 % "
    limit += "power); that none is shown does not make them equal."
    if not clear_of_zero(found):
        needed = math.ceil(found.n * (found.detectable / abs(gain)) ** 2) if gain else math.inf
        if needed <= _MOST_SEEDS:
            return [f"About {needed} seeds would show a difference of this size; there are {found.n}.", limit]
        return ["A difference of this size is too small for any number of seeds that one would run.", limit]
    assert found.joint is not None
    # The part of the variance that the seeds explain stays; the rest shrinks with the number of examples.
    of_both, of_seeds = (
        ((high - low) / (2 * 1.96)) ** 2 for low, high in (found.joint[:2], (found.interval_low, found.interval_high))
    )
    wanted = (gain / _STANDARD_ERRORS) ** 2 - of_seeds
    examples = found.joint.examples
    if wanted > 0 and (of_both - of_seeds) / wanted <= _MOST_TIMES_EXAMPLES:
        times = max((of_both - of_seeds) / wanted, 1.1)
        needed = int(float(f"{times * examples:.2g}"))
        return [
            f"The seeds agree, but the {split} set is small: about {needed:,} {split} examples would tell; there are "
            f"{examples:,}."
        ]
    return [f"The seeds agree, but another sample of {examples:,} {split} examples could turn it round."]


def training_too_short(variants: Sequence[VariantRuns], comparison: Comparison) -> list[str]:
    """Returns that training stopped while it still helped, or that a network is not trained at all."""
    runs = [run.result for variant in variants for run in variant.runs.values()]
    untrained = [
        variant.name
        for variant in comparison.variants
        if (values := variant.measures(comparison.split, "bleu").values()) and fmean(values) < _UNTRAINED_BLEU
    ]
    found = [f"BLEU is near zero for {listed(untrained)}: not trained yet."] if untrained else []
    if all(
        run.get("selected_epoch") == run.get("epochs") != 1 and run.get("selected_by") != "last epoch" for run in runs
    ):
        which = "every run" if len(runs) > 1 else "this run"
        found.append(f"In {which} the best epoch was the last: train longer (--set epochs=...).")
    return found


def p_caveat(difference: PairedComparison | None, rows: Sequence[Row]) -> str:
    """Returns that the p does not bear out what the interval over seeds shows, where that is so."""
    if difference is None or not clear_of_zero(difference) or difference.p_value is None:
        return ""
    if difference.p_holm is None:
        uncertain = f"But the sign-flip p is {p_text(difference.p_value)}: it may be chance."
        return uncertain if difference.p_value > _LEVEL else ""
    if difference.p_holm <= _LEVEL:
        return ""
    smallest = smallest_corrected_p(rows)
    if smallest is not None and smallest > _LEVEL:
        return (
            f"After Holm's correction p is {p_text(difference.p_holm)}; with so many comparisons and so few seeds it "
            f"cannot fall below {p_text(smallest)}."
        )
    return f"But the sign-flip p is {p_text(difference.p_holm)} after Holm's correction: it may be chance."
