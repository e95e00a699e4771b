"""Run folders in; tables, a verdict in plain words and one HTML page out."""

from __future__ import annotations

from labelembed.report.comparison import Comparison, RunRecord, VariantRuns, load_comparison
from labelembed.report.forest import forest_plot
from labelembed.report.gathering import load_several
from labelembed.report.model_card import model_card, write_card
from labelembed.report.notes import table_notes
from labelembed.report.page import write_comparison, write_report
from labelembed.report.table import Row, comparison_rows
from labelembed.report.table_files import runs_as_cells, variants_as_cells, write_csv, write_runs_csv
from labelembed.report.table_texts import print_comparison, rich_table
from labelembed.report.tuning import tuning_lines, tuning_rows
from labelembed.report.verdict import verdict

__all__ = [
    "Comparison",
    "Row",
    "RunRecord",
    "VariantRuns",
    "comparison_rows",
    "forest_plot",
    "load_comparison",
    "load_several",
    "model_card",
    "print_comparison",
    "rich_table",
    "runs_as_cells",
    "table_notes",
    "tuning_lines",
    "tuning_rows",
    "variants_as_cells",
    "verdict",
    "write_card",
    "write_comparison",
    "write_csv",
    "write_report",
    "write_runs_csv",
]
