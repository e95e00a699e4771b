"""The report's tables, once for page, terminal, CSV, Markdown and LaTeX: a text a cell, the full number behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from labelembed.lab.report.columns import ALL_METRICS, COST_METRICS, METRICS, SPEED_METRICS
from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.formatting import NOTHING, detectable_text, interval_text, number, p_text
from labelembed.lab.report.run_checks import number_in
from labelembed.lab.report.table import Row
from labelembed.lab.report.tuning import tuning_rows
from labelembed.metrics import PairedComparison

# The columns that are shown at once; all others are folded.
_FIRST = ("top5_error", "top2_error", "nll", "calibrated_nll", "calibration_error")
_FIRST_OF_TEXT = ("bleu", "brevity_penalty", "length_ratio", "chrf")
_DIFFERENCES = (
    ("error", "error", "points", 100, 2),
    ("bleu", "BLEU", "points", 100, 2),
    ("top5_error", "top-5 error", "points", 100, 2),
    ("top2_error", "top-2 error", "points", 100, 2),
    ("nll", "NLL", "nats", 1, 3),
    ("calibrated_nll", "NLL after temperature scaling", "nats", 1, 3),
)
_BY_NAME = {metric.attribute: metric for metric in ALL_METRICS}


class Cell(NamedTuple):
    """What a cell shows; `value` is the number in full precision behind it, None where the text is all."""

    text: str
    value: float | None = None


class Heading(NamedTuple):
    """What stands above a column; texts stand to the left, numbers to the right."""

    text: str
    unit: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        name: Its first cell.
        cells: The others.
        is_baseline: Whether it is what the others are compared with.
    """

    name: str
    cells: list[Cell]
    is_baseline: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        key: Names it in the page and in file names.
        title: What it is of.
        headings: One for each column, the first that of the names.
        lines: Its lines.
        note: What a reader must know to read it.
    """

    key: str
    title: str
    headings: list[Heading]
    lines: list[Line]
    note: str = ""


def report_tables(comparison: Comparison, rows: Sequence[Row]) -> list[Table]:
    """Returns the tables of a comparison that have anything in them, in the order of the page.

    Args:
        comparison: What `load_comparison` read.
        rows: What `comparison_rows` made of it.
    """
    tables = [metrics_table(rows), differences_table(rows), other_metrics_table(rows)]
    tables += [speed_table(rows), cost_table(rows)]
    tables += [published_table(comparison, rows), tuning_table(comparison)]
    return [table for table in tables if table.lines and len(table.headings) > 2]


def metrics_table(rows: Sequence[Row]) -> Table:
    """Returns the metrics that matter most: error, top-k error, NLL before and after temperature scaling, ECE."""
    if not rows:
        return Table("metrics", "Metrics", [], [])
    headline = f"{rows[0].split}_error"
    first = [*_FIRST_OF_TEXT, headline] if rows[0].headline == "bleu" else [headline, *_FIRST]
    return _metrics("metrics", "Metrics", first, rows)


def other_metrics_table(rows: Sequence[Row]) -> Table:
    """Returns all other metrics that any variant has."""
    first = {*(_FIRST_OF_TEXT if rows[0].headline == "bleu" else _FIRST), f"{rows[0].split}_error"}
    if any("calibrated_calibration_error" in row.metrics for row in rows):
        first -= {"calibration_error"}  # there with its spread; above, before and after stand in one cell
    others = [one.attribute for one in METRICS if one.attribute not in first]
    return _metrics("other-metrics", "Other metrics", others, rows, paired=False)


def speed_table(rows: Sequence[Row]) -> Table:
    """Returns how fast each variant learns."""
    title = f"Speed of learning ({rows[0].speed_split} {'token ' if rows[0].headline == 'bleu' else ''}error)"
    return _metrics("speed", title, [metric.attribute for metric in SPEED_METRICS], rows)


def cost_table(rows: Sequence[Row]) -> Table:
    """Returns seconds an epoch and a run, their ratio, memory and trainable parameters of each variant."""
    table = _metrics("cost", "Cost", [metric.attribute for metric in COST_METRICS], rows)
    ratio = f"ratio to {rows[0].timed_against}"
    headings = [one._replace(text=ratio) if one.text == "time ratio" else one for one in table.headings]
    note = "Seconds of training an epoch without evaluation: the median of a run, of several runs the mean; ratios "
    note += "between runs of the same seed. Peak memory of a GPU is that of its tensors."
    return replace(
        table, headings=headings, lines=[line for line, row in zip(table.lines, rows, strict=True) if row.n], note=note
    )


def differences_table(rows: Sequence[Row]) -> Table:
    """Returns each variant minus the baseline, metric by metric."""
    baseline = next((row.name for row in rows if row.is_baseline), "")
    has_joint = any(found.joint for row in rows for found in row.differences.values())
    lines = [
        Line(
            row.name,
            [
                Cell(f"{row.split} {words} ({unit})"),
                *_difference_cells(row.differences[name], scale, decimals, with_joint=has_joint),
            ],
        )
        for name, words, unit, scale, decimals in _DIFFERENCES
        for row in rows
        if name in row.differences
    ]
    texts = ["difference", "95 % interval over seeds", *(["over seeds and test examples"] if has_joint else [])]
    headings = [Heading("variant"), Heading("metric", is_text=True), Heading("n")]
    headings += [Heading(text) for text in (*texts, "p", "p, Holm", "minimum detectable difference")]
    return Table("differences", f"Differences to {baseline}", headings, lines)


def published_table(comparison: Comparison, rows: Sequence[Row]) -> Table:
    """Returns each published figure of the recipe beside the variants of its objective."""
    headings = [Heading("objective"), Heading("metric", is_text=True), Heading("published"), Heading("ours")]
    headings += [Heading("variant", is_text=True), Heading("source", is_text=True)]
    lines = []
    for figure in comparison.published:
        found = figure if isinstance(figure, dict) else {}  # a note for people, which may be damaged
        objective, column = found.get("objective"), _BY_NAME.get(str(found.get("metric", "test_error")))
        wanted = {"name": objective} if isinstance(objective, str) else objective
        value, deviation = number_in(found.get("value")), number_in(found.get("deviation"))
        if not isinstance(wanted, dict) or column is None or value is None:
            continue
        text = number(column.scale * value, column.decimals)
        text += f" ± {number(column.scale * deviation, column.decimals)}" if deviation is not None else ""
        text += f" (n = {found['runs']})" if isinstance(found.get("runs"), int) else ""
        called = " ".join(str(part) if key == "name" else f"{key}={part}" for key, part in wanted.items())
        ours = [
            (row.name, f"{column.text(row)} (n = {row.n})")
            for row, variant in zip(rows, comparison.variants, strict=True)
            if variant.runs and _is_of(variant.objective, wanted, comparison.published)
        ]
        if not ours and len(comparison.variants) > 1:
            ours = [("not in this comparison", NOTHING)]
        for name, own in ours:
            cells = (column.heading_and_unit, text, own, name, str(found.get("source", "")))
            lines.append(Line(called, [Cell(cell) for cell in cells]))
    return Table("published", "Published figures", headings, lines)


def tuning_table(comparison: Comparison) -> Table:
    """Returns how each variant was tuned."""
    found = tuning_rows(comparison)
    headings = [Heading("variant"), Heading("search space", is_text=True), Heading("trials")]
    headings += [Heading("chosen", is_text=True), Heading("before"), Heading("best")]
    lines = []
    for row in found:
        space, chosen = "; ".join(row.space) or "nothing", "; ".join(row.chosen) or "as it was"
        lines.append(Line(row.name, [Cell(text) for text in (space, row.trials, chosen, row.first, row.best)]))
    return Table("tuning", f"Tuning, by the {found[0].metric}" if found else "Tuning", headings, lines)


def _metrics(
    key: str,
    title: str,
    wanted: Sequence[str],
    rows: Sequence[Row],
    *,
    paired: bool = True,
) -> Table:
    """Returns a column for each wanted metric that any variant has; `paired`: ECE before and after in one cell."""
    shown = [_BY_NAME[name] for name in wanted if any(name in row.metrics for row in rows)]
    paired = paired and any("calibrated_calibration_error" in row.metrics for row in rows)
    headings = [Heading("variant"), Heading("n")]
    for one in shown:
        text = one.heading
        if one.attribute.endswith("_error") and rows[0].headline == "bleu" and one.attribute != "calibration_error":
            text = text.replace("error", "token error")
        if one.attribute == "calibration_error" and paired:
            text = "ECE before \u2192 after"
        headings.append(Heading(text, one.unit))
    lines = []
    for row in rows:
        all_seeds = row.n + len(row.variant.failed) + len(row.variant.missing)
        cells = [Cell(f"{row.n}" if all_seeds == row.n else f"{row.n} of {all_seeds}", row.n)]
        for one in shown:
            summary, after = row.metrics.get(one.attribute), row.metrics.get("calibrated_calibration_error")
            text = one.text(row)
            if one.attribute == "calibration_error" and paired and summary and after:
                text = " \u2192 ".join(number(100 * mean, one.decimals) for mean in (summary.mean, after.mean))
            cells.append(Cell(text, summary.mean if summary else None))
        lines.append(Line(row.name, cells, row.is_baseline))
    return Table(key, title, headings if shown else [], lines)


def _difference_cells(found: PairedComparison, scale: float, decimals: int, *, with_joint: bool) -> list[Cell]:
    ends = found.joint[:2] if found.joint else None
    joint = [Cell(interval_text(ends, scale=scale, decimals=decimals))] if with_joint else []
    return [
        Cell(str(found.n), found.n),
        Cell(number(scale * found.difference, decimals), found.difference),
        Cell(interval_text((found.interval_low, found.interval_high), scale=scale, decimals=decimals)),
        *joint,
        Cell(p_text(found.p_value), found.p_value),
        Cell(p_text(found.p_holm), found.p_holm),
        Cell(detectable_text(found, scale, decimals)),
    ]


def _is_of(objective: dict[str, Any], wanted: dict[str, Any], published: Sequence[Any]) -> bool:
    """Returns whether a figure is of a variant: equal in every argument that any figure names."""
    named = [one["objective"] for one in published if isinstance(one, dict) and isinstance(one.get("objective"), dict)]
    return all(objective.get(key) == wanted.get(key) for key in {"name", *(key for one in named for key in one)})
