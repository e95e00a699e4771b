"""The validation score of a run: the only number that tuning looks at."""

from __future__ import annotations

import math
from typing import Any

from labelembed.errors import RunFolderError
from labelembed.training.run_folder import RunFolder


def score_of(folder: RunFolder, measure: str) -> float:
    """Returns the validation measure of a finished run's selected epoch.

    Args:
        folder: Of the run.
        measure: `error`, `nll` or `bleu`.

    Raises:
        RunFolderError: The run has none.
    """
    score = validation_score(folder.result(), measure)
    if score is None:
        reason = f"damaged, or of a run without validation examples: it has no validation {measure}"
        raise RunFolderError(f"{folder.path / 'result.json'}: {reason}")
    return score


def validation_score(measured: dict[str, Any], measure: str) -> float | None:
    """Returns a validation measure of a result or of a journal's line; None where there is none that is finite."""
    validation = measured.get("validation")
    value = validation.get(measure) if isinstance(validation, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
