"""The comparison as rows: one a variant, with its metrics over seeds and its paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from labelembed.metrics import (
    PairedComparison,
    Summary,
    holm,
    is_extreme_temperature,
    paired_by_seed,
    paired_comparison,
    summarise,
)
from labelembed.report.comparison import SPLITS, Comparison, Headline, RunRecord, Split, VariantRuns, environment_of
from labelembed.report.joint_intervals import joint_intervals
from labelembed.report.run_checks import number_in
from labelembed.report.speed import RunSpeed, has_gap, variant_speed

#: What a run's result may hold of the examples that the comparison is about, by the name that a `Row` has for it.
RESULT_METRICS = {
    name: name
    for name in (
        *("nll", "calibration_error", "brier", "top5_error", "top2_error", "macro_f1", "balanced_accuracy"),
        *("bleu", "brevity_penalty", "length_ratio", "chrf", "perplexity"),
    )
} | {"rouge_l": "rougeL"}
#: Speed of learning, as in the second paper's tables: fields of `RunSpeed`.
SPEED = (
    *("area_under_curve", "best_accuracy", "best_epoch"),
    *("epochs_to_baseline", "epochs_saved", "epochs_saved_of_all"),
)
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll")


@dataclass(frozen=True)
class Row:
    """One variant over its seeds. Every metric is a fraction, nats, epochs or seconds, never a per cent.

    Attributes:
        name: The variant's name.
        is_baseline: Whether the others are compared with it.
        headline: What decides the comparison.
        split: The examples that metrics without a split in their name, and the differences, are measured on.
        speed_split: Those that the curve and what is read off it are of: validation examples, where there are any.
        seeds: Seeds of the finished runs, ascending.
        failed: Why a run failed or cannot be read, by seed.
        missing: Seeds that have not run to the end.
        measures: Mean and spread of each metric that any run has: `test_error` and `validation_error`, those of
            `RESULT_METRICS`, `calibrated_nll` and `calibrated_calibration_error` (with the logits divided by the
            temperature fitted on validation examples), `temperature`, `seconds`, and those of `SPEED`
            (`epochs_to_baseline`: until the error was at or below the lowest of the baseline's run with the same seed,
            over the runs that got there).
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
        shared_machine: Whether a run trained beside others on one machine.
    """

    name: str
    is_baseline: bool
    headline: Headline
    split: Split
    speed_split: Split
    seeds: tuple[int, ...]
    failed: Mapping[int, str]
    missing: tuple[int, ...]
    measures: Mapping[str, Summary]
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
    shared_machine: bool

    @property
    def n(self) -> int:
        """Number of finished runs."""
        return len(self.seeds)

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
    rows = [_row(variant, comparison) for variant in comparison.variants]
    for name in DIFFERENCES:
        compared = [place for place, row in enumerate(rows) if name in row.differences]
        corrected = holm([rows[place].differences[name].p_value for place in compared])
        for place, p_value in zip(compared, corrected, strict=True):
            difference = rows[place].differences[name]._replace(p_holm=p_value)
            rows[place] = replace(rows[place], differences={**rows[place].differences, name: difference})
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
        of: That of each metric that both have with a common seed: `DIFFERENCES` and `calibration_error`.
        unpaired: Seeds of which only one of the two has an error.
        no_joint_interval: See `Row.no_joint_interval`.
    """

    of: dict[str, PairedComparison]
    unpaired: tuple[int, ...]
    no_joint_interval: str


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: Split) -> Differences:
    """Returns the paired differences of two variants, with the intervals over seeds and over seeds and examples."""
    joint = joint_intervals(variant, reference, split)
    found: dict[str, PairedComparison] = {}
    unpaired: list[int] = []
    for measure in (*DIFFERENCES, "calibration_error"):
        calibrated, name = measure.startswith("calibrated"), measure.removeprefix("calibrated_")
        both = (one.measures(split, name, calibrated=calibrated) for one in (variant, reference))
        ours, theirs, left_out = paired_by_seed(*both)
        unpaired = left_out if measure == "error" else unpaired
        if ours:
            difference = paired_comparison(ours, theirs)
            interval = joint.of.get(measure) if difference.n == joint.seeds else None
            found[measure] = difference._replace(joint=interval)
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
        measures=_measures(variant, split, speeds),
        differences={name: found.of[name] for name in DIFFERENCES if name in found.of} if found else {},
        calibration=tuple(sorted({str(run.result.get("calibration", "the run is older")) for run in runs.values()})),
        extreme_temperatures=tuple(
            sorted(seed for seed, run in runs.items() if run.temperature and is_extreme_temperature(run.temperature))
        ),
        reached=sum(speed.epochs_to_baseline is not None for speed in speeds),
        reachable=sum(speed.comparable for speed in speeds),
        epochs=(min(lengths, default=0), max(lengths, default=0)),
        gaps=tuple(sorted(seed for seed, curve in curves.items() if has_gap(curve))),
        selected_by=tuple(sorted({str(run.result.get("selected_by", "unknown")) for run in runs.values()})),
        no_joint_interval=found.no_joint_interval if found else "",
        unpaired=found.unpaired if found else (),
        shared_machine=any(shared_machine(run) for run in runs.values()),
    )


def shared_machine(run: RunRecord) -> bool:
    """Returns whether a run trained beside others on the cores of one machine, so that its times are rough."""
    environment = environment_of(run)
    command, cores = environment.get("command"), number_in(environment.get("cores"))
    words = [str(word) for word in command] if isinstance(command, list) else []
    if "compare" not in words or environment.get("device") != "cpu" or cores is None:
        return False
    given = [words[place + 1 : place + 2] for place, word in enumerate(words) if word in ("--jobs", "-j")]
    given += [[word.partition("=")[2]] for word in words if word.startswith("--jobs=")]
    return cores > 1 and ["1"] not in given  # without the option as many at once as there are cores


def _measures(variant: VariantRuns, split: Split, speeds: Sequence[RunSpeed]) -> dict[str, Summary]:
    values: dict[str, Iterable[float | None]] = {
        f"{one}_error": variant.measures(one, "error").values() for one in SPLITS
    }
    values |= {name: variant.measures(split, source).values() for name, source in RESULT_METRICS.items()}
    for name in ("nll", "calibration_error"):
        values[f"calibrated_{name}"] = variant.measures(split, name, calibrated=True).values()
    values["temperature"] = [run.temperature for run in variant.runs.values()]
    values["seconds"] = [run.seconds for run in variant.runs.values()]
    values |= {name: [getattr(speed, name) for speed in speeds] for name in SPEED}
    known = {name: [value for value in found if value is not None] for name, found in values.items()}
    return {name: summarise(found) for name, found in known.items() if found}
