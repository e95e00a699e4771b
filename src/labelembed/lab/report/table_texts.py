"""The page's tables in the terminal, in 100 columns, and as Markdown and LaTeX, with the same numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.formatting import shortened
from labelembed.lab.report.notes import table_notes
from labelembed.lab.report.table import Row, comparison_rows
from labelembed.lab.report.tables import Table, cost_table, differences_table, metrics_table, speed_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_NAME_WIDTH, _WIDEST_NAME, _HEADING_WIDTH = 18, 26, 11
_WIDTH = 100
# Columns that the terminal has no room for; the page and the CSV files have them.
_NOT_PRINTED = ("of all epochs", "metric")
_LONGEST = 1_000

_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u00b1": r"$\pm$",
    "\u2192": r"$\rightarrow$",
    "\u00d7": r"$\times$",
    "\u2248": r"$\approx$",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def rich_table(rows: Sequence[Row]) -> RichTable:
    """Returns metrics, differences, speed and cost as one table for 100 columns; print `table_notes` below it.

    Args:
        rows: What `comparison_rows` returned.
    """
    from rich.table import Table as RichTable

    tables = [metrics_table(rows), *_differences(rows), speed_table(rows), cost_table(rows)]
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


def _differences(rows: Sequence[Row]) -> list[Table]:
    """Returns the differences of what decides and of the NLL, a table each."""
    table = differences_table(rows)
    metrics = list(dict.fromkeys(line.cells[0].text for line in table.lines))
    decides = [metric for metric in metrics if "BLEU" in metric or rows[0].headline == "error"][:1]
    baseline = table.title.removeprefix("Differences to ")
    return [
        replace(
            table,
            lines=[line for line in table.lines if line.cells[0].text == metric],
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
    shown = [place for place, one in enumerate(table.headings) if place and one.text not in _NOT_PRINTED]
    headings = ["\n".join(wrap(title, width))]
    texts = [f"{table.headings[place].text} {table.headings[place].unit}".strip() for place in shown]
    headings += ["\n".join(wrap(text, _HEADING_WIDTH)) for text in texts]
    lines = max(heading.count("\n") for heading in headings)
    for position, heading in enumerate(headings):
        made.add_column(
            # Headings stand on the line below them, numbers beside the first line of a name.
            Text("\n" * (lines - heading.count("\n")) + heading),
            justify="right" if position else "left",
            # Where it is narrow the numbers' cells break, at their spaces; nothing is cut off.
            no_wrap=position == 0,
            overflow="fold",
        )
    for line in table.lines:
        # As text, not as markup: a name may hold brackets.
        made.add_row(Text("\n".join(wrap(line.name, width))), *(Text(line.cells[place - 1].text) for place in shown))
    return made


# ------------------------------------------------------------------------------------------- Markdown and LaTeX


def markdown_text(value: object) -> str:
    """Returns a text in one line with nothing in it that Markdown or HTML would take for a sign of its own."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", shortened(str(value), _LONGEST))


def latex_text(text: str) -> str:
    """Returns a text in one line that LaTeX sets as it is; a minus before a digit becomes a real one."""
    line = "".join(_LATEX_SIGNS.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", line)


def tables_as_markdown(tables: Sequence[Table]) -> str:
    """Returns the tables as GitHub's Markdown, each with its title and note."""
    parts = []
    for table in tables:
        headings, *rows = (f"| {' | '.join(cells)} |" for cells in _cells(table, markdown_text))
        rule = f"| {' | '.join(':--' if left else '--:' for left in _is_left(table))} |"
        note = f"\n\n{table.note}" if table.note else ""
        parts.append("\n".join([f"## {markdown_text(table.title)}\n", headings, rule, *rows]) + note)
    return "\n\n".join(parts) + "\n"


def tables_as_latex(tables: Sequence[Table]) -> str:
    r"""Returns the tables for LaTeX, with the rules of the package `booktabs`; each can be put into a paper alone."""
    parts = ["% \\usepackage{booktabs}"]
    for table in tables:
        headings, *rows = (f"    {' & '.join(cells)} \\\\" for cells in _cells(table, latex_text))
        columns = "".join("l" if left else "r" for left in _is_left(table))
        begin = [r"\begin{table}", rf"  \caption{{{latex_text(table.title)}}}", rf"  \label{{tab:{table.key}}}"]
        begin += [rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule", headings, r"    \midrule"]
        parts.append("\n".join([*begin, *rows, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def _cells(table: Table, escaped: Callable[[str], str]) -> list[list[str]]:
    """Returns the headings and then the lines."""
    headings = [f"{one.text} ({one.unit})" if one.unit else one.text for one in table.headings]
    return [
        [*map(escaped, row)]
        for row in [headings, *([one.name, *(cell.text for cell in one.cells)] for one in table.lines)]
    ]


def _is_left(table: Table) -> list[bool]:
    return [place == 0 or heading.is_text for place, heading in enumerate(table.headings)]
