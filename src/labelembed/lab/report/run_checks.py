"""Whether what a run folder says of its run can be true."""

from __future__ import annotations

import math
from typing import Any

FORMAT_VERSION = 1
# Metrics that are fractions; the others only have to be finite.
_FRACTIONS = (
    *("error", "calibration_error", "top5_error", "top2_error", "macro_f1", "balanced_accuracy"),
    *("aurc", "excess_aurc", "error_at_80_coverage", "error_at_90_coverage", "error_at_95_coverage"),
    *("bleu", "chrf", "rouge1", "rouge2", "rougeL"),
)
# A damaged number must not ask for a curve that fills the memory.
_MOST_EPOCHS = 1_000_000


def result_error(result: dict[str, Any]) -> str:
    """Returns what is wrong with a result, or an empty string."""
    if isinstance(result.get("format"), int) and result["format"] > FORMAT_VERSION:
        return f"result.json: written by a newer labelembed (format {result['format']}); update labelembed"
    calibrated = result.get("calibrated")
    if not (calibrated is None or isinstance(calibrated, dict)):
        return f"result.json: damaged, the calibrated metrics are {calibrated!r:.80}"
    places: list[tuple[str, Any]] = [(split, result.get(split)) for split in ("validation", "test")]
    places += [(f"calibrated {split}", (calibrated or {}).get(split)) for split in ("validation", "test")]
    for split, metrics in places:
        if metrics is None:
            continue
        if not isinstance(metrics, dict) or number_in(metrics.get("error")) is None:
            return f"result.json: damaged, has no {split} error"
        for name, value in metrics.items():
            if value is None:
                continue
            if number_in(value) is None or (name in _FRACTIONS and not 0 <= value <= 1):
                return f"result.json: damaged, the {split} metric {name:.40} is {value!r:.80}"
    if result.get("validation") is None and result.get("test") is None:
        return "result.json: damaged, has neither validation nor test metrics"
    return ""


def history_error(history: list[dict[str, Any]]) -> str:
    """Returns what is wrong with a history, or an empty string."""
    before = 0
    for entry in history:
        if not before < entry["epoch"] <= _MOST_EPOCHS:
            return f"history.jsonl: damaged, epoch {entry['epoch']} stands after epoch {before}"
        before = entry["epoch"]
        for split in ("validation", "test"):
            metrics = entry.get(split)
            if not (metrics is None or isinstance(metrics, dict)):
                return f"history.jsonl: damaged, epoch {entry['epoch']} has {metrics!r:.80} as {split}"
            error = number_in((metrics or {}).get("error"))
            if error is not None and not 0 <= error <= 1:
                return f"history.jsonl: damaged, epoch {entry['epoch']} has the {split} error {error!r}, no fraction"
    return ""


def number_in(value: object) -> float | None:
    """Returns a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def reason(result: dict[str, Any]) -> str:
    """Returns why a run failed, from its ``result.json``."""
    message, step = str(result.get("message") or "it failed without a message"), result.get("diverged_at_step")
    return f"diverged at step {step}: {message}" if isinstance(step, int) else message


def noted_failures(about: dict[str, Any], variant: str) -> dict[int, str]:
    """Returns by seed why runs of a variant failed that left no word themselves, from ``comparison.json``."""
    noted = about.get("failed")
    entries = [entry for entry in (noted if isinstance(noted, list) else []) if isinstance(entry, dict)]
    return {
        entry["seed"]: entry["message"]
        for entry in entries
        if entry.get("variant") == variant
        and isinstance(entry.get("seed"), int)
        and isinstance(entry.get("message"), str)
    }
