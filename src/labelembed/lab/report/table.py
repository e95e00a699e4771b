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
    holm,
    joint_interval,
    paired_by_seed,
    paired_comparison,
)

if TYPE_CHECKING:
    from pandas import DataFrame


class Metric(NamedTuple):
    """How a column is shown: its heading, its unit, what it is times, and digits after the point."""

    heading: str
    unit: str = ""
    scale: float = 1
    decimals: int = 3

    @property
    def heading_and_unit(self) -> str:
        """The heading with the unit in brackets."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


_ECE = Metric("ECE", "%", 100, 1)
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
    "calibration_error": _ECE,
    "brier": Metric("Brier score"),
    "macro_f1": Metric("macro-F1", "%", 100, 2),
    "balanced_accuracy": Metric("balanced accuracy", "%", 100, 2),
    "aurc": Metric("AURC", "%", 100, 2),
    "error_at_80_coverage": Metric("error at 80 % coverage", "%", 100, 2),
    "error_at_90_coverage": Metric("error at 90 % coverage", "%", 100, 2),
    "error_at_95_coverage": Metric("error at 95 % coverage", "%", 100, 2),
}
CALIBRATED_METRICS = {
    "calibrated_nll": Metric("NLL after temperature scaling", "nats"),
    "calibrated_calibration_error": _ECE._replace(heading="ECE after temperature scaling"),
    "temperature": Metric("temperature", "", 1, 2),
}
COST_METRICS = {
    "epoch_seconds": Metric("time per epoch", "s"),
    "time_ratio": Metric("time ratio", "", 1, 2),
    "seconds": Metric("total time", "s", 1, 1),
    "gpu_memory": Metric("peak memory of the GPU", "MiB", 2.0**-20, 0),
    "process_memory": Metric("peak memory of the process", "MiB", 2.0**-20, 0),
    "parameters": Metric("trainable parameters", "", 1, 0),
}
_ERRORS = {f"{split}_error": Metric(f"{split} error", "%", 100, 2) for split in SPLITS}
METRICS = RESULT_METRICS | _ERRORS | CALIBRATED_METRICS | COST_METRICS
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll")
Differences = dict[str, PairedComparison]


def runs_table(comparison: Comparison) -> DataFrame:
    """Returns one line a run, with those that failed or have not finished: fractions, nats, seconds and bytes.

    Metrics are those of the selected epoch; `calibrated` ones with the logits divided by the temperature.
    """
    timed = timed_against(comparison)
    return _frame(
        {"variant": variant.name, "seed": seed} | _run_cells(variant, seed, timed)
        for variant in comparison.variants
        for seed in sorted(variant.seeds)
    )


def _frame(lines: Any) -> DataFrame:
    """Returns lines as a table; a column without a number is of numbers all the same, as in the file read back."""
    import pandas as pd

    frame = pd.DataFrame(list(lines))
    whole = [column for column in ("epochs", "selected_epoch", "parameters") if column in frame]
    numbers = {column: "float64" for column in frame if frame[column].isna().all()}
    return frame.astype(dict.fromkeys(whole, "Int64") | numbers)


def _run_cells(variant: VariantRuns, seed: int, timed: VariantRuns | None) -> dict[str, Any]:
    run = variant.runs.get(seed)
    if run is None:
        return {"status": "failed" if seed in variant.failed else "missing", "message": variant.failed.get(seed)}
    cells: dict[str, Any] = {"status": "finished", "message": None}
    cells |= {key: run.result.get(key) for key in ("epochs", "selected_epoch", "selected_by", "parameters")}
    cells |= {"seconds": number_in(run.result.get("seconds")), "epoch_seconds": _epoch_seconds(run), "time_ratio": None}
    other = timed.runs.get(seed) if timed is not None and timed.name != variant.name else None
    if other is not None and (theirs := _epoch_seconds(other)) and (ours := _epoch_seconds(run)):
        cells["time_ratio"] = ours / theirs
    peak = run.result.get("peak_memory")
    peak = peak if isinstance(peak, dict) else {}
    for kind in ("gpu", "process"):
        cells[f"{kind}_memory"] = number_in(peak.get("bytes")) if peak.get("of") == kind else None
    for split in SPLITS:
        cells |= {f"{split}_{name}": run.metric(split, name) for name in RESULT_METRICS}
        for name in ("nll", "calibration_error"):
            cells[f"{split}_calibrated_{name}"] = run.metric(split, name, calibrated=True)
    return cells | {"temperature": number_in(run.result.get("temperature"))}


def _epoch_seconds(run: RunRecord) -> float | None:
    """Returns the median seconds of training in an epoch, without evaluation where that is known."""
    seconds = [number_in(entry.get("training_seconds", entry.get("seconds"))) for entry in run.history]
    known = [value for value in seconds if value]
    return median(known) if known else None


def timed_against(comparison: Comparison) -> VariantRuns | None:
    """Returns the variant that ratios of times are to: cross entropy where it is there, else the baseline."""
    if len(comparison.finished) < 2:
        return None
    return next((one for one in comparison.finished if one.objective_name == "one_hot"), comparison.baseline_runs)


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: str) -> Differences:
    """Returns the paired differences of two variants by metric: `DIFFERENCES` and `calibration_error`.

    Each has the interval over seeds, and where all runs keep the outcomes of the same examples, the joint one.
    """
    joint = _joint_intervals(variant, reference, split)
    shared = len(variant.runs.keys() & reference.runs.keys())
    differences: Differences = {}
    for metric in (*DIFFERENCES, "calibration_error"):
        calibrated, name = metric.startswith("calibrated_"), metric.removeprefix("calibrated_")
        both = (one.metrics(split, name, calibrated=calibrated) for one in (variant, reference))
        ours, theirs, _ = paired_by_seed(*both)
        if ours:
            interval = joint.get(metric) if len(ours) == shared else None
            differences[metric] = paired_comparison(ours, theirs)._replace(joint=interval)
    return differences


def _joint_intervals(variant: VariantRuns, reference: VariantRuns, split: str) -> dict[str, JointInterval]:
    """Returns the intervals over common seeds and all examples of `error`, `nll` and `calibrated_nll`."""
    seeds = sorted(variant.runs.keys() & reference.runs.keys())
    runs = [[one.runs[seed] for seed in seeds] for one in (variant, reference)]
    if len(seeds) < 2 or not all(isinstance(run.data.get("fingerprint"), str) for side in runs for run in side):
        return {}
    losses = [[loss for run in side if (loss := run.losses(split))] for side in runs]
    every = [loss for side in losses for loss in side]
    if len(every) < 2 * len(seeds) or len({len(loss["error"]) for loss in every}) > 1:
        return {}
    intervals = {
        metric: joint_interval([ours[metric] - theirs[metric] for ours, theirs in zip(*losses, strict=True)])
        for metric in sorted(set.intersection(*(set(loss) for loss in every)))
    }
    return {metric: one for metric, one in intervals.items() if one is not None}


def corrected(differences: Mapping[str, Differences]) -> dict[str, Differences]:
    """Returns the differences of several variants with `p_holm`: each metric a family over all variants."""
    changed = {name: dict(of) for name, of in differences.items()}
    for metric in (*DIFFERENCES, "calibration_error"):
        names = [name for name, of in changed.items() if metric in of]
        for name, p_value in zip(names, holm([changed[name][metric].p_value for name in names]), strict=True):
            changed[name][metric] = changed[name][metric]._replace(p_holm=p_value)
    return changed


def differences_to_baseline(comparison: Comparison) -> dict[str, Differences]:
    """Returns each other variant's differences to the baseline, corrected over all variants; none for a single run."""
    baseline = comparison.baseline_runs
    others = [variant for variant in comparison.variants if baseline is not None and variant.name != baseline.name]
    return corrected({one.name: compare_variants(one, baseline, comparison.split) for one in others if baseline})


