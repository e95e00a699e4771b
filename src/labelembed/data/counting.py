"""The first pass over a corpus: what tokens there are and how often, and from that the codec of a side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np

from labelembed.data.codec import TextCodec, lowered
from labelembed.data.levels import (
    CODE_POINTS,
    Level,
    SubwordKind,
    code_points,
    split_words,
    train_subwords,
    with_even_spaces,
)
from labelembed.data.vocabulary import Vocabulary
from labelembed.errors import DataError
from labelembed.special_tokens import SPECIAL_TOKENS

#: Subwords are trained on at most so many lines, taken evenly over the training text.
SAMPLED_LINES = 200_000
#: And on at most so many characters.
SAMPLED_CHARACTERS = 2**25
#: Pieces of a subword vocabulary where nothing else is asked for.
SUBWORDS = 8_000


class TokenCounter(Protocol):
    """Sees the lines of one side, or of both where they share a vocabulary."""

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        """Returns what lines are cut into; for subwords, which are not known yet, the lines themselves."""

    def add(self, segments: Sequence[Any]) -> None:
        """Counts lines that `segments` cut."""

    def codec(self, where: str) -> TextCodec:
        """Returns the codec of what was counted."""


def token_counter(
    level: Level, *, vocabulary_size: int | None, min_count: int, lowercase: bool, subword_kind: SubwordKind
) -> TokenCounter:
    """Returns the counter of a level."""
    if level == "subword":
        return _Sample(vocabulary_size or SUBWORDS, lowercase, subword_kind)
    kind = _WordCounter if level == "word" else _CharacterCounter
    return kind(vocabulary_size, min_count, lowercase)


def _cut(lines: Sequence[str], lowercase: bool, cut: Callable[[Sequence[str]], Sequence[Any]]) -> Sequence[Any]:
    return cut(lowered(lines) if lowercase else lines)


def _vocabulary(counts: dict[str, int], size: int | None, min_count: int, where: str) -> Vocabulary:
    vocabulary = Vocabulary.from_counts(counts, size=size, min_count=min_count)
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise DataError(f"{where}: no token occurs {min_count:,} times; set a smaller --min-count")
    return vocabulary


class _WordCounter:
    def __init__(self, vocabulary_size: int | None, min_count: int, lowercase: bool) -> None:
        self._size, self._min_count, self._lowercase = vocabulary_size, min_count, lowercase
        self._counts: Counter[str] = Counter()

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        return _cut(lines, self._lowercase, split_words)

    def add(self, segments: Sequence[Any]) -> None:
        self._counts.update(chain.from_iterable(segments))

    def codec(self, where: str) -> TextCodec:
        vocabulary = _vocabulary(self._counts, self._size, self._min_count, where)
        return TextCodec(level="word", vocabulary=vocabulary, lowercase=self._lowercase)


class _CharacterCounter:
    def __init__(self, vocabulary_size: int | None, min_count: int, lowercase: bool) -> None:
        self._size, self._min_count, self._lowercase = vocabulary_size, min_count, lowercase
        self._counts = np.zeros(CODE_POINTS, np.int64)

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        return _cut(lines, self._lowercase, with_even_spaces)

    def add(self, segments: Sequence[Any]) -> None:
        counts = np.bincount(code_points(segments))
        self._counts[: len(counts)] += counts

    def codec(self, where: str) -> TextCodec:
        counts = {chr(point): int(self._counts[point]) for point in np.flatnonzero(self._counts)}
        vocabulary = _vocabulary(counts, self._size, self._min_count, where)
        return TextCodec(level="character", vocabulary=vocabulary, lowercase=self._lowercase)


class _Sample:
    """Every line, then every second, every fourth, ...: as many as there is room for, without knowing how many come."""

    def __init__(self, vocabulary_size: int, lowercase: bool, kind: SubwordKind) -> None:
        self._size, self._lowercase, self._kind = vocabulary_size, lowercase, kind
        self._lines: list[str] = []
        self._seen = 0
        self._stride = 1

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        return _cut(lines, self._lowercase, with_even_spaces)

    def add(self, segments: Sequence[Any]) -> None:
        self._lines += segments[-self._seen % self._stride :: self._stride]
        self._seen += len(segments)
        while len(self._lines) > SAMPLED_LINES or sum(map(len, self._lines)) > SAMPLED_CHARACTERS:
            self._lines = self._lines[::2]
            self._stride *= 2

    def codec(self, where: str) -> TextCodec:
        model = train_subwords(self._lines, vocabulary_size=self._size, kind=self._kind, where=where)
        return TextCodec(level="subword", subwords=model, lowercase=self._lowercase)
