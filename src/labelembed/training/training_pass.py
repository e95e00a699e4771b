"""One look at every training row in evaluation mode: for objectives that ask for it, and for the class means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import Rows, counted_rows, evaluation_batches

# Means of the outputs are [C, C]; above so many labels the means of the hidden rows, [C, H], take their place.
OUTPUT_MEANS_LABELS = 4_000


@torch.no_grad()
def hidden_rows(
    network: Network, split: Rows, *, autocast: AbstractContextManager[object] | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Gives hidden rows [n, H], labels [n] and row numbers [n], each row once, in evaluation mode.

    Args:
        network: What is asked; its mode is put back.
        split: The rows; of a corpus each token of the targets is one.
        autocast: Precision to compute in; None: as the weights are.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with autocast or nullcontext():
            for batch in evaluation_batches(split):
                placed = on_device(batch, device)
                yield counted_rows(network.hidden(placed.inputs), placed)
    finally:
        network.train(was_training)


@torch.no_grad()
def show_training_rows(
    network: Network, split: Rows, *, autocast: AbstractContextManager[object] | None = None
) -> None:
    """Shows every training row to an objective that asks for it (`Objective.needs_training_pass`).

    Args:
        network: Whose objective asks; its mode is put back.
        split: The training rows.
        autocast: Precision to compute in; None: as the weights are.
    """
    objective = network.objective
    objective.begin_pass()
    for hidden, labels, rows in hidden_rows(network, split, autocast=autocast):
        objective.observe(hidden, labels, rows)
    objective.end_pass()


@torch.no_grad()
def class_means(network: Network, split: Rows, *, autocast: AbstractContextManager[object] | None = None) -> Tensor:
    """Returns the mean output [C, D] over the rows of each label, float32 on the CPU, in evaluation mode.

    What a network says of a label's rows on average shows which labels it takes for alike, whatever the objective.
    The outputs are the logits, or what an objective compares with its label vectors. Above 4,000 labels the
    hidden rows [C, H] stand for them. A label without rows gets the mean over all rows.

    Args:
        network: What is asked; its mode is put back.
        split: The training rows.
        autocast: Precision to compute in; None: as the weights are.
    """
    objective = network.objective
    of_outputs = objective.num_labels <= OUTPUT_MEANS_LABELS
    width = objective.output_size if of_outputs else objective.hidden_size
    device = next(network.parameters()).device
    sums = torch.zeros(objective.num_labels, width, dtype=torch.float64, device=device)
    counts = torch.zeros(objective.num_labels, dtype=torch.int64, device=device)
    for hidden, labels, _ in hidden_rows(network, split, autocast=autocast):
        vectors = objective.outputs(hidden) if of_outputs else hidden
        sums.index_add_(0, labels, vectors.double())
        counts += torch.bincount(labels, minlength=objective.num_labels)
    means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), sums.sum(0) / counts.sum())
    return means.float().cpu()
