"""How much memory a training step takes, from small steps; and one message where there is too little."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labelembed.data import LabelledData, PairBatch, PairInputs, TextCorpus, TokenBudget
from labelembed.errors import NotEnoughMemory
from labelembed.special_tokens import BEGIN, END
from labelembed.training.batches import AnyBatch, TrainingData
from labelembed.training.network import Network

# Of a step so many examples are tried; of a corpus one pair of sentences of at most so many tokens.
_TRIED_EXAMPLES = 4
_TRIED_TOKENS = 1_000  # of fewer the table of attention is lost among the rest
# Weights, gradients and Adam's two moments.
_COPIES_OF_WEIGHTS = 4


def step_bytes(network: Network, data: TrainingData, batch_size: int | TokenBudget, *, micro_batches: int = 1) -> int:
    """Returns about how many bytes the largest step takes: weights, their moments, and what backward needs.

    What a small step keeps for backward is counted, and grows with the examples; in a corpus with the length of the
    sentences and its square, of which attention has a table.

    Args:
        network: In training mode; its objective's buffers are changed.
        data: What is trained on.
        batch_size: Of an optimiser step.
        micro_batches: In how many parts it is made.
    """
    weights = sum(value.numel() * value.element_size() for value in network.parameters()) * _COPIES_OF_WEIGHTS
    if isinstance(data, TextCorpus):
        return weights + _bytes_of_pairs(network, data, batch_size, micro_batches)
    assert isinstance(batch_size, int)
    largest = -(-min(batch_size, len(data.train)) // micro_batches)
    tried = sorted({min(largest, _TRIED_EXAMPLES), min(largest, 2 * _TRIED_EXAMPLES)})
    kept = [_kept_bytes(network, next(data.train.batches(size))) for size in tried]
    return weights + int(_grown(tried, kept, largest))


def _bytes_of_pairs(network: Network, data: TextCorpus, batch_size: int | TokenBudget, micro_batches: int) -> int:
    longest = longest_line(data)
    tried = sorted({max(1, min(longest, _TRIED_TOKENS) // part) for part in (4, 2, 1)})
    vocabularies = [len(one.vocabulary) for one in (data.source_tokenizer, data.target_tokenizer)]
    one_pair = _grown(tried, [_kept_bytes(network, _pair(length, vocabularies)) for length in tried], longest)
    pairs = batch_size if isinstance(batch_size, int) else max(1, batch_size.tokens // (longest + 1))
    return int(one_pair) * -(-min(pairs, len(data.train)) // micro_batches)


def longest_line(data: TextCorpus) -> int:
    """Returns how many tokens the longest training sentence of either side has."""
    return int(max(data.train.source.lengths.max(), data.train.target.lengths.max()))


def _grown(sizes: list[int], found: list[int], wanted: int) -> float:
    """Returns what follows for another size: from two sizes by a line, from three by a parabola that opens upwards."""
    curve = np.polyfit(sizes, found, len(sizes) - 1)
    if len(curve) == 3 and curve[0] < 0:
        curve = np.polyfit(sizes[1:], found[1:], 1)
    return max(float(np.polyval(curve, wanted)), float(found[-1]))


def _pair(length: int, vocabularies: list[int]) -> PairBatch:
    """Returns a batch of one pair of sentences of so many tokens."""
    source, target = (torch.full((1, length + 1), size - 1) for size in vocabularies)
    labels = target.clone()
    source[0, -1] = labels[0, -1] = END
    target[0, 0] = BEGIN
    return PairBatch(PairInputs(source, target), labels, torch.zeros_like(labels), length + 1)


def _kept_bytes(network: Network, batch: AnyBatch) -> int:
    """Returns how many bytes a forward pass keeps for the backward pass, the weights left out."""
    own = {value.untyped_storage().data_ptr() for value in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    batch = batch.to(next(network.parameters()).device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        terms = network(batch.inputs, batch.labels, batch.indices)
    del terms
    return sum(kept.values())


def memory_of_device(device: torch.device) -> tuple[int, int] | None:
    """Returns the bytes of memory that are free and those that there are; None where the system does not tell."""
    if device.type == "cuda":
        free, there_are = torch.cuda.mem_get_info(device)
        return int(free), int(there_are)
    with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        known = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
        return known["MemAvailable"], known["MemTotal"]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
    return None


def in_gib(size: int) -> str:
    """Returns bytes as people say them: ``640 MiB``, ``1.4 GiB``, ``149 GiB``."""
    if size < 2**30:
        return f"{max(1, round(size / 2**20)):,} MiB"
    return f"{size / 2**30:.1f} GiB" if size < 10 * 2**30 else f"{size / 2**30:,.0f} GiB"


def way_out(data: TrainingData) -> str:
    """Returns what helps where a step takes too much memory."""
    if isinstance(data, LabelledData):
        return "take a smaller batch_size, or micro_batches=N to make a step in N parts"
    return (
        f"the longest training line has {longest_line(data):,} tokens: leave such lines out "
        "(labelembed preprocess --max-length), or take a smaller batch_size"
    )


@contextlib.contextmanager
def memory_told(where: Callable[[], str], data: TrainingData) -> Iterator[None]:
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
        raise NotEnoughMemory(f"{where()}: there is not enough memory{tried}; {way_out(data)}") from error
