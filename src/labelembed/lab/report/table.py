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


def _per_cent(heading: str, decimals: int = 2) -> Metric:
    return Metric(heading, "%", 100, decimals)


#: Measured on the examples that the comparison is about, by their names in ``result.json``.
RESULT_METRICS = {
    "error": _per_cent("error"),
    "bleu": Metric("BLEU", "", 100, 2),
    "brevity_penalty": Metric("brevity penalty"),
    "length_ratio": Metric("length ratio"),
    "chrf": Metric("chrF", "", 100, 2),
    "rouge1": Metric("ROUGE-1", "", 100, 2),
    "rouge2": Metric("ROUGE-2", "", 100, 2),
    "rougeL": Metric("ROUGE-L", "", 100, 2),
    "perplexity": Metric("perplexity", "", 1, 2),
    "top5_error": _per_cent("top-5 error"),
    "top2_error": _per_cent("top-2 error"),
    "nll": Metric("NLL", "nats"),
    "calibration_error": _per_cent("ECE", 1),
    "brier": Metric("Brier score"),
    "macro_f1": _per_cent("macro-F1"),
    "balanced_accuracy": _per_cent("balanced accuracy"),
    "aurc": _per_cent("AURC"),
    **{f"error_at_{share}_coverage": _per_cent(f"error at {share} % coverage") for share in (80, 90, 95)},
}
CALIBRATED_METRICS = {
    "calibrated_nll": Metric("NLL after temperature scaling", "nats"),
    "calibrated_calibration_error": _per_cent("ECE after temperature scaling", 1),
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
_ERRORS = {f"{split}_error": _per_cent(f"{split} error") for split in SPLITS}
METRICS = RESULT_METRICS | _ERRORS | CALIBRATED_METRICS | COST_METRICS
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll", "calibration_error")
Differences = dict[str, PairedComparison]


def runs_table(comparison: Comparison) -> DataFrame:
    """Returns one line a run, with those that failed or have not finished: fractions, nats, seconds and bytes.

    Metrics are those of the selected epoch; `calibrated` ones with the logits divided by the temperature.
    """
    frame = _frame(
        {"variant": one.name, "seed": seed} | _run_cells(one, seed)
        for one in comparison.variants
        for seed in sorted(one.seeds)
    )
    timed = timed_against(comparison)
    if timed is not None:
        own = frame["variant"] == timed.name
        times = frame["epoch_seconds"] / frame["seed"].map(frame[own].set_index("seed")["epoch_seconds"])
        frame["time_ratio"] = times.mask(own)
    return frame


def _frame(lines: Any) -> DataFrame:
    """Returns lines as a table; a column without a number is of numbers all the same, as in the file read back."""
    import pandas as pd

    frame = pd.DataFrame(list(lines))
    whole = [column for column in ("epochs", "selected_epoch", "parameters") if column in frame]
    numbers = {column: "float64" for column in frame if frame[column].isna().all()}
    return frame.astype(dict.fromkeys(whole, "Int64") | numbers)


def _run_cells(variant: VariantRuns, seed: int) -> dict[str, Any]:
    run = variant.runs.get(seed)
    if run is None:
        return {"status": "failed" if seed in variant.failed else "missing", "message": variant.failed.get(seed)}
    cells: dict[str, Any] = {"status": "finished", "message": None}
    cells |= {key: run.result.get(key) for key in ("epochs", "selected_epoch", "selected_by", "parameters")}
    cells |= {"seconds": number_in(run.result.get("seconds")), "epoch_seconds": _epoch_seconds(run)}
    peak = run.result.get("peak_memory")
    peak = peak if isinstance(peak, dict) else {}
    for kind in ("gpu", "process"):
        cells[f"{kind}_memory"] = number_in(peak.get("bytes")) if peak.get("of") == kind else None
    names = (*RESULT_METRICS, "calibrated_nll", "calibrated_calibration_error")
    cells |= {(key := f"{split}_{name}"): run.metrics.get(key) for split in SPLITS for name in names}
    return cells | {"temperature": number_in(run.result.get("temperature"))}


def _epoch_seconds(run: RunRecord) -> float | None:
    """Returns the median seconds of training in an epoch, without evaluation where that is known."""
    seconds = [number_in(entry.get("training_seconds", entry.get("seconds"))) for entry in run.history]
    return median(known) if (known := [value for value in seconds if value]) else None


def timed_against(comparison: Comparison) -> VariantRuns | None:
    """Returns the variant that ratios of times are to: cross entropy where it is there, else the baseline."""
    if len(comparison.finished) < 2:
        return None
    return next((one for one in comparison.finished if one.objective_name == "one_hot"), comparison.baseline_runs)


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: str) -> Differences:
    """Returns the paired differences of two variants by metric.

    Each has the interval over seeds, and where all runs keep the outcomes of the same examples, the joint one.
    """
    joint = _joint_intervals(variant, reference, split)
    shared = len(variant.runs.keys() & reference.runs.keys())
    differences: Differences = {}
    for metric in DIFFERENCES:
        ours, theirs, _ = paired_by_seed(variant.metrics(split, metric), reference.metrics(split, metric))
        if ours:
            interval = joint.get(metric) if len(ours) == shared else None
            differences[metric] = paired_comparison(ours, theirs)._replace(joint=interval)
    return differences


