"""The tables of the page, which are those of Markdown, LaTeX and the terminal too: one text a cell."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelembed.lab.report.comparison import Comparison, number_in
from labelembed.lab.report.formatting import NOTHING, interval, number, p_text, shortened, typeset
from labelembed.lab.report.decision import FEWEST_SEEDS
from labelembed.lab.report.settings import tuning_rows
from labelembed.lab.report.table import COST_METRICS, METRICS, RESULT_METRICS, SPEED_METRICS, shared_machine
from labelembed.lab.report.table import differences_to_baseline

if TYPE_CHECKING:
    from pandas import DataFrame

# The five columns that are shown at once, the first five of these that there are; all others are folded.
_FIRST = ("{split}_error", "calibrated_nll", "calibrated_calibration_error", "error_at_80_coverage", "top5_error")
_FIRST += ("nll", "calibration_error", "top2_error", "macro_f1")
_FIRST_OF_TEXT = ("bleu", "length_ratio", "chrf", "{split}_error", "nll")
_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_LATEX_SIGNS = {"\u00b1": r"$\pm$", "\u2248": r"$\approx$", "\u00d7": r"$\times$", "\u2212": "$-$"}


@dataclass(frozen=True)
class Table:
    """One table: the first column has the names of its lines; `note` is what a reader must know to read it."""

    key: str
    title: str
    frame: DataFrame
    note: str = ""

    def html(self) -> str:
        """Returns the table as HTML with escaped cells."""
        style = self.frame.map(typeset).style.format(escape="html").hide(axis="index")
        style = style.format_index(lambda name: name, axis="columns", escape="html")
        attributes = f'class="sortable" data-table="{self.key}"'
        return str(style.set_table_attributes(attributes).to_html(exclude_styles=True))

    def markdown(self) -> str:
        """Returns the table as GitHub's Markdown under its title."""
        frame = self.frame.map(markdown_text)
        table = frame.to_markdown(index=False, disable_numparse=True, headers=[markdown_text(c) for c in frame])
        return "\n\n".join([f"## {markdown_text(self.title)}", table, *([self.note] if self.note else [])])

    def latex(self) -> str:
        r"""Returns the table for LaTeX, with the rules of the package `booktabs`."""
        style = self.frame.map(typeset).style.format(escape="latex").hide(axis="index")
        style = style.format_index(escape="latex", axis="columns")
        columns = "l" + "r" * (len(self.frame.columns) - 1)
        text = style.to_latex(column_format=columns, hrules=True, caption=self.title, label=f"tab:{self.key}")
        return re.sub("|".join(_LATEX_SIGNS), lambda sign: _LATEX_SIGNS[sign.group()], str(text))


def report_tables(comparison: Comparison, rows: DataFrame) -> list[Table]:
    """Returns the tables of a comparison that have anything in them, in the order of the page."""
    first = _first_columns(comparison, rows)
    others = [name for name in METRICS if name in {*RESULT_METRICS, "temperature", "validation_error"} or name[:4] == "cali"]
    tables = [metrics_table(comparison, rows)]
    tables += [_table("other-metrics", "Other metrics", [name for name in others if name not in first], comparison, rows)]
    tables += [_differences_table(comparison)]
    speed = f"Speed of learning ({comparison.speed_split} {'token ' if comparison.headline == 'bleu' else ''}error)"
    tables += [_table("speed", speed, list(SPEED_METRICS), comparison, rows)]
    tables += [_table("cost", "Cost", list(COST_METRICS), comparison, rows), _published_table(comparison, rows)]
    tables += [_of("tuning", "Tuning", tuning_rows(comparison))]
    return [table for table in tables if len(table.frame) and len(table.frame.columns) > 1]


def metrics_table(comparison: Comparison, rows: DataFrame) -> Table:
    """Returns the five metrics that matter most, with the ratio of times."""
    columns = [*_first_columns(comparison, rows)[:4], "time_ratio"]
    columns += [name for name in _first_columns(comparison, rows)[4:] if not _known(rows, "time_ratio")]
    return _table("metrics", "Metrics", columns[:6], comparison, rows)


def _first_columns(comparison: Comparison, rows: DataFrame) -> list[str]:
    wanted = _FIRST_OF_TEXT if comparison.headline == "bleu" else _FIRST
    return [name for one in wanted if _known(rows, name := one.format(split=comparison.split))][:5]


def _known(rows: DataFrame, name: str) -> bool:
    return f"{name}_n" in rows and bool(rows[f"{name}_n"].sum())


def _of(key: str, title: str, lines: Sequence[dict[str, str]], note: str = "") -> Table:
    import pandas as pd

    return Table(key, title, pd.DataFrame([*lines]), note)


