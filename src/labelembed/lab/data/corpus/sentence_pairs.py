"""Pairs of sentences as token ids, and the batches cut from them, bucketed by length."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.lab.data.batch import TokenBudget
from labelembed.lab.special_tokens import BEGIN, END, PAD

#: The label of padding, which no objective counts.
IGNORED = -100

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


class Sentences:
    """Token ids of many sentences.

    `tokens` are the ids of all sentences, one after the other; `offsets` [N + 1], int64, say where each begins.

    Example:
        >>> sentences = Sentences(np.array([7, 8, 9]), np.array([0, 1, 3]))
        >>> len(sentences), sentences[1].tolist(), sentences.lengths.tolist()
        (2, [8, 9], [1, 2])
    """

    _file: tuple[int, Path, int] | None = None  # descriptor, path, size of the vocabulary

    def __init__(self, tokens: Array, offsets: Array) -> None:
        self.tokens, self.offsets = tokens, offsets
        #: Number of tokens [N] of each sentence.
        self.lengths: Indices = np.diff(offsets)
        if not (len(offsets) and offsets[0] == 0 and offsets[-1] == len(tokens) and (self.lengths >= 0).all()):
            raise ValueError(f"`offsets` must rise from 0 to the number of tokens, {len(tokens)}")

    @classmethod
    def open(cls, folder: Path, name: str, vocabulary_size: int) -> Sentences:
        """Returns the sentences of ``NAME.bin``, which is mapped, and ``NAME-offsets.bin``; raises DataError."""
        path = folder / f"{name}.bin"
        try:
            tokens = np.asarray(np.memmap(path, token_type(vocabulary_size), mode="r"))
            sentences = cls(tokens, np.fromfile(folder / f"{name}-offsets.bin", np.int64))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: it or its offsets are missing or damaged ({error}); make it again") from None
        sentences._file = (os.open(path, os.O_RDONLY), path, vocabulary_size)
        weakref.finalize(sentences, os.close, sentences._file[0])
        return sentences

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Array:
        """Returns the tokens [T] of one sentence, without begin and end."""
        index = range(len(self))[index]
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def gathered(self, indices: Indices) -> Array:
        """Returns the tokens of the sentences `indices` [B], one after the other, in that order."""
        if self._file is None:
            return np.concatenate([self.tokens[:0], *map(self.__getitem__, indices.tolist())])
        descriptor, path, vocabulary_size = self._file  # read, for pages of a map stay in memory once looked at
        begins, counts = self.offsets[indices] * self.tokens.itemsize, self.lengths[indices] * self.tokens.itemsize
        content = b"".join(map(os.pread, [descriptor] * len(indices), counts.tolist(), begins.tolist()))
        tokens = np.frombuffer(content, self.tokens.dtype)
        if len(tokens) and (highest := tokens.max()) >= vocabulary_size:
            raise DataError(f"{path}: is damaged, it has the id {highest} of {vocabulary_size:,} tokens")
        return tokens


def token_type(vocabulary_size: int) -> npt.DTypeLike:
    """Returns the type in which a file holds ids: uint16 where they fit, else int32."""
    return np.uint16 if vocabulary_size <= 2**16 else np.int32


class PairInputs(NamedTuple):
    """Tokens, int64: source [B, S], the sentence, END, then PAD; target [B, T], BEGIN, the sentence, then PAD."""

    source: Tensor
    target: Tensor

    def to(self, device: torch.device | str) -> PairInputs:
        """Returns these inputs on `device`."""
        return PairInputs(self.source.to(device), self.target.to(device))


class PairBatch(NamedTuple):
    """The pairs of one optimiser step, or one process's share of them.

    Attributes:
        inputs: What the network sees; position t of the target has what stands before label t.
        labels: Labels [B, T], int64: the target sentence, END, then -100.
        indices: Where these labels stand among all target tokens of the split, END included [B, T]; 0 at padding.
        tokens: How many labels the step learns from, over all processes together.
    """

    inputs: PairInputs
    labels: Tensor
    indices: Tensor
    tokens: int

    def to(self, device: torch.device | str) -> PairBatch:
        """Returns this batch on `device`."""
        return PairBatch(self.inputs.to(device), self.labels.to(device), self.indices.to(device), self.tokens)


class SentencePairs:
    """A split of sentence pairs: source sentences and as many target sentences."""

    def __init__(self, source: Sentences, target: Sentences) -> None:
        self.source, self.target = source, target

    def __len__(self) -> int:
        return len(self.source)

    @property
    def num_examples(self) -> int:
        """Number of target tokens, the END of each sentence counted, which objectives that remember them index."""
        return len(self.target.tokens) + len(self)

    def select(self, indices: Indices) -> SentencePairs:
        """Returns the pairs `indices` [M], in memory."""
        sides = (self.source, self.target)
        return SentencePairs(*(Sentences(s.gathered(indices), np.cumsum([0, *s.lengths[indices]])) for s in sides))

    def number_of_batches(self, batch_size: int | TokenBudget) -> int:
        """Returns how many batches a pass over all pairs in some order has."""
        return len(self._groups(self._by_length(np.arange(len(self))), batch_size))

    def batches(
        self,
        batch_size: int | TokenBudget,
        *,
        order: Tensor | None = None,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[PairBatch]:
        """Returns the batches of one pass, as `Split.batches` does; a share is padded as the whole batch is.

        With an order the pairs are sorted by source length, then by target length, equal ones in the order given, and
        cut into batches, which come in an order drawn from the given order's own beginning. Without one they come as
        they stand.
        """
        indices = np.arange(len(self)) if order is None else self._by_length(order.cpu().numpy())
        groups = self._groups(indices, batch_size)
        if order is not None:
            drawn = torch.randperm(len(groups), generator=seeds.generator(0, "batches", *order[:8].tolist()))
            groups = [groups[number] for number in drawn.tolist()]
        return (self._batch(group, slice(process, None, processes)) for group in groups[start:])

    def _batch(self, pairs: Indices, share: slice) -> PairBatch:
        """Returns the rows `share` of the batch of some pairs."""
        source, labels = _rows(self.source, pairs, PAD), _rows(self.target, pairs, IGNORED)
        target = np.roll(labels, 1, axis=1)
        target[target == IGNORED] = PAD
        target[:, 0] = BEGIN  # where the padding that ends a row came to
        for rows, side in ((source, self.source), (labels, self.target)):
            rows[np.arange(len(pairs)), side.lengths[pairs]] = END
        indices = (self.target.offsets[pairs] + pairs)[:, None] + np.arange(labels.shape[1])
        indices[labels == IGNORED] = 0
        shared = [torch.from_numpy(rows[share]) for rows in (source, target, labels, indices)]
        return PairBatch(PairInputs(*shared[:2]), shared[2], shared[3], int((labels != IGNORED).sum()))

    def _by_length(self, indices: Indices) -> Indices:
        by_length: Indices = np.lexsort((self.target.lengths[indices], self.source.lengths[indices]))
        return indices[by_length]  # stable: equal ones stay as they came

    def _groups(self, indices: Indices, batch_size: int | TokenBudget) -> list[Indices]:
        """Returns the pairs of each batch."""
        if not isinstance(batch_size, TokenBudget):
            return np.split(indices, range(batch_size, len(indices), batch_size))
        longest = np.maximum(self.source.lengths[indices], self.target.lengths[indices]) + 1
        begins, width = [0], 0
        for index, length in enumerate(longest.tolist()):
            width = max(width, length)
            if (index - begins[-1] + 1) * width > batch_size.tokens and index > begins[-1]:
                begins.append(index)
                width = length
        return np.split(indices, begins[1:])


def _rows(side: Sentences, indices: Indices, fill: int) -> Indices:
    """Returns some sentences [B, longest + 1], int64, filled up."""
    lengths = side.lengths[indices]
    rows = np.full((len(indices), lengths.max() + 1), fill, np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = side.gathered(indices)
    return rows
