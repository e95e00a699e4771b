"""Which epoch's weights are kept."""

from __future__ import annotations

from typing import Any

from labelembed.data import TextCorpus
from labelembed.training.batches import TrainingData
from labelembed.training.settings import Selection
from labelembed.training.state import Position


def selected_by(selection: Selection, data: TrainingData) -> str:
    """Returns what the selection goes by, with `auto` resolved."""
    if selection.by != "auto":
        return selection.by
    if data.validation is None:
        return "last_epoch"
    return "validation_bleu" if isinstance(data, TextCorpus) else "validation_error"


def is_best(by: str, line: dict[str, Any], position: Position) -> bool:
    """Tells whether an epoch is the best so far, and if so notes it in the position.

    A small validation set has few possible errors, so that many epochs tie; the NLL tells them apart. Of epochs that
    are equal in both the first is kept.

    Args:
        by: What `selected_by` returned.
        line: The epoch's line of the journal.
        position: Where the run stands.
    """
    score, tie = _score(by, line)
    known = position.best_score is not None and score >= position.best_score
    breaks_tie = score == position.best_score and position.best_tie is not None and tie < position.best_tie
    if known and not breaks_tie:
        return False
    position.best_score, position.best_tie = score, tie
    position.best_epoch, position.best_line = line["epoch"], line
    return True


def _score(by: str, line: dict[str, Any]) -> tuple[float, float]:
    """Returns the score of an epoch and what breaks ties of it, the lower the better."""
    if by == "last_epoch":
        return -float(line["epoch"]), 0.0
    metric = by.removeprefix("validation_")
    score = float(line["validation"][metric])
    if metric == "error":
        return score, float(line["validation"]["nll"])
    return (-score if metric == "bleu" else score), 0.0