def _joint_intervals(variant: VariantRuns, reference: VariantRuns, split: str) -> dict[str, JointInterval]:
    """Returns the intervals over common seeds and all examples of `error`, `nll` and `calibrated_nll`."""
    seeds = sorted(variant.runs.keys() & reference.runs.keys())
    runs = [one.runs[seed] for one in (variant, reference) for seed in seeds]
    if len(seeds) < 2 or not all(isinstance(run.data.get("fingerprint"), str) for run in runs):
        return {}
    losses = [run.losses(split) for run in runs]
    if not all(losses) or len({len(loss["error"]) for loss in losses}) > 1:
        return {}
    pairs = list(zip(losses[: len(seeds)], losses[len(seeds) :], strict=True))
    intervals = {
        metric: joint_interval([ours[metric] - theirs[metric] for ours, theirs in pairs])
        for metric in sorted(set.intersection(*(set(loss) for loss in losses)))
    }
    return {metric: one for metric, one in intervals.items() if one is not None}


def corrected(differences: Mapping[str, Differences]) -> dict[str, Differences]:
    """Returns the differences of several variants with `p_holm`: each metric a family over all variants."""
    changed = {name: dict(of) for name, of in differences.items()}
    for metric in DIFFERENCES:
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
    import pandas as pd

    runs, split = runs_table(comparison), comparison.split
    sources = {name: f"{split}_{name}" if f"{split}_{name}" in runs else name for name in METRICS if name != "error"}
    values = pd.DataFrame({name: runs.get(source) for name, source in sources.items()}, runs.index, dtype="float64")
    statistics = values.groupby(runs["variant"]).agg(["mean", "std", "count"])
    statistics = statistics.rename(columns={"std": "sd", "count": "n"})
    statistics.columns = statistics.columns.map("_".join)
    differences, baseline, lines = differences_to_baseline(comparison), comparison.baseline_runs, []
    for variant in comparison.variants:
        seeds = {"": variant.runs, "failed_": variant.failed, "missing_": variant.missing}
        seeds["unpaired_"] = variant.runs.keys() ^ baseline.runs.keys() if baseline else set()
        line: dict[str, Any] = {
            "variant": variant.name,
            "is_baseline": variant.name == comparison.baseline,
            "measured_on": split,
            "selected_by": "; ".join(sorted({str(run.result.get("selected_by")) for run in variant.runs.values()})),
            "n": len(variant.runs),
        }
        line |= {f"{name}seeds": " ".join(map(str, sorted(of))) for name, of in seeds.items()}
        for name in DIFFERENCES:
            line |= _difference_cells(differences.get(variant.name, {}).get(name), name)
        lines.append(line)
    return _frame(lines).join(statistics, on="variant")


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
    """Writes a whole file under a temporary name and renames it; its folder is made.

    Raises:
        RunFolderError: When it cannot be written; nothing half written is left.
    """
    # A label may hold what is no text at all (half a surrogate pair); the page must still be written.
    content = text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), content, durable=False)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return Path(path)
