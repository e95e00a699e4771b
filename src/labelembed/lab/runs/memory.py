"""Too little memory for a step: one message, with the way out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import torch

from labelembed.lab.data import LabelledData
from labelembed.lab.errors import NotEnoughMemory
from labelembed.lab.training.batches import TrainingData


def in_gib(size: int) -> str:
    """Returns bytes as people say them: ``640 MiB``, ``1.4 GiB``, ``149 GiB``."""
    if size < 2**30:
        return f"{max(1, round(size / 2**20)):,} MiB"
    return f"{size / 2**30:.1f} GiB" if size < 10 * 2**30 else f"{size / 2**30:,.0f} GiB"


def _way_out(data: TrainingData) -> str:
    if isinstance(data, LabelledData):
        return "take a smaller batch_size, or micro_batches=N to make a step in N parts"
    longest = int(max(data.train.source.lengths.max(), data.train.target.lengths.max()))
    return (
        f"the longest training line has {longest:,} tokens: leave such lines out "
        "(labelembed preprocess --max-length), or take a smaller batch_size"
    )


@contextlib.contextmanager
def memory_errors_explained(where: Callable[[], str], data: TrainingData) -> Iterator[None]:
    """Turns what is raised for want of memory into one message.

    Args:
        where: Gives the place of the run, for the message.
        data: What is trained on.

    Raises:
        NotEnoughMemory: There was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in text:
            raise
        asked = re.search(r"allocate (\d+) bytes", text)
        tried = f" ({in_gib(int(asked[1]))} asked for at once)" if asked else ""
        raise NotEnoughMemory(f"{where()}: there is not enough memory{tried}; {_way_out(data)}") from error
