"""Bags of words: which words and n-grams of a vocabulary, learned from the training texts, each text has.

The bag of a text says which features occur in it, each once however often it occurs; for the sentiment of reviews that
serves better than counts (Wang and Manning 2012, "Baselines and bigrams", section 2).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from labelembed.data.encoder import CutTexts, Encoded, Encoder, read_settings
from labelembed.data.texts import Texts
from labelembed.errors import DataError

VOCABULARY_FILE = "words.txt"
SETTINGS_FILE = "words.json"
_FORMAT = "labelembed.words.1"

# Words with the apostrophes inside them, numbers, and the signs that carry a feeling.
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[!?]")
# Of scripts written without spaces each letter is a word; pairs of them are the n-grams.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")


def words_of(text: str) -> list[str]:
    """Returns the words of a text, in lower case: letters and digits with inner apostrophes, `!` and `?`.

    Example:
        >>> words_of("Don't <b>miss</b> it!")
        ["don't", 'b', 'miss', 'b', 'it', '!']
    """
    text = text.lower()
    if not text.isascii():
        text = text.replace("\u2019", "'")  # the apostrophe of typesetters
        text = _UNSPACED.sub(r" \g<0> ", text)
    return _WORD.findall(text)


@dataclass
class _Settings:
    row_length: PositiveInt
    maximum_words: PositiveInt
    column: str | None = None


class WordBags(Encoder):
    """A vocabulary of words and n-grams, and how texts become rows of its numbers.

    Args:
        ngrams: Words of a feature at most: 1 for words alone, 2 for pairs too.
        minimum_texts: Training texts that a feature must stand in.
        maximum_features: Features at most, those of the most texts; of equals the shorter, then by their letters.
        maximum_words: Words of a text that are read.

    Attributes:
        features: Words, and n-grams as their words with a space between; the first has the number 1, for 0 fills up.
        row_length: Features of the longest training text, to which shorter rows are filled up; a longer text makes the
            rows that are encoded with it longer.
    """

    reads_texts = True
    any_length = True

    def __init__(
        self,
        *,
        ngrams: int = 2,
        minimum_texts: int = 2,
        maximum_features: int = 200_000,
        maximum_words: int = 1_000,
    ) -> None:
        self.features: tuple[str, ...] = ()
        self.row_length = 1
        self.maximum_words = maximum_words
        self._ngrams, self._minimum_texts, self._maximum_features = ngrams, minimum_texts, maximum_features
        self._counting: tuple[Any, list[int]] | None = None

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest number of a feature."""
        return (0.0, float(len(self.features)))

    def fit_transform(self, examples: Texts) -> Encoded:
        """Learns the vocabulary of the training texts, and returns the features of each, as `transform`.

        Raises:
            DataError: No feature stands in so many texts.
        """
        counter, cut = self._counter(None)
        self.column, self._counting = examples.column, None
        features: list[str] = []
        with contextlib.suppress(ValueError):  # raised where no text has a word
            matrix = counter.fit_transform(examples)
            counts = np.bincount(matrix.indices, minlength=matrix.shape[1]).tolist()
            often = [(-counts[column], gram.count(" "), gram) for gram, column in counter.vocabulary_.items()
                     if counts[column] >= self._minimum_texts]  # fmt: skip
            features = [gram for _, _, gram in sorted(often)[: self._maximum_features]]
        if not features:
            raise DataError(
                f"{examples.source}: no word stands in {self._minimum_texts} training texts or more; lower it with "
                "--set data.minimum_texts=1"
            )
        self.features, self.row_length = tuple(features), 1
        inputs = _rows(matrix[:, [counter.vocabulary_[gram] for gram in features]], 1)
        self.row_length = inputs.shape[1]
        return Encoded(inputs, len(cut))

    def transform(self, examples: Iterable[str]) -> Encoded:
        """Returns the features of each text [N, F], int32: ascending numbers, then zeros.

        F is `row_length`, or the number of features of the longest of these texts where that is more.
        """
        if self._counting is None:  # kept, since a large vocabulary takes longer to look through than a text
            self._counting = self._counter(self.features)
        counter, cut = self._counting
        cut.clear()
        return Encoded(_rows(counter.transform(examples), self.row_length), len(cut))

    def _counter(self, features: Sequence[str] | None) -> tuple[Any, list[int]]:
        """Returns what counts n-grams, and the lengths of the texts that it has cut."""
        from sklearn.feature_extraction.text import CountVectorizer

        cut: list[int] = []

        def first_words(text: str) -> list[str]:
            words = words_of(text)
            if len(words) > self.maximum_words:
                cut.append(len(words))
            return words[: self.maximum_words]

        longest = self._ngrams if features is None else max(feature.count(" ") + 1 for feature in features)
        return (
            CountVectorizer(
                binary=True,
                tokenizer=first_words,
                token_pattern=None,
                lowercase=False,
                ngram_range=(1, longest),
                dtype=np.int32,
                vocabulary=features,
            ),
            cut,
        )

    def cut_texts(self, count: int, of: int) -> CutTexts:
        """Returns what to say of texts that have more words than are read."""
        return CutTexts(count=count, of=of, setting="maximum_words", limit=self.maximum_words)

    def files(self) -> dict[str, bytes]:
        """Returns the vocabulary, a feature a line, and the settings."""
        sizes = {"row_length": self.row_length, "maximum_words": self.maximum_words}
        settings = {"format": _FORMAT, **sizes, "column": self.column}
        return {
            VOCABULARY_FILE: "".join(f"{feature}\n" for feature in self.features).encode(),
            SETTINGS_FILE: (json.dumps(settings) + "\n").encode(),
        }

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> WordBags:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: A file is missing or damaged.
        """
        vocabulary = folder / VOCABULARY_FILE
        try:
            features = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, ValueError) as error:
            raise DataError(f"{vocabulary}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
        settings = read_settings(folder / SETTINGS_FILE, _FORMAT, _Settings)
        if not all(feature and all(feature.split(" ")) for feature in features) or len(set(features)) < len(features):
            raise DataError(f"{vocabulary}: damaged, a line is empty or stands twice")
        found = cls(maximum_words=settings.maximum_words)
        found.features, found.row_length, found.column = tuple(features), settings.row_length, settings.column
        return found


def _rows(matrix: Any, least: int) -> Tensor:
    """Returns the columns that each row of a sparse matrix has, numbered from 1 and ascending [N, F], then zeros."""
    matrix.sort_indices()
    lengths = np.diff(matrix.indptr)
    width = max(least, int(lengths.max(initial=0)))
    inputs = np.zeros((matrix.shape[0], width), dtype=np.int32)
    inputs[np.arange(width) < lengths[:, None]] = matrix.indices + 1
    return torch.from_numpy(inputs)
