"""The comparison as rows: one a variant, with its metrics over seeds and its paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.report.comparison import SPLITS, Comparison, Headline, RunRecord, Split, VariantRuns
from labelembed.lab.report.joint_intervals import joint_intervals
from labelembed.lab.report.run_checks import number_in
from labelembed.metrics import (
    PairedComparison,
    Summary,
    area_under_accuracy_curve,
    epochs_saved,
    epochs_to_reach,
    holm,
    is_extreme_temperature,
    paired_by_seed,
    paired_comparison,
    summarise,
)

#: What a run's result may hold of the examples that the comparison is about, by the name that a `Row` has for it.
RESULT_METRICS = {
    name: name
    for name in (
        *("nll", "calibration_error", "brier", "top5_error", "top2_error", "macro_f1", "balanced_accuracy"),
        *("aurc", "excess_aurc", "error_at_90_coverage"),
        *("bleu", "brevity_penalty", "length_ratio", "chrf", "perplexity"),
    )
} | {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll")


@dataclass(frozen=True)
class Row:
    """One variant over its seeds. Every metric is a fraction, nats, epochs or seconds, never a per cent.

    Attributes:
        variant: Its runs, those that failed and those that are missing.
        is_baseline: Whether the others are compared with it.
        headline: What decides the comparison.
        split: The examples that metrics without a split in their name, and the differences, are measured on.
        speed_split: Those that the curve and what is read off it are of: validation examples, where there are any.
        metrics: Mean and spread of each metric that any run has: `test_error` and `validation_error`, those of
            `RESULT_METRICS`, `calibrated_nll` and `calibrated_calibration_error` (with the logits divided by the
            temperature fitted on validation examples), `temperature`, the numbers of `run_speed` (`epochs_to_baseline`
            over the runs that got there), and the cost: `epoch_seconds`, its ratio to the run of `timed_against` with
            the same seed as `time_ratio`, `seconds` of a run, `gpu_memory` and `process_memory` in bytes, `parameters`.
        differences: Each of `DIFFERENCES` minus the baseline's, paired by seed; empty for the baseline. `p_holm` is
            corrected over all variants compared with it.
        calibration: In words how the temperatures came about or why there are none, each way once.
        extreme_temperatures: Seeds whose temperature is outside 0.05 to 20.
        reached: How many runs got to the baseline's best.
        reachable: How many runs had a baseline run to be compared with.
        epochs: Fewest and most epochs of a run.
        gaps: Seeds whose curve of errors has a gap.
        selected_by: How the epoch was selected, each way once.
        no_joint_interval: Why there is no interval over seeds and test examples; empty where there is one, for the
            baseline and for one seed.
        unpaired: Seeds that only one of the variant and the baseline has.
        timed_against: The variant that ratios of times are to, one-hot where it is there; empty for a single run.
        shared_machine: Whether a run trained beside others on one machine, so that its times are rough.
    """

    variant: VariantRuns
    is_baseline: bool
    headline: Headline
    split: Split
    speed_split: Split
    metrics: Mapping[str, Summary]
    differences: Mapping[str, PairedComparison]
    calibration: tuple[str, ...]
    extreme_temperatures: tuple[int, ...]
    reached: int
    reachable: int
    epochs: tuple[int, int]
    gaps: tuple[int, ...]
    selected_by: tuple[str, ...]
    no_joint_interval: str
    unpaired: tuple[int, ...]
    timed_against: str
    shared_machine: bool

    @property
    def n(self) -> int:
        """Number of finished runs."""
        return len(self.variant.runs)

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def headline_difference(self) -> PairedComparison | None:
        """The difference that the comparison is decided by; None for the baseline and without a common seed."""
        return self.differences.get(self.headline)


def comparison_rows(comparison: Comparison) -> list[Row]:
    """Returns one row a variant, in the comparison's order.

    Means are over all finished runs of a variant; differences over the seeds that it shares with the baseline.

    Args:
        comparison: What `load_comparison` read.
    """
    one_hot = next((one for one in comparison.variants if one.kind == "one_hot" and one.runs), None)
    several = sum(bool(variant.runs) for variant in comparison.variants) > 1
    timed = (one_hot or comparison.baseline_runs) if several else None
    rows = [_row(variant, comparison, timed) for variant in comparison.variants]
    for name in DIFFERENCES:
        compared = [place for place, row in enumerate(rows) if name in row.differences]
        corrected = holm([rows[place].differences[name].p_value for place in compared])
        for place, p_value in zip(compared, corrected, strict=True):
            difference = rows[place].differences[name]._replace(p_holm=p_value)
            rows[place] = replace(rows[place], differences={**rows[place].differences, name: difference})
    return rows


class Differences(NamedTuple):
    """A variant minus another, paired by seed.

    Attributes:
        of: That of each metric that both have with a common seed: `DIFFERENCES` and `calibration_error`.
        unpaired: Seeds of which only one of the two has an error.
        no_joint_interval: See `Row.no_joint_interval`.
    """

    of: dict[str, PairedComparison]
    unpaired: tuple[int, ...]
    no_joint_interval: str


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: Split) -> Differences:
    """Returns the paired differences of two variants, with the intervals over seeds and over seeds and examples."""
    joint, why_none = joint_intervals(variant, reference, split)
    shared = len(variant.runs.keys() & reference.runs.keys())
    found: dict[str, PairedComparison] = {}
    unpaired: list[int] = []
    for metric in (*DIFFERENCES, "calibration_error"):
        calibrated, name = metric.startswith("calibrated"), metric.removeprefix("calibrated_")
        both = (one.metrics(split, name, calibrated=calibrated) for one in (variant, reference))
        ours, theirs, left_out = paired_by_seed(*both)
        unpaired = left_out if metric == "error" else unpaired
        if ours:
            found[metric] = paired_comparison(ours, theirs)
            if len(ours) == shared:
                found[metric] = found[metric]._replace(joint=joint.get(metric))
    return Differences(found, tuple(unpaired), why_none)


def _row(variant: VariantRuns, comparison: Comparison, timed: VariantRuns | None) -> Row:
    split, baseline, runs = comparison.split, comparison.baseline_runs, variant.runs
    is_baseline = baseline is not None and variant.name == baseline.name
    found = Differences({}, (), "")
    if baseline is not None and not is_baseline:
        found = compare_variants(variant, baseline, split)
    curves = {seed: run.curve(comparison.speed_split, "error") for seed, run in runs.items()}
    others = baseline.runs if baseline else {}
    speeds = [run_speed(run, others.get(seed), comparison.speed_split) for seed, run in runs.items()]
    lengths = [len(curve) for curve in curves.values()]
    return Row(
        variant=variant,
        is_baseline=is_baseline,
        headline=comparison.headline,
        split=split,
        speed_split=comparison.speed_split,
        metrics=_metrics(variant, split, speeds, timed),
        differences={name: found.of[name] for name in DIFFERENCES if name in found.of},
        calibration=tuple(sorted({str(run.result.get("calibration", "the run is older")) for run in runs.values()})),
        extreme_temperatures=tuple(
            sorted(seed for seed, run in runs.items() if run.temperature and is_extreme_temperature(run.temperature))
        ),
        reached=sum(speed.get("epochs_to_baseline") is not None for speed in speeds),
        reachable=sum("epochs_to_baseline" in speed for speed in speeds),
        epochs=(min(lengths, default=0), max(lengths, default=0)),
        gaps=tuple(sorted(seed for seed, curve in curves.items() if _has_gap(curve))),
        selected_by=tuple(sorted({str(run.result.get("selected_by", "unknown")) for run in runs.values()})),
        no_joint_interval=found.no_joint_interval,
        unpaired=found.unpaired,
        timed_against=timed.name if timed else "",
        shared_machine=any(_shared_machine(run) for run in runs.values()),
    )


def run_speed(run: RunRecord, baseline: RunRecord | None, split: Split) -> dict[str, float | None]:
    """Returns how fast a run learned, as the second paper's tables have it; nothing without a curve of errors.

    Args:
        run: The run.
        baseline: The baseline's run with the same seed; None where there is none.
        split: The examples whose errors are meant.

    Returns:
        `auac`, the mean accuracy over the epochs (None where the curve has a gap), `best_accuracy` and
        `best_epoch`, the first of equals; with a baseline run `epochs_to_baseline`, until the error was first at or
        below the lowest of that run, and the share of its epochs to its best, and of all its epochs, that was saved:
        `epochs_saved` and `epochs_saved_of_all`, None where its best was never reached.
    """
    curve = run.curve(split, "error")
    errors = _errors(curve)
    if not errors:
        return {}
    best = int(np.argmin(errors))
    area = None if _has_gap(curve) else area_under_accuracy_curve(errors)
    speed = {"auac": area, "best_accuracy": 1.0 - errors[best], "best_epoch": best + 1}
    if baseline is not None and (theirs := _errors(baseline.curve(split, "error"))):
        speed["epochs_to_baseline"] = epochs_to_reach(errors, min(theirs))
        speed["epochs_saved"] = epochs_saved(errors, theirs)
        speed["epochs_saved_of_all"] = epochs_saved(errors, theirs, of_all=True)
    return speed


def _has_gap(curve: NDArray[np.float64]) -> bool:
    """Returns whether some epochs have an error and some have none."""
    return 0 < int(np.isfinite(curve).sum()) < len(curve)


def _errors(curve: NDArray[np.float64]) -> list[float]:
    """Returns the errors; one that is missing counts as 1, for that epoch reached nothing. Empty without any."""
    found: list[float] = np.nan_to_num(curve, nan=1.0).tolist() if np.isfinite(curve).any() else []
    return found


def _shared_machine(run: RunRecord) -> bool:
    """Returns whether a run trained beside others on the cores of one machine."""
    environment = run.environment()
    command, cores = environment.get("command"), number_in(environment.get("cores"))
    words = [str(word) for word in command] if isinstance(command, list) else []
    if "train" in words or environment.get("device") != "cpu" or cores is None or cores == 1:
        return False
    if (
        "compare" not in words
    ):  # called from Python: of several runs at once each has fewer threads than there are cores
        return (number_in(environment.get("threads")) or cores) < cores
    given = [words[place + 1 : place + 2] for place, word in enumerate(words) if word in ("--jobs", "-j")]
    given += [[word.partition("=")[2]] for word in words if word.startswith("--jobs=")]
    return ["1"] not in given  # without the option as many at once as there are cores


def _metrics(
    variant: VariantRuns, split: Split, speeds: Sequence[Mapping[str, float | None]], timed: VariantRuns | None
) -> dict[str, Summary]:
    values: dict[str, Iterable[float | None]] = {
        f"{one}_error": variant.metrics(one, "error").values() for one in SPLITS
    }
    values |= {name: variant.metrics(split, source).values() for name, source in RESULT_METRICS.items()}
    for name in ("nll", "calibration_error"):
        values[f"calibrated_{name}"] = variant.metrics(split, name, calibrated=True).values()
    values["temperature"] = [run.temperature for run in variant.runs.values()]
    values |= {name: [speed.get(name) for speed in speeds] for speed in speeds for name in speed}
    values |= _cost(variant, timed)
    known = {name: [value for value in found if value is not None] for name, found in values.items()}
    return {name: summarise(found) for name, found in known.items() if found}


def _cost(variant: VariantRuns, timed: VariantRuns | None) -> dict[str, list[float | None]]:
    runs = list(variant.runs.values())
    seconds = {seed: _epoch_seconds(run) for seed, run in variant.runs.items()}
    ratios: list[float | None] = []
    if timed is not None and timed.name != variant.name:
        theirs = {seed: _epoch_seconds(run) for seed, run in timed.runs.items()}
        ratios = [ours / other for seed, ours in seconds.items() if ours and (other := theirs.get(seed))]
    peaks = [peak if isinstance(peak := run.result.get("peak_memory"), dict) else {} for run in runs]
    memory = {
        f"{kind}_memory": [number_in(peak.get("bytes")) for peak in peaks if peak.get("of") == kind]
        for kind in ("gpu", "process")
    }
    return memory | {
        "epoch_seconds": list(seconds.values()),
        "time_ratio": ratios,
        "seconds": [run.seconds for run in runs],
        "parameters": [number_in(run.result.get("parameters")) for run in runs],
    }


def _epoch_seconds(run: RunRecord) -> float | None:
    """Returns the median seconds of training in an epoch; older historys count the evaluation in."""
    found = [number_in(entry.get("training_seconds", entry.get("seconds"))) for entry in run.history]
    known = [value for value in found if value]
    return median(known) if known else None
