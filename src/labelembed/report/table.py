"""The comparison as rows: one a variant, with its measures over seeds and its paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labelembed.measures import (
    PairedComparison,
    Summary,
    area_under_accuracy_curve,
    epochs_to_reach,
    holm,
    paired_by_seed,
    paired_comparison,
    summarise,
)
from labelembed.report.comparison import Comparison, RunRecord, Split, VariantRuns


@dataclass(frozen=True)
class Row:
    """One variant over its seeds. Every measure is a fraction, nats, epochs or seconds, never a per cent.

    Attributes:
        name: The variant's name.
        is_baseline: Whether the others are compared with it.
        split: The rows that the measures without a split in their name, the curve and the differences are of.
        seeds: Seeds of the finished runs, ascending.
        failed: Why a run failed or cannot be read, by seed.
        missing: Seeds that have not run to the end.
        development_error: Error on the development rows at the selected epoch; None where there are none.
        test_error: Error on the test rows at the selected epoch; None where there are none.
        nll: Negative log-likelihood in nats.
        calibration_error: Expected calibration error.
        brier: Brier score.
        top5_error: Error of the five most probable labels; None where it was not measured.
        area_under_curve: Mean accuracy over the epochs (AUAC), of the runs whose curve has no gap.
        epochs_to_baseline: Epochs until the error was at or below the lowest of the baseline's run with the
            same seed, over the runs that got there.
        reached: How many runs got there.
        reachable: How many runs had a baseline run to be compared with.
        seconds: Seconds of training.
        epochs: Fewest and most epochs of a run.
        gaps: Seeds whose curve of errors has a gap.
        selected_by: How the epoch was selected, each way once.
        error_difference: Error minus the baseline's, paired by seed; None for the baseline and without a
            common seed. `p_holm` is corrected over all variants compared with the baseline.
        nll_difference: The same for `nll`, a family of its own.
        unpaired: Seeds that only one of the variant and the baseline has.
    """

    name: str
    is_baseline: bool
    split: Split
    seeds: tuple[int, ...]
    failed: Mapping[int, str]
    missing: tuple[int, ...]
    development_error: Summary | None
    test_error: Summary | None
    nll: Summary | None
    calibration_error: Summary | None
    brier: Summary | None
    top5_error: Summary | None
    area_under_curve: Summary | None
    epochs_to_baseline: Summary | None
    reached: int
    reachable: int
    seconds: Summary | None
    epochs: tuple[int, int]
    gaps: tuple[int, ...]
    selected_by: tuple[str, ...]
    error_difference: PairedComparison | None
    nll_difference: PairedComparison | None
    unpaired: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of finished runs."""
        return len(self.seeds)

    @property
    def error(self) -> Summary | None:
        """The error on the rows that the comparison is about."""
        return self.test_error if self.split == "test" else self.development_error


def comparison_rows(comparison: Comparison) -> list[Row]:
    """Returns one row a variant, in the comparison's order.

    Means are over all finished runs of a variant; differences over the seeds that it shares with the baseline.

    Args:
        comparison: What `load_comparison` read.

    Returns:
        The rows; a variant without a finished run has None for every measure.
    """
    rows = [_row(variant, comparison) for variant in comparison.variants]
    for_errors = holm([row.error_difference.p_value if row.error_difference else None for row in rows])
    for_nll = holm([row.nll_difference.p_value if row.nll_difference else None for row in rows])
    return [
        replace(
            row,
            error_difference=row.error_difference and row.error_difference._replace(p_holm=error_p),
            nll_difference=row.nll_difference and row.nll_difference._replace(p_holm=nll_p),
        )
        for row, error_p, nll_p in zip(rows, for_errors, for_nll, strict=True)
    ]


def smallest_corrected_p(rows: Sequence[Row]) -> float | None:
    """Returns the smallest p that Holm's correction over these comparisons can leave, however the runs turn out.

    None where there is no p at all.
    """
    tested = [row.error_difference for row in rows if row.error_difference is not None]
    # All pairs on one side, and the same with all signs flipped, of 2^n patterns.
    smallest = holm([None if difference.p_value is None else 2.0 ** (1 - difference.n) for difference in tested])
    return min((p_value for p_value in smallest if p_value is not None), default=None)


