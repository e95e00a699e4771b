"""Arrays and texts in, numbers out. All errors, accuracies and probabilities are fractions in [0, 1]."""

from labelembed.metrics.calibration import FEWEST_CALIBRATION_EXAMPLES, fit_temperature
from labelembed.metrics.classification import binned_reliability, classification_metrics, risk_coverage
from labelembed.metrics.joint_interval import JointInterval, joint_interval
from labelembed.metrics.speed import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.metrics.statistics import PairedComparison, holm, paired_by_seed, paired_comparison
from labelembed.metrics.text import TextScore, bleu, chrf, rouge

__all__ = [
    "FEWEST_CALIBRATION_EXAMPLES",
    "JointInterval",
    "PairedComparison",
    "TextScore",
    "area_under_accuracy_curve",
    "binned_reliability",
    "bleu",
    "chrf",
    "classification_metrics",
    "epochs_saved",
    "epochs_to_reach",
    "fit_temperature",
    "holm",
    "joint_interval",
    "paired_by_seed",
    "paired_comparison",
    "risk_coverage",
    "rouge",
]
