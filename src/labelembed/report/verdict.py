"""The answer in plain words: whether to use the method, by how much it is better, how sure that is, what would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from labelembed.metrics import PairedComparison
from labelembed.report.answer import Answer, Contrast, answer_of, clear_of_zero, p_caveat, training_too_short
from labelembed.report.comparison import SPLITS, Comparison, VariantRuns
from labelembed.report.errors_seen import most_frequent_label
from labelembed.report.formatting import counted, listed, number, points
from labelembed.report.ranking import is_one_hot, is_smoothing, method_candidates, ranked
from labelembed.report.table import Row, compare_variants, comparison_rows
from labelembed.report.tuning_shown import tuning_rows, tuning_statement

# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05


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
        return Verdict("", [*nothing_learned, *training_too_short([run], comparison)], [_single_run(comparison)], [])
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
    caveats = [p_caveat(one.headline, rows) for one in found]
    caveats.append(f"{method.name} was chosen among {len(candidates)} by its {chosen_on}." if candidates[1:] else "")
    caveats += [_smoothing_caveat(finished, comparison), tuning_statement(comparison)]
    answer, because = answer_of(found[0], comparison, rows) if not nothing_learned else ("Cannot tell yet", [])
    if answer == "Use it" and not is_smoothing(method) and not _is_smoothing_tuned(finished, comparison):
        answer = "Cannot tell yet"
        because.append("But what tuned label smoothing gives is not known: compare --tuned tells.")
    because += training_too_short([found[0].method, found[0].reference], comparison)
    sentences += [" ".join(worse)] if worse else []
    return Verdict(answer, because, sentences, [caveat for caveat in caveats if caveat])


def _contrast(method: VariantRuns, reference: VariantRuns, comparison: Comparison, rows: Sequence[Row]) -> Contrast:
    found = compare_variants(method, reference, comparison.split).of
    headline = found.get(comparison.headline)
    if reference.name == comparison.baseline:  # corrected by Holm
        headline = next(row for row in rows if row.name == method.name).headline_difference
    return Contrast(method, reference, headline, found)


def _references(
    method: VariantRuns, baseline: VariantRuns, finished: Sequence[VariantRuns], comparison: Comparison
) -> list[VariantRuns]:
    """Returns what the method is held against, the most important first."""
    smoothings = [variant for variant in finished if is_smoothing(variant)]
    one_hot = [variant for variant in finished if is_one_hot(variant)][:1]
    smoothing = ranked(smoothings, comparison)[0][:1] if smoothings else []
    if is_smoothing(method) or is_one_hot(method):
        order = [baseline, *one_hot]
    else:
        order = [*smoothing, *one_hot, *([] if is_smoothing(baseline) else [baseline])]
    return list({one.name: one for one in order if one.name != method.name and one.runs}.values()) or [baseline]


# --------------------------------------------------------------------------------------------------- the sentences


def _sentence(one: Contrast, comparison: Comparison) -> str:
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
    if clear_of_zero(found):
        verb = "lowers" if found.difference < 0 else "raises"
        return f"{name} {verb} the {words} by {points(abs(found.difference))[0]} points against {other} {brackets}."
    return (
        f"No difference in {words} is shown between {name} and {other}: the first is {_lower_or_higher(found)} the "
        f"second {brackets}."
    )


def _ends(ends: Sequence[float], found: PairedComparison) -> str:
    """Returns an interval in points: of the size of a difference that is clear of zero, else of the difference."""
    sign = -1 if clear_of_zero(found) and found.difference < 0 else 1
    low, high = points(*sorted(sign * end for end in ends))
    return f"{low} to {high}"


def _what_got_worse(one: Contrast, rows: Sequence[Row]) -> str:
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
        if (value := run.measure(split, comparison.headline)) is not None
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
    smoothings = [variant for variant in finished if is_smoothing(variant)]
    if not smoothings:
        absent = "has finished" if any(map(is_smoothing, comparison.variants)) else "is in this comparison"
        return f"No label smoothing {absent}: what it would give is not known."
    if len(smoothings) > 1:
        return f"The label smoothing was chosen among {len(smoothings)} by its {ranked(smoothings, comparison)[1]}."
    if _is_smoothing_tuned(finished, comparison):
        return ""  # the tuning statement says how all variants were tuned
    return "Label smoothing was not tuned: one strength only; compare --tuned tunes it."


def _is_smoothing_tuned(finished: Sequence[VariantRuns], comparison: Comparison) -> bool:
    """Returns whether the label smoothing was tuned, or is the best of several strengths."""
    names = {variant.name for variant in finished if is_smoothing(variant)}
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
        if (errors := list(variant.measures(comparison.split, "error").values()))
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
