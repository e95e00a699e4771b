"""The numbers of a comparison: one tidy table of runs, one line a variant, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import SPLITS, Comparison, RunRecord, VariantRuns, number_in
from labelembed.lab.training.files import write_bytes
from labelembed.metrics import (
    JointInterval,
    PairedComparison,
    area_under_accuracy_curve,
    epochs_saved,
    epochs_to_reach,
    holm,
    joint_interval,
    paired_by_seed,
    paired_comparison,
)

if TYPE_CHECKING:
    from pandas import DataFrame


class Metric(NamedTuple):
    """How one column of the tables is shown: its heading, its unit, what it is times, and digits after the point."""

    heading: str
    unit: str = ""
    scale: float = 1
    decimals: int = 3

    @property
    def heading_and_unit(self) -> str:
        """The heading with the unit in brackets."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


#: Measured on the examples that the comparison is about, by their names in ``result.json``.
RESULT_METRICS = {
    "error": Metric("error", "%", 100, 2),
    "bleu": Metric("BLEU", "", 100, 2),
    "brevity_penalty": Metric("brevity penalty"),
    "length_ratio": Metric("length ratio"),
    "chrf": Metric("chrF", "", 100, 2),
    "rouge1": Metric("ROUGE-1", "", 100, 2),
    "rouge2": Metric("ROUGE-2", "", 100, 2),
    "rougeL": Metric("ROUGE-L", "", 100, 2),
    "perplexity": Metric("perplexity", "", 1, 2),
    "top5_error": Metric("top-5 error", "%", 100, 2),
    "top2_error": Metric("top-2 error", "%", 100, 2),
    "nll": Metric("NLL", "nats"),
    "calibration_error": Metric("ECE", "%", 100, 1),
    "brier": Metric("Brier score"),
    "macro_f1": Metric("macro-F1", "%", 100, 2),
    "balanced_accuracy": Metric("balanced accuracy", "%", 100, 2),
    "aurc": Metric("AURC", "%", 100, 2),
    "excess_aurc": Metric("excess AURC", "%", 100, 2),
    "error_at_80_coverage": Metric("error at 80 % coverage", "%", 100, 2),
    "error_at_90_coverage": Metric("error at 90 % coverage", "%", 100, 2),
    "error_at_95_coverage": Metric("error at 95 % coverage", "%", 100, 2),
}
_CALIBRATED = ("nll", "calibration_error", "brier")
SPEED_METRICS = {
    "best_accuracy": Metric("best accuracy", "%", 100, 2),
    "best_epoch": Metric("best epoch", "", 1, 1),
    "auac": Metric("AUAC", "%", 100, 2),
    "epochs_to_baseline": Metric("epochs to baseline", "", 1, 1),
    "epochs_saved": Metric("epochs saved", "%", 100, 1),
    "epochs_saved_of_all": Metric("epochs saved of all", "%", 100, 1),
}
COST_METRICS = {
    "epoch_seconds": Metric("time per epoch", "s"),
    "time_ratio": Metric("time ratio", "", 1, 2),
    "seconds": Metric("total time", "s", 1, 1),
    "gpu_memory": Metric("peak memory of the GPU", "MiB", 2.0**-20, 0),
    "process_memory": Metric("peak memory of the process", "MiB", 2.0**-20, 0),
    "parameters": Metric("trainable parameters", "", 1, 0),
}
METRICS = {
    **RESULT_METRICS,
    "validation_error": Metric("validation error", "%", 100, 2),
    **{f"calibrated_{name}": RESULT_METRICS[name] for name in _CALIBRATED},
    "temperature": Metric("temperature", "", 1, 2),
    **SPEED_METRICS,
    **COST_METRICS,
}
for _name in _CALIBRATED:
    _heading = f"{RESULT_METRICS[_name].heading} after temperature scaling"
    METRICS[f"calibrated_{_name}"] = RESULT_METRICS[_name]._replace(heading=_heading)
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll")
Differences = dict[str, PairedComparison]


