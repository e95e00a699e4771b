"""The micro-batches of an optimiser step."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from labelembed.data import Batch, PairBatch
from labelembed.data.corpus.sentence_pairs import PairInputs
from labelembed.training.network import Network
from labelembed.training.training_data import AnyBatch


def number_of_micro_batches(batch: AnyBatch, count: int, *, step_rows: int, processes: int) -> int:
    """Returns in how many micro-batches a step comes; the same in every process.

    A small last batch comes in fewer, so that none is empty where that can be known.

    Args:
        batch: This process's share of the step.
        count: How many are wanted.
        step_rows: Rows of the step over all processes together; of sentences their tokens.
        processes: How many share it.
    """
    if isinstance(batch, Batch):
        return max(1, min(count, -(-step_rows // processes)))
    return max(1, min(count, len(batch.labels))) if processes == 1 else count


def micro_batches(batch: AnyBatch, count: int) -> list[AnyBatch]:
    """Cuts a batch into so many micro-batches, whose sizes differ by one at most."""
    if count == 1:
        return [batch]
    labels, indices = batch.labels.tensor_split(count), batch.indices.tensor_split(count)
    if isinstance(batch, PairBatch):
        inputs = zip(*(part.tensor_split(count) for part in batch.inputs), strict=True)
        parts = zip(inputs, labels, indices, strict=True)
        return [PairBatch(PairInputs(*pair), its, places, batch.tokens) for pair, its, places in parts]
    return [Batch(*part) for part in zip(batch.inputs.tensor_split(count), labels, indices, strict=True)]


def coupling_notes(network: Network, count: int) -> list[str]:
    """Returns why so many micro-batches are not the same as one batch, a line for each reason."""
    notes = []
    reason = network.objective.batch_dependent
    if reason is not None:
        name = type(network.objective).__name__
        notes.append(f"micro_batches: the {count} parts of a step are not the same as one batch for {name}: {reason}")
    if any(isinstance(module, _BatchNorm) for module in network.encoder.modules()):
        notes.append(
            f"micro_batches: batch normalisation takes its statistics from each of the {count} parts of a step"
        )
    return notes
