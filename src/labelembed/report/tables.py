"""The report's tables, once for page, terminal, CSV, Markdown and LaTeX: a text a cell, the full number behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from labelembed.metrics import PairedComparison, Summary
from labelembed.report.comparison import Comparison
from labelembed.report.cost import CostRow, memory_text, seconds_decimals
from labelembed.report.formatting import (
    MEASURES,
    NOTHING,
    SPEED_MEASURES,
    MeasureColumn,
    detectable_text,
    interval_text,
    number,
    p_text,
    summary_text,
)
from labelembed.report.table import Row
from labelembed.report.tuning_shown import tuning_rows

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
        series: The position of the variant's colour; None for none.
        is_baseline: Whether it is what the others are compared with.
    """

    name: str
    cells: list[Cell]
    series: int | None = None
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


def metrics_table(rows: Sequence[Row], series: Mapping[str, int] | None = None) -> Table:
    """Returns the metrics that matter most: error, top-k error, NLL before and after temperature scaling, ECE."""
    if not rows:
        return Table("metrics", "Metrics", [], [])
    headline = f"{rows[0].split}_error"
    first = [*_FIRST_OF_TEXT, headline] if rows[0].headline == "bleu" else [headline, *_FIRST]
    return _measures("metrics", "Metrics", first, rows, series)


def other_metrics_table(rows: Sequence[Row], series: Mapping[str, int] | None = None) -> Table:
    """Returns all other metrics that any variant has."""
    first = (*(_FIRST_OF_TEXT if rows[0].headline == "bleu" else _FIRST), f"{rows[0].split}_error")
    others = [one.attribute for one in MEASURES if one.attribute not in first or one.attribute == "calibration_error"]
    return _measures("other-metrics", "Other metrics", others, rows, series, paired=False)


def speed_table(rows: Sequence[Row], series: Mapping[str, int] | None = None) -> Table:
    """Returns how fast each variant learns."""
    measured = any("best_accuracy" in row.measures for row in rows)
    title = f"Speed of learning ({rows[0].speed_split} error)" if measured else "Speed"
    return _measures("speed", title, [measure.attribute for measure in SPEED_MEASURES], rows, series)


def differences_table(rows: Sequence[Row]) -> Table:
    """Returns each variant minus the baseline, metric by metric."""
    split = rows[0].split if rows else ""
    baseline = next((row.name for row in rows if row.is_baseline), "")
    lines = [
        Line(row.name, [Cell(f"{split} {words} ({unit})"), *_difference_cells(row.differences[name], scale, decimals)])
        for name, words, unit, scale, decimals in _DIFFERENCES
        for row in rows
        if name in row.differences
    ]
    headings = [Heading("variant"), Heading("metric", is_text=True), Heading("n"), Heading("difference")]
    headings += [Heading("95 % interval over seeds"), Heading("over seeds and test examples"), Heading("p")]
    headings += [Heading("p, Holm"), Heading("minimum detectable difference")]
    if not any(found.joint for row in rows for found in row.differences.values()):
        joint = headings.index(Heading("over seeds and test examples"))
        del headings[joint]
        lines = [replace(line, cells=line.cells[: joint - 1] + line.cells[joint:]) for line in lines]
    return Table("differences", f"Differences to {baseline}", headings, lines)


def cost_table(costs: Sequence[CostRow], reference: str | None, series: Mapping[str, int]) -> Table:
    """Returns seconds an epoch, their ratio to the reference, memory and trainable parameters of each variant.

    Args:
        costs: What `cost_rows` returned.
        reference: What ratios are to; None for none.
        series: The position of each variant's colour.
    """
    decimals = seconds_decimals(costs)
    headings = [Heading("variant"), Heading("an epoch", "s")]
    headings += [Heading(f"ratio to {reference}")] if reference is not None else []
    headings += [Heading("a run", "s"), Heading("peak memory"), Heading("trainable parameters")]
    lines = []
    for cost in costs:
        cells = [_summary_cell(cost.epoch_seconds, decimals)]
        if reference is not None:
            cells.append(Cell("1") if cost.name == reference else _summary_cell(cost.ratio, 2))
        cells += [_summary_cell(cost.seconds, 1), Cell(memory_text(cost), cost.peak_bytes)]
        cells.append(Cell(NOTHING if cost.parameters is None else f"{cost.parameters:,}", cost.parameters))
        lines.append(Line(cost.name, cells, series.get(cost.name), cost.name == reference))
    note = "Seconds of training an epoch without evaluation: the median of a run, of several runs the mean; ratios "
    note += "between runs of the same seed. Peak memory is that of the tensors on a GPU, else of the whole process."
    return Table("cost", "Cost", headings, lines, note)


