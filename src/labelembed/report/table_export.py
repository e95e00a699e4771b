"""The page's tables as Markdown and LaTeX, with the numbers that the page shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from labelembed.report.formatting import shortened
from labelembed.report.tables import Heading, Table

_LONGEST = 1_000

_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u00b1": r"$\pm$",
    "\u2192": r"$\rightarrow$",
    "\u00d7": r"$\times$",
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
        headings = [_heading(one) for one in table.headings]
        rows = [[line.name, *(cell.text for cell in line.cells)] for line in table.lines]
        rule = [":--" if _is_left(place, one) else "--:" for place, one in enumerate(table.headings)]
        lines = [" | ".join(map(markdown_text, headings)), " | ".join(rule)]
        lines += [" | ".join(map(markdown_text, row)) for row in rows]
        note = f"\n\n{table.note}" if table.note else ""
        parts.append(f"## {markdown_text(table.title)}\n\n" + "\n".join(f"| {line} |" for line in lines) + note)
    return "\n\n".join(parts) + "\n"


def tables_as_latex(tables: Sequence[Table]) -> str:
    r"""Returns the tables for LaTeX, with the rules of the package `booktabs`; each can be put into a paper alone."""
    parts = ["% \\usepackage{booktabs}"]
    for table in tables:
        columns = "".join("l" if _is_left(place, one) else "r" for place, one in enumerate(table.headings))
        rows = [[line.name, *(cell.text for cell in line.cells)] for line in table.lines]
        lines = [
            r"\begin{table}",
            rf"  \caption{{{latex_text(table.title)}}}",
            rf"  \label{{tab:{table.key}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            "    " + " & ".join(latex_text(_heading(one)) for one in table.headings) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(map(latex_text, row)) + r" \\" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _heading(one: Heading) -> str:
    return f"{one.text} ({one.unit})" if one.unit else one.text


def _is_left(place: int, heading: Heading) -> bool:
    return place == 0 or heading.is_text
