"""How far a run is, in words: its metrics, its terms, and the time left."""

from __future__ import annotations

import time
from typing import Any

STARTING = "starting"


def duration(seconds: float) -> str:
    """Returns a time as people say it: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def metrics_text(line: dict[str, Any] | None) -> str:
    """Returns the errors of a history's line, of translations BLEU, for a progress line."""
    if not line:
        return ""
    parts = [f"{name} {_headline(line[name])}" for name in ("validation", "test") if line.get(name)]
    return ", ".join(parts)


def terms_text(line: dict[str, Any] | None) -> str:
    """Returns the mean of each term of the loss in an epoch, for a progress line: ``total 0.53, output 0.31``."""
    terms = (line or {}).get("train")
    if not isinstance(terms, dict):
        return ""
    # Of a loss of one term the total says it all, and a term that is 0 is mostly one that is not asked for.
    shown = [name for name in terms if terms[name]] if len(terms) > 2 else list(terms)[:1]
    return ", ".join(f"{name} {terms[name]:.3g}" for name in shown)


def epoch_text(line: dict[str, Any] | None) -> str:
    """Returns errors and terms of a history's line, for a progress line."""
    return "; ".join(text for text in (metrics_text(line), terms_text(line)) if text)


def _headline(metrics: dict[str, Any]) -> str:
    bleu = f"BLEU {100 * metrics['bleu']:.2f}" if "bleu" in metrics else ""
    error = f"error {metrics['error']:.2%}"
    return f"{bleu} (token {error})" if bleu else error


class TimeLeft:
    """How long the rest of some work takes, by what was done since the first call."""

    def __init__(self) -> None:
        self._done, self._began = 0.0, -1.0

    def skip(self, work: float) -> None:
        """Leaves out of the reckoning what was done without taking time, as an earlier call did it."""
        self._done += work

    def __call__(self, done: float, total: float) -> str:
        """Returns ``about 3 min 20 s left``, `starting` before there is anything to go by, and `done` at the end."""
        now = time.monotonic()
        if self._began < 0:
            self._done, self._began = done, now
        if done >= total:
            return "done"
        made = done - self._done
        return f"about {duration((now - self._began) / made * (total - done))} left" if made > 0 else STARTING
