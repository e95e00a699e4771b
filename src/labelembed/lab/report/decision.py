"""What paired differences allow to be said, and what would be needed to say more: numbers only, no sentences."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from labelembed.metrics import PairedComparison
from labelembed.metrics.joint_interval import variance_of_mean
from labelembed.metrics.statistics import detectable_shift

LEVEL = 0.05
#: Fewer seeds give no verdict, and nobody can use the difference that they would detect.
FEWEST_SEEDS = 5
# Nobody waits for more seeds or examples than these.
_MOST_SEEDS, _MOST_TIMES_EXAMPLES = 100, 100

Outcome = Literal["too few seeds", "no interval", "better", "worse", "small gain", "open"]


class Needed(NamedTuple):
    """How many seeds or test examples would show a difference as large as the observed one."""

    of: Literal["seeds", "examples"]
    number: int


def outcome(found: PairedComparison, *, smallest_gain: float, more_is_better: bool = False) -> Outcome:
    """Returns what a method's difference to its reference shows.

    "better" and "worse" have the same standard, see `shown_sign`. "small gain": the upper ends of both intervals are
    below the smallest gain that is worth anything.
    """
    if found.n < FEWEST_SEEDS:
        return "too few seeds"
    if math.isnan(found.interval_low):
        return "no interval"
    better = 1 if more_is_better else -1
    if shown_sign(found) == -better:
        return "worse"
    if largest_gain(found, more_is_better=more_is_better) < smallest_gain:
        return "small gain"
    return "better" if shown_sign(found) == better else "open"


def largest_gain(found: PairedComparison, *, more_is_better: bool = False) -> float:
    """Returns the largest gain that any of the intervals leaves possible."""
    ends = (*found[2:4], *(found.joint[:2] if found.joint else ()))
    return max(ends) if more_is_better else -min(ends)


def shown_sign(found: PairedComparison) -> int:
    """Returns -1 or 1, the sign of a difference that is beyond chance, else 0.

    Both intervals exclude zero, and the p after Holm's correction, where there is one, is at most 5 %. Without a joint
    interval the one over seeds decides, with fewer than six seeds the intervals alone.
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
    """Returns the true difference that so many seeds and test examples would show with a probability of 80 %.

    Both intervals have to exclude zero. With `found.n` seeds and no joint interval it is `found.detectable`.
    """
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


def needed(found: PairedComparison) -> Needed | None:
    """Returns what would show a difference as large as the observed one with a probability of 80 %.

    More seeds with these examples, or more examples with these seeds: first examples where the seeds agree already.
    None where neither alone is enough, or more than anybody would wait for.
    """
    gain, examples = abs(found.difference), found.joint.examples if found.joint else 0
    seeds = range(found.n + 1, _MOST_SEEDS + 1)
    more_seeds = _first(seeds, lambda count: detectable(found, count, examples) <= gain)
    more = range(examples + 1, _MOST_TIMES_EXAMPLES * examples + 1)
    more_examples = _first(more, lambda count: detectable(found, found.n, count) <= gain)
    if more_examples and (sign_of(found.interval_low, found.interval_high) or not more_seeds):
        return Needed("examples", more_examples)
    return Needed("seeds", more_seeds) if more_seeds else None


def _first(counts: range, is_enough: Callable[[int], bool]) -> int:
    """Returns the first count from which on all are enough, or 0."""
    index = bisect_left(counts, True, key=is_enough)
    return counts[index] if index < len(counts) else 0


def still_improving(results: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether in every run the best epoch, chosen by validation examples, was the last of several."""
    return bool(results) and all(
        run.get("selected_epoch") == run.get("epochs") != 1 and run.get("selected_by") != "last epoch"
        for run in results
    )
