"""Arrays and texts in, numbers out: errors and calibration, speed of learning, statistics over seeds, BLEU and ROUGE.

All errors, accuracies and probabilities are fractions in [0, 1]; per cent is a matter of printing.
"""

from __future__ import annotations

from labelembed.metrics.calibration import FEWEST_CALIBRATION_EXAMPLES, fit_temperature, is_extreme_temperature
from labelembed.metrics.classification import (
    Confusions,
    ReliabilityBins,
    binned_reliability,
    classification_metrics,
    confusions,
)
from labelembed.metrics.expected_gain import Diagnosis, ExpectedGain, Prediction, diagnose, expected_gain
from labelembed.metrics.joint_interval import JointInterval, joint_interval
from labelembed.metrics.mantel import MantelTest, mantel_test
from labelembed.metrics.rouge import rouge
from labelembed.metrics.speed import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.metrics.statistics import (
    PairedComparison,
    Summary,
    holm,
    paired_by_seed,
    paired_comparison,
    summarise,
)
from labelembed.metrics.text_lines import TextScore
from labelembed.metrics.translation import BootstrapScore, PairedBootstrap, bleu, chrf, paired_bootstrap

__all__ = [
    "FEWEST_CALIBRATION_EXAMPLES",
    "BootstrapScore",
    "Confusions",
    "Diagnosis",
    "ExpectedGain",
    "JointInterval",
    "MantelTest",
    "PairedBootstrap",
    "PairedComparison",
    "Prediction",
    "ReliabilityBins",
    "Summary",
    "TextScore",
    "area_under_accuracy_curve",
    "binned_reliability",
    "bleu",
    "chrf",
    "classification_metrics",
    "confusions",
    "diagnose",
    "epochs_saved",
    "epochs_to_reach",
    "expected_gain",
    "fit_temperature",
    "holm",
    "is_extreme_temperature",
    "joint_interval",
    "mantel_test",
    "paired_bootstrap",
    "paired_by_seed",
    "paired_comparison",
    "rouge",
    "summarise",
]
