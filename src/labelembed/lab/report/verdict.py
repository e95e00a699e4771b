"""The answer in plain words: whether to use the method, by how much it is better, how sure that is, what would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns
from labelembed.lab.report.error_analysis import most_frequent_label
from labelembed.lab.report.formatting import counted, listed, number, p_text, points
from labelembed.lab.report.ranking import ONE_HOT, SMOOTHING, method_candidates, ranked
from labelembed.lab.report.table import Row, compare_variants, comparison_rows, smallest_corrected_p
from labelembed.lab.report.tuning import tuning_rows, tuning_statement
from labelembed.metrics import PairedComparison

Answer = Literal["Use it", "Do not use it", "Cannot tell yet", ""]
_LEVEL = 0.05
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01}
# Nobody waits for more seeds or examples than these.
_MOST_SEEDS, _MOST_TIMES_EXAMPLES = 100, 100
# 80 % power at a two-sided 5 %: a difference of so many standard errors.
_STANDARD_ERRORS = 2.8
_UNTRAINED_BLEU = 0.01
# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05


class _Contrast(NamedTuple):
    """The method against one reference: `headline` is what decides, `of` all paired differences."""

    method: VariantRuns
    reference: VariantRuns
    headline: PairedComparison | None
    of: dict[str, PairedComparison]


@dataclass(frozen=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        answer: Whether to use the method; empty where nothing is compared.
        because: Why, and what would tell where nobody can tell yet.
        sentences: The method against tuned label smoothing, then against cross entropy, then what got worse.
        caveats: What was chosen and by what, what was not tuned, what the p says.
    """

    answer: Answer
    because: list[str]
    sentences: list[str]
    caveats: list[str]

    def lines(self) -> list[str]:
        """Returns all of it, the most important first."""
        answer = [" ".join([f"{self.answer}.", *self.because])] if self.answer else self.because
        return [*self.sentences, *answer, *self.caveats]


def verdict(comparison: Comparison, rows: Sequence[Row] | None = None) -> list[str]:
    """Returns what the comparison shows in a few sentences, the most important first; see `full_verdict`."""
    return full_verdict(comparison, rows).lines()


def full_verdict(comparison: Comparison, rows: Sequence[Row] | None = None) -> Verdict:
    """Returns what the comparison shows.

    It is about the learned method that is best on validation examples, by the error or of translations by BLEU: first
    against the best label smoothing, then against cross entropy, then against the baseline where that is neither. The
    answer follows from the first: use it where both intervals are clear of zero on the better side; do not where the
    method is worse, or where any gain is small; else what would tell. Without tuned label smoothing nobody can tell.

    Args:
        comparison: What `load_comparison` read.
        rows: What `comparison_rows` made of it, where that is at hand.
    """
    baseline = comparison.baseline_runs
    nothing_learned = _nothing_learned(comparison)
    if baseline is None:
        (run,) = comparison.variants
        return Verdict("", [*nothing_learned, *_training_too_short([run], comparison)], [_single_run(comparison)], [])
    rows = comparison_rows(comparison) if rows is None else rows
    finished = [variant for variant in comparison.variants if variant.runs]
    if not finished:
        return Verdict("", [], ["No run has finished, so there is nothing to compare."], [])
    candidates = method_candidates(comparison)
    if not candidates:
        alone = f"Only {baseline.name} has finished runs, so there is nothing to compare it with."
        return Verdict("", nothing_learned, [alone], [])
    (method, *_), chosen_on = ranked(candidates, comparison)
    found = [
        _contrast(method, reference, comparison, rows)
        for reference in _references(method, baseline, finished, comparison)
    ]
    sentences = [*nothing_learned, *(_sentence(one, comparison) for one in found)]
    worse = [text for one in found if (text := _what_got_worse(one, rows))]
    caveats = [_p_caveat(one.headline, rows) for one in found]
    caveats.append(f"{method.name} was chosen among {len(candidates)} by its {chosen_on}." if candidates[1:] else "")
    caveats += [_smoothing_caveat(finished, comparison), tuning_statement(comparison)]
    answer, because = _answer_of(found[0], comparison, rows) if not nothing_learned else ("Cannot tell yet", [])
    if answer == "Use it" and method.kind != SMOOTHING and not _is_smoothing_tuned(finished, comparison):
        answer = "Cannot tell yet"
        because.append("But what tuned label smoothing gives is not known: compare --tuned tells.")
    because += _training_too_short([found[0].method, found[0].reference], comparison)
    sentences += [" ".join(worse)] if worse else []
    return Verdict(answer, because, sentences, [caveat for caveat in caveats if caveat])


