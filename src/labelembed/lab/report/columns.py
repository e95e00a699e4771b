"""How each metric of the comparison is shown, in its tables and files."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelembed.lab.report.formatting import NOTHING, summary_text
from labelembed.lab.report.table import Row


@dataclass(frozen=True)
class MetricColumn:
    """How one metric of a `Row` is shown.

    Attributes:
        attribute: Its name in `Row.metrics` and in the CSV files, where ``_mean``, ``_sd`` and ``_n`` are added.
        heading: What stands above it.
        unit: What the shown number is in; empty for a bare number.
        scale: What the number is multiplied with to be shown.
        decimals: Digits after the point; of seconds that are between 1 and 10.
    """

    attribute: str
    heading: str
    unit: str
    scale: float
    decimals: int

    @property
    def heading_and_unit(self) -> str:
        """Its heading with the unit in brackets."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    def text(self, row: Row) -> str:
        """Returns ``mean ± sd`` in the shown unit, the mean alone for one run, or a dash for none.

        Epochs to the baseline, and epochs saved, are of the runs that got there, and say how many did, unless all did.
        A ratio of times begins with ≈ where runs shared the machine.
        """
        summary = row.metrics.get(self.attribute)
        counts_runs = self.attribute in ("epochs_to_baseline", "epochs_saved", "epochs_saved_of_all")
        if self.attribute == "time_ratio" and row.timed_against == row.name:
            return "1"
        if summary is None:
            return "never" if counts_runs and row.reachable else NOTHING
        if self.attribute == "parameters":
            return f"{summary.mean:,.0f}"
        decimals = self.decimals
        if self.unit == "s" and summary.mean > 0:
            decimals = max(0, decimals - math.floor(math.log10(summary.mean)))
        text = summary_text(summary, decimals, scale=self.scale)
        if self.attribute == "time_ratio" and row.shared_machine:
            text = f"\u2248{text}"
        return f"{text} ({row.reached} of {row.reachable})" if counts_runs and row.reached < row.reachable else text


# In the order of their weight: what a narrow screen cuts off is the least missed.
METRICS = (
    MetricColumn("bleu", "BLEU", "", 100, 2),
    MetricColumn("brevity_penalty", "brevity penalty", "", 1, 3),
    MetricColumn("length_ratio", "length ratio", "", 1, 3),
    MetricColumn("chrf", "chrF", "", 100, 2),
    MetricColumn("rouge_1", "ROUGE-1", "", 100, 2),
    MetricColumn("rouge_2", "ROUGE-2", "", 100, 2),
    MetricColumn("rouge_l", "ROUGE-L", "", 100, 2),
    MetricColumn("test_error", "test error", "%", 100, 2),
    MetricColumn("top5_error", "top-5 error", "%", 100, 2),
    MetricColumn("top2_error", "top-2 error", "%", 100, 2),
    MetricColumn("nll", "NLL", "nats", 1, 3),
    MetricColumn("calibrated_nll", "NLL after temperature scaling", "nats", 1, 3),
    MetricColumn("calibration_error", "ECE", "%", 100, 1),
    MetricColumn("calibrated_calibration_error", "ECE after temperature scaling", "%", 100, 1),
    MetricColumn("validation_error", "validation error", "%", 100, 2),
    MetricColumn("perplexity", "perplexity", "", 1, 2),
    MetricColumn("temperature", "temperature", "", 1, 2),
    MetricColumn("brier", "Brier score", "", 1, 3),
    MetricColumn("macro_f1", "macro-F1", "%", 100, 2),
    MetricColumn("balanced_accuracy", "balanced accuracy", "%", 100, 2),
    MetricColumn("aurc", "AURC", "%", 100, 2),
    MetricColumn("excess_aurc", "excess AURC", "%", 100, 2),
    MetricColumn("error_at_90_coverage", "error at 90 % coverage", "%", 100, 2),
)
# As in the second paper's tables: how fast, and how good at best.
SPEED_METRICS = (
    MetricColumn("best_accuracy", "best accuracy", "%", 100, 2),
    MetricColumn("best_epoch", "at epoch", "", 1, 1),
    MetricColumn("auac", "AUAC", "%", 100, 2),
    MetricColumn("epochs_to_baseline", "epochs to baseline", "", 1, 1),
    MetricColumn("epochs_saved", "epochs saved", "%", 100, 1),
    MetricColumn("epochs_saved_of_all", "of all epochs", "%", 100, 1),
)
COST_METRICS = (
    MetricColumn("epoch_seconds", "an epoch", "s", 1, 2),
    MetricColumn("time_ratio", "time ratio", "", 1, 2),
    MetricColumn("seconds", "a run", "s", 1, 1),
    MetricColumn("gpu_memory", "peak memory of the GPU", "MiB", 2.0**-20, 0),
    MetricColumn("process_memory", "peak memory of the process", "MiB", 2.0**-20, 0),
    MetricColumn("parameters", "trainable parameters", "", 1, 0),
)
ALL_METRICS = (*METRICS, *SPEED_METRICS, *COST_METRICS)
