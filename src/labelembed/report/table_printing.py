"""The comparison as a table for the terminal."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from labelembed.report.formatting import (
    MEASURES,
    NOTHING,
    SPEED_MEASURES,
    MeasureColumn,
    detectable_text,
    interval_text,
    joint_text,
    number,
    p_text,
)
from labelembed.report.notes import table_notes
from labelembed.report.table import Row

if TYPE_CHECKING:
    from rich.table import Table

# What a terminal has room for; the page and the CSV file have the others too.
_SHOWN = ("top5_error", "top2_error", "nll", "calibrated_nll", "calibration_error")
_SHOWN_OF_TEXT = ("bleu", "chrf", "rouge_l", "perplexity")
_HEADINGS = {
    "test_error": "test\nerror %",
    "validation_error": "validation\nerror %",
    "top5_error": "top-5\nerror %",
    "top2_error": "top-2\nerror %",
    "calibrated_nll": "NLL,\ncalibrated",
    "calibration_error": "calibr.\nerror %",
    "best_accuracy": "best\naccuracy %",
    "best_epoch": "at\nepoch",
    "area_under_curve": "AUAC %",
    "epochs_to_baseline": "epochs to\nbaseline",
    "epochs_saved": "epochs\nsaved %",
}
# The page and the CSV file have the paper's share of all epochs beside it.
_SPEED_SHOWN = [measure for measure in SPEED_MEASURES if measure.attribute != "epochs_saved_of_all"]
_NAME_WIDTH = 18
_WIDEST_NAME = 26
_WIDTH = 100


def rich_table(rows: Sequence[Row]) -> Table:
    """Returns the measures and, below them, the paired differences and the speed, as one table for 100 columns.

    Errors are in per cent, differences in percentage points. Print `table_notes` below it: a table without
    them says too much.

    Args:
        rows: What `comparison_rows` returned.
    """
    from rich.table import Table

    both = Table.grid(padding=(0, 0))
    both.add_row(_measures_table(rows))
    if any(row.headline_difference for row in rows):
        both.add_row("")
        both.add_row(_differences_table(rows))
    if any(measure.summary(row) for row in rows for measure in SPEED_MEASURES):
        both.add_row("")
        both.add_row(_speed_table(rows))
    return both


def print_comparison(rows: Sequence[Row]) -> None:
    """Prints the table and its notes; plain text where the output is no terminal."""
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
    return [_plain(dataclasses.asdict(row) | {"n": row.n}) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _measures_table(rows: Sequence[Row]) -> Table:
    error = f"{rows[0].split}_error" if rows else "test_error"
    columns = [measure for measure in MEASURES if measure.attribute == error]
    shown = _SHOWN_OF_TEXT if rows and rows[0].headline == "bleu" else _SHOWN
    columns += [
        measure
        for measure in MEASURES
        if measure.attribute in shown and any(measure.summary(row) is not None for row in rows)
    ]
    return _table(
        ["variant", "n", *(_HEADINGS.get(measure.attribute, measure.heading) for measure in columns)],
        [[row.name, str(row.n), *(_text(measure, row) for measure in columns)] for row in rows],
    )


def _text(measure: MeasureColumn, row: Row) -> str:
    """Returns a measure as the terminal has room for: the calibration error before and after as means alone."""
    before, after = row.calibration_error, row.calibrated_calibration_error
    if measure.attribute != "calibration_error" or before is None or after is None:
        return measure.text(row)
    return " -> ".join(number(100 * summary.mean, measure.decimals) for summary in (before, after))


def _speed_table(rows: Sequence[Row]) -> Table:
    columns = [measure for measure in _SPEED_SHOWN if any(measure.summary(row) is not None for row in rows)]
    heading = f"speed, {rows[0].speed_split}" if any(row.best_accuracy for row in rows) else "speed"
    return _table(
        [heading, *(_HEADINGS.get(measure.attribute, measure.heading) for measure in columns)],
        [[row.name, *(measure.text(row) for measure in columns)] for row in rows if row.n],
    )


def _differences_table(rows: Sequence[Row]) -> Table:
    baseline = next((row.name for row in rows if row.is_baseline), "")
    points = f"{rows[0].split} {'BLEU' if rows[0].headline == 'bleu' else 'error'}\npoints"
    calibrated = any(row.calibrated_nll_difference for row in rows)
    joint = any(row.headline_difference and row.headline_difference.joint for row in rows)
    cells = []
    for row in rows:
        error, nll = row.headline_difference, row.calibrated_nll_difference if calibrated else row.nll_difference
        if error is None:
            continue
        cells.append(
            [
                row.name,
                str(error.n),
                number(100 * error.difference, 2),
                interval_text(error, scale=100, decimals=2),
                *([joint_text(error, scale=100, decimals=2)] if joint else []),
                p_text(error.p_value),
                p_text(error.p_holm),
                detectable_text(error),
                number(nll.difference, 3) if nll else NOTHING,
                p_text(nll.p_holm) if nll else NOTHING,
            ]
        )
    headings = [
        "n",
        points,
        "95 % interval,\nseeds",
        *(["seeds and\nexamples"] if joint else []),
        "p",
        "p\nHolm",
        "could\nshow",
    ]
    headings += ["NLL,\ncalibr.", "NLL\np Holm"] if calibrated else ["NLL", "NLL\np Holm"]
    return _table([f"minus {baseline}", *headings], cells)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    words = " ".join([headings[0], *(row[0] for row in rows)]).split()
    width = min(max(_NAME_WIDTH, *(len(word) for word in words)), _WIDEST_NAME)
    headings = ["\n".join(wrap(headings[0], width)), *headings[1:]]
    lines = max(heading.count("\n") for heading in headings)
    for position, heading in enumerate(headings):
        table.add_column(
            # Headings stand on the line below them, numbers beside the first line of a name.
            Text("\n" * (lines - heading.count("\n")) + heading),
            justify="right" if position else "left",
            # Where it is narrow the numbers' cells break, at their spaces; nothing is cut off.
            no_wrap=position == 0,
            overflow="fold",
        )
    for row in rows:
        # As text, not as markup: a name may hold brackets.
        table.add_row(Text("\n".join(wrap(row[0], width))), *(Text(cell) for cell in row[1:]))
    return table
