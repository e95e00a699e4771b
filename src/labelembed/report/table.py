"""The comparison as rows: one a variant, with its measures over seeds and its paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from labelembed.metrics import (
    PairedComparison,
    Summary,
    holm,
    is_extreme_temperature,
    paired_by_seed,
    paired_comparison,
    summarise,
)
from labelembed.report.comparison import Comparison, Headline, Split, VariantRuns
from labelembed.report.joint_intervals import joint_intervals
from labelembed.report.speed import has_gap, variant_speed

# Differences to the baseline, each a family of its own for Holm's correction.
DIFFERENCES = (
    "error_difference",
    "bleu_difference",
    "top5_difference",
    "top2_difference",
    "nll_difference",
    "calibrated_nll_difference",
)


@dataclass(frozen=True)
class Row:
    """One variant over its seeds. Every measure is a fraction, nats, epochs or seconds, never a per cent.

    Attributes:
        name: The variant's name.
        is_baseline: Whether the others are compared with it.
        headline: The measure that the comparison is decided by.
        split: The rows that the measures without a split in their name and the differences are of.
        speed_split: The rows that the curve and what is read off it are of: the validation examples, where there are
            any.
        seeds: Seeds of the finished runs, ascending.
        failed: Why a run failed or cannot be read, by seed.
        missing: Seeds that have not run to the end.
        validation_error: Error on the validation examples at the selected epoch; None where there are none.
        test_error: Error on the test rows at the selected epoch; None where there are none.
        nll: Negative log-likelihood in nats.
        calibration_error: Expected calibration error.
        brier: Brier score.
        calibrated_nll: As `nll`, after calibration: with the logits divided by the temperature that was fitted
            on the validation examples; None where none was. Errors are the same before and after.
        calibrated_calibration_error: The same for `calibration_error`.
        temperature: The fitted temperature.
        calibration: In words how the temperatures came about or why there are none, each way once.
        extreme_temperatures: Seeds whose temperature is outside 0.05 to 20.
        top5_error: Error of the five most probable labels; None where it was not measured.
        top2_error: The same of the two most probable labels, of 4 to 9 labels.
        macro_f1: Mean F1 of the labels; None where it was not measured.
        balanced_accuracy: Mean accuracy over the labels; None where it was not measured.
        bleu: BLEU of what was written for the split's sentences, of a corpus; None otherwise.
        chrf: The same for chrF.
        rouge_l: The same for ROUGE-L.
        perplexity: Exponential of the NLL of a token, of a corpus.
        area_under_curve: Mean accuracy over the epochs (AUAC), of the runs whose curve has no gap.
        best_accuracy: The highest accuracy of all epochs.
        best_epoch: The epoch of it, the first of equals.
        epochs_to_baseline: Epochs until the error was at or below the lowest of the baseline's run with the
            same seed, over the runs that got there.
        epochs_saved: The fraction of the epochs to the baseline's best that was saved, over the same runs.
        epochs_saved_of_all: The same as a fraction of all epochs of the baseline, as the second paper has it.
        reached: How many runs got there.
        reachable: How many runs had a baseline run to be compared with.
        seconds: Seconds of training.
        epochs: Fewest and most epochs of a run.
        gaps: Seeds whose curve of errors has a gap.
        selected_by: How the epoch was selected, each way once.
        error_difference: Error minus the baseline's, paired by seed; None for the baseline and without a
            common seed. `p_holm` is corrected over all variants compared with the baseline.
        bleu_difference: The same for `bleu`, a family of its own; more is better.
        top5_difference: The same for `top5_error`, a family of its own.
        top2_difference: The same for `top2_error`.
        nll_difference: The same for `nll`.
        calibrated_nll_difference: The same for `calibrated_nll`.
        no_joint_interval: Why there is no interval over seeds and test examples; empty where there is one, for the
            baseline and for one seed.
        unpaired: Seeds that only one of the variant and the baseline has.
    """

    name: str
    is_baseline: bool
    headline: Headline
    split: Split
    speed_split: Split
    seeds: tuple[int, ...]
    failed: Mapping[int, str]
    missing: tuple[int, ...]
    validation_error: Summary | None
    test_error: Summary | None
    nll: Summary | None
    calibration_error: Summary | None
    brier: Summary | None
    calibrated_nll: Summary | None
    calibrated_calibration_error: Summary | None
    temperature: Summary | None
    calibration: tuple[str, ...]
    extreme_temperatures: tuple[int, ...]
    top5_error: Summary | None
    top2_error: Summary | None
    macro_f1: Summary | None
    balanced_accuracy: Summary | None
    bleu: Summary | None
    chrf: Summary | None
    rouge_l: Summary | None
    perplexity: Summary | None
    area_under_curve: Summary | None
    best_accuracy: Summary | None
    best_epoch: Summary | None
    epochs_to_baseline: Summary | None
    epochs_saved: Summary | None
    epochs_saved_of_all: Summary | None
    reached: int
    reachable: int
    seconds: Summary | None
    epochs: tuple[int, int]
    gaps: tuple[int, ...]
    selected_by: tuple[str, ...]
    error_difference: PairedComparison | None
    bleu_difference: PairedComparison | None
    top5_difference: PairedComparison | None
    top2_difference: PairedComparison | None
    nll_difference: PairedComparison | None
    calibrated_nll_difference: PairedComparison | None
    no_joint_interval: str
    unpaired: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of finished runs."""
        return len(self.seeds)

    @property
    def error(self) -> Summary | None:
        """The error on the rows that the comparison is about."""
        return self.test_error if self.split == "test" else self.validation_error

    @property
    def headline_difference(self) -> PairedComparison | None:
        """The difference that the comparison is decided by."""
        return self.bleu_difference if self.headline == "bleu" else self.error_difference

    def difference(self, name: str) -> PairedComparison | None:
        """Returns one of `DIFFERENCES` by its name."""
        difference: PairedComparison | None = getattr(self, name)
        return difference


