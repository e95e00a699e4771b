"""Which words and n-grams each text has: a vocabulary counted on the training rows, and rows of its numbers.

The bag of a text says which features occur in it, each once however often it occurs; for the sentiment of reviews that
serves better than counts (Wang and Manning 2012, "Baselines and bigrams", section 2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.data.cut_texts import CutTexts
from labelembed.data.ngrams import GramIndex, Numbers, different_numbers, grams_of, texts_with_each
from labelembed.data.words import WordRows
from labelembed.errors import ArgumentFaults, DataError

VOCABULARY_FILE = "words.txt"
SETTINGS_FILE = "words.json"
_FORMAT = "labelembed.words.1"


class WordBags:
    """A vocabulary of words and n-grams, and how texts become rows of its numbers.

    Args:
        features: Words, and n-grams as their words with a space between; the first has the number 1, for 0 fills up.
        row_length: Features of the longest training text, to which shorter rows are filled up; a longer text makes the
            rows that are encoded with it longer.
        maximum_words: Words of a text that are read.
        column: The column that the texts stood in.
    """

    def __init__(
        self, features: Sequence[str], *, row_length: int, maximum_words: int, column: str | None = None
    ) -> None:
        self.features = tuple(features)
        self.row_length = row_length
        self.maximum_words = maximum_words
        self.column = column
        place: dict[str, int] = {}
        self._known: dict[int, tuple[GramIndex, Numbers]] = {}
        grams = [tuple(place.setdefault(word, len(place)) for word in feature.split(" ")) for feature in self.features]
        self._lexicon = list(place)
        self._place = place
        for size in sorted({len(gram) for gram in grams}):
            numbers = np.array([number for number, gram in enumerate(grams, start=1) if len(gram) == size])
            keys = np.array([gram for gram in grams if len(gram) == size], dtype=np.int64)
            self._known[size] = (GramIndex(keys), numbers)

    @classmethod
    def fit(
        cls,
        rows: WordRows,
        *,
        ngrams: int,
        minimum_texts: int,
        maximum_features: int,
        maximum_words: int,
        column: str | None = None,
    ) -> WordBags:
        """Learns the vocabulary: the features that most texts have.

        Args:
            rows: The training texts.
            ngrams: Words of a feature at most: 1 for words alone, 2 for pairs too.
            minimum_texts: Texts that a feature must stand in.
            maximum_features: Features at most, those of the most texts; of equals the shorter, then by their letters.
            maximum_words: Words of a text that were read.
            column: The column that the texts stood in.

        Raises:
            DataError: No feature stands in so many texts.
        """
        found: list[tuple[int, int, str]] = []
        for size in range(1, ngrams + 1):
            keys, row = grams_of(rows, size)
            different, counts = texts_with_each(keys, row)
            often = counts >= minimum_texts
            for gram, count in zip(different[often].tolist(), counts[often].tolist(), strict=True):
                found.append((-count, size, " ".join(rows.lexicon[number] for number in gram)))
        if not found:
            raise DataError(
                f"no word stands in {minimum_texts} training texts or more; lower it with --set data.minimum_texts=1"
            )
        kept = [feature for _, _, feature in sorted(found)[:maximum_features]]
        bags = cls(kept, row_length=1, maximum_words=maximum_words, column=column)
        lengths = np.bincount(bags._found(rows)[0], minlength=1)
        bags.row_length = int(max(1, lengths.max(initial=0)))
        return bags

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest number of a feature."""
        return (0.0, float(len(self.features)))

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing that the user must know."""
        return ()

    def encode(self, rows: WordRows) -> Tensor:
        """Returns the features of each text [N, F], int32: ascending numbers, then zeros.

        F is `row_length`, or the number of features of the longest of these texts where that is more.
        """
        row, number = self._found(rows)
        starts = np.searchsorted(row, np.arange(len(rows)))
        column = np.arange(len(row)) - starts[row] if len(row) else row
        width = max(self.row_length, 1 + int(column.max(initial=-1)))
        inputs = np.zeros((len(rows), width), dtype=np.int32)
        inputs[row, column] = number
        return torch.from_numpy(inputs)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns the features of new texts; see `encode`."""
        return self.encode(WordRows.of(texts, maximum_words=self.maximum_words))

    def is_cut(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns whether each text has more than `maximum_words` words [N]."""
        return WordRows.of(texts, maximum_words=self.maximum_words).is_cut

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_words:,} words"

    def _found(self, rows: WordRows) -> tuple[Numbers, Numbers]:
        """Returns (text, feature), each pair once and in order."""
        places = np.array([self._place.get(word, -1) for word in rows.lexicon], dtype=np.int64)
        rows = rows.renumbered(places, self._lexicon)
        texts, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for size, (index, features) in self._known.items():
            grams, text = grams_of(rows, size)
            place = index.places(grams)
            texts.append(text[place >= 0])
            numbers.append(features[place[place >= 0]])
        width = len(self.features) + 1
        pairs = different_numbers(np.concatenate(texts) * width + np.concatenate(numbers))
        return pairs // width, pairs % width

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
        ngrams: See `WordBags.fit`.
        minimum_texts: See `WordBags.fit`.
        maximum_features: See `WordBags.fit`.
        maximum_words: See `WordBags.fit`.
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
        self._words = WordRows.of(texts, maximum_words=maximum_words)
        self._column, self._source = column, source
        self._settings = {
            "ngrams": ngrams,
            "minimum_texts": minimum_texts,
            "maximum_features": maximum_features,
            "maximum_words": maximum_words,
        }

    def fit(self, rows: Tensor) -> WordBags:
        """Returns the vocabulary of the texts at these positions [N]."""
        try:
            return WordBags.fit(self._words.select(rows.numpy()), **self._settings, column=self._column)
        except DataError as error:
            raise DataError(f"{self._source}: {error}") from None

    def inputs(self, encoding: WordBags, rows: Tensor) -> Tensor:
        """Returns the features [N, F] of the texts at these positions [N]."""
        return encoding.encode(self._words.select(rows.numpy()))

    def cut(self, encoding: WordBags, rows: Tensor) -> CutTexts | None:
        """Returns how many of the texts at these positions [N] have more words than are read; None: none."""
        limit = self._settings["maximum_words"]
        return CutTexts.among(self._words.is_cut, rows, setting="maximum_words", limit=limit, most=lambda: None)

    def shown(self, row: int, encoding: object = None) -> str:
        """Returns a text."""
        return self.texts[row]
