"""The answer in plain words: whether to use the method, by how much it is better, how sure that is, what would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns
from labelembed.lab.report.decision import (
    FEWEST_SEEDS,
    LEVEL,
    contradicted_by_p,
    corrected_p,
    needed,
    outcome,
    shown_sign,
    sign_of,
    smallest_corrected_p,
    still_improving,
)
from labelembed.lab.report.error_analysis import most_frequent_label
from labelembed.lab.report.formatting import counted, listed, number, p_text, points
from labelembed.lab.report.ranking import ONE_HOT, SMOOTHING, method_candidates, ranked
from labelembed.lab.report.table import Row, compare_variants, comparison_rows
from labelembed.lab.report.tuning import tuning_rows, tuning_statement
from labelembed.metrics import PairedComparison, holm, paired_by_seed, paired_comparison

Answer = Literal["Use it", "Do not use it", "Cannot tell yet", ""]
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01}
_UNTRAINED_BLEU = 0.01
# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05


class _Contrast(NamedTuple):
    """The method against one reference.

    `headline` is what decides, its p corrected by Holm over `tested`; `of` are all paired differences.
    """

    method: VariantRuns
    reference: VariantRuns
    headline: PairedComparison | None
    tested: list[PairedComparison]
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
    answer follows from the first: use it where it is better by both intervals and the corrected p; do not where it is
    worse by the same standard, or where any gain is small; else what would tell. Without tuned label smoothing, with
    fewer than five seeds and where every run still improves at its last epoch nobody can tell.

    Args:
        comparison: What `load_comparison` read.
        rows: What `comparison_rows` made of it, where that is at hand.
    """
    baseline = comparison.baseline_runs
    nothing_learned = _nothing_learned(comparison)
    if baseline is None:
        (run,) = comparison.variants
        because = [*nothing_learned, *_training_too_short([run]), *_untrained(comparison)]
        return Verdict("", because, [_single_run(comparison)], [])
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
        _contrast(method, reference, comparison, candidates, rows)
        for reference in _references(method, baseline, finished, comparison)
    ]
    sentences = [*nothing_learned, *(_sentence(one, comparison) for one in found)]
    worse = [text for one in found if (text := _what_got_worse(one, rows))]
    caveats = [_p_caveat(one) for one in found]
    caveats.append(f"{method.name} was chosen among {len(candidates)} by its {chosen_on}." if candidates[1:] else "")
    caveats += [_smoothing_caveat(finished, comparison), tuning_statement(comparison)]
    answer, because = _answer_of(found[0], comparison) if not nothing_learned else ("Cannot tell yet", [])
    if answer == "Use it" and method.kind != SMOOTHING and not _is_smoothing_tuned(finished, comparison):
        answer = "Cannot tell yet"
        because.append("But what tuned label smoothing gives is not known: compare --tuned tells.")
    because += _untrained(comparison)
    sentences += [" ".join(worse)] if worse else []
    return Verdict(answer, because, sentences, [caveat for caveat in caveats if caveat])


def _contrast(
    method: VariantRuns,
    reference: VariantRuns,
    comparison: Comparison,
    candidates: Sequence[VariantRuns],
    rows: Sequence[Row],
) -> _Contrast:
    found = compare_variants(method, reference, comparison.split).of
    headline = found.get(comparison.headline)
    if reference.name == comparison.baseline:  # corrected over all variants
        headline = next(row for row in rows if row.name == method.name).headline_difference
        return _Contrast(method, reference, headline, [one for row in rows if (one := row.headline_difference)], found)
    tested = {one.name: _difference(one, reference, comparison) for one in candidates if one.name != reference.name}
    known = {name: one for name, one in tested.items() if one is not None}
    if headline is not None:
        corrected = dict(zip(known, holm([one.p_value for one in known.values()]), strict=True))
        headline = headline._replace(p_holm=corrected[method.name])
    return _Contrast(method, reference, headline, list(known.values()), found)


def _difference(one: VariantRuns, reference: VariantRuns, comparison: Comparison) -> PairedComparison | None:
    """Returns the difference that decides; None without a common seed."""
    both = (variant.metrics(comparison.split, comparison.headline) for variant in (one, reference))
    ours, theirs, _ = paired_by_seed(*both)
    return paired_comparison(ours, theirs) if ours else None


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


