"""The comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labelembed.report.formatting import MEASURES, NOTHING, MeasureColumn, detectable_text, interval_text, number, p_text
from labelembed.report.table import Row

if TYPE_CHECKING:
    from rich.table import Table

# What a terminal has room for; the page and the CSV file have the others too.
_SHOWN = ("nll", "calibration_error", "area_under_curve", "epochs_to_baseline", "seconds")


def rich_table(rows: Sequence[Row]) -> Table:
    """Returns the measures and, below them, the paired differences, as one table for 100 columns.

    Errors are in per cent, differences in percentage points. Print `table_notes` below it: a table without
    them says too much.

    Args:
        rows: What `comparison_rows` returned.
    """
    from rich.table import Table

    both = Table.grid(padding=(0, 0))
    both.add_row(_measures_table(rows))
    if any(row.error_difference for row in rows):
        both.add_row("")
        both.add_row(_differences_table(rows))
    return both


def _measures_table(rows: Sequence[Row]) -> Table:
    columns = [measure for measure in MEASURES if measure.attribute in _SHOWN]
    columns = [measure for measure in columns if any(measure.summary(row) for row in rows)]
    error = f"{rows[0].split}_error" if rows else "test_error"
    columns = [*(measure for measure in MEASURES if measure.attribute == error), *columns]
    table = _table("variant", "n", *(_heading(measure) for measure in columns))
    for row in rows:
        _add(table, row.name, str(row.n), *(measure.text(row) for measure in columns))
    return table


def _differences_table(rows: Sequence[Row]) -> Table:
    baseline = next((row.name for row in rows if row.is_baseline), "")
    table = _table(
        f"minus {baseline}",
        "n",
        f"{rows[0].split} error\npoints",
        "95 %\ninterval",
        "p",
        "p\nHolm",
        "could\nshow",
        "NLL",
        "NLL\np Holm",
    )
    for row in rows:
        error, nll = row.error_difference, row.nll_difference
        if error is not None:
            _add(
                table,
                row.name,
                str(error.n),
                number(100 * error.difference, 2),
                interval_text(error, scale=100, decimals=2),
                p_text(error.p_value),
                p_text(error.p_holm),
                detectable_text(error),
                number(nll.difference, 4) if nll else NOTHING,
                p_text(nll.p_holm) if nll else NOTHING,
            )
    return table


def _heading(measure: MeasureColumn) -> str:
    words = measure.heading.replace(" error", "\nerror").replace(" baseline", "\nbaseline")
    return f"{words} %" if measure.unit == "%" else words


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    lines = max(heading.count("\n") for heading in headings)
    for position, heading in enumerate(headings):
        # Headings stand on the line, numbers beside the first line of a name.
        lowered = "\n" * (lines - heading.count("\n")) + heading
        table.add_column(
            Text(lowered),
            justify="right" if position else "left",
            # Where it is narrow a cell breaks at its spaces, a name wherever it must; nothing is cut off.
            min_width=6 if position > 1 else 16 if position == 0 else 2,
            overflow="fold",
        )
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    # As text, not as markup: a name may hold brackets.
    table.add_row(*(Text(cell) for cell in cells))