def _contrast(method: VariantRuns, reference: VariantRuns, comparison: Comparison, rows: Sequence[Row]) -> _Contrast:
    found = compare_variants(method, reference, comparison.split).of
    headline = found.get(comparison.headline)
    if reference.name == comparison.baseline:  # corrected by Holm
        headline = next(row for row in rows if row.name == method.name).headline_difference
    return _Contrast(method, reference, headline, found)


def _references(
    method: VariantRuns, baseline: VariantRuns, finished: Sequence[VariantRuns], comparison: Comparison
) -> list[VariantRuns]:
    """Returns what the method is held against, the most important first."""
    smoothings = [variant for variant in finished if variant.kind == SMOOTHING]
    one_hot = [variant for variant in finished if variant.kind == ONE_HOT][:1]
    smoothing = ranked(smoothings, comparison)[0][:1] if smoothings else []
    if method.kind in (SMOOTHING, ONE_HOT):
        order = [baseline, *one_hot]
    else:
        order = [*smoothing, *one_hot, *([] if baseline.kind == SMOOTHING else [baseline])]
    return list({one.name: one for one in order if one.name != method.name and one.runs}.values()) or [baseline]


# ------------------------------------------------------------------------------- the answer, and what would tell


def _clear_of_zero(found: PairedComparison) -> bool:
    """Returns whether the interval over seeds leaves zero out."""
    return found.interval_low > 0 or found.interval_high < 0


def _answer_of(one: _Contrast, comparison: Comparison, rows: Sequence[Row]) -> tuple[Answer, list[str]]:
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
    reference = fmean(one.reference.metrics(comparison.split, comparison.headline).values())
    if best < _SMALL[comparison.headline] * reference:
        return "Do not use it", [f"At best it gains {points(best)[0]} points on {other}."]
    if seeds[0] > 0 and _p_caveat(found, rows):
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
    if not _clear_of_zero(found):
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


def _training_too_short(variants: Sequence[VariantRuns], comparison: Comparison) -> list[str]:
    """Returns that training stopped while it still helped, or that a network is not trained at all."""
    runs = [run.result for variant in variants for run in variant.runs.values()]
    untrained = [
        variant.name
        for variant in comparison.variants
        if (values := variant.metrics(comparison.split, "bleu").values()) and fmean(values) < _UNTRAINED_BLEU
    ]
    found = [f"BLEU is near zero for {listed(untrained)}: not trained yet."] if untrained else []
    if all(
        run.get("selected_epoch") == run.get("epochs") != 1 and run.get("selected_by") != "last epoch" for run in runs
    ):
        which = "every run" if len(runs) > 1 else "this run"
        found.append(f"In {which} the best epoch was the last: train longer (--set epochs=...).")
    return found


def _p_caveat(difference: PairedComparison | None, rows: Sequence[Row]) -> str:
    """Returns that the p does not bear out what the interval over seeds shows, where that is so."""
    if difference is None or not _clear_of_zero(difference) or difference.p_value is None:
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


# --------------------------------------------------------------------------------------------------- the sentences


def _sentence(one: _Contrast, comparison: Comparison) -> str:
    name, other, words = one.method.name, one.reference.name, comparison.headline_words
    found = one.headline
    if found is None:
        return f"{name} and {other} share no finished seed, so nothing is compared."
    if found.n == 1:
        return (
            f"With the one seed they share, the {words} of {name} is {_lower_or_higher(found)} that of {other}; "
            "one seed gives no interval, so this may be chance."
        )
    joint = _ends(found.joint[:2], found) if found.joint else ""
    joint = f"over seeds and {comparison.split} examples {joint}" if joint else ""
    if math.isnan(found.interval_low):
        brackets = f" ({joint})" if joint else ""
        if found.difference == 0:
            return f"{name} has the same {words} as {other} with every one of {counted(found.n, 'seed')}{brackets}."
        return (
            f"The {words} of {name} is {_lower_or_higher(found)} that of {other} with every one of "
            f"{counted(found.n, 'seed')}, all by the same, so there is no interval over seeds{brackets}."
        )
    seeds = f"95 % interval over {counted(found.n, 'seed')} {_ends((found.interval_low, found.interval_high), found)}"
    brackets = f"({seeds}{f'; {joint}' if joint else ''})"
    if _clear_of_zero(found):
        verb = "lowers" if found.difference < 0 else "raises"
        return f"{name} {verb} the {words} by {points(abs(found.difference))[0]} points against {other} {brackets}."
    return (
        f"No difference in {words} is shown between {name} and {other}: the first is {_lower_or_higher(found)} the "
        f"second {brackets}."
    )


def _ends(ends: Sequence[float], found: PairedComparison) -> str:
    """Returns an interval in points: of the size of a difference that is clear of zero, else of the difference."""
    sign = -1 if _clear_of_zero(found) and found.difference < 0 else 1
    low, high = points(*sorted(sign * end for end in ends))
    return f"{low} to {high}"


