"""The answer in plain words, with its uncertainty: which is better, by how much, how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from labelembed.metrics import PairedComparison
from labelembed.report.chance import chance_statements
from labelembed.report.comparison import Comparison, RunRecord, VariantRuns
from labelembed.report.formatting import counted, listed, number, p_text, points
from labelembed.report.ranking import is_one_hot, is_smoothing, method_candidates, ranked
from labelembed.report.table import Row, compare_variants, comparison_rows, smallest_corrected_p
from labelembed.report.tuning_shown import tuning_rows, tuning_statement

_LEVEL = 0.05
# More training time than this, as a ratio, is said.
_SLOWER = 1.05


def verdict(comparison: Comparison, rows: Sequence[Row] | None = None) -> list[str]:
    """Returns what the comparison shows, in a few statements of a sentence or two, the most important first.

    They are about the learned method that is best on the validation examples, by the error or of translations by BLEU:
    first against the best label smoothing, then against cross entropy, then against the baseline where that is neither.
    Each difference has its interval over seeds and, where the runs keep the outcome of each example, the one over seeds
    and test examples. What was chosen, and by what, what was not tuned and what got worse is said. Where a variant is
    no better than always giving the most frequent label, that stands before all else.

    Args:
        comparison: What `load_comparison` read.
        rows: What `comparison_rows` made of it, where that is at hand.

    Returns:
        One statement or more; of a single run, what it reached.
    """
    baseline = comparison.baseline_runs
    nothing_learned = chance_statements(comparison)
    if baseline is None:
        return [_single_run(comparison), *nothing_learned]
    rows = comparison_rows(comparison) if rows is None else rows
    finished = [variant for variant in comparison.variants if variant.runs]
    if not finished:
        return ["No run has finished, so there is nothing to compare."]
    candidates = method_candidates(comparison)
    if not candidates:
        return [f"Only {baseline.name} has finished runs, so there is nothing to compare it with."]
    (method, *_), chosen_on = ranked(candidates, comparison)
    statements, worse = [*nothing_learned], []
    for place, reference in enumerate(_references(method, baseline, finished, comparison)):
        found = compare_variants(method, reference, comparison.split).of
        difference = found[comparison.headline]
        if reference.name == baseline.name:  # corrected by Holm
            difference = next(row for row in rows if row.name == method.name).headline_difference
        statement = _against(method, reference, difference, comparison, first=place == 0)
        statements.append(statement + (_tuning_of_smoothing(finished, comparison) if is_smoothing(reference) else ""))
        statements += _limits(difference, rows)
        worse += _what_got_worse(method, reference, found)
    if len(candidates) > 1:
        statements.append(f"{method.name} was chosen among {len(candidates)} by its {chosen_on}.")
    if not any(is_smoothing(variant) for variant in finished):
        absent = "has finished" if any(map(is_smoothing, comparison.variants)) else "is in this comparison"
        statements.append(f"No label smoothing {absent}: what it would give is not known.")
    return [*statements, *([" ".join(worse)] if worse else []), *tuning_statement(comparison)]


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
    return list({one.name: one for one in order if one.name != method.name and one.runs}.values())


def _tuning_of_smoothing(finished: Sequence[VariantRuns], comparison: Comparison) -> str:
    """Returns how the strength of the label smoothing was found."""
    smoothings = [variant for variant in finished if is_smoothing(variant)]
    if len(smoothings) > 1:
        return f" That smoothing was chosen among {len(smoothings)} by its {ranked(smoothings, comparison)[1]}."
    if any(row.space for row in tuning_rows(comparison) if row.name == smoothings[0].name):
        return ""  # the last statement says how all variants were tuned
    return " Label smoothing was not tuned: one strength only; compare --tuned tunes it."


def _words(comparison: Comparison) -> str:
    return f"{comparison.split} {'BLEU' if comparison.headline == 'bleu' else 'error'}"


def _against(
    method: VariantRuns,
    reference: VariantRuns,
    difference: PairedComparison | None,
    comparison: Comparison,
    *,
    first: bool,
) -> str:
    if difference is None:
        if not first:
            return f"{method.name} shares no finished seed with {reference.name}."
        return f"{method.name} and {reference.name} share no finished seed, so nothing is compared."
    if difference.n == 1:
        if not first:
            return f"It is {_lower_or_higher(difference)} that of {reference.name}, which may be chance as well."
        return _one_pair(method, reference, difference, _words(comparison))
    return _difference_sentence(method.name, reference.name, difference, comparison)


def _limits(difference: PairedComparison | None, rows: Sequence[Row]) -> list[str]:
    """Returns that the p does not bear out what the interval over seeds shows, where that is so."""
    if difference is None or not _excludes_zero(difference) or difference.p_value is None:
        return []
    if difference.p_holm is None:
        uncertain = f"But the sign-flip p is {p_text(difference.p_value)}: it may be chance."
        return [uncertain] if difference.p_value > _LEVEL else []
    if difference.p_holm <= _LEVEL:
        return []
    smallest = smallest_corrected_p(rows)
    if smallest is not None and smallest > _LEVEL:
        return [
            f"After Holm's correction p is {p_text(difference.p_holm)}; with so many comparisons and so few seeds it "
            f"cannot fall below {p_text(smallest)}."
        ]
    return [f"But the sign-flip p is {p_text(difference.p_holm)} after Holm's correction: it may be chance."]


def _what_got_worse(
    method: VariantRuns, reference: VariantRuns, found: dict[str, PairedComparison | None]
) -> list[str]:
    """Returns in a sentence which costs the method has: only what is clear of chance, and time by its ratio."""
    worse = []
    nll, ece = found["nll"], found["calibration_error"]
    if nll is not None and nll.interval_low > 0:
        worse.append(f"NLL before calibration (by {number(nll.difference, 3)} nats)")
    if ece is not None and ece.interval_low > 0:
        worse.append(f"ECE before calibration (by {points(ece.difference)[0]} points)")
    ratios = [
        ours / theirs
        for seed in method.runs.keys() & reference.runs.keys()
        if (ours := method.runs[seed].seconds) and (theirs := reference.runs[seed].seconds)
    ]
    if ratios and fmean(ratios) > _SLOWER:
        worse.append(f"training time ({number(fmean(ratios), 2)} times)")
    return [f"Worse than with {reference.name}: {listed(worse)}."] if worse else []


def _difference_sentence(name: str, other: str, difference: PairedComparison, comparison: Comparison) -> str:
    words, seeds = _words(comparison), counted(difference.n, "seed")
    sign, verb = (-1, "lowers") if difference.difference < 0 else (1, "raises")
    if math.isnan(difference.interval_low):
        joint = _joint_clause(difference, comparison, sign=1)
        if difference.difference == 0:
            return f"{name} has the same {words} as {other} with every one of {seeds}{joint}."
        size = points(abs(difference.difference))[0]
        return (
            f"The {words} of {name} is {_lower_or_higher(difference)} that of {other} with every one of {seeds}. "
            f"Every seed differs by the same {size} points: no interval over seeds{joint}."
        )
    if _excludes_zero(difference):
        ends = sorted((abs(difference.interval_low), abs(difference.interval_high)))
        size, low, high = points(abs(difference.difference), *ends)
        return (
            f"{name} {verb} the {words} by {size} points against {other} (95 % interval over seeds {low} to {high}, "
            f"n = {seeds}){_joint_clause(difference, comparison, sign=sign)}."
        )
    low, high = points(difference.interval_low, difference.interval_high)
    shown = points(difference.detectable)[0]
    joint = _joint_ends(difference, comparison, sign=1)
    return (
        f"No difference in {words} is shown between {name} and {other}: on average the first is "
        f"{_lower_or_higher(difference)} the second (95 % interval of the difference over seeds {low} to {high}, "
        f"{f'{joint}, ' if joint else ''}n = {seeds}). "
        f"These seeds could have shown one of {shown} points; that none is shown is not the same as equal."
    )


def _joint_ends(difference: PairedComparison, comparison: Comparison, *, sign: int) -> str:
    """Returns the interval over seeds and examples in words, of `sign` times the difference; empty without one."""
    if difference.joint is None:
        return ""
    low, high = points(*sorted(sign * end for end in difference.joint[:2]))
    return f"over seeds and {comparison.split} examples {low} to {high}"


def _joint_clause(difference: PairedComparison, comparison: Comparison, *, sign: int) -> str:
    """Returns the end of a sentence: the interval over seeds and examples, and whether it leaves the sign open."""
    ends = _joint_ends(difference, comparison, sign=sign)
    if not ends or difference.joint is None:
        return ""
    is_open = difference.joint.low <= 0 <= difference.joint.high
    open_words = f": another sample of {comparison.split} examples could turn it round" if is_open else ""
    return f"; {ends}{open_words}"


def _one_pair(variant: VariantRuns, baseline: VariantRuns, difference: PairedComparison, words: str) -> str:
    return (
        f"With the one seed they share, the {words} of {variant.name} is {_lower_or_higher(difference)} "
        f"that of {baseline.name}. One seed gives no interval: this may be chance, more seeds would tell."
    )


def _lower_or_higher(difference: PairedComparison) -> str:
    if difference.difference == 0:
        return "the same as"
    size = points(abs(difference.difference))[0]
    return f"{size} points {'lower' if difference.difference < 0 else 'higher'} than"


def _excludes_zero(difference: PairedComparison) -> bool:
    return difference.interval_low > 0 or difference.interval_high < 0


def _single_run(comparison: Comparison) -> str:
    variant = comparison.variants[0]
    run = next(iter(variant.runs.values()))
    words = "BLEU" if comparison.headline == "bleu" else "error"
    reached = [
        f"{split} {words} of {number(100 * value, 2)}{'' if words == 'BLEU' else ' %'}"
        for split in ("test", "validation")
        if (value := run.measure("test" if split == "test" else "validation", comparison.headline)) is not None
    ]
    return (
        f"The run reached a {' and a '.join(reached)}{_selected(run)}. "
        "One run has no spread: a comparison over seeds would say how much of it is chance."
    )


def _selected(run: RunRecord) -> str:
    epoch, epochs = run.result.get("selected_epoch"), run.result.get("epochs")
    if not isinstance(epoch, int) or not isinstance(epochs, int):
        return ""
    return f" after epoch {epoch} of {epochs}, selected by {run.result.get('selected_by', 'nothing known')}"
