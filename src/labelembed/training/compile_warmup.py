"""What is made once before the first step, so that it stands in no timing: compiled code, a GPU's kernels."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from labelembed import seeds
from labelembed.data import SentencePairs, TokenBudget
from labelembed.training.batches import EVALUATION_EXAMPLES, AnyBatch, Examples, TrainingData
from labelembed.training.network import Network, evaluation_mode


def warm_up(network: Network, data: TrainingData, batch_size: int | TokenBudget) -> None:
    """Sends one batch of each size there will be through the encoder, in training also back.

    Of a corpus, whose batches have many sizes, the first of each split is sent. Weights, gradients, buffers and random
    states are left as they were: a run goes as it would without.

    Args:
        network: On its device; its mode is put back.
        data: What will be trained on.
        batch_size: Examples a step in this process.
    """
    was_training = network.training
    buffers = {name: buffer.detach().clone() for name, buffer in network.encoder.named_buffers()}
    weights = [parameter for parameter in network.encoder.parameters() if parameter.requires_grad]
    with seeds.seeded(0, "warm-up"):
        network.train()
        for batch in _a_batch_of_each_size(network, data.train, batch_size):
            with network.autocast():
                hidden = network.hidden(batch.inputs)
            # Not `backward`, which would leave gradients and have DistributedDataParallel send them.
            if weights:
                torch.autograd.grad(hidden.float().sum(), weights, allow_unused=True)
        with torch.no_grad(), evaluation_mode(network):
            for split in data.splits.values():
                for batch in _a_batch_of_each_size(network, split, EVALUATION_EXAMPLES):
                    network.hidden(batch.inputs)
    with torch.no_grad():
        for name, buffer in network.encoder.named_buffers():
            buffer.copy_(buffers[name])
    network.train(was_training)


def _a_batch_of_each_size(network: Network, split: Examples, batch_size: int | TokenBudget) -> Iterator[AnyBatch]:
    """Yields a batch of the usual size, and one like the last where that is smaller."""
    sizes = [batch_size]
    if not isinstance(split, SentencePairs) and isinstance(batch_size, int):
        whole, rest = batch_size if len(split) >= batch_size else 0, len(split) % batch_size
        sizes = [size for size in (whole, rest) if size]
    device = next(network.parameters()).device
    for size in sizes:
        batches: Iterator[AnyBatch] = split.batches(size)
        yield next(batches).to(device)
