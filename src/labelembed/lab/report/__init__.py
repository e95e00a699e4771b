"""Run folders in; tables, a verdict in plain words and one HTML page out."""

from __future__ import annotations

from labelembed.lab.report.comparison import Comparison, RunRecord, VariantRuns, load_comparison
from labelembed.lab.report.forest import forest_plot
from labelembed.lab.report.gathering import load_several
from labelembed.lab.report.model_card import model_card, write_card
from labelembed.lab.report.notes import table_notes
from labelembed.lab.report.page import write_comparison, write_report
from labelembed.lab.report.table import Row, comparison_rows
from labelembed.lab.report.table_files import runs_as_cells, variants_as_cells, write_csv, write_runs_csv
from labelembed.lab.report.table_texts import print_comparison, rich_table
from labelembed.lab.report.tuning import tuning_lines, tuning_rows
from labelembed.lab.report.verdict import verdict

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
