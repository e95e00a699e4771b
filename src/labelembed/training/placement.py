"""Where the data of a run lie: on the device when they fit there, else in the computer's own memory."""

from __future__ import annotations

import torch

from labelembed.data import Batch, LabelledData, PairBatch
from labelembed.training.training_data import AnyBatch, TrainingData

#: Share of the device's free memory that the data may take; the rest is for weights, gradients and activations.
LARGEST_SHARE = 0.5


def bytes_of(data: LabelledData) -> int:
    """Returns how much memory all splits take."""
    tensors = [tensor for split in data.splits.values() for tensor in (split.inputs, split.labels)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def free_bytes(device: torch.device) -> int | None:
    """Returns how much memory of a device is free; None where data on it cost nothing more, as on a processor."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def placed(data: TrainingData, device: torch.device, *, free: int | None) -> TrainingData:
    """Returns the data on the device, or where they are if they would take more than half of its free memory.

    A corpus stays in its files, from which each batch is read.

    Args:
        data: What is trained on.
        device: Where the network is.
        free: Free memory of the device, see `free_bytes`; None: no limit.
    """
    if not isinstance(data, LabelledData):
        return data
    if free is not None and bytes_of(data) > LARGEST_SHARE * free:
        return data
    return data.to(device)


def on_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """Returns a batch on the device; one that is there already is returned as it is.

    For a GPU it goes by way of memory that is pinned, from where it is copied while the processor goes on.
    """
    if batch.labels.device.type == device.type:  # the device's number may be left out of one of them
        return batch
    if isinstance(batch, PairBatch):
        return batch.to(device)
    if device.type == "cuda":
        return Batch(*(part.pin_memory().to(device, non_blocking=True) for part in batch))
    return Batch(*(part.to(device) for part in batch))
