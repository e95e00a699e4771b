"""Bags of words: which words and n-grams of a vocabulary, learned from the training texts, each text has.

The bag of a text says which features occur in it, each once however often it occurs; for the sentiment of reviews that
serves better than counts (Wang and Manning 2012, "Baselines and bigrams", section 2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.data.encoders.cut_texts import CutTexts
from labelembed.errors import ArgumentFaults, DataError

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


class _Grams:
    """Which words and n-grams each of N texts has.

    Args:
        texts: N texts.
        ngrams: Words of an n-gram at most.
        maximum_words: Words of a text that are read.

    Attributes:
        is_cut: Whether each text has more words [N].
        columns: The column of each n-gram in `matrix`.
        matrix: 1 where a text has an n-gram [N, n-grams], sparse.
    """

    def __init__(self, texts: Sequence[str], *, ngrams: int, maximum_words: int) -> None:
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import CountVectorizer

        is_cut: list[bool] = []

        def first_words(text: str) -> list[str]:
            words = words_of(text)
            is_cut.append(len(words) > maximum_words)
            return words[:maximum_words]

        counter = CountVectorizer(
            binary=True,
            tokenizer=first_words,
            token_pattern=None,
            lowercase=False,
            ngram_range=(1, ngrams),
            dtype=np.int32,
        )
        self.columns: dict[str, int] = {}
        self.matrix: Any = csr_matrix(np.zeros((len(texts), 0), dtype=np.int32))
        if any(map(words_of, texts)):  # without a word there is nothing to count, which scikit-learn refuses
            self.matrix = counter.fit_transform(texts)
            self.columns = counter.vocabulary_
        self.is_cut: npt.NDArray[np.bool_] = np.array(is_cut or [False] * len(texts), dtype=bool)

    def most_common(self, rows: Tensor, *, minimum_texts: int, maximum_features: int) -> list[str]:
        """Returns the n-grams of most of the texts at `rows` [M]; of equals the shorter, then by their letters."""
        counts = np.bincount(self.matrix[rows.numpy()].indices, minlength=self.matrix.shape[1]).tolist()
        often = [(-counts[column], gram.count(" "), gram) for gram, column in self.columns.items()
                 if counts[column] >= minimum_texts]  # fmt: skip
        return [gram for _, _, gram in sorted(often)[:maximum_features]]

    def numbers(self, features: Sequence[str], rows: Tensor) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Returns which features the texts at `rows` [M] have.

        Returns:
            numbers: The numbers from 1 of the features of each text, ascending, text after text.
            lengths: How many each text has [M].
        """
        from scipy.sparse import csr_matrix

        number_of = np.zeros(self.matrix.shape[1], dtype=np.int32)
        for number, feature in enumerate(features, start=1):
            if feature in self.columns:
                number_of[self.columns[feature]] = number
        part = self.matrix[rows.numpy()]
        numbers = number_of[part.indices]
        known = csr_matrix((numbers > 0, numbers, part.indptr), shape=(len(rows), len(features) + 1))
        known.eliminate_zeros()
        known.sort_indices()
        return known.indices, np.diff(known.indptr)


