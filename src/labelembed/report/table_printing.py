"""The comparison in the terminal: the tables of the page, in 100 columns."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from labelembed.report.notes import table_notes
from labelembed.report.table import Row
from labelembed.report.tables import (
    Line,
    Table,
    differences_table,
    metrics_table,
    speed_table,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_NAME_WIDTH, _WIDEST_NAME, _HEADING_WIDTH = 18, 26, 11
_WIDTH = 100
# What the page and the CSV files have beside: the paper's share of all epochs.
_NOT_PRINTED = ("of all epochs",)


def rich_table(rows: Sequence[Row]) -> RichTable:
    """Returns metrics, differences and speed as one table for 100 columns; print `table_notes` below it.

    Args:
        rows: What `comparison_rows` returned.
    """
    from rich.table import Table as RichTable

    both = RichTable.grid(padding=(0, 0))
    for place, table in enumerate(_printed(rows)):
        if place:
            both.add_row("")
        both.add_row(_rich(table))
    return both


def print_comparison(rows: Sequence[Row]) -> None:
    """Prints the tables and their notes; plain text where the output is no terminal."""
    from rich.console import Console

    console = Console()
    # A file or a pipe has no width of its own, and 80 columns would break every number in two.
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDTH)
    console.print(rich_table(rows))
    console.print()
    for note in table_notes(rows):
        console.print(note, markup=False, highlight=False)


def rows_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the rows as JSON values: fractions in full precision, null where there is no number."""
    found = []
    for row in rows:
        values = {
            name: getattr(row, name) for name in row.__dataclass_fields__ if name not in ("measures", "differences")
        }
        differences = {f"{name.removesuffix('_error')}_difference": one for name, one in row.differences.items()}
        if "error" in row.differences:
            differences["error_difference"] = row.differences["error"]
        found.append(_plain(values | dict(row.measures) | differences | {"n": row.n}))
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printed(rows: Sequence[Row]) -> list[Table]:
    tables = [metrics_table(rows)]
    if any(row.headline_difference for row in rows):
        tables += _differences(rows)
    speed = speed_table(rows)
    keep = [place for place, heading in enumerate(speed.headings) if heading.text not in _NOT_PRINTED]
    if speed.lines and speed.headings:
        lines = [
            replace(line, cells=[line.cells[place - 1] for place in keep[1:]])
            for line, row in zip(speed.lines, rows, strict=True)
            if row.n
        ]
        tables.append(replace(speed, headings=[speed.headings[place] for place in keep], lines=lines))
    return tables


def _differences(rows: Sequence[Row]) -> list[Table]:
    """Returns the differences of what decides and of the NLL, a table each, without the column of the metric."""
    table = differences_table(rows)
    by_metric: dict[str, list[Line]] = {}
    for line in table.lines:
        by_metric.setdefault(line.cells[0].text, []).append(replace(line, cells=line.cells[1:]))
    metrics = list(by_metric)
    headline = next(metric for metric in metrics if "BLEU" in metric or rows[0].headline == "error")
    shown = [headline, *[metric for metric in metrics if "NLL" in metric][-1:]]
    baseline = table.title.removeprefix("Differences to ")
    headings = [table.headings[0], *table.headings[2:]]
    return [
        replace(table, title=f"{metric} minus {baseline}", headings=headings, lines=by_metric[metric])
        for metric in shown
    ]


def _rich(table: Table) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    title = table.title if table.key != "metrics" else "variant"
    words = " ".join([title, *(line.name for line in table.lines)]).split()
    width = min(max(_NAME_WIDTH, *(len(word) for word in words)), _WIDEST_NAME)
    shown = [f"{one.text} {one.unit}".strip() for one in table.headings[1:]]
    headings = ["\n".join(wrap(title, width)), *("\n".join(wrap(text, _HEADING_WIDTH)) for text in shown)]
    lines = max(heading.count("\n") for heading in headings)
    for position, heading in enumerate(headings):
        made.add_column(
            # Headings stand on the line below them, numbers beside the first line of a name.
            Text("\n" * (lines - heading.count("\n")) + heading),
            justify="left" if position == 0 or table.headings[position].is_text else "right",
            # Where it is narrow the numbers' cells break, at their spaces; nothing is cut off.
            no_wrap=position == 0,
            overflow="fold",
        )
    for line in table.lines:
        # As text, not as markup: a name may hold brackets.
        made.add_row(Text("\n".join(wrap(line.name, width))), *(Text(cell.text) for cell in line.cells))
    return made
