"""What is made once before the first step, so that it stands in no timing: compiled code, a GPU's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from labelembed import seeds
from labelembed.data import SentencePairs, TokenBudget
from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import EVALUATION_ROWS, AnyBatch, Rows, TrainingData, batches, rows_in


def warm_up(
    network: Network,
    data: TrainingData,
    batch_size: int | TokenBudget,
    *,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Sends one batch of each size there will be through the encoder, in training also back.

    Of a corpus, whose batches have many sizes, the first of each split is sent.

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
        for batch in _batches(network, data.train, batch_size):
            with autocast():
                hidden = network.hidden(batch.inputs)
            # Not `backward`, which would leave gradients and have DistributedDataParallel send them.
            if weights:
                torch.autograd.grad(hidden.float().sum(), weights, allow_unused=True)
        network.eval()
        with torch.inference_mode(), autocast():
            for split in data.splits.values():
                for batch in _batches(network, split, EVALUATION_ROWS):
                    network.hidden(batch.inputs)
    with torch.no_grad():
        for name, buffer in network.encoder.named_buffers():
            buffer.copy_(buffers[name])
    network.train(was_training)


def _batches(network: Network, split: Rows, batch_size: int | TokenBudget) -> Iterator[AnyBatch]:
    """Gives a batch of the usual size, and one like the last where that is smaller."""
    sizes = [batch_size]
    if not isinstance(split, SentencePairs):
        rows = rows_in(batch_size)
        rest = len(split) % rows
        sizes = [*([rows] if len(split) >= rows else []), *([rest] if rest else [])]
    device = next(network.parameters()).device
    for size in sizes:
        yield on_device(next(batches(split, size)), device)