def runs_table(comparison: Comparison) -> DataFrame:
    """Returns one line a run, with those that failed or have not finished: fractions, nats, seconds and bytes.

    Metrics are those of the selected epoch, `test_...` and `validation_...`; `calibrated` ones with the logits divided
    by the temperature. `auac`, `best_accuracy` and the like are read off the errors over the epochs, on validation
    examples where there are any; `epochs_to_baseline` is empty where the baseline's best was never reached.
    """
    import pandas as pd

    timed = timed_against(comparison)
    lines = [
        {"variant": variant.name, "seed": seed} | _run_cells(variant, seed, comparison, timed)
        for variant in comparison.variants
        for seed in sorted(variant.seeds)
    ]
    frame = pd.DataFrame(lines)
    # A column without a number is of numbers all the same, as in the CSV file read back.
    texts = ("variant", "status", "message", "selected_by")
    return frame.astype({column: "float64" for column in frame if column not in texts and frame[column].isna().all()})


def _run_cells(variant: VariantRuns, seed: int, comparison: Comparison, timed: VariantRuns | None) -> dict[str, Any]:
    run, baseline = variant.runs.get(seed), comparison.baseline_runs
    if run is None:
        failed = seed in variant.failed
        return {"status": "failed" if failed else "missing", "message": variant.failed.get(seed)}
    cells: dict[str, Any] = {"status": "finished", "message": None}
    cells |= {key: run.result.get(key) for key in ("epochs", "selected_epoch", "selected_by", "parameters")}
    cells |= {"seconds": run.seconds, "epoch_seconds": epoch_seconds(run), "time_ratio": None}
    other = timed.runs.get(seed) if timed is not None and timed.name != variant.name else None
    theirs = epoch_seconds(other) if other is not None else None
    if cells["epoch_seconds"] and theirs:
        cells["time_ratio"] = cells["epoch_seconds"] / theirs
    peak = run.result.get("peak_memory")
    for kind in ("gpu", "process"):
        known = isinstance(peak, dict) and peak.get("of") == kind
        cells[f"{kind}_memory"] = number_in(peak.get("bytes")) if known else None
    for split in SPLITS:
        cells |= {f"{split}_{name}": run.metric(split, name) for name in RESULT_METRICS}
        cells |= {f"{split}_calibrated_{name}": run.metric(split, name, calibrated=True) for name in _CALIBRATED}
    speed = run_speed(run, baseline.runs.get(seed) if baseline else None, comparison.speed_split)
    return cells | {"temperature": run.temperature} | {name: speed.get(name) for name in SPEED_METRICS}


def run_speed(run: RunRecord, baseline: RunRecord | None, split: str) -> dict[str, float | None]:
    """Returns how fast a run learned, as the second paper's tables have it; nothing without a curve of errors.

    `auac`, the mean accuracy over the epochs (None where the curve has a gap), `best_accuracy` and `best_epoch`, the
    first of equals. With a baseline run `epochs_to_baseline`, until the error was first at or below the lowest of that
    run, and the share of its epochs to its best, and of all its epochs, that was saved.
    """
    curve = run.curve(split, "error")
    if not np.isfinite(curve).any():
        return {}
    errors = np.nan_to_num(curve, nan=1.0).tolist()  # an epoch without an error reached nothing
    best = int(np.argmin(errors))
    area = area_under_accuracy_curve(errors) if np.isfinite(curve).all() else None
    speed = {"auac": area, "best_accuracy": 1.0 - errors[best], "best_epoch": best + 1}
    theirs = baseline.curve(split, "error") if baseline is not None else np.zeros(0)
    if np.isfinite(theirs).any():
        others = np.nan_to_num(theirs, nan=1.0).tolist()
        speed["epochs_to_baseline"] = epochs_to_reach(errors, min(others))
        speed["epochs_saved"] = epochs_saved(errors, others)
        speed["epochs_saved_of_all"] = epochs_saved(errors, others, of_all=True)
    return speed


