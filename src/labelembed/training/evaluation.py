"""What a network predicts, and how good that is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from labelembed.data import Split
from labelembed.measures import classification_measures
from labelembed.training.network import Network

EVALUATION_ROWS = 1_000


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
    return classification_measures(logits.numpy(), split.labels.cpu().numpy())
