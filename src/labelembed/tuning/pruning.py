"""Giving up runs that do worse than the median of the trials before them (Golovin et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from labelembed.errors import InterruptedTraining
from labelembed.runs.run import run_job
from labelembed.training.progress import Progress
from labelembed.training.run_folder import RunFolder
from labelembed.tuning.planning import TunedVariant, TuningPlan
from labelembed.tuning.scores import validation_score
from labelembed.tuning.study import Trial

# With fewer finished trials there is no median worth the name.
_FEWEST_TRIALS = 4
# Before this share of its epochs no run is given up: some objectives begin slowly.
_WARM_UP_SHARE = 0.25


def limits_of(plan: TuningPlan, tuned: TunedVariant, before: Sequence[Trial]) -> dict[int, list[float]] | None:
    """Returns for each seed the loss after each epoch above which a run is given up; None where none is.

    The limit of an epoch is the median, over the finished trials of the rounds before, of the lowest loss up to that
    epoch of the run with the same seed.

    Args:
        plan: Of the tuning.
        tuned: The variant.
        before: Its trials of earlier rounds.
    """
    finished = [trial.number for trial in before if trial.state == "finished"]
    if plan.pruning == "none" or len(finished) < _FEWEST_TRIALS:
        return None
    found = {}
    for seed in plan.seeds:
        journals = [plan.folder_of(tuned, number, seed).journal() for number in finished]
        epochs = plan.recipe.epochs
        if isinstance(epochs, dict):  # of so many steps: those of the longest trial
            epochs = max((line["epoch"] for journal in journals for line in journal), default=1)
        free = max(1, int(np.ceil(_WARM_UP_SHARE * epochs)))
        curves = []
        for journal in journals:
            curve = np.full(epochs, np.inf)
            for line in journal:
                loss = _loss(line, plan.measure)
                if loss is not None and line["epoch"] <= epochs:
                    curve[line["epoch"] - 1] = loss
            curves.append(np.minimum.accumulate(curve))
        median = np.median(curves, axis=0)
        median[: free - 1] = np.inf
        found[seed] = median.tolist()
    return found


class Watch:
    """Makes a run, and gives it up where its lowest loss so far is above the limit of the epoch.

    Args:
        limits: One for each epoch.
        measure: On the validation examples.
    """

    def __init__(self, limits: Sequence[float], measure: str) -> None:
        self.limits = list(limits)
        self.measure = measure
        self.gives_up = False
        self.seconds = 0.0
        self._lowest = float("inf")
        self._line: dict[str, Any] = {}

    def run(
        self, payload: dict[str, Any], observe: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Returns the run's result, or what it had reached with `given_up` true."""
        for line in RunFolder(payload["folder"]).journal():  # of a run that goes on
            self.see(line)

        def watching(progress: Progress) -> None:
            observe(progress)
            if progress.line is not None:
                self.see(progress.line)

        if not self.gives_up:
            try:
                return run_job(payload, watching, lambda: self.gives_up or stop())
            except InterruptedTraining:
                if not self.gives_up:
                    raise
        return {"given_up": True, "seconds": self.seconds, "validation": self._line.get("validation")}

    def see(self, line: dict[str, Any]) -> None:
        """Takes in an epoch's line of the journal."""
        if self.gives_up:
            return
        loss, epoch = _loss(line, self.measure), int(line["epoch"])
        self._lowest = self._lowest if loss is None else min(self._lowest, loss)
        self._line = line
        self.seconds += float(line.get("seconds") or 0.0)
        # The last epoch's work is done: there is nothing left to give up.
        self.gives_up = epoch < len(self.limits) and self._lowest > self.limits[epoch - 1]


def _loss(line: dict[str, Any], measure: str) -> float | None:
    score = validation_score(line, measure)
    return -score if score is not None and measure == "bleu" else score