def epoch_seconds(run: RunRecord) -> float | None:
    """Returns the median seconds of training in an epoch, without evaluation where that is known."""
    seconds = [number_in(entry.get("training_seconds", entry.get("seconds"))) for entry in run.history]
    known = [value for value in seconds if value]
    return median(known) if known else None


def timed_against(comparison: Comparison) -> VariantRuns | None:
    """Returns the variant that ratios of times are to: cross entropy where it is there, else the baseline."""
    if len(comparison.finished) < 2:
        return None
    one_hot = (one for one in comparison.finished if one.objective_name == "one_hot")
    return next(one_hot, comparison.baseline_runs)


def shared_machine(comparison: Comparison) -> bool:
    """Returns whether runs trained beside others on the cores of one machine, so that their times are rough."""
    for run in comparison.runs:
        words, cores = run.command, number_in(run.environment.get("cores")) or 1
        if "train" in words or run.environment.get("device") != "cpu" or cores == 1:
            continue
        if "compare" not in words:  # called from Python: of several runs at once each has fewer threads than cores
            if (number_in(run.environment.get("threads")) or cores) < cores:
                return True
            continue
        jobs = [words[index + 1] for index, word in enumerate(words[:-1]) if word in ("--jobs", "-j")]
        jobs += [word.partition("=")[2] for word in words if word.startswith("--jobs=")]
        if "1" not in jobs:  # without the option as many at once as there are cores
            return True
    return False


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: str) -> Differences:
    """Returns the paired differences of two variants by metric: `DIFFERENCES` and `calibration_error`.

    Each has the interval over seeds, and where all runs keep the outcomes of the same examples, the joint one.
    """
    joint = _joint_intervals(variant, reference, split)
    shared = len(variant.runs.keys() & reference.runs.keys())
    differences: Differences = {}
    for metric in (*DIFFERENCES, "calibration_error"):
        calibrated, name = metric.startswith("calibrated_"), metric.removeprefix("calibrated_")
        ours, theirs, _ = paired_by_seed(
            *(one.metrics(split, name, calibrated=calibrated) for one in (variant, reference))
        )
        if ours:
            differences[metric] = paired_comparison(ours, theirs)
            if len(ours) == shared:
                differences[metric] = differences[metric]._replace(joint=joint.get(metric))
    return differences


def _joint_intervals(variant: VariantRuns, reference: VariantRuns, split: str) -> dict[str, JointInterval]:
    """Returns the intervals over common seeds and all examples of `error`, `nll` and `calibrated_nll`."""
    seeds = sorted(variant.runs.keys() & reference.runs.keys())
    runs = [[one.runs[seed] for seed in seeds] for one in (variant, reference)]
    if len(seeds) < 2 or not all(isinstance(run.data.get("fingerprint"), str) for side in runs for run in side):
        return {}
    losses = [[loss for run in side if (loss := run.losses(split)) is not None] for side in runs]
    every = [loss for side in losses for loss in side]
    if len(every) < 2 * len(seeds) or len({len(loss["error"]) for loss in every}) > 1:
        return {}
    intervals = {
        metric: joint_interval([ours[metric] - theirs[metric] for ours, theirs in zip(*losses, strict=True)])
        for metric in sorted(set.intersection(*(set(loss) for loss in every)))
    }
    return {metric: one for metric, one in intervals.items() if one is not None}


def corrected(differences: Mapping[str, Differences], metrics: tuple[str, ...] = DIFFERENCES) -> dict[str, Differences]:
    """Returns the differences of several variants with `p_holm`: each metric a family over all variants."""
    changed = {name: dict(of) for name, of in differences.items()}
    for metric in metrics:
        names = [name for name, of in changed.items() if metric in of]
        for name, p_value in zip(names, holm([changed[name][metric].p_value for name in names]), strict=True):
            changed[name][metric] = changed[name][metric]._replace(p_holm=p_value)
    return changed


def differences_to_baseline(comparison: Comparison) -> dict[str, Differences]:
    """Returns each other variant's differences to the baseline, corrected over all variants; none for a single run."""
    baseline = comparison.baseline_runs
    if baseline is None:
        return {}
    others = [variant for variant in comparison.variants if variant.name != baseline.name]
    return corrected({one.name: compare_variants(one, baseline, comparison.split) for one in others})