def comparison_rows(comparison: Comparison) -> list[Row]:
    """Returns one row a variant, in the comparison's order.

    Means are over all finished runs of a variant; differences over the seeds that it shares with the baseline.

    Args:
        comparison: What `load_comparison` read.

    Returns:
        The rows; a variant without a finished run has None for every measure.
    """
    rows = [_row(variant, comparison) for variant in comparison.variants]
    for name in DIFFERENCES:
        differences = [row.difference(name) for row in rows]
        corrected = holm([difference.p_value if difference else None for difference in differences])
        for place, (difference, p_value) in enumerate(zip(differences, corrected, strict=True)):
            changed: dict[str, Any] = {name: difference and difference._replace(p_holm=p_value)}
            rows[place] = replace(rows[place], **changed)
    return rows


def smallest_corrected_p(rows: Sequence[Row]) -> float | None:
    """Returns the smallest p that Holm's correction over these comparisons can leave, however the runs turn out.

    None where there is no p at all.
    """
    tested = [row.headline_difference for row in rows if row.headline_difference is not None]
    # All pairs on one side, and the same with all signs flipped, of 2^n patterns.
    smallest = holm([None if difference.p_value is None else 2.0 ** (1 - difference.n) for difference in tested])
    return min((p_value for p_value in smallest if p_value is not None), default=None)


class Differences(NamedTuple):
    """A variant minus another, paired by seed.

    Attributes:
        of: Each measure's; None without a common seed that has it.
        unpaired: Seeds of which only one of the two has an error.
        no_joint_interval: See `Row.no_joint_interval`.
    """

    of: dict[str, PairedComparison | None]
    unpaired: tuple[int, ...]
    no_joint_interval: str


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: Split) -> Differences:
    """Returns the paired differences of two variants, with the intervals over seeds and over seeds and examples."""
    joint = joint_intervals(variant, reference, split)
    found: dict[str, PairedComparison | None] = {}
    unpaired: list[int] = []
    for measure in ("error", "bleu", "top5_error", "top2_error", "nll", "calibration_error", "calibrated_nll"):
        calibrated, name = measure.startswith("calibrated"), measure.removeprefix("calibrated_")
        both = (one.measures(split, name, calibrated=calibrated) for one in (variant, reference))
        ours, theirs, left_out = paired_by_seed(*both)
        unpaired = left_out if measure == "error" else unpaired
        difference = paired_comparison(ours, theirs) if ours else None
        if difference is not None and difference.n == joint.seeds:
            difference = difference._replace(joint=joint.of.get(measure))
        found[measure] = difference
    return Differences(found, tuple(unpaired), joint.absent)


