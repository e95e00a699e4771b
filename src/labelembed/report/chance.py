"""Whether anything was learned at all: the error against that of always giving the most frequent label."""

from __future__ import annotations

from labelembed.report.comparison import Comparison, RunRecord
from labelembed.report.errors_seen import evidence_of_errors
from labelembed.report.formatting import listed, number


def chance_error(comparison: Comparison) -> float | None:
    """Returns the error of always giving the most frequent label of the rows that the comparison is about.

    Args:
        comparison: Read from its folder; what is needed was counted by its runs.

    Returns:
        A fraction; None where no run has counted its labels, as of sentences, of more than 5,000 labels, or of
        runs older than that count.
    """
    for run in (run for variant in comparison.variants for run in variant.runs.values()):
        counts = _counts(run, comparison.split)
        if counts:
            return 1 - max(counts) / sum(counts)
    return None


def chance_statements(comparison: Comparison) -> list[str]:
    """Returns a statement about the variants that learned nothing, if there are any: a comparison of them is none."""
    chance = chance_error(comparison)
    if chance is None or comparison.headline != "error":
        return []
    finished = [variant for variant in comparison.variants if variant.runs]
    means = {}
    for variant in finished:
        errors = list(variant.measures(comparison.split, "error").values())
        if errors:
            means[variant.name] = sum(errors) / len(errors)
    # Equal up to rounding counts: all rows given the same label is the commonest way to learn nothing.
    nothing = [name for name, error in means.items() if error >= chance - 1e-9]
    if not nothing:
        return []
    whose = f"always giving the most frequent label ({number(100 * chance, 2)} % {comparison.split} error)"
    if len(nothing) == len(means):
        who = "No variant does" if len(means) > 1 else "The run does not do"
        way_out = "More epochs, a higher learning rate or smaller batches may help (--set epochs=..., "
        way_out += "--set optimizer.learning_rate=...)."
        return [f"{who} better than {whose}: by that measure nothing was learned. {way_out}"]
    return [f"{listed(nothing)} {'is' if len(nothing) == 1 else 'are'} no better than {whose}."]


def _counts(run: RunRecord, split: str) -> list[int]:
    found = evidence_of_errors(run)
    if isinstance(found, str) or found["split"] != split or not found["of_label"] or not sum(found["of_label"]):
        return []
    counts: list[int] = found["of_label"]
    return counts
