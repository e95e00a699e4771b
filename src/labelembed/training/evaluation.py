"""What a network predicts, and how good that is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.data import LabelledData, Split
from labelembed.metrics import (
    FEWEST_CALIBRATION_EXAMPLES,
    classification_metrics,
    fit_temperature,
    is_extreme_temperature,
)
from labelembed.training.network import Network
from labelembed.training.training_data import EVALUATION_ROWS


class BeforeAndAfter(NamedTuple):
    """Measures of the probabilities as the network gives them, and with the logits divided by the temperature."""

    before: dict[str, float]
    after: dict[str, float]


@torch.inference_mode()
def predicted_logits(
    network: Network, inputs: Tensor, *, autocast: AbstractContextManager[object] | None = None
) -> Tensor:
    """Returns logits [N, C] float32 on the CPU, in evaluation mode; the network's mode is put back.

    Args:
        network: What predicts.
        inputs: [N, ...] as stored, on any device.
        autocast: Precision to compute in; None: as the weights are.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with autocast or nullcontext():
        parts = [
            network.logits(inputs[start : start + EVALUATION_ROWS].to(device)).float().cpu()
            for start in range(0, len(inputs), EVALUATION_ROWS)
        ]
    network.train(was_training)
    return torch.cat(parts)


def evaluate(
    network: Network, split: Split, *, autocast: AbstractContextManager[object] | None = None
) -> dict[str, float]:
    """Returns the measures of a split: error, NLL, calibration error and Brier score, as fractions and nats."""
    logits = predicted_logits(network, split.inputs, autocast=autocast)
    return classification_metrics(logits.numpy(), split.labels.cpu().numpy())


def evaluate_both(network: Network, split: Split, *, temperature: float) -> BeforeAndAfter:
    """Returns the measures of a split as `evaluate` does, without and with a temperature, from one prediction."""
    logits, labels = predicted_logits(network, split.inputs).numpy(), split.labels.cpu().numpy()
    return BeforeAndAfter(
        classification_metrics(logits, labels), classification_metrics(logits, labels, temperature=temperature)
    )


def calibrate(
    network: Network,
    data: LabelledData,
    *,
    wanted: bool = True,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """Fits a temperature on the validation set and measures with it; see `fit_temperature`.

    On fewer than `FEWEST_CALIBRATION_EXAMPLES` none is fitted: it would do harm more often than not.

    Args:
        network: With the weights that are kept.
        data: Test rows take part in nothing but their own measures.
        wanted: False: nothing is fitted, and that is said.
        autocast: Makes the precision that the network was measured in.

    Returns:
        What ``result.json`` says of it: `temperature` (None where none was fitted), `calibration` (in words
        what was done, and why) and `calibrated`, the measures of `development` and `test` with it (or None).
    """
    held_out = 0 if data.development is None else len(data.development)
    if not wanted or held_out < FEWEST_CALIBRATION_EXAMPLES:
        why = "off" if not wanted else "not fitted, there are no development rows"
        if wanted and held_out:
            why = f"not fitted, {held_out} validation examples are fewer than {FEWEST_CALIBRATION_EXAMPLES}"
        return {"temperature": None, "calibration": why, "calibrated": None}
    labels = {name: split.labels.cpu().numpy() for name, split in data.splits.items()}
    logits = {
        name: predicted_logits(network, split.inputs, autocast=autocast()).numpy()
        for name, split in data.splits.items()
        if name != "train"
    }
    temperature = fit_temperature(logits["development"], labels["development"])
    measured = {
        name: classification_metrics(found, labels[name], temperature=temperature) for name, found in logits.items()
    }
    how = "fitted on the development rows"
    if measured["development"]["error"] == 0:
        how += ", which are all right, with the doubt of one row more"
    if is_extreme_temperature(temperature):
        how += "; extreme, outside 0.05 to 20: compare the NLL before and after"
    return {
        "temperature": temperature,
        "calibration": how,
        "calibrated": {"temperature": temperature, "development": None, "test": None} | measured,
    }
