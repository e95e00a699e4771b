"""The numbers of a comparison: a table of runs, a line a variant, paired differences; and the tables that show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns, number_in
from labelembed.lab.report.decision import FEWEST_SEEDS, method_candidates
from labelembed.lab.report.formatting import NOTHING, interval, markdown_text, number, p_text, typeset
from labelembed.lab.training.files import write_bytes
from labelembed.metrics import JointInterval, PairedComparison, holm, joint_interval, paired_by_seed, paired_comparison

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
    **{f"rouge{kind}": Metric(f"ROUGE-{kind}", "", 100, 2) for kind in "12L"},
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
    "parameters": Metric("trainable parameters", "", 1, 0),
}
_ERRORS = {f"{split}_error": _per_cent(f"{split} error") for split in SPLITS}
METRICS = RESULT_METRICS | _ERRORS | CALIBRATED_METRICS | COST_METRICS
#: Metrics whose differences to the baseline are tested, each a family of its own for Holm's correction.
DIFFERENCES = ("error", "bleu", "top5_error", "top2_error", "nll", "calibrated_nll", "calibration_error")
Differences = dict[str, PairedComparison]
# The columns that are shown at once: the first four of these that there are, and the time. All others are folded.
_FIRST = (
    *("error", "calibrated_nll", "calibrated_calibration_error", "error_at_80_coverage", "top5_error", "nll"),
    *("calibration_error", "top2_error", "macro_f1"),
)
_LATEX_SIGNS = {"\u00b1": r"$\pm$", "\u2248": r"$\approx$", "\u00d7": r"$\times$", "\u2212": "$-$"}


def runs_table(comparison: Comparison) -> DataFrame:
    """Returns one line a run, with those that failed or have not finished: fractions, nats, seconds and bytes."""
    frame = _frame(
        {"variant": one.name, "seed": seed} | _run_cells(one, seed)
        for one in comparison.variants
        for seed in sorted(one.seeds)
    )
    timed = timed_against(comparison)
    if timed is not None:
        own = frame["variant"] == timed.name
        frame["time_ratio"] = frame["epoch_seconds"] / frame["seed"].map(frame[own].set_index("seed")["epoch_seconds"])
    return frame


def _frame(lines: Any) -> DataFrame:
    """Returns lines as a table; a column without a number is of numbers all the same, as in the file read back."""
    import pandas as pd

    frame = pd.DataFrame(list(lines))
    whole = [column for column in ("epochs", "selected_epoch", "parameters") if column in frame]
    numbers = {column: "float64" for column in frame if frame[column].isna().all()}
    return frame.astype(dict.fromkeys(whole, "Int64") | numbers)


def _whole(value: object) -> int | None:
    """Returns a whole number that a column of int64 holds, and None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _run_cells(variant: VariantRuns, seed: int) -> dict[str, Any]:
    run = variant.runs.get(seed)
    if run is None:
        return {"status": "failed" if seed in variant.failed else "missing", "message": variant.failed.get(seed)}
    cells: dict[str, Any] = {"status": "finished", "message": None}
    cells |= {key: _whole(run.result.get(key)) for key in ("epochs", "selected_epoch", "parameters")}
    cells["selected_by"] = run.result.get("selected_by")
    # The median epoch, without its evaluation where that is known.
    epochs = [number_in(entry.get("training_seconds", entry.get("seconds"))) for entry in run.history]
    known = [value for value in epochs if value]
    cells |= {"seconds": number_in(run.result.get("seconds")), "epoch_seconds": median(known) if known else None}
    peak = run.result.get("peak_memory")
    cells["gpu_memory"] = number_in(peak.get("bytes")) if isinstance(peak, dict) and peak.get("of") == "gpu" else None
    names = (*RESULT_METRICS, "calibrated_nll", "calibrated_calibration_error")
    cells |= {(key := f"{split}_{name}"): run.metrics.get(key) for split in SPLITS for name in names}
    return cells | {"temperature": number_in(run.result.get("temperature"))}


def timed_against(comparison: Comparison) -> VariantRuns | None:
    """Returns the variant that ratios of times are to: cross entropy where it is there, else the baseline."""
    if len(comparison.finished) < 2:
        return None
    return next((one for one in comparison.finished if one.objective_name == "one_hot"), comparison.baseline_runs)


def compare_variants(variant: VariantRuns, reference: VariantRuns, split: str) -> Differences:
    """Returns the paired differences by metric, with the joint interval where all runs keep the same examples."""
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