def _row(variant: VariantRuns, comparison: Comparison) -> Row:
    split, baseline, runs = comparison.split, comparison.baseline_runs, variant.runs
    is_baseline = baseline is not None and variant.name == baseline.name
    found = None if is_baseline or baseline is None else compare_variants(variant, baseline, split)
    curves = {seed: run.error_curve(comparison.speed_split) for seed, run in runs.items()}
    speeds = variant_speed(variant, baseline, comparison.speed_split)
    lengths = [len(curve) for curve in curves.values()]
    return Row(
        name=variant.name,
        is_baseline=is_baseline,
        headline=comparison.headline,
        split=split,
        speed_split=comparison.speed_split,
        seeds=tuple(sorted(runs)),
        failed=dict(sorted(variant.failed.items())),
        missing=tuple(sorted(variant.missing)),
        validation_error=_summary(variant.measures("validation", "error").values()),
        test_error=_summary(variant.measures("test", "error").values()),
        nll=_summary(variant.measures(split, "nll").values()),
        calibration_error=_summary(variant.measures(split, "calibration_error").values()),
        brier=_summary(variant.measures(split, "brier").values()),
        calibrated_nll=_summary(variant.measures(split, "nll", calibrated=True).values()),
        calibrated_calibration_error=_summary(variant.measures(split, "calibration_error", calibrated=True).values()),
        temperature=_summary(run.temperature for run in runs.values()),
        calibration=tuple(sorted({str(run.result.get("calibration", "the run is older")) for run in runs.values()})),
        extreme_temperatures=tuple(
            sorted(seed for seed, run in runs.items() if run.temperature and is_extreme_temperature(run.temperature))
        ),
        top5_error=_summary(variant.measures(split, "top5_error").values()),
        top2_error=_summary(variant.measures(split, "top2_error").values()),
        macro_f1=_summary(variant.measures(split, "macro_f1").values()),
        balanced_accuracy=_summary(variant.measures(split, "balanced_accuracy").values()),
        bleu=_summary(variant.measures(split, "bleu").values()),
        chrf=_summary(variant.measures(split, "chrf").values()),
        rouge_l=_summary(variant.measures(split, "rougeL").values()),
        perplexity=_summary(variant.measures(split, "perplexity").values()),
        area_under_curve=_summary(speed.area_under_curve for speed in speeds),
        best_accuracy=_summary(speed.best_accuracy for speed in speeds),
        best_epoch=_summary(speed.best_epoch for speed in speeds),
        epochs_to_baseline=_summary(speed.epochs_to_baseline for speed in speeds),
        epochs_saved=_summary(speed.epochs_saved for speed in speeds),
        epochs_saved_of_all=_summary(speed.epochs_saved_of_all for speed in speeds),
        reached=sum(speed.epochs_to_baseline is not None for speed in speeds),
        reachable=sum(speed.comparable for speed in speeds),
        seconds=_summary(run.seconds for run in runs.values()),
        epochs=(min(lengths, default=0), max(lengths, default=0)),
        gaps=tuple(sorted(seed for seed, curve in curves.items() if has_gap(curve))),
        selected_by=tuple(sorted({str(run.result.get("selected_by", "unknown")) for run in runs.values()})),
        error_difference=found and found.of["error"],
        bleu_difference=found and found.of["bleu"],
        top5_difference=found and found.of["top5_error"],
        top2_difference=found and found.of["top2_error"],
        nll_difference=found and found.of["nll"],
        calibrated_nll_difference=found and found.of["calibrated_nll"],
        no_joint_interval=found.no_joint_interval if found else "",
        unpaired=found.unpaired if found else (),
    )


def _summary(values: Iterable[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if known else None
