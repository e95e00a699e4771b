"""Tables and page of a comparison, beside its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelembed.report.comparison import Comparison, load_comparison
from labelembed.report.page import write_report
from labelembed.report.table import Row, comparison_rows
from labelembed.report.table_files import write_csv, write_runs_csv


def write_comparison(out: Path, *, anew: bool) -> tuple[Comparison, Sequence[Row]]:
    """Writes tables and report of a comparison and returns what they are made of.

    Args:
        out: The comparison folder.
        anew: Write the page even where the tables say what they said before: drawing takes seconds.
    """
    comparison = load_comparison(out)
    rows = comparison_rows(comparison)
    table, page = out / "comparison.csv", out / "report.html"
    before = table.read_bytes() if table.exists() else b""
    write_csv(rows, table)
    write_runs_csv(comparison, out / "runs.csv")
    if anew or not page.exists() or table.read_bytes() != before:
        write_report(out)
    return comparison, rows
