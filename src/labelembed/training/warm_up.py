"""What is made once before the first step, so that it stands in no timing: compiled code, a GPU's kernels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from labelembed import seeds
from labelembed.data import LabelledData, Split
from labelembed.training.evaluation import EVALUATION_ROWS
from labelembed.training.network import Network
from labelembed.training.placement import on_device


def warm_up(
    network: Network,
    data: LabelledData,
    batch_size: int,
    *,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Sends one batch of each size there will be through the encoder, in training also back.

    Weights, gradients, buffers and random states are left as they were: a run goes as it would without.

    Args:
        network: On its device; its mode is put back.
        data: What will be trained on.
        batch_size: Rows a step in this process.
        autocast: Makes the precision to compute in.
    """
    was_training = network.training
    buffers = {name: buffer.detach().clone() for name, buffer in network.encoder.named_buffers()}
    weights = [parameter for parameter in network.encoder.parameters() if parameter.requires_grad]
    with seeds.seeded(0, "warm-up"):
        network.train()
        for rows in _sizes(data.train, batch_size):
            with autocast():
                hidden = network.hidden(_inputs(network, data.train, rows))
            # Not `backward`, which would leave gradients and have DistributedDataParallel send them.
            if weights:
                torch.autograd.grad(hidden.float().sum(), weights, allow_unused=True)
        network.eval()
        with torch.inference_mode(), autocast():
            for split in data.splits.values():
                for rows in _sizes(split, EVALUATION_ROWS):
                    network.hidden(_inputs(network, split, rows))
    with torch.no_grad():
        for name, buffer in network.encoder.named_buffers():
            buffer.copy_(buffers[name])
    network.train(was_training)


def _sizes(split: Split, rows: int) -> list[int]:
    """Returns how many rows a batch has, and how many the last one has where these are fewer."""
    rest = len(split) % rows
    return [*([rows] if len(split) >= rows else []), *([rest] if rest else [])]


def _inputs(network: Network, split: Split, rows: int) -> torch.Tensor:
    batch = next(iter(split.batches(rows)))
    return on_device(batch, next(network.parameters()).device).inputs