def comparison_rows(comparison: Comparison) -> DataFrame:
    """Returns one line a variant: mean, standard deviation and number of each metric, differences, seeds.

    Metrics without a split in their name, and the differences, are of the split `measured_on`. `interval_low` and
    `interval_high` are over seeds, `joint_interval_low` and `joint_interval_high` over seeds and test examples.
    """
    import pandas as pd

    runs, split = runs_table(comparison), comparison.split
    sources = {name: name if name in runs else f"{split}_{name}" for name in METRICS}
    # The error has its split in its name: both are there.
    sources = {"test_error": "test_error"} | {name: source for name, source in sources.items() if name != "error"}
    differences = differences_to_baseline(comparison)
    baseline, lines = comparison.baseline_runs, []
    for variant in comparison.variants:
        own = runs[(runs["variant"] == variant.name) & (runs["status"] == "finished")]
        line: dict[str, Any] = {
            "variant": variant.name,
            "is_baseline": variant.name == comparison.baseline,
            "measured_on": split,
            "speed_measured_on": comparison.speed_split,
            "selected_by": "; ".join(sorted({str(run.result.get("selected_by")) for run in variant.runs.values()})),
            "n": len(variant.runs),
        }
        seeds = {"": variant.runs, "failed_": variant.failed, "missing_": variant.missing}
        line |= {f"{name}seeds": " ".join(map(str, sorted(of))) for name, of in seeds.items()}
        for name, source in sources.items():
            values = own[source].dropna() if source in own else pd.Series(dtype=float)
            line |= {f"{name}_mean": values.mean() if len(values) else None, f"{name}_sd": _deviation(values)}
            line[f"{name}_n"] = len(values)
        unpaired = variant.runs.keys() ^ baseline.runs.keys() if baseline else ()
        line["unpaired_seeds"] = " ".join(map(str, sorted(unpaired)))
        for name in DIFFERENCES:
            line |= _difference_cells(differences.get(variant.name, {}).get(name), name)
        lines.append(line)
    frame = pd.DataFrame(lines)
    numeric = [c for c in frame if c.endswith(("_mean", "_sd", "p_holm", "p_value")) or "difference" in c or "val_" in c]
    return frame.astype({column: "float64" for column in numeric if frame[column].isna().all()})


def _deviation(values: Any) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _difference_cells(one: PairedComparison | None, metric: str) -> dict[str, float | None]:
    prefix = "" if metric == "error" else f"{metric.removesuffix('_error')}_"
    joint = one.joint if one else None
    cells: dict[str, float | None] = {
        "difference_n": one.n if one else None,
        "difference": one.difference if one else None,
        "interval_low": one.interval_low if one else None,
        "interval_high": one.interval_high if one else None,
        "p_value": one.p_value if one else None,
        "p_holm": one.p_holm if one else None,
        "detectable_difference": one.detectable if one else None,
        "joint_interval_low": joint.low if joint else None,
        "joint_interval_high": joint.high if joint else None,
    }
    known = {name: None if value is None or math.isnan(value) else value for name, value in cells.items()}
    return {f"{prefix}{name}": value for name, value in known.items()}


def write_csv(frame: DataFrame, path: str | Path) -> Path:
    """Writes a table in full precision; an unknown number is an empty cell.

    Raises:
        RunFolderError: When the file cannot be written; nothing half written is left.
    """
    texts = frame.map(lambda value: str(value).lower() if isinstance(value, bool | np.bool_) else value)
    return write_text(path, texts.to_csv(index=False, lineterminator="\n"))


def write_text(path: str | Path, text: str | bytes) -> Path:
    """Writes a whole file under a temporary name and renames it.

    Raises:
        RunFolderError: When it cannot be written; nothing half written is left.
    """
    # A label may hold what is no text at all (half a surrogate pair); the page must still be written.
    content = text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")
    try:
        write_bytes(Path(path), content, durable=False)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return Path(path)
