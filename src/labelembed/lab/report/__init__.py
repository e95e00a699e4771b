"""Run folders in; tables, figures, a verdict in plain words, one HTML page and a model card out."""

from labelembed.lab.report.comparison import Comparison, load_comparison
from labelembed.lab.report.model_card import write_card
from labelembed.lab.report.page import notebook_html, print_comparison, write_comparison, write_report
from labelembed.lab.report.tables import comparison_rows, write_csv
from labelembed.lab.report.verdict import full_verdict, verdict

__all__ = [
    "Comparison",
    "comparison_rows",
    "full_verdict",
    "load_comparison",
    "notebook_html",
    "print_comparison",
    "verdict",
    "write_card",
    "write_comparison",
    "write_csv",
    "write_report",
]
