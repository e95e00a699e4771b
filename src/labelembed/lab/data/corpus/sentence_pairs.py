"""Pairs of sentences as token ids, and the batches cut from them, bucketed by length."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.lab.data.batch import TokenBudget, require_order, require_share, require_whole
from labelembed.lab.special_tokens import BEGIN, END

#: The label of padding, which no objective counts.
IGNORED = -100

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


class Sentences:
    """Token ids of many sentences.

    Args:
        tokens: Ids [number of all tokens] of all sentences, one after the other; may be a mapped file.
        offsets: Where each sentence begins, int64 [N + 1]; the last is the number of tokens.
        vocabulary_size: Ids must be below it; checked as they are read.

    Raises:
        ValueError: The shapes do not belong together.

    Example:
        >>> sentences = Sentences(np.array([7, 8, 9]), np.array([0, 1, 3]))
        >>> len(sentences), sentences[1].tolist(), sentences.lengths.tolist()
        (2, [8, 9], [1, 2])
    """

    def __init__(self, tokens: Array, offsets: Array, *, vocabulary_size: int = 2**31) -> None:
        fits = tokens.ndim == offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 0
        if not (fits and offsets[0] == 0 and offsets[-1] == len(tokens) and (np.diff(offsets) >= 0).all()):
            raise ValueError(f"`offsets` must rise from 0 to the number of tokens, {tokens.shape}, got {offsets}")
        self.tokens: Array = np.asarray(tokens)  # a plain array over the same memory: np.memmap slices slowly
        self.offsets: Indices = np.asarray(offsets, dtype=np.int64)
        self._vocabulary_size = vocabulary_size
        self._name, self._file = str(getattr(tokens, "filename", "`tokens`")), -1
        if isinstance(tokens, np.memmap) and hasattr(os, "pread"):
            # Read, where sentences are wanted here and there: pages of a map stay this process's memory once looked at.
            self._file = os.open(self._name, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    @classmethod
    def open(cls, tokens_file: Path, offsets_file: Path, *, vocabulary_size: int) -> Sentences:
        """Returns the sentences of two files: ids of `token_type`, which are mapped, and offsets, int64."""
        tokens = np.memmap(tokens_file, token_type(vocabulary_size), mode="r")
        return cls(tokens, np.fromfile(offsets_file, np.int64), vocabulary_size=vocabulary_size)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Array:
        """Returns the tokens [T] of one sentence, without begin and end."""
        index = range(len(self))[index]
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> Indices:
        """Number of tokens [N] of each sentence."""
        return np.diff(self.offsets)

    def gathered(self, indices: Indices) -> Array:
        """Returns the tokens of the sentences `indices` [B], one after the other, in that order."""
        tokens: Array = np.concatenate([self.tokens[:0], *map(self._read, indices.tolist())])
        highest = int(tokens.max(initial=0))
        if highest >= self._vocabulary_size:
            raise DataError(f"{self._name}: is damaged, it has the id {highest} of {self._vocabulary_size:,} tokens")
        return tokens

    def _read(self, index: int) -> Array:
        if self._file < 0:
            return self[index]
        size, begin = self.tokens.itemsize, int(self.offsets[index])
        length = int(self.offsets[index + 1]) - begin
        try:
            content = os.pread(self._file, size * length, size * begin)
        except OSError as error:
            raise DataError(f"{self._name}: cannot be read ({error.strerror or error})") from error
        return np.frombuffer(content, self.tokens.dtype)


def token_type(vocabulary_size: int) -> npt.DTypeLike:
    """Returns the type in which a file holds ids: uint16 where they fit, else int32."""
    return np.uint16 if vocabulary_size <= 2**16 else np.int32


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
    """A split of sentence pairs: source sentences and as many target sentences."""

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

    def select(self, indices: Indices) -> SentencePairs:
        """Returns the pairs `indices` [M], in memory."""
        source, target = (
            Sentences(side.gathered(indices), np.append(0, np.cumsum(side.lengths[indices])))
            for side in (self.source, self.target)
        )
        return SentencePairs(source, target)

    def number_of_batches(self, batch_size: int | TokenBudget, *, bucketed: bool = True) -> int:
        """Returns how many batches a pass over all pairs has, with an order (`bucketed`) or as they stand."""
        indices = np.arange(len(self))
        return len(self._bounds(self._by_length(indices) if bucketed else indices, batch_size)) - 1

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
        the order's own beginning: the same order gives the same batches. Without an order the pairs come as they stand.

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
        indices = np.arange(len(self))
        if order is not None:
            require_order(order, len(self))
            indices = self._by_length(order.cpu().numpy())
        bounds = self._bounds(indices, batch_size)
        count = len(bounds) - 1
        require_share(count, start=start, process=process, processes=processes)
        visited = np.arange(count)
        if order is not None:
            visited = torch.randperm(count, generator=seeds.generator(0, "batches", *order[:8].tolist())).numpy()
        groups = (indices[bounds[batch] : bounds[batch + 1]] for batch in visited[start:])
        return (self._batch(whole[process::processes], whole) for whole in groups)

    def _batch(self, share: Indices, whole: Indices) -> PairBatch:
        """Returns the batch of the pairs `share`, padded as the pairs `whole` need it."""
        rows = np.arange(len(share))
        lengths = self.source.lengths[share]
        source = np.zeros((len(share), self.source.lengths[whole].max() + 1), np.int64)
        source[np.arange(source.shape[1]) < lengths[:, None]] = self.source.gathered(share)
        source[rows, lengths] = END

        lengths = self.target.lengths[share]
        positions = np.arange(self.target.lengths[whole].max() + 1)
        is_token = positions < lengths[:, None]
        tokens = self.target.gathered(share)
        labels = np.full(is_token.shape, IGNORED, np.int64)
        labels[is_token] = tokens
        labels[rows, lengths] = END
        target = np.zeros(is_token.shape, np.int64)
        target[:, 0] = BEGIN
        target[:, 1:][is_token[:, :-1]] = tokens
        indices = (self.target.offsets[share] + share)[:, None] + positions
        indices[positions > lengths[:, None]] = 0
        return PairBatch(
            PairInputs(torch.from_numpy(source), torch.from_numpy(target)),
            torch.from_numpy(labels),
            torch.from_numpy(indices),
            int(self.target.lengths[whole].sum()) + len(whole),
        )

    def _by_length(self, indices: Indices) -> Indices:
        by_length: Indices = np.lexsort((self.target.lengths[indices], self.source.lengths[indices]))
        return indices[by_length]  # stable: equal ones stay as they came

    def _bounds(self, indices: Indices, batch_size: int | TokenBudget) -> Indices:
        """Returns where each batch begins, and the end [batches + 1]."""
        if not isinstance(batch_size, TokenBudget):
            return np.append(np.arange(0, len(indices), require_whole("batch_size", batch_size)), len(indices))
        longest = np.maximum(self.source.lengths[indices], self.target.lengths[indices]) + 1
        bounds = [0]
        width = 0
        for index, length in enumerate(longest.tolist()):
            width = max(width, length)
            if (index - bounds[-1] + 1) * width > batch_size.tokens and index > bounds[-1]:
                bounds.append(index)
                width = length
        return np.array([*bounds, len(indices)] if len(indices) else [0], np.int64)
