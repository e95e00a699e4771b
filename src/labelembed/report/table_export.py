"""The page's tables as Markdown and LaTeX, with the numbers that the page shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from labelembed.report.formatting import shortened
from labelembed.report.tables import Table

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