def differences_to(reference: VariantRuns, variants: Iterable[VariantRuns], split: str) -> dict[str, Differences]:
    """Returns the differences of all others to one, with `p_holm`: each metric a family over all of them."""
    others = [one for one in variants if one.name != reference.name]
    differences = {one.name: compare_variants(one, reference, split) for one in others}
    for metric in DIFFERENCES:
        of_metric = {name: of[metric] for name, of in differences.items() if metric in of}
        for name, p_value in zip(of_metric, holm([one.p_value for one in of_metric.values()]), strict=True):
            differences[name][metric] = of_metric[name]._replace(p_holm=p_value)
    return differences


def differences_to_baseline(comparison: Comparison) -> dict[str, Differences]:
    """Returns each other variant's differences to the baseline; none for a single run."""
    baseline = comparison.baseline_runs
    return differences_to(baseline, comparison.variants, comparison.split) if baseline else {}


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
        seeds: dict[str, Iterable[int]] = {"": variant.runs, "failed_": variant.failed, "missing_": variant.missing}
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
            one = differences.get(variant.name, {}).get(name)
            cells = one._asdict() if one else dict.fromkeys(PairedComparison._fields)
            joint = cells.pop("joint")
            cells["difference_n"], cells["detectable_difference"] = cells.pop("n") or 0, cells.pop("detectable")
            cells |= {f"joint_interval_{end}": getattr(joint, end, None) for end in ("low", "high")}
            prefix = "" if name == "error" else f"{name.removesuffix('_error')}_"
            line |= {f"{prefix}{key}": value for key, value in cells.items()}
        lines.append(line)
    return _frame(lines).join(statistics, on="variant")


@dataclass(frozen=True)
class Table:
    """One table of texts; its first column has the names of the lines."""

    key: str
    title: str
    frame: DataFrame

    def html(self) -> str:
        """Returns the table as HTML with escaped cells."""
        style = self.frame.map(typeset).rename(columns=typeset).style.hide(axis="index")
        return str(style.format(escape="html").format_index(escape="html", axis=1).to_html(exclude_styles=True))

    def markdown(self) -> str:
        """Returns the table as GitHub's Markdown under its title."""
        frame = self.frame.map(markdown_text).rename(columns=markdown_text)
        return f"## {markdown_text(self.title)}\n\n{frame.to_markdown(index=False, disable_numparse=True)}"

    def latex(self) -> str:
        r"""Returns the table for LaTeX, with the rules of the package `booktabs`."""
        style = self.frame.map(typeset).style.hide(axis="index")
        style = style.format(escape="latex").format_index(escape="latex", axis=1)
        columns = "l" + "r" * (len(self.frame.columns) - 1)
        title = re.sub(r"([&%$#_{}])", r"\\\1", self.title)
        text = style.to_latex(column_format=columns, hrules=True, caption=title, label=f"tab:{self.key}")
        return re.sub("|".join(_LATEX_SIGNS), lambda sign: _LATEX_SIGNS[sign.group()], str(text))


def make_table(key: str, title: str, lines: Sequence[Mapping[str, str]]) -> Table:
    """Returns a table of lines of equal keys."""
    import pandas as pd

    return Table(key, title, pd.DataFrame([*lines]))


def report_tables(comparison: Comparison, rows: DataFrame) -> dict[str, Table]:
    """Returns the tables of a comparison that have anything in them, by their keys, in the order of the page."""
    first = metrics_table(comparison, rows)
    others = [name for name in (*RESULT_METRICS, "validation_error", *CALIBRATED_METRICS) if name != "error"]
    others = [name for name in others if _heading(name, comparison) not in first.frame]
    tables = [first, _of("other-metrics", "Other metrics", others, comparison, rows)]
    tables += [differences_table(comparison, comparison.baseline_runs)]
    tables += [_of("cost", "Cost", COST_METRICS, comparison, rows)]
    return {table.key: table for table in tables if len(table.frame.columns) > 1}


def metrics_table(comparison: Comparison, rows: DataFrame) -> Table:
    """Returns the five metrics that matter most, the ratio of times among them."""
    wanted = ("bleu", "length_ratio", "chrf", "error") if comparison.headline == "bleu" else _FIRST
    names = [f"{comparison.split}_error" if name == "error" else name for name in wanted]
    known = [name for name in names if rows[f"{name}_n"].sum()]
    known = [name for name in known if f"calibrated_{name}" not in known]
    return _of("metrics", "Metrics", [*known[:4], "time_ratio"], comparison, rows)


