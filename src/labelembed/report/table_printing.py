"""The comparison in the terminal: the tables of the page, in 100 columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from labelembed.report.comparison import Comparison
from labelembed.report.notes import table_notes
from labelembed.report.table import Row, comparison_rows
from labelembed.report.tables import Table, cost_table, differences_table, metrics_table, speed_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_NAME_WIDTH, _WIDEST_NAME, _HEADING_WIDTH = 18, 26, 11
_WIDTH = 100


def rich_table(rows: Sequence[Row]) -> RichTable:
    """Returns metrics, differences, speed and cost as one table for 100 columns; print `table_notes` below it.

    Args:
        rows: What `comparison_rows` returned.
    """
    from rich.table import Table as RichTable

    tables = [metrics_table(rows), *_differences(rows), _without(speed_table(rows), "of all epochs"), cost_table(rows)]
    whole = RichTable.grid(padding=(0, 0))
    for table in tables:
        if table.headings and table.lines:
            whole.add_row(_rich(table))
            whole.add_row("")
    return whole


def print_comparison(comparison: Comparison) -> None:
    """Prints the tables and their notes; plain text where the output is no terminal."""
    from rich.console import Console

    rows = comparison_rows(comparison)
    console = Console()
    # A file or a pipe has no width of its own, and 80 columns would break every number in two.
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDTH)
    console.print(rich_table(rows))
    for note in table_notes(rows):
        console.print(note, markup=False, highlight=False)


def _without(table: Table, heading: str) -> Table:
    """Returns a table without a column, which the page and the CSV files have."""
    keep = [place for place, one in enumerate(table.headings) if one.text != heading]
    lines = [replace(line, cells=[line.cells[place - 1] for place in keep if place]) for line in table.lines]
    return replace(table, headings=[table.headings[place] for place in keep], lines=lines)


def _differences(rows: Sequence[Row]) -> list[Table]:
    """Returns the differences of what decides and of the NLL, a table each, without the column of the metric."""
    table = differences_table(rows)
    metrics = list(dict.fromkeys(line.cells[0].text for line in table.lines))
    decides = [metric for metric in metrics if "BLEU" in metric or rows[0].headline == "error"][:1]
    baseline = table.title.removeprefix("Differences to ")
    return [
        replace(
            _without(replace(table, lines=[line for line in table.lines if line.cells[0].text == metric]), "metric"),
            title=f"{metric} minus {baseline}",
        )
        for metric in [*decides, *[metric for metric in metrics if "NLL" in metric][-1:]]
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
