"""The first pass over a corpus: what tokens there are and how often, and from that the tokenizer of a side."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from labelembed.data.corpus.lines import MAXIMUM_LINE_BYTES
from labelembed.data.corpus.settings import CorpusSettings, Level
from labelembed.data.corpus.tokenizer import (
    CODE_POINTS,
    Characters,
    Subwords,
    Tokenizer,
    Words,
    code_points,
    lowered,
    sentencepiece,
    split_words,
    with_even_spaces,
)
from labelembed.data.corpus.vocabulary import Vocabulary
from labelembed.errors import DataError
from labelembed.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN

#: Subwords are trained on at most so many lines, taken evenly over the training text.
SAMPLED_LINES = 200_000
#: And on at most so many characters.
SAMPLED_CHARACTERS = 2**25
#: Default number of pieces in a subword vocabulary.
SUBWORDS = 8_000
_COVERAGE = 0.9995


class TokenCounter(ABC):
    """Sees the training lines of one side, or of both where they share a vocabulary.

    Args:
        settings: How text becomes tokens.
    """

    def __init__(self, settings: CorpusSettings) -> None:
        self._settings = settings

    def segments(self, lines: Sequence[str]) -> Sequence[Any]:
        """Returns what lines are cut into; for subwords, which are not known yet, the lines themselves."""
        return self._cut(lowered(lines) if self._settings.lowercase else lines)

    def _cut(self, lines: Sequence[str]) -> Sequence[Any]:
        return with_even_spaces(lines)

    @abstractmethod
    def add(self, segments: Sequence[Any]) -> None:
        """Counts lines that `segments` cut."""

    @abstractmethod
    def tokenizer(self, where: str) -> Tokenizer:
        """Returns the tokenizer of what was counted; `where` it stood, for messages."""

    def _vocabulary(self, counts: Mapping[str, int], where: str) -> Vocabulary:
        least = self._settings.min_count
        vocabulary = Vocabulary.from_counts(counts, size=self._settings.vocabulary_size, min_count=least)
        if len(vocabulary) == len(SPECIAL_TOKENS):
            raise DataError(f"{where}: no token occurs {least:,} times; set a smaller --min-count")
        return vocabulary


def token_counter(level: Level, settings: CorpusSettings) -> TokenCounter:
    """Returns the counter of tokens of a kind."""
    if level == "subword":
        return _LineSample(settings)
    return _WordCounter(settings) if level == "word" else _CharacterCounter(settings)


class _WordCounter(TokenCounter):
    def __init__(self, settings: CorpusSettings) -> None:
        super().__init__(settings)
        self._counts: Counter[str] = Counter()

    def _cut(self, lines: Sequence[str]) -> Sequence[Any]:
        return split_words(lines)

    def add(self, segments: Sequence[Any]) -> None:
        self._counts.update(chain.from_iterable(segments))

    def tokenizer(self, where: str) -> Tokenizer:
        return Words(self._vocabulary(self._counts, where), lowercase=self._settings.lowercase)


class _CharacterCounter(TokenCounter):
    def __init__(self, settings: CorpusSettings) -> None:
        super().__init__(settings)
        self._counts = np.zeros(CODE_POINTS, np.int64)

    def add(self, segments: Sequence[Any]) -> None:
        counts = np.bincount(code_points(segments))
        self._counts[: len(counts)] += counts

    def tokenizer(self, where: str) -> Tokenizer:
        counts = {chr(point): int(self._counts[point]) for point in np.flatnonzero(self._counts)}
        return Characters(self._vocabulary(counts, where), lowercase=self._settings.lowercase)


class _LineSample(TokenCounter):
    """Every line, then every second, every fourth, ...: as many as there is room for, without knowing how many come."""

    def __init__(self, settings: CorpusSettings) -> None:
        super().__init__(settings)
        self._lines: list[str] = []
        self._seen = 0
        self._stride = 1

    def add(self, segments: Sequence[Any]) -> None:
        self._lines += segments[-self._seen % self._stride :: self._stride]
        self._seen += len(segments)
        while len(self._lines) > SAMPLED_LINES or sum(map(len, self._lines)) > SAMPLED_CHARACTERS:
            self._lines = self._lines[::2]
            self._stride *= 2

    def tokenizer(self, where: str) -> Tokenizer:
        model = train_subwords(
            self._lines,
            vocabulary_size=self._settings.vocabulary_size or SUBWORDS,
            kind=self._settings.subword_kind,
            where=where,
        )
        return Subwords(model, lowercase=self._settings.lowercase)


def train_subwords(lines: Sequence[str], *, vocabulary_size: int, kind: str, where: str) -> bytes:
    """Returns a sentencepiece model of these lines; the same lines give the same model.

    Every character of the lines is kept where there is room for it, so that nothing that was seen is unknown; where
    they would fill more than half of the vocabulary (Chinese), the rarest 0.05 % of the text are left out.

    Args:
        lines: Lines without line breaks.
        vocabulary_size: Pieces of the model, the special tokens included.
        kind: `bpe` or `unigram`.
        where: What the lines are, for messages.

    Raises:
        DataError: sentencepiece is not installed, or the lines cannot give so many pieces.
    """
    model = io.BytesIO()
    characters = len(set().union(*lines))
    try:
        sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=kind,
            vocab_size=vocabulary_size,
            character_coverage=1.0 if 2 * characters <= vocabulary_size else _COVERAGE,
            # the text as it stands: what is translated is compared with references that nobody normalised
            normalization_rule_name="identity",
            pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END,
            pad_piece=SPECIAL_TOKENS[PAD], unk_piece=SPECIAL_TOKENS[UNKNOWN],
            bos_piece=SPECIAL_TOKENS[BEGIN], eos_piece=SPECIAL_TOKENS[END], unk_surface=SPECIAL_TOKENS[UNKNOWN],
            max_sentence_length=MAXIMUM_LINE_BYTES,
            num_threads=1,  # sums of several threads come in any order
            minloglevel=2,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2][-300:].strip()  # without its own source's line
        raise DataError(
            f"{where}: sentencepiece cannot make a vocabulary of {vocabulary_size:,} pieces from {len(lines):,} "
            f"lines of {characters:,} different characters: {reason} (--vocabulary-size)"
        ) from None
    return model.getvalue()
