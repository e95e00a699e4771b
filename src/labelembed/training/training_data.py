"""What a network can be trained on, labelled rows or a corpus of sentence pairs, and its batches in evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labelembed.data import Batch, LabelledData, PairBatch, SentencePairs, Split, TextCorpus, TokenBudget

TrainingData = LabelledData | TextCorpus
Rows = Split | SentencePairs
AnyBatch = Batch | PairBatch

EVALUATION_ROWS = 1_000
# Of a corpus: as many sentences as have so many tokens.
EVALUATION_TOKENS = 4_096


def number_of_batches(rows: Rows, batch_size: int | TokenBudget) -> int:
    """Returns how many optimiser steps an epoch has.

    Raises:
        TypeError: A budget of tokens is given for rows that have none.
    """
    if isinstance(rows, SentencePairs):
        return rows.number_of_batches(batch_size)
    return rows.number_of_batches(rows_in(batch_size))


def batches(
    rows: Rows,
    batch_size: int | TokenBudget,
    *,
    order: Tensor | None = None,
    start: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[AnyBatch]:
    """Gives the batches of one pass; see `Split.batches` and `SentencePairs.batches`."""
    if isinstance(rows, SentencePairs):
        return rows.batches(batch_size, order=order, start=start, process=process, processes=processes)
    return rows.batches(rows_in(batch_size), order=order, start=start, process=process, processes=processes)


def rows_in(batch_size: int | TokenBudget) -> int:
    """Returns the batch size of rows.

    Raises:
        TypeError: It is a budget of tokens, which only a corpus has.
    """
    if isinstance(batch_size, TokenBudget):
        raise TypeError("`batch_size` must be a number of rows: only a corpus has a budget of tokens")
    return batch_size


def evaluation_batches(rows: Rows) -> Iterator[AnyBatch]:
    """Gives every row once; sentences of like length together, so that little is padding."""
    if isinstance(rows, SentencePairs):
        return rows.batches(TokenBudget(EVALUATION_TOKENS), order=torch.arange(len(rows)))
    return rows.batches(EVALUATION_ROWS)


def counted_examples(hidden: Tensor, batch: AnyBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hidden states [n, H], labels [n] and indices [n] of a batch, the padding of sentences left out."""
    if isinstance(batch, Batch):
        return hidden, batch.labels, batch.indices
    counts = batch.labels >= 0
    return hidden[counts], batch.labels[counts], batch.indices[counts]


def rows_of_step(batch: AnyBatch, rows: Rows, *, batch_size: int | TokenBudget, number: int) -> int:
    """Returns how many labels one optimiser step learns from, over all processes together.

    Args:
        batch: This process's share.
        rows: What it was cut from.
        batch_size: Of the step.
        number: Of the batch, from 0.
    """
    if isinstance(batch, PairBatch):
        return batch.tokens
    size = rows_in(batch_size)
    return min(size, len(rows) - number * size)