def comparison_rows(comparison: Comparison) -> DataFrame:
    """Returns one line a variant: mean, standard deviation and number of each metric, differences, seeds.

    Metrics without a split in their name, and the differences, are of the split `measured_on`. `interval_low` and
    `interval_high` are over seeds, `joint_interval_low` and `joint_interval_high` over seeds and test examples.
    """
    runs, split = runs_table(comparison), comparison.split
    sources = {name: f"{split}_{name}" if f"{split}_{name}" in runs else name for name in METRICS if name != "error"}
    differences, baseline, lines = differences_to_baseline(comparison), comparison.baseline_runs, []
    for variant in comparison.variants:
        own = runs[(runs["variant"] == variant.name) & (runs["status"] == "finished")]
        unpaired = variant.runs.keys() ^ baseline.runs.keys() if baseline else set()
        line: dict[str, Any] = {
            "variant": variant.name,
            "is_baseline": variant.name == comparison.baseline,
            "measured_on": split,
            "selected_by": "; ".join(sorted({str(run.result.get("selected_by")) for run in variant.runs.values()})),
            "n": len(variant.runs),
        }
        seeds: dict[str, Any] = {
            "": variant.runs,
            "failed_": variant.failed,
            "missing_": variant.missing,
            "unpaired_": unpaired,
        }
        line |= {f"{name}seeds": " ".join(map(str, sorted(of))) for name, of in seeds.items()}
        for name, source in sources.items():
            values = own[source].dropna().astype(float) if source in own else own["seed"][:0]
            known, spread = len(values), values.std(ddof=1) if len(values) > 1 else None
            line |= {f"{name}_mean": values.mean() if known else None, f"{name}_sd": spread, f"{name}_n": known}
        for name in DIFFERENCES:
            line |= _difference_cells(differences.get(variant.name, {}).get(name), name)
        lines.append(line)
    return _frame(lines)


def _difference_cells(one: PairedComparison | None, metric: str) -> dict[str, float | None]:
    prefix = "" if metric == "error" else f"{metric.removesuffix('_error')}_"
    called = {"n": "difference_n", "detectable": "detectable_difference"}
    cells = {called.get(name, name): getattr(one, name, None) for name in PairedComparison._fields if name != "joint"}
    joint = one.joint if one else None
    cells |= {f"joint_interval_{end}": getattr(joint, end, None) for end in ("low", "high")}
    cells["difference_n"] = cells["difference_n"] or 0
    return {f"{prefix}{name}": None if value is None or math.isnan(value) else value for name, value in cells.items()}


def write_csv(frame: DataFrame, path: str | Path) -> Path:
    """Writes a table in full precision; an unknown number is an empty cell. Raises as `write_text`."""
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