def _what_got_worse(one: _Contrast, rows: Sequence[Row]) -> str:
    """Returns in a sentence which costs the method has: only what is clear of chance, and time by its ratio."""
    nll, ece = one.of.get("nll"), one.of.get("calibration_error")
    unsure = [f"NLL (by {number(nll.difference, 3)} nats)"] if nll is not None and nll.interval_low > 0 else []
    if ece is not None and ece.interval_low > 0:
        unsure.append(f"ECE (by {points(ece.difference)[0]} points)")
    worse = [f"{' and '.join(unsure)} before temperature scaling"] if unsure else []
    ratios = [
        ours / theirs
        for seed in one.method.runs.keys() & one.reference.runs.keys()
        if (ours := one.method.runs[seed].seconds) and (theirs := one.reference.runs[seed].seconds)
    ]
    if ratios and fmean(ratios) > _SLOWER:
        about = "\u2248" if any(row.shared_machine for row in rows) else ""  # the notes say what it means
        worse.append(f"training time ({about}{number(fmean(ratios), 2)} times)")
    return f"Worse than with {one.reference.name}: {', '.join(worse)}." if worse else ""


def _lower_or_higher(found: PairedComparison) -> str:
    if found.difference == 0:
        return "the same as"
    size = points(abs(found.difference))[0]
    return f"{size} points {'lower' if found.difference < 0 else 'higher'} than"


def _single_run(comparison: Comparison) -> str:
    run = next(iter(comparison.variants[0].runs.values()))
    words, unit = ("BLEU", "") if comparison.headline == "bleu" else ("error", " %")
    reached = [
        f"{split} {words} of {number(100 * value, 2)}{unit}"
        for split in SPLITS
        if (value := run.metric(split, comparison.headline)) is not None
    ]
    epoch, epochs = run.result.get("selected_epoch"), run.result.get("epochs")
    selected = ""
    if isinstance(epoch, int) and isinstance(epochs, int):
        selected = f" after epoch {epoch} of {epochs}, selected by {run.result.get('selected_by', 'nothing known')}"
    return (
        f"The run reached a {' and a '.join(reached)}{selected}. "
        "One run has no spread: a comparison over seeds says how much of it is chance."
    )


def _smoothing_caveat(finished: Sequence[VariantRuns], comparison: Comparison) -> str:
    """Returns how the strength of the label smoothing was found, or that there is none."""
    smoothings = [variant for variant in finished if variant.kind == SMOOTHING]
    if not smoothings:
        absent = (
            "has finished"
            if any(variant.kind == SMOOTHING for variant in comparison.variants)
            else "is in this comparison"
        )
        return f"No label smoothing {absent}: what it would give is not known."
    if len(smoothings) > 1:
        return f"The label smoothing was chosen among {len(smoothings)} by its {ranked(smoothings, comparison)[1]}."
    if _is_smoothing_tuned(finished, comparison):
        return ""  # the tuning statement says how all variants were tuned
    return "Label smoothing was not tuned: one strength only; compare --tuned tunes it."


def _is_smoothing_tuned(finished: Sequence[VariantRuns], comparison: Comparison) -> bool:
    """Returns whether the label smoothing was tuned, or is the best of several strengths."""
    names = {variant.name for variant in finished if variant.kind == SMOOTHING}
    return len(names) > 1 or any(row.space and row.name in names for row in tuning_rows(comparison))


def _nothing_learned(comparison: Comparison) -> list[str]:
    """Returns a sentence about variants that learned nothing, if there are any: a comparison of them is none."""
    shares = (most_frequent_label(run, comparison.split) for run in comparison.runs)
    share = next((found for found in shares if found is not None), None)
    if share is None or comparison.headline != "error":
        return []
    chance = 1 - share
    means = {
        variant.name: fmean(errors)
        for variant in comparison.variants
        if (errors := list(variant.metrics(comparison.split, "error").values()))
    }
    # Equal up to rounding counts: the same label for every example is the commonest way to learn nothing.
    nothing = [name for name, error in means.items() if error >= chance - 1e-9]
    if not nothing:
        return []
    whose = f"always giving the most frequent label ({number(100 * chance, 2)} % {comparison.headline_words})"
    if len(nothing) < len(means):
        return [f"{listed(nothing)} {'is' if len(nothing) == 1 else 'are'} no better than {whose}."]
    who = "No variant does" if len(means) > 1 else "The run does not do"
    return [
        f"{who} better than {whose}: nothing was learned. More epochs, a higher learning rate or smaller batches may "
        "help (--set epochs=..., --set optimizer.learning_rate=...)."
    ]
