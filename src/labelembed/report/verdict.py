"""The answer in plain words, with its uncertainty: which is better, by how much, how sure."""

from __future__ import annotations

from collections.abc import Sequence

from labelembed.measures import PairedComparison
from labelembed.report.chance import chance_statements
from labelembed.report.comparison import Comparison, RunRecord, VariantRuns
from labelembed.report.formatting import counted, number, p_text, points
from labelembed.report.ranking import is_smoothing, ranked
from labelembed.report.table import Row, compare_by_seed, comparison_rows, smallest_corrected_p
from labelembed.report.tuning_shown import tuning_statement

_LEVEL = 0.05


def verdict(comparison: Comparison, rows: Sequence[Row] | None = None) -> list[str]:
    """Returns what the comparison shows, in a few statements of a sentence or two, the most important first.

    The first is about the method that is best on the development rows, by the error or of translations by BLEU, and
    the baseline (about label smoothing only where there is no other method), followed by what limits it; then,
    where there is a label smoothing besides, the same method and the best smoothing. What was chosen, and by what,
    is said. Where a variant is no better than always giving the most frequent label, that stands before all else.

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
    others = [variant for variant in finished if variant.name != baseline.name]
    if not others:
        return [f"Only {baseline.name} has finished runs, so there is nothing to compare it with."]
    methods = [variant for variant in others if not is_smoothing(variant)]
    (method, *_), chosen_on = ranked(methods or others, comparison)
    statements = [*nothing_learned, _against_baseline(method, baseline, comparison, rows), *_limits(method, rows)]
    if len(methods or others) > 1:
        statements.append(f"{method.name} was chosen among {len(methods or others)} by its {chosen_on}.")
    smoothings = [variant for variant in finished if is_smoothing(variant)]
    if methods and smoothings:
        (smoothing, *_), chosen_on = ranked(smoothings, comparison)
        if smoothing.name != baseline.name:
            against = _against_smoothing(method, smoothing, comparison)
            chosen = f" That smoothing was chosen among {len(smoothings)} by its {chosen_on}."
            statements.append(against + (chosen if len(smoothings) > 1 else ""))
    return [*statements, *tuning_statement(comparison)]


def _words(comparison: Comparison) -> str:
    return f"{comparison.split} {'BLEU' if comparison.headline == 'bleu' else 'error'}"


def _against_baseline(variant: VariantRuns, baseline: VariantRuns, comparison: Comparison, rows: Sequence[Row]) -> str:
    row = next(row for row in rows if row.name == variant.name)
    difference = row.headline_difference
    if difference is None:
        return f"{variant.name} and {baseline.name} share no finished seed, so nothing is compared."
    if difference.n == 1:
        return _one_pair(variant, baseline, difference, _words(comparison))
    return _difference_sentence(variant.name, baseline.name, difference, _words(comparison), variant.name)


def _limits(variant: VariantRuns, rows: Sequence[Row]) -> list[str]:
    """Returns that the p does not bear out what the interval shows, where that is so."""
    difference = next(row for row in rows if row.name == variant.name).headline_difference
    if difference is None or not _excludes_zero(difference):
        return []
    if difference.p_holm is None or difference.p_holm <= _LEVEL:
        return []
    smallest = smallest_corrected_p(rows)
    if smallest is not None and smallest > _LEVEL:
        return [
            f"After Holm's correction p is {p_text(difference.p_holm)}; with so many comparisons and so few seeds it "
            f"cannot fall below {p_text(smallest)}."
        ]
    return [f"But the sign-flip p is {p_text(difference.p_holm)} after Holm's correction: it may be chance."]


def _against_smoothing(variant: VariantRuns, smoothing: VariantRuns, comparison: Comparison) -> str:
    split, measure = comparison.split, comparison.headline
    difference, _ = compare_by_seed(variant.measures(split, measure), smoothing.measures(split, measure))
    if difference is None:
        return f"With {smoothing.name} it shares no finished seed."
    if difference.n == 1:
        return f"It is {_lower_or_higher(difference)} that of {smoothing.name}; with one seed that may be chance."
    return _difference_sentence(variant.name, smoothing.name, difference, _words(comparison), "It")


def _difference_sentence(name: str, other: str, difference: PairedComparison, words: str, subject: str) -> str:
    n = f"n = {counted(difference.n, 'seed')}"
    if difference.difference == 0 and difference.interval_low == difference.interval_high:
        return f"{subject} has the same {words} as {other} with every one of {counted(difference.n, 'seed')}."
    if _excludes_zero(difference):
        verb = "lowers" if difference.difference < 0 else "raises"
        ends = sorted((abs(difference.interval_low), abs(difference.interval_high)))
        size, low, high = points(abs(difference.difference), *ends)
        return f"{subject} {verb} the {words} by {size} points against {other} (95 % interval {low} to {high}, {n})."
    low, high = points(difference.interval_low, difference.interval_high)
    shown = points(difference.detectable)[0]
    return (
        f"No difference in {words} is shown between {name} and {other}: on average the first is "
        f"{_lower_or_higher(difference)} the second (95 % interval of the difference {low} to {high}, {n}). "
        f"These seeds could have shown one of {shown} points; that none is shown is not the same as equal."
    )


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
        for split in ("test", "development")
        if (value := run.measure("test" if split == "test" else "development", comparison.headline)) is not None
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
