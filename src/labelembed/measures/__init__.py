"""Arrays and texts in, numbers out: errors and calibration, speed of learning, statistics over seeds, BLEU and ROUGE.

All errors, accuracies and probabilities are fractions in [0, 1]; per cent is a matter of printing.
"""

from __future__ import annotations

from labelembed.measures.calibration import fit_temperature
from labelembed.measures.classification import (
    ReliabilityBins,
    binned_reliability,
    brier_score,
    classification_measures,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    top_k_error,
)
from labelembed.measures.confusion import Confusions, confusions
from labelembed.measures.joint_interval import JointInterval, joint_interval
from labelembed.measures.mantel import MantelTest, mantel_test
from labelembed.measures.rouge import rouge
from labelembed.measures.speed import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.measures.statistics import (
    PairedComparison,
    Summary,
    holm,
    paired_by_seed,
    paired_comparison,
    summarise,
)
from labelembed.measures.text_lines import TextScore
from labelembed.measures.translation import BootstrapScore, PairedBootstrap, bleu, chrf, paired_bootstrap

__all__ = [
    "BootstrapScore",
    "Confusions",
    "JointInterval",
    "MantelTest",
    "PairedBootstrap",
    "PairedComparison",
    "ReliabilityBins",
    "Summary",
    "TextScore",
    "area_under_accuracy_curve",
    "binned_reliability",
    "bleu",
    "brier_score",
    "chrf",
    "classification_measures",
    "confusions",
    "epochs_saved",
    "epochs_to_reach",
    "error_rate",
    "expected_calibration_error",
    "fit_temperature",
    "holm",
    "joint_interval",
    "mantel_test",
    "negative_log_likelihood",
    "paired_bootstrap",
    "paired_by_seed",
    "paired_comparison",
    "reliability",
    "rouge",
    "summarise",
    "top_k_error",
]
