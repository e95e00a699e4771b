"""Compiles what is compiled before the first step, so that no timing includes it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from labelembed.lab.data import TokenBudget
from labelembed.lab.training.batches import AnyBatch, TrainingData, evaluation_batches
from labelembed.lab.training.network import Network, evaluation_mode


def warm_up(network: Network, data: TrainingData, batch_size: int | TokenBudget) -> None:
    """Sends the first batch of each split through the encoder, that of training also back.

    Weights, gradients and buffers are left as they were: a run goes as it would without.

    Args:
        network: On its device; its mode is put back.
        data: What will be trained on.
        batch_size: Examples a step in this process.
    """
    was_training, device = network.training, next(network.parameters()).device
    buffers = {name: buffer.detach().clone() for name, buffer in network.encoder.named_buffers()}
    weights = [parameter for parameter in network.encoder.parameters() if parameter.requires_grad]
    network.train()
    batches: Iterator[AnyBatch] = data.train.batches(batch_size)
    with network.autocast():
        hidden = network.hidden(next(batches).to(device).inputs)
    # Not `backward`, which would leave gradients and have DistributedDataParallel send them.
    if weights:
        torch.autograd.grad(hidden.float().sum(), weights, allow_unused=True)
    with torch.no_grad(), evaluation_mode(network):
        for split in data.splits.values():
            network.hidden(next(evaluation_batches(split)).to(device).inputs)
    with torch.no_grad():
        for name, buffer in network.encoder.named_buffers():
            buffer.copy_(buffers[name])
    network.train(was_training)
