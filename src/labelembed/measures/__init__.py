"""Arrays in, numbers out: errors and calibration, speed of learning, statistics over seeds.

All errors, accuracies and probabilities are fractions in [0, 1]; per cent is a matter of printing.
"""

from __future__ import annotations

from labelembed.measures.calibration import fit_temperature
from labelembed.measures.classification import (
    ReliabilityBins,
    brier_score,
    classification_measures,
    error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    top_k_error,
)
from labelembed.measures.speed import area_under_accuracy_curve, epochs_saved, epochs_to_reach
from labelembed.measures.statistics import (
    PairedComparison,
    Summary,
    holm,
    paired_by_seed,
    paired_comparison,
    summarise,
)

__all__ = [
    "PairedComparison",
    "ReliabilityBins",
    "Summary",
    "area_under_accuracy_curve",
    "brier_score",
    "classification_measures",
    "epochs_saved",
    "epochs_to_reach",
    "error_rate",
    "expected_calibration_error",
    "fit_temperature",
    "holm",
    "negative_log_likelihood",
    "paired_by_seed",
    "paired_comparison",
    "reliability",
    "summarise",
    "top_k_error",
]