def _answer_of(one: _Contrast, comparison: Comparison) -> tuple[Answer, list[str]]:
    """Returns whether to use the method, and what would tell."""
    found, other = one.headline, one.reference.name
    too_short = _training_too_short([one.method, one.reference])
    if found is None or found.n < FEWEST_SEEDS:
        return "Cannot tell yet", [f"Run at least {FEWEST_SEEDS} seeds (--seeds 8).", *too_short]
    if too_short:
        return "Cannot tell yet", too_short
    reference = fmean(one.reference.metrics(comparison.split, comparison.headline).values())
    is_bleu = comparison.headline == "bleu"
    shown = outcome(found, smallest_gain=_SMALL[comparison.headline] * reference, more_is_better=is_bleu)
    sure = "of seeds and examples" if found.joint else "of seeds; of the examples it is not known"
    if shown == "no interval":
        return "Cannot tell yet", ["All seeds differ by the same: more seeds, or a larger test set, would tell."]
    if shown == "worse":
        return "Do not use it", [f"It is worse than {other} beyond the chance {sure}."]
    if shown == "small gain":
        ends = [*found[2:4], *(found.joint[:2] if found.joint else ())]
        most = max(ends) if is_bleu else -min(ends)
        return "Do not use it", [f"At best it gains {points(max(most, 0.0))[0]} points on {other}."]
    if shown == "better":
        return "Use it", [f"It is better than {other} beyond the chance {sure}."]
    return "Cannot tell yet", _what_would_tell(found, reference, comparison)


def _what_would_tell(found: PairedComparison, reference: float, comparison: Comparison) -> list[str]:
    """Returns how many seeds, or examples, would show a difference as large as the one that was seen."""
    split, more, joint = comparison.split, needed(found), found.joint
    if _sign(found) and (joint is None or sign_of(*joint[:2])):
        return ["The p leaves it open: more seeds, or fewer variants, would tell."]
    if more is None:
        said = "A difference of this size is too small for any number of seeds or examples that one would use."
    elif more.of == "seeds" or joint is None:
        said = f"About {more.number} seeds would show a difference of this size; there are {found.n}."
    else:
        about = max(int(float(f"{more.number:.2g}")), joint.examples + 1)
        said = f"About {about:,} {split} examples would show a difference of this size; there are {joint.examples:,}."
    if joint is not None and _sign(found):
        return [f"The seeds agree, but other {split} examples, as few as these, could turn it round.", said]
    if found.detectable >= reference:  # nobody can use that
        return [said]
    limit = f"With {counted(found.n, 'seed')} a difference of {points(found.detectable)[0]} points would be seen (80 % "
    return [said, f"{limit}power); that none is shown does not make them equal."]


def _sign(found: PairedComparison) -> int:
    """Returns the sign of the interval over seeds, 0 where it has zero in it."""
    return sign_of(found.interval_low, found.interval_high)


def _training_too_short(variants: Sequence[VariantRuns]) -> list[str]:
    """Returns that training stopped while it still helped."""
    runs = [run.result for variant in variants for run in variant.runs.values()]
    which = "every run" if len(runs) > 1 else "this run"
    longer = f"In {which} the best epoch was the last: train longer (--set epochs=...)."
    return [longer] if still_improving(runs) else []


def _untrained(comparison: Comparison) -> list[str]:
    """Returns which networks write nothing that is like a translation."""
    untrained = [
        variant.name
        for variant in comparison.variants
        if (values := variant.metrics(comparison.split, "bleu").values()) and fmean(values) < _UNTRAINED_BLEU
    ]
    return [f"BLEU is near zero for {listed(untrained)}: not trained yet."] if untrained else []


def _p_caveat(one: _Contrast) -> str:
    """Returns that the p does not bear out what the interval over seeds shows, where that is so."""
    found = one.headline
    if found is None or not _sign(found) or not contradicted_by_p(found):
        return ""
    p, smallest = p_text(corrected_p(found)), smallest_corrected_p(one.tested)
    if smallest is not None and smallest > LEVEL:
        return (
            f"After Holm's correction p is {p}; with so many comparisons and so few seeds it "
            f"cannot fall below {p_text(smallest)}."
        )
    corrected = " after Holm's correction" if len(one.tested) > 1 else ""
    return f"But the sign-flip p is {p}{corrected}: it may be chance."


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
    if _sign(found):
        verb = "lowers" if found.difference < 0 else "raises"
        return f"{name} {verb} the {words} by {points(abs(found.difference))[0]} points against {other} {brackets}."
    return (
        f"No difference in {words} is shown between {name} and {other}: the first is {_lower_or_higher(found)} the "
        f"second {brackets}."
    )


def _ends(ends: Sequence[float], found: PairedComparison) -> str:
    """Returns an interval in points: of the size of a difference that is clear of zero, else of the difference."""
    sign = -1 if _sign(found) and found.difference < 0 else 1
    low, high = points(*sorted(sign * end for end in ends))
    return f"{low} to {high}"


def _what_got_worse(one: _Contrast, rows: Sequence[Row]) -> str:
    """Returns in a sentence which costs the method has: only what is clear of chance, and time by its ratio."""
    nll, ece = one.of.get("nll"), one.of.get("calibration_error")
    unsure = [f"NLL (by {number(nll.difference, 3)} nats)"] if nll is not None and shown_sign(nll) > 0 else []
    if ece is not None and shown_sign(ece) > 0:
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
