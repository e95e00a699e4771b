"""What papers report for a recipe, beside what was measured here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.formatting import MEASURES, NOTHING, SPEED_MEASURES, number
from labelembed.report.run_checks import number_in
from labelembed.report.table import Row
from labelembed.report.tables import Cell, Heading, Line, Table


def published_table(comparison: Comparison, rows: Sequence[Row]) -> Table:
    """Returns each published figure of the recipe beside every variant of its objective."""
    columns = {column.attribute: column for column in (*MEASURES, *SPEED_MEASURES)}
    headings = [Heading("objective"), Heading("metric", is_text=True), Heading("published"), Heading("ours")]
    headings += [Heading("variant", is_text=True), Heading("source", is_text=True)]
    lines = []
    for figure in comparison.published:
        column = columns.get(str(figure.get("measure", "test_error")))
        value, deviation = number_in(figure.get("value")), number_in(figure.get("deviation"))
        if column is None or value is None:
            continue
        text = number(column.scale * value, column.decimals)
        text += f" ± {number(column.scale * deviation, column.decimals)}" if deviation is not None else ""
        text += f" (n = {figure['runs']})" if isinstance(figure.get("runs"), int) else ""
        wanted = _wanted(figure)
        called = " ".join(str(part) if key == "name" else f"{key}={part}" for key, part in wanted.items())
        heading = f"{column.heading} ({column.unit})" if column.unit else column.heading
        alike = [_wanted(other) for other in comparison.published if _is_beside(other, figure)]
        ours = [
            (row.name, column.text(row) + (f" (n = {row.n})" if column.summary(row) else ""))
            for row, variant in zip(rows, comparison.variants, strict=True)
            if _is_of(variant, wanted, among=alike)
        ]
        if not ours and len(comparison.variants) > 1:
            ours = [("not in this comparison", NOTHING)]
        for name, own in ours:
            cells = (heading, text, own, name, str(figure.get("source", "")))
            lines.append(Line(called, [Cell(cell) for cell in cells]))
    return Table("published", "Published figures", headings, lines)


def _wanted(figure: dict[str, Any]) -> dict[str, Any]:
    objective = figure["objective"]
    return {"name": objective} if isinstance(objective, str) else dict(objective)


def _is_beside(figure: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tells whether two figures are of one measure and one table of a paper."""
    return all(figure.get(key) == other.get(key) for key in ("measure", "source"))


def _is_of(variant: VariantRuns, wanted: dict[str, Any], *, among: Sequence[dict[str, Any]]) -> bool:
    """Tells whether a figure is of a variant: it names its arguments, and no other of the table names more of them."""
    named = [len(each) for each in among if _matches(variant, each)]
    return bool(variant.runs) and _matches(variant, wanted) and len(wanted) == max(named)


def _matches(variant: VariantRuns, wanted: dict[str, Any]) -> bool:
    return all(variant.objective.get(key) == value for key, value in wanted.items())