class WordBags:
    """A vocabulary of words and n-grams, and how texts become rows of its numbers.

    Args:
        features: Words, and n-grams as their words with a space between; the first has the number 1, for 0 fills up.
        row_length: Features of the longest training text, to which shorter rows are filled up; a longer text makes the
            rows that are encoded with it longer.
        maximum_words: Words of a text that are read.
        column: The column that the texts stood in.
    """

    #: Nothing that the user must know.
    notes: tuple[str, ...] = ()

    def __init__(
        self, features: Sequence[str], *, row_length: int, maximum_words: int, column: str | None = None
    ) -> None:
        self.features = tuple(features)
        self.row_length = row_length
        self.maximum_words = maximum_words
        self.column = column

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest number of a feature."""
        return (0.0, float(len(self.features)))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns the features of each text [N, F], int32: ascending numbers, then zeros.

        F is `row_length`, or the number of features of the longest of these texts where that is more.
        """
        return self.encode(self._grams(texts), torch.arange(len(texts)))

    def encode(self, grams: _Grams, rows: Tensor) -> Tensor:
        """Returns the features of the texts at `rows` [N], as `encode_texts`."""
        numbers, lengths = grams.numbers(self.features, rows)
        width = max(self.row_length, int(lengths.max(initial=0)))
        inputs = np.zeros((len(rows), width), dtype=np.int32)
        inputs[np.arange(width) < lengths[:, None]] = numbers
        return torch.from_numpy(inputs)

    def is_cut(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns whether each text has more than `maximum_words` words [N]."""
        return np.array([len(words_of(text)) > self.maximum_words for text in texts], dtype=bool)

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_words:,} words"

    def _grams(self, texts: Sequence[str]) -> _Grams:
        ngrams = max(feature.count(" ") + 1 for feature in self.features)
        return _Grams(texts, ngrams=ngrams, maximum_words=self.maximum_words)

    def files(self) -> dict[str, bytes]:
        """Returns the vocabulary, a feature a line, and the settings."""
        settings = {"format": _FORMAT, "row_length": self.row_length, "maximum_words": self.maximum_words}
        if self.column is not None:
            settings |= {"column": self.column}
        return {
            VOCABULARY_FILE: "".join(f"{feature}\n" for feature in self.features).encode(),
            SETTINGS_FILE: (json.dumps(settings) + "\n").encode(),
        }

    @classmethod
    def load(cls, folder: Path) -> WordBags:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: A file is missing or damaged.
        """
        vocabulary, about = folder / VOCABULARY_FILE, folder / SETTINGS_FILE
        try:
            features = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            settings = json.loads(about.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{folder}: {VOCABULARY_FILE} or {SETTINGS_FILE} is damaged ({error})") from None
        if not isinstance(settings, dict) or settings.get("format") != _FORMAT:
            raise DataError(f"{about}: damaged, or of another version; expected the format {_FORMAT!r}")
        sizes = [settings.get(name) for name in ("row_length", "maximum_words")]
        if not all(type(size) is int and 1 <= size < 2**31 for size in sizes):
            raise DataError(f"{about}: damaged, row_length and maximum_words are {sizes}")
        if not all(feature and all(feature.split(" ")) for feature in features) or len(set(features)) < len(features):
            raise DataError(f"{vocabulary}: damaged, a line is empty or stands twice")
        column = settings.get("column")
        return cls(
            features,
            row_length=settings["row_length"],
            maximum_words=settings["maximum_words"],
            column=column if isinstance(column, str) else None,
        )


class TextContent:
    """Texts that become bags of words.

    Args:
        texts: All texts of a data set.
        ngrams: Words of a feature at most: 1 for words alone, 2 for pairs too.
        minimum_texts: Training texts that a feature must stand in.
        maximum_features: Features at most, those of the most texts; of equals the shorter, then by their letters.
        maximum_words: Words of a text that are read.
        column: See `WordBags`.
        source: Where the texts came from, for messages.

    Raises:
        ValueError: A number is less than 1, or `ngrams` more than 5.
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        ngrams: int,
        minimum_texts: int,
        maximum_features: int,
        maximum_words: int,
        column: str | None = None,
        source: str = "texts",
    ) -> None:
        faults = ArgumentFaults()
        faults.require(1 <= ngrams <= 5, "ngrams", ngrams, "must be 1 to 5")
        for name, value in (
            ("minimum_texts", minimum_texts),
            ("maximum_features", maximum_features),
            ("maximum_words", maximum_words),
        ):
            faults.require(value >= 1, name, value, "must be >= 1")
        faults.raise_if_any()
        self.texts = texts
        self._ngrams, self._maximum_words = ngrams, maximum_words
        self._minimum_texts, self._maximum_features = minimum_texts, maximum_features
        self._column, self._source = column, source

    @cached_property
    def _grams(self) -> _Grams:
        # counted once for all parts; what `fit` learns of them are the counts of its own texts alone
        return _Grams(self.texts, ngrams=self._ngrams, maximum_words=self._maximum_words)

    def fit(self, rows: Tensor) -> WordBags:
        """Returns the vocabulary of the texts at these positions [N].

        Raises:
            DataError: No feature stands in so many texts.
        """
        features = self._grams.most_common(
            rows, minimum_texts=self._minimum_texts, maximum_features=self._maximum_features
        )
        if not features:
            raise DataError(
                f"{self._source}: no word stands in {self._minimum_texts} training texts or more; lower it with "
                "--set data.minimum_texts=1"
            )
        lengths = self._grams.numbers(features, rows)[1]
        longest = int(max(1, lengths.max(initial=0)))
        return WordBags(features, row_length=longest, maximum_words=self._maximum_words, column=self._column)

    def inputs(self, encoding: WordBags, rows: Tensor) -> Tensor:
        """Returns the features [N, F] of the texts at these positions [N]."""
        return encoding.encode(self._grams, rows)

    def cut(self, encoding: WordBags, rows: Tensor) -> CutTexts | None:
        """Returns how many of the texts at these positions [N] have more words than are read; None: none."""
        limit = self._maximum_words
        return CutTexts.among(self._grams.is_cut, rows, setting="maximum_words", limit=limit, most=lambda: None)

    def shown(self, row: int, encoding: object = None) -> str:
        """Returns a text."""
        return self.texts[row]
