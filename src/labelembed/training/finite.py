"""NaN and infinity stop a run where they first show, before anything is saved or selected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch

from labelembed.errors import TrainingError
from labelembed.heads.label_shards import stacked
from labelembed.training.network import Network

_WAY_OUT = "Try a lower optimizer.learning_rate, or precision: float32"


def refuse_terms(values: Mapping[str, float], *, where: str) -> None:
    """Raises TrainingError when a term is NaN or infinite, with its name.

    Args:
        values: The terms of one step.
        where: The step, for the message.
    """
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        # The total is wrong whenever a term is; the term says where to look.
        name = next((name for name in wrong if name != "total"), "total")
        raise TrainingError(f"the loss is not finite: term `{name}` is {values[name]} at {where}. {_WAY_OUT}")


def refuse_weights(network: Network, *, where: str) -> None:
    """Raises TrainingError when a step has made a weight NaN or infinite, with its name.

    Args:
        network: What is trained.
        where: The step, for the message.
    """
    weights = itertools.chain(network.named_parameters(), network.objective.named_buffers("objective"))
    floating = {name: value.detach() for name, value in weights if value.is_floating_point()}
    finite = torch.stack([torch.isfinite(value).all() for value in floating.values()])
    if network.is_split:  # all stop, or none: one that went on would wait for the others
        finite = stacked(finite.to(torch.uint8)).amin(dim=0)
    for name, holds in zip(floating, finite.tolist(), strict=True):
        if not holds:
            raise TrainingError(f"the weights are not finite after {where}: `{name}`. {_WAY_OUT}")


def refuse_predictions(error: ValueError, *, where: str) -> TrainingError:
    """Returns the TrainingError for predictions that could not be measured."""
    return TrainingError(f"the predictions are not finite after {where}: {error}. {_WAY_OUT}")
