"""Epochs over rows in memory with the library's own objectives, optimisers and seeds, and nothing written."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed.integrations.sklearn.matrix_rows import MatrixRows, SparseMatrixRows
from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import EVALUATION_ROWS, Rows
from labelembed.training.training_pass import class_means, hidden_states

#: Of so many labels a table of means, and of distances between all of them, is still small.
MOST_MEANS = 4_000


def number_of_batches(rows: MatrixRows, batch_size: int) -> int:
    """Returns how many optimiser steps an epoch has."""
    return -(-len(rows) // batch_size)


def train_epoch(
    network: Network,
    optimizer: Optimizer,
    scheduler: LambdaLR | None,
    rows: MatrixRows,
    *,
    order: Tensor,
    batch_size: int,
) -> dict[str, float]:
    """Makes one pass over rows in the order given and returns the mean of each term over them.

    Args:
        network: On its device; left in training mode.
        optimizer: Over its parameters.
        scheduler: Of the learning rate, a step at a time; None: it stays.
        rows: What is learned.
        order: Positions of the rows to visit.
        batch_size: Rows a step.

    Raises:
        ValueError: A term is not finite.
    """
    device = next(network.parameters()).device
    sums: dict[str, Tensor] = {}
    network.train()
    for batch in rows.batches(batch_size, order=order):
        placed = on_device(batch, device)
        terms = network(placed.inputs, placed.labels, placed.indices)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        for name, term in terms._asdict().items():
            sums[name] = sums.get(name, 0.0) + term.detach().double() * len(placed.labels)
    # One look at the numbers an epoch: on a GPU each costs a wait.
    means = {name: float(value) / len(order) for name, value in sums.items()}
    wrong = [name for name, value in means.items() if not math.isfinite(value)]
    if wrong:
        # The total is wrong whenever a term is; the term says where to look.
        name = next((name for name in wrong if name != "total"), "total")
        raise ValueError(
            f"the loss is not finite: term `{name}` is {means[name]}; scale the inputs (StandardScaler) or lower "
            "`learning_rate_init`"
        )
    return means


def end_epoch(network: Network, rows: MatrixRows) -> None:
    """Ends the objective's epoch, which may look at every example once more."""
    network.objective.end_epoch(partial(hidden_states, network, _as_rows(rows)))


def means_of_labels(network: Network, rows: MatrixRows) -> Tensor | None:
    """Returns the mean output [C, D] of each label's rows; None where there are very many labels."""
    if network.objective.num_labels > MOST_MEANS:
        return None
    return class_means(network, _as_rows(rows))


@torch.no_grad()
def logits_of(network: Network, rows: MatrixRows) -> Tensor:
    """Returns the logits [N, C] in evaluation mode, float32 on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    found = [network.logits(on_device(batch, device).inputs) for batch in rows.batches(EVALUATION_ROWS)]
    return torch.cat(found).float().cpu()


def _as_rows(rows: MatrixRows) -> Rows:
    # The batches of a sparse matrix are all that the passes ask it for.
    return cast(Any, rows) if isinstance(rows, SparseMatrixRows) else rows