def _of(key: str, title: str, names: Iterable[str], comparison: Comparison, rows: DataFrame) -> Table:
    shown, lines = [name for name in names if rows[f"{name}_n"].sum()], []
    for variant, row in zip(comparison.variants, rows.to_dict("records"), strict=True):
        n, of = len(variant.runs), len(variant.seeds)
        cells = {_heading(name, comparison): metric_text(row, name) for name in shown}
        lines.append({"variant": variant.title + ("" if n == of else f" ({n} of {of} seeds)")} | cells)
    return make_table(key, title, lines)


def _heading(name: str, comparison: Comparison) -> str:
    form = METRICS[name]
    heading = f"{form.heading} ({form.unit})" if form.unit else form.heading
    return heading.replace("error", "token error") if comparison.headline == "bleu" else heading


def metric_text(row: Mapping[Any, Any], name: str, *, spread: bool = True) -> str:
    """Returns ``mean ± standard deviation`` of a line of `comparison_rows`, the mean alone for one run, or a dash."""
    mean, n, form = row[f"{name}_mean"], row[f"{name}_n"], METRICS[name]
    if not n or (name == "time_ratio" and mean == 1):  # what the others are measured by
        return "1" if n else NOTHING
    decimals = form.decimals
    if form.unit == "s" and mean > 0:
        decimals = max(0, 2 - math.floor(math.log10(mean)))
    text = number(mean, decimals, scale=form.scale)
    if n > 1 and spread and name != "parameters":
        text += f" \u00b1 {number(row[f'{name}_sd'], decimals, scale=form.scale)}"
    return text


def differences_table(comparison: Comparison, reference: VariantRuns | None) -> Table:
    """Returns each variant minus one of them, metric by metric, with the p that the verdict has."""
    differences = differences_to(reference, comparison.variants, comparison.split) if reference else {}
    titles = {variant.name: variant.title for variant in comparison.variants}
    key = "differences" if reference is comparison.baseline_runs else "control-differences"
    if reference is not None and reference is not comparison.baseline_runs:
        differences |= differences_to(reference, method_candidates(comparison), comparison.split)
    lines = []
    for metric in dict.fromkeys(name for of in differences.values() for name in of):
        shown, unit = METRICS[metric], "nats" if "nll" in metric else "points"
        form: dict[str, Any] = {"decimals": shown.decimals, "scale": shown.scale}
        for name, one in ((name, of[metric]) for name, of in differences.items() if metric in of):
            line = {"variant": titles[name], "metric": f"{comparison.split} {shown.heading} ({unit})", "n": str(one.n)}
            line["difference"] = number(one.difference, **form)
            line["95 % interval over seeds"] = interval(one[2:4], **form)
            line["over seeds and test examples"] = interval(one.joint[:2] if one.joint else None, **form)
            line |= {"p": p_text(one.p_value), "p, Holm": p_text(one.p_holm)}
            line["minimum detectable difference"] = number(one.detectable if one.n >= FEWEST_SEEDS else None, **form)
            lines.append(line)
    return make_table(key, f"Differences to {reference.title if reference else NOTHING}", lines)


def cost_line(method: VariantRuns, comparison: Comparison, rows: DataFrame) -> str:
    """Returns in a sentence what a method costs; empty where nothing was measured."""
    row = rows.set_index("variant").loc[method.name].to_dict()
    timed = timed_against(comparison)
    units = {
        "time_ratio": f"times the time per epoch of {timed.title if timed else ''}",
        "epoch_seconds": "s per epoch",
        "gpu_memory": "MiB of the GPU's memory",
        "parameters": "trainable parameters",
    }
    parts = [f"{metric_text(row, name, spread=False)} {unit}" for name, unit in units.items() if row[f"{name}_n"]]
    return f"Cost of {method.title}: {', '.join(parts)}." if parts else ""


def write_csv(frame: DataFrame, path: str | Path) -> Path:
    """Writes a table in full precision; an unknown number is an empty cell. Raises as `write_text`."""
    texts = frame.map(lambda value: str(value).lower() if isinstance(value, bool | np.bool_) else value)
    return write_text(path, texts.to_csv(index=False, lineterminator="\n"))


def write_text(path: str | Path, text: str | bytes) -> Path:
    """Writes a whole file, and its folder, or nothing at all and raises RunFolderError."""
    # A label may hold what is no text at all (half a surrogate pair); the page must still be written.
    content = text if isinstance(text, bytes) else text.encode("utf-8", errors="replace")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), content)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return Path(path)