def _table(key: str, title: str, names: Sequence[str], comparison: Comparison, rows: DataFrame) -> Table:
    shown = [name for name in names if _known(rows, name)]
    rough, lines = shared_machine(comparison), []
    for variant, row in zip(comparison.variants, rows.to_dict("records"), strict=True):
        of = len(variant.seeds)
        name = variant.title + ("" if len(variant.runs) == of else f" ({len(variant.runs)} of {of} seeds)")
        line = {"variant": name}
        for column in shown:
            line[_heading(column, comparison)] = metric_text(row, column, rough=rough and column == "time_ratio")
        lines.append(line)
    return _of(key, title, lines)


def _heading(column: str, comparison: Comparison) -> str:
    metric = METRICS["error"] if column.endswith(("test_error", "validation_error")) else METRICS[column]
    text = metric.heading_and_unit
    if column.endswith(("test_error", "validation_error")):
        text = f"{column.split('_')[0]} {text}"
    return text.replace("error", "token error") if comparison.headline == "bleu" and "error" in column[-12:] else text


def metric_text(row: dict[str, Any], column: str, *, rough: bool = False) -> str:
    """Returns ``mean ± standard deviation`` of a line of `comparison_rows`, the mean alone for one run, or a dash."""
    metric = METRICS["error"] if column.endswith(("test_error", "validation_error")) else METRICS[column]
    mean, deviation = row[f"{column}_mean"], row[f"{column}_sd"]
    if not row[f"{column}_n"]:
        return "1" if column == "time_ratio" and row["n"] else NOTHING
    decimals = metric.decimals
    if metric.unit == "s" and mean > 0:
        decimals = max(0, 2 - math.floor(math.log10(mean)))
    text = number(mean, decimals, scale=metric.scale)
    if row[f"{column}_n"] > 1 and column != "parameters":
        text += f" \u00b1 {number(deviation, decimals, scale=metric.scale)}"
    short = column.startswith("epochs_") and row[f"{column}_n"] < row["n"]
    return f"{chr(0x2248) if rough else ''}{text}" + (f" ({row[f'{column}_n']} of {row['n']})" if short else "")


def _differences_table(comparison: Comparison) -> Table:
    """Returns each variant minus the baseline, metric by metric."""
    differences = differences_to_baseline(comparison)
    titles = {variant.name: variant.title for variant in comparison.variants}
    lines = []
    for metric in dict.fromkeys(name for of in differences.values() for name in of if name != "calibration_error"):
        shown, unit = METRICS[metric], "nats" if "nll" in metric else "points"
        for name, of in differences.items():
            if (one := of.get(metric)) is None:
                continue
            form: dict[str, Any] = {"decimals": shown.decimals, "scale": shown.scale}
            detectable = number(one.detectable, **form) if one.n >= FEWEST_SEEDS else NOTHING
            line = {"variant": titles[name], "metric": f"{comparison.split} {shown.heading} ({unit})", "n": str(one.n)}
            line |= {"difference": number(one.difference, **form), "95 % interval over seeds": interval(one[2:4], **form)}
            line["over seeds and test examples"] = interval(one.joint[:2] if one.joint else None, **form)
            line |= {"p": p_text(one.p_value), "p, Holm": p_text(one.p_holm), "minimum detectable difference": detectable}
            lines.append(line)
    baseline = titles.get(comparison.baseline or "", "")
    return _of("differences", f"Differences to {baseline}", lines)


def _published_table(comparison: Comparison, rows: DataFrame) -> Table:
    """Returns each published figure of the recipe beside the variants of its objective."""
    lines = []
    entries = [one for one in comparison.published if isinstance(one, dict)]  # notes for people, which may be damaged
    wanted = [{"name": one["objective"]} if isinstance(one.get("objective"), str) else one.get("objective") for one in entries]
    keys = {"name", *(key for one in wanted if isinstance(one, dict) for key in one)}
    for entry, objective in zip(entries, wanted, strict=True):
        column, value = str(entry.get("metric", "test_error")), number_in(entry.get("value"))
        if not isinstance(objective, dict) or f"{column}_mean" not in rows or value is None:
            continue
        metric = METRICS["error"] if column.endswith("_error") and column not in METRICS else METRICS[column]
        text = number(value, metric.decimals, scale=metric.scale)
        if (deviation := number_in(entry.get("deviation"))) is not None:
            text += f" \u00b1 {number(deviation, metric.decimals, scale=metric.scale)}"
        matching = [
            (variant.title, metric_text(row, column))
            for variant, row in zip(comparison.variants, rows.to_dict("records"), strict=True)
            if all(variant.objective.get(key) == objective.get(key) for key in keys)
        ]
        name = " ".join(str(part) if key == "name" else f"{key}={part}" for key, part in objective.items())
        for title, ours in matching or [("not in this comparison", NOTHING)]:
            line = {"objective": name, "metric": _heading(column, comparison), "published": text, "ours": ours}
            lines.append(line | {"variant": title, "source": str(entry.get("source", ""))})
    return _of("published", "Published figures", lines)


def markdown_text(value: object) -> str:
    """Returns a text in one line with nothing in it that Markdown or HTML would take for a sign of its own."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", shortened(str(value), 1_000))
