"""One pass over every training example in evaluation mode: for objectives that need it, and for the class means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import Rows, counted_examples, evaluation_batches

# Means of the outputs are [C, C]; above so many labels the means of the hidden states, [C, H], take their place.
OUTPUT_MEANS_LABELS = 4_000


@torch.no_grad()
def hidden_states(
    network: Network, split: Rows, *, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields hidden states [n, H], labels [n] and indices [n], each example once, in evaluation mode.

    Args:
        network: Its mode is put back.
        split: The examples; of a corpus each target token is one.
        autocast: Makes the context that sets the precision.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with autocast():
            for batch in evaluation_batches(split):
                placed = on_device(batch, device)
                yield counted_examples(network.hidden(placed.inputs), placed)
    finally:
        network.train(was_training)


@torch.no_grad()
def class_means(
    network: Network, split: Rows, *, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Tensor:
    """Returns the mean output [C, D] over the examples of each label, float32 on the CPU, in evaluation mode.

    It shows which labels the network finds similar, whatever the objective. The outputs are the logits, or what an
    objective compares with its label vectors. Above 4,000 labels the hidden states [C, H] take their place. A label
    without examples gets the mean over all.

    Args:
        network: Its mode is put back.
        split: The training examples.
        autocast: Makes the context that sets the precision.
    """
    objective = network.objective
    of_outputs = objective.num_labels <= OUTPUT_MEANS_LABELS
    width = objective.output_size if of_outputs else objective.hidden_size
    device = next(network.parameters()).device
    sums = torch.zeros(objective.num_labels, width, dtype=torch.float64, device=device)
    counts = torch.zeros(objective.num_labels, dtype=torch.int64, device=device)
    for hidden, labels, _ in hidden_states(network, split, autocast=autocast):
        vectors = objective.output(hidden) if of_outputs else hidden
        sums.index_add_(0, labels, vectors.double())
        counts += torch.bincount(labels, minlength=objective.num_labels)
    means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), sums.sum(0) / counts.sum())
    return means.float().cpu()
