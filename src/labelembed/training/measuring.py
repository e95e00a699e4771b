"""What a network reaches on a split after an epoch, whatever kind of data it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from labelembed.data import TextCorpus
from labelembed.training.decoding import Decoding
from labelembed.training.evaluation import evaluate
from labelembed.training.network import Network
from labelembed.training.settings import Selection
from labelembed.training.training_data import TrainingData


def measure(
    network: Network, data: TrainingData, split: str, *, autocast: Callable[[], AbstractContextManager[object]]
) -> dict[str, Any] | None:
    """Returns the measures of a split, None where there is none.

    Of a corpus's development sentences also what the network writes for them, greedily, by BLEU and the like. Test
    sentences are written when the run is over.
    """
    if split not in data.splits:
        return None
    if isinstance(data, TextCorpus):
        from labelembed.training.translation import measure_text, token_measures

        measures: dict[str, Any] = token_measures(network, data.splits[split], autocast=autocast)
        if split == "development":
            measures |= measure_text(network, data, split, Decoding(), autocast=autocast)[0]
        return measures
    return evaluate(network, data.splits[split], autocast=autocast())


def selected_by(selection: Selection, data: TrainingData) -> str:
    """Returns what the selection goes by, with `auto` resolved."""
    if selection.by != "auto":
        return selection.by
    if data.development is None:
        return "last_epoch"
    return "development_bleu" if isinstance(data, TextCorpus) else "development_error"


def selection_score(by: str, line: dict[str, Any]) -> tuple[float, float]:
    """Returns the score of an epoch's journal line and what breaks ties of it, the lower the better.

    A small validation set has few possible errors, so that many epochs tie; the NLL tells them apart.

    Args:
        by: What `selected_by` returned.
        line: With the measures of the epoch.
    """
    if by == "last_epoch":
        return -float(line["epoch"]), 0.0
    measure_name = by.removeprefix("development_")
    score = float(line["development"][measure_name])
    if measure_name == "error":
        return score, float(line["development"]["nll"])
    return (-score if measure_name == "bleu" else score), 0.0
