"""Finding good learning rates, weight decays and arguments of objectives, by equally many trials for each."""

from __future__ import annotations

from labelembed.tuning.planning import TunedVariant, TuningPlan, plan_tuning
from labelembed.tuning.results import Outcome, TrialRecord, tuned_variants, tuning_as_json, write_tuning
from labelembed.tuning.trials import run_tuning

__all__ = [
    "Outcome",
    "TrialRecord",
    "TunedVariant",
    "TuningPlan",
    "plan_tuning",
    "run_tuning",
    "tuned_variants",
    "tuning_as_json",
    "write_tuning",
]
