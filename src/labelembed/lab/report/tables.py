"""The tables of the page, which are those of Markdown, LaTeX and the terminal too: one text a cell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.decision import FEWEST_SEEDS
from labelembed.lab.report.formatting import NOTHING, interval, markdown_text, number, p_text, typeset
from labelembed.lab.report.table import (
    CALIBRATED_METRICS,
    COST_METRICS,
    METRICS,
    RESULT_METRICS,
    differences_to_baseline,
    timed_against,
)

if TYPE_CHECKING:
    from pandas import DataFrame

# The columns that are shown at once: the first four of these that there are, and the time. All others are folded.
_FIRST = (
    *("error", "calibrated_nll", "calibrated_calibration_error", "error_at_80_coverage", "top5_error", "nll"),
    *("calibration_error", "top2_error", "macro_f1"),
)
_LATEX_SIGNS = {"\u00b1": r"$\pm$", "\u2248": r"$\approx$", "\u00d7": r"$\times$", "\u2212": "$-$"}


@dataclass(frozen=True)
class Table:
    """One table of texts; its first column has the names of the lines."""

    key: str
    title: str
    frame: DataFrame

    def html(self) -> str:
        """Returns the table as HTML with escaped cells."""
        style = self.frame.map(typeset).style.hide(axis="index")
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
        text = style.to_latex(column_format=columns, hrules=True, caption=self.title, label=f"tab:{self.key}")
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
    tables = [first, _of("other-metrics", "Other metrics", others, comparison, rows), _differences(comparison)]
    tables += [_of("cost", "Cost", COST_METRICS, comparison, rows)]
    return {table.key: table for table in tables if len(table.frame.columns) > 1}


def metrics_table(comparison: Comparison, rows: DataFrame) -> Table:
    """Returns the five metrics that matter most, the ratio of times among them."""
    wanted = ("bleu", "length_ratio", "chrf", "error") if comparison.headline == "bleu" else _FIRST
    wanted = [f"{comparison.split}_error" if name == "error" else name for name in wanted]
    known = [name for name in wanted if rows[f"{name}_n"].sum()]
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
    if not n:
        return "1" if name == "time_ratio" and row["n"] else NOTHING
    decimals = form.decimals
    if form.unit == "s" and mean > 0:
        decimals = max(0, 2 - math.floor(math.log10(mean)))
    text = number(mean, decimals, scale=form.scale)
    if n > 1 and spread and name != "parameters":
        text += f" \u00b1 {number(row[f'{name}_sd'], decimals, scale=form.scale)}"
    return text


def _differences(comparison: Comparison) -> Table:
    """Returns each variant minus the baseline, metric by metric."""
    differences = differences_to_baseline(comparison)
    titles = {variant.name: variant.title for variant in comparison.variants}
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
    return make_table("differences", f"Differences to {titles.get(str(comparison.baseline))}", lines)


def cost_line(method: VariantRuns, comparison: Comparison, rows: DataFrame) -> str:
    """Returns in a sentence what a method costs; empty where nothing was measured."""
    row = rows.set_index("variant").loc[method.name].to_dict()
    timed = timed_against(comparison)
    forms = {
        "time_ratio": f"{{}} times the time per epoch of {timed.title if timed else ''}",
        "epoch_seconds": "{} s per epoch",
        "gpu_memory": "{} MiB of the GPU's memory",
        "process_memory": "{} MiB of memory",
        "parameters": "{} trainable parameters",
    }
    parts = [form.format(metric_text(row, name, spread=False)) for name, form in forms.items() if row[f"{name}_n"]]
    return f"Cost of {method.title}: {', '.join(parts)}." if parts else ""
