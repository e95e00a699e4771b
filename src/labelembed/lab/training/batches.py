"""The batches of training and evaluation: cut from labelled examples or sentence pairs, placed on the device, split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from labelembed.lab.data import Batch, LabelledData, PairBatch, SentencePairs, Split, TextCorpus, TokenBudget
from labelembed.lab.data.corpus.sentence_pairs import PairInputs
from labelembed.lab.sparse_rows import SparseRows

TrainingData = LabelledData | TextCorpus
Examples = Split | SentencePairs
AnyBatch = Batch | PairBatch

EVALUATION_EXAMPLES = 1_000
# Of a corpus: as many sentences as have so many tokens.
EVALUATION_TOKENS = 4_096
# Share of a GPU's free memory that the data may take; the rest is for weights, gradients and activations.
_LARGEST_SHARE = 0.5


def evaluation_batches(examples: Examples) -> Iterator[AnyBatch]:
    """Yields every example once; sentences of like length together, so that little is padding."""
    if isinstance(examples, SentencePairs):
        return examples.batches(TokenBudget(EVALUATION_TOKENS), order=torch.arange(len(examples)))
    return examples.batches(EVALUATION_EXAMPLES)


# ---- gradient accumulation


def micro_batches(batch: AnyBatch, wanted: int, *, step_examples: int, processes: int) -> list[AnyBatch]:
    """Cuts a batch into micro-batches, whose sizes differ by one at most; into as many in every process.

    A small last batch comes in fewer than wanted, so that none is empty where that can be known.

    Args:
        batch: This process's share of the step.
        wanted: How many there should be.
        step_examples: Examples of the step over all processes together; of sentences their tokens.
        processes: How many share it.
    """
    if isinstance(batch, Batch):
        count = max(1, min(wanted, -(-step_examples // processes)))
    else:
        count = max(1, min(wanted, len(batch.labels))) if processes == 1 else wanted
    if count == 1:
        return [batch]
    labels, indices = batch.labels.tensor_split(count), batch.indices.tensor_split(count)
    if isinstance(batch, PairBatch):
        pairs = zip(*(part.tensor_split(count) for part in batch.inputs), strict=True)
        parts = zip(pairs, labels, indices, strict=True)
        return [PairBatch(PairInputs(*pair), its, places, batch.tokens) for pair, its, places in parts]
    inputs: Sequence[Tensor | SparseRows] = batch.inputs.tensor_split(count)
    return [Batch(*part) for part in zip(inputs, labels, indices, strict=True)]


# ---- where they lie


def free_bytes(device: torch.device) -> int | None:
    """Returns how much memory of a GPU is free; None for other devices, which share the computer's memory."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def placed(data: TrainingData, device: torch.device) -> TrainingData:
    """Returns the data on the device, or where they are if they would take more than half of its free memory.

    A corpus stays in its files, from which each batch is read.
    """
    if not isinstance(data, LabelledData):
        return data
    needed, free = sum(split.inputs.nbytes + split.labels.nbytes for split in data.splits.values()), free_bytes(device)
    return data if free is not None and needed > _LARGEST_SHARE * free else data.to(device)