def tuning_table(comparison: Comparison) -> Table:
    """Returns how each variant was tuned."""
    found = tuning_rows(comparison)
    headings = [Heading("variant"), Heading("search space", is_text=True), Heading("trials")]
    headings += [Heading("chosen", is_text=True), Heading("before"), Heading("best")]
    lines = [
        Line(
            row.name,
            [
                *(Cell(text) for text in ("; ".join(row.space) or "nothing", row.trials)),
                *(Cell(text) for text in ("; ".join(row.chosen) or "as it was", row.first, row.best)),
            ],
        )
        for row in found
    ]
    return Table("tuning", f"Tuning, by the {found[0].measure}" if found else "Tuning", headings, lines)


def _measures(
    key: str,
    title: str,
    wanted: Sequence[str],
    rows: Sequence[Row],
    series: Mapping[str, int] | None,
    *,
    paired: bool = True,
) -> Table:
    """Returns a column for each wanted metric that any variant has; `paired`: ECE before and after in one cell."""
    known = {measure.attribute: measure for measure in (*MEASURES, *SPEED_MEASURES)}
    shown = [known[name] for name in wanted if any(name in row.measures for row in rows)]
    shown = [one for one in shown if not (not paired and one.attribute == "calibration_error" and not _both(rows))]
    headings = [Heading("variant"), Heading("n")]
    headings += [Heading(_heading(one, rows, paired=paired), one.unit) for one in shown]
    lines = []
    for row in rows:
        asked = row.n + len(row.failed) + len(row.missing)
        cells = [Cell(f"{row.n}" if asked == row.n else f"{row.n} of {asked}", row.n)]
        for one in shown:
            summary, after = one.summary(row), row.measures.get("calibrated_calibration_error")
            text = one.text(row)
            if paired and one.attribute == "calibration_error" and summary and after:
                text = " → ".join(number(100 * mean, one.decimals) for mean in (summary.mean, after.mean))
            cells.append(Cell(text, summary.mean if summary else None))
        lines.append(Line(row.name, cells, (series or {}).get(row.name), row.is_baseline))
    return Table(key, title, headings if shown else [], lines)


def _both(rows: Sequence[Row]) -> bool:
    return any("calibrated_calibration_error" in row.measures for row in rows)


def _heading(one: MeasureColumn, rows: Sequence[Row], *, paired: bool) -> str:
    if one.attribute.endswith("_error") and one.attribute.startswith(("test", "validation")):
        return f"{one.heading.split()[0]} token error" if rows[0].headline == "bleu" else one.heading
    return "ECE before → after" if paired and one.attribute == "calibration_error" and _both(rows) else one.heading


def _difference_cells(difference: PairedComparison, scale: float, decimals: int) -> list[Cell]:
    detectable = NOTHING if math.isnan(difference.detectable) else number(scale * difference.detectable, decimals)
    return [
        Cell(str(difference.n), difference.n),
        Cell(number(scale * difference.difference, decimals), difference.difference),
        Cell(interval_text((difference.interval_low, difference.interval_high), scale=scale, decimals=decimals)),
        Cell(interval_text(difference.joint, scale=scale, decimals=decimals)),
        Cell(p_text(difference.p_value), difference.p_value),
        Cell(p_text(difference.p_holm), difference.p_holm),
        Cell(detectable_text(difference) if scale == 100 else detectable),
    ]


def _summary_cell(summary: Summary | None, decimals: int) -> Cell:
    return Cell(summary_text(summary, decimals), summary.mean if summary else None)