def compare_by_seed(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> tuple[PairedComparison | None, tuple[int, ...]]:
    """Returns the paired comparison over the common seeds, None without one, and the seeds left out."""
    ours, theirs, left_out = paired_by_seed(values, baseline)
    return (paired_comparison(ours, theirs) if ours else None), tuple(left_out)


def run_area_under_curve(run: RunRecord, split: Split) -> float | None:
    """Returns the mean accuracy over a run's epochs, or None where the curve has a gap or no epoch."""
    curve = run.error_curve(split)
    return area_under_accuracy_curve(curve.tolist()) if curve.size and np.isfinite(curve).all() else None


def run_epochs_to_baseline(run: RunRecord, baseline: RunRecord, split: Split) -> int | None:
    """Returns after how many epochs a run was first at or below the baseline's lowest error; None if never."""
    curve, baseline_curve = run.error_curve(split), baseline.error_curve(split)
    if not _has_curve(curve) or not _has_curve(baseline_curve):
        return None
    # An epoch without an error reaches nothing: it counts as one in which every row was wrong.
    target = float(np.nanmin(baseline_curve))
    return epochs_to_reach(np.nan_to_num(curve, nan=1.0).tolist(), target)


def _row(variant: VariantRuns, comparison: Comparison) -> Row:
    split, baseline, runs = comparison.split, comparison.baseline_runs, variant.runs
    is_baseline = baseline is not None and variant.name == baseline.name
    compared_with = None if is_baseline else baseline
    error_difference, unpaired = _difference(variant, compared_with, split, "error")
    nll_difference, _ = _difference(variant, compared_with, split, "nll")
    curves = {seed: run.error_curve(split) for seed, run in runs.items()}
    reached = _epochs_to_baseline(variant, baseline, split)
    lengths = [len(curve) for curve in curves.values()]
    return Row(
        name=variant.name,
        is_baseline=is_baseline,
        split=split,
        seeds=tuple(sorted(runs)),
        failed=dict(sorted(variant.failed.items())),
        missing=tuple(sorted(variant.missing)),
        development_error=_summary(variant.measures("development", "error").values()),
        test_error=_summary(variant.measures("test", "error").values()),
        nll=_summary(variant.measures(split, "nll").values()),
        calibration_error=_summary(variant.measures(split, "calibration_error").values()),
        brier=_summary(variant.measures(split, "brier").values()),
        top5_error=_summary(variant.measures(split, "top5_error").values()),
        area_under_curve=_summary(run_area_under_curve(run, split) for run in runs.values()),
        epochs_to_baseline=_summary(reached),
        reached=sum(epoch is not None for epoch in reached),
        reachable=len(reached),
        seconds=_summary(run.seconds for run in runs.values()),
        epochs=(min(lengths, default=0), max(lengths, default=0)),
        gaps=tuple(sorted(seed for seed, curve in curves.items() if _has_gap(curve))),
        selected_by=tuple(sorted({str(run.result.get("selected_by", "unknown")) for run in runs.values()})),
        error_difference=error_difference,
        nll_difference=nll_difference,
        unpaired=unpaired,
    )


def _difference(
    variant: VariantRuns, baseline: VariantRuns | None, split: Split, measure: str
) -> tuple[PairedComparison | None, tuple[int, ...]]:
    if baseline is None:
        return None, ()
    return compare_by_seed(variant.measures(split, measure), baseline.measures(split, measure))


def _epochs_to_baseline(variant: VariantRuns, baseline: VariantRuns | None, split: Split) -> list[int | None]:
    """Returns `run_epochs_to_baseline` of the runs that have a curve and a baseline run with one."""
    others = baseline.runs if baseline else {}
    return [
        run_epochs_to_baseline(run, others[seed], split)
        for seed, run in variant.runs.items()
        if seed in others and _has_curve(run.error_curve(split)) and _has_curve(others[seed].error_curve(split))
    ]


def _has_curve(curve: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(curve).any())


def _has_gap(curve: NDArray[np.float64]) -> bool:
    return _has_curve(curve) and not bool(np.isfinite(curve).all())


def _summary(values: Iterable[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if known else None
