"""Pairs of sentences and the batches cut from them, bucketed by length; every target token has its index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed import seeds
from labelembed.lab.data.batch import TokenBudget, require_order, require_share, require_whole
from labelembed.lab.data.corpus.sentences import Sentences
from labelembed.lab.special_tokens import BEGIN, END

#: The label of padding, which no objective counts.
IGNORED = -100

Numbers = npt.NDArray[np.int64]


class PairInputs(NamedTuple):
    """What the network sees of a batch.

    Attributes:
        source: Source tokens [B, S], int64: the sentence, END, then PAD.
        target: Target tokens [B, T], int64: BEGIN, the sentence, then PAD; position t has what stands before label t.
    """

    source: Tensor
    target: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairInputs:
        """Returns these inputs on `device`."""
        return PairInputs(*(part.to(device, non_blocking=non_blocking) for part in self))


class PairBatch(NamedTuple):
    """The pairs of one optimiser step, or one process's share of them.

    Attributes:
        inputs: Source [B, S] and target [B, T].
        labels: Labels [B, T], int64: the target sentence, END, then -100.
        indices: Where these labels stand among all target tokens of the split [B, T], the END of each sentence counted;
            int64, 0 at padding.
        tokens: How many labels the step learns from, over all processes together.
    """

    inputs: PairInputs
    labels: Tensor
    indices: Tensor
    tokens: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """Returns this batch on `device`."""
        labels, indices = (part.to(device, non_blocking=non_blocking) for part in (self.labels, self.indices))
        return PairBatch(self.inputs.to(device, non_blocking), labels, indices, self.tokens)


class SentencePairs:
    """One split of a corpus: source and target sentences, line by line.

    Args:
        source: The source sentences.
        target: As many target sentences.

    Raises:
        ValueError: Their numbers differ.
    """

    def __init__(self, source: Sentences, target: Sentences) -> None:
        if len(source) != len(target):
            raise ValueError(f"`source` and `target` must be as many, got {len(source)} and {len(target)} sentences")
        self.source = source
        self.target = target

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_examples(self) -> int:
        """Number of target tokens, the END of each sentence counted, which objectives that remember them index."""
        return len(self.target.tokens) + len(self)

    def number_of_batches(self, batch_size: int | TokenBudget, *, bucketed: bool = True) -> int:
        """Returns how many batches a pass over all pairs has; the same in every epoch.

        Args:
            batch_size: Pairs of an optimiser step, or a budget of tokens.
            bucketed: With an order, that is by length (training); otherwise as the pairs stand. Makes a difference
                for a budget of tokens only.

        Raises:
            ValueError: `batch_size` is not a whole number of at least 1.
        """
        _require_batch_size(batch_size)
        if isinstance(batch_size, int):
            return -(-len(self) // batch_size)
        numbers = np.arange(len(self))
        return len(self._cuts(self._by_length(numbers) if bucketed else numbers, batch_size)) - 1

    def batches(
        self,
        batch_size: int | TokenBudget,
        *,
        order: Tensor | None = None,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[PairBatch]:
        """Returns the batches of one pass, the last and smaller one included.

        With an order the pairs are sorted by source length, among those by target length, and among those they stay in
        the order given; then they are cut into batches, and the batches are visited in an order that is drawn from
        the order's own beginning: the same order gives the same batches. Since the sorted lengths are the same in
        every epoch, so is the number of batches. Without an order the pairs come as they stand.

        With several processes each takes ``[process::processes]`` of every batch, padded as the whole batch is;
        a share may be empty (B = 0).

        Args:
            batch_size: Pairs of one optimiser step over all processes together, or a budget of tokens.
            order: Positions [M] of the pairs to visit, int64: an epoch's permutation. A part of them is allowed.
            start: Number of the first batch to return, to go on in the middle of an epoch.
            process: Number of this process, from 0.
            processes: Number of processes that share each batch.

        Raises:
            ValueError: An argument is out of its range; raised by this call, not by the first batch.
        """
        _require_batch_size(batch_size)
        numbers = np.arange(len(self))
        if order is not None:
            require_order(order, len(self))
            numbers = self._by_length(order.cpu().numpy())
        cuts = self._cuts(numbers, batch_size)
        count = len(cuts) - 1
        require_share(count, start=start, process=process, processes=processes)
        visited = np.arange(count)
        if order is not None:
            drawn = seeds.generator(0, "batches", *order[:8].tolist())
            visited = torch.randperm(count, generator=drawn).numpy()
        return self._made(numbers, cuts, visited[start:], process, processes)

    def _made(
        self, numbers: Numbers, cuts: Numbers, visited: Numbers, process: int, processes: int
    ) -> Iterator[PairBatch]:
        for batch in visited:
            whole = numbers[cuts[batch] : cuts[batch + 1]]
            yield self._batch(whole[process::processes], whole)

    def _batch(self, numbers: Numbers, whole: Numbers) -> PairBatch:
        """Returns the batch of the pairs `numbers`, padded as the pairs `whole` need it."""
        each = np.arange(len(numbers))
        lengths = self.source.lengths[numbers]
        source = np.zeros((len(numbers), self.source.lengths[whole].max() + 1), np.int64)
        source[np.arange(source.shape[1]) < lengths[:, None]] = self.source.gathered(numbers)
        source[each, lengths] = END

        lengths = self.target.lengths[numbers]
        places = np.arange(self.target.lengths[whole].max() + 1)
        words = places < lengths[:, None]
        tokens = self.target.gathered(numbers)
        labels = np.full(words.shape, IGNORED, np.int64)
        labels[words] = tokens
        labels[each, lengths] = END
        target = np.zeros(words.shape, np.int64)
        target[:, 0] = BEGIN
        target[:, 1:][words[:, :-1]] = tokens
        indices = (self.target.offsets[numbers] + numbers)[:, None] + places
        indices[places > lengths[:, None]] = 0
        return PairBatch(
            PairInputs(torch.from_numpy(source), torch.from_numpy(target)),
            torch.from_numpy(labels),
            torch.from_numpy(indices),
            int(self.target.lengths[whole].sum()) + len(whole),
        )

    def _by_length(self, numbers: Numbers) -> Numbers:
        source, target = self.source.lengths[numbers], self.target.lengths[numbers]
        sorted_numbers: Numbers = numbers[np.lexsort((target, source))]  # stable: equal ones stay as they came
        return sorted_numbers

    def _cuts(self, numbers: Numbers, batch_size: int | TokenBudget) -> Numbers:
        """Returns where each batch begins, and the end [batches + 1]."""
        if isinstance(batch_size, int):
            return np.append(np.arange(0, len(numbers), batch_size), len(numbers))
        longest = np.maximum(self.source.lengths[numbers], self.target.lengths[numbers]) + 1
        cuts = [0]
        width = 0
        for place, length in enumerate(longest.tolist()):
            width = max(width, length)
            if (place - cuts[-1] + 1) * width > batch_size.tokens and place > cuts[-1]:
                cuts.append(place)
                width = length
        return np.array([*cuts, len(numbers)] if len(numbers) else [0], np.int64)


def _require_batch_size(batch_size: object) -> None:
    if not isinstance(batch_size, TokenBudget):
        require_whole("batch_size", batch_size)
