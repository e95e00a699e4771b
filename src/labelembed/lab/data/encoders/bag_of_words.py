"""Bags of words: which words and n-grams of a vocabulary, learned from the training texts, each text has.

The bag of a text says which features occur in it, each once however often it occurs; for the sentiment of reviews that
serves better than counts (Wang and Manning 2012, "Baselines and bigrams", section 2).
"""

from __future__ import annotations

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt

from labelembed.errors import DataError
from labelembed.lab.data.encoder import CutTexts, Encoded, Encoder, read_settings
from labelembed.lab.data.texts import Texts
from labelembed.lab.sparse_rows import SparseRows

VOCABULARY_FILE = "words.txt"
SETTINGS_FILE = "words.json"
_FORMAT = "labelembed.words.1"

Array = npt.NDArray[np.int64]

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
    maximum_words: PositiveInt
    column: str | None = None


class BagOfWordsEncoder(Encoder):
    """A vocabulary of words and n-grams, and how texts become the ids of those that they have.

    Args:
        ngrams: Words of a feature at most: 1 for words alone, 2 for pairs too.
        minimum_texts: Training texts that a feature must stand in.
        maximum_features: Features at most, those of the most texts; of equals the shorter, then by their letters.
        maximum_words: Words of a text that are read.

    Attributes:
        features: Words, and n-grams as their words with a space between; the first has the id 1, see `SparseRows`.
    """

    reads_texts = True
    sparse = True

    def __init__(
        self,
        *,
        ngrams: int = 2,
        minimum_texts: int = 2,
        maximum_features: int = 200_000,
        maximum_words: int = 1_000,
    ) -> None:
        self.features: tuple[str, ...] = ()
        self.maximum_words = maximum_words
        self._ngrams, self._minimum_texts, self._maximum_features = ngrams, minimum_texts, maximum_features
        self._numbers: dict[str, int] = {}

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest id of a feature."""
        return (0.0, float(len(self.features)))

    def fit_transform(self, examples: Texts) -> Encoded:
        """Learns the vocabulary of the training texts, and returns the features of each, as `transform`.

        Raises:
            DataError: No feature stands in so many texts.
        """
        self.column = examples.column
        seen: defaultdict[str, int] = defaultdict(count(1).__next__)
        found, lengths, cut = self._found(examples, seen.__getitem__)
        texts_with = np.bincount(found, minlength=1)  # each feature stands once in a text
        least = max(self._minimum_texts, np.sort(texts_with)[-self._maximum_features :][0])
        often = [
            (-texts, gram.count(" "), gram)
            for gram, texts in zip(seen, texts_with[1:].tolist(), strict=True)
            if texts >= least
        ]
        self._keep([gram for _, _, gram in sorted(often)[: self._maximum_features]])
        if not self.features:
            raise DataError(
                f"{examples.source}: no word occurs in {self._minimum_texts} training texts or more; lower it with "
                "--set data.minimum_texts=1"
            )
        kept = np.zeros(len(seen) + 1, dtype=np.int64)
        kept[[seen[gram] for gram in self.features]] = np.arange(1, len(self.features) + 1)
        texts, numbers = np.repeat(np.arange(len(lengths)), lengths), kept[found]
        return Encoded(self._rows(texts[numbers > 0], numbers[numbers > 0], len(lengths)), cut)

    def transform(self, examples: Iterable[str]) -> Encoded:
        """Returns the ids of the features that each text has, ascending."""
        numbers, lengths, cut = self._found(examples, self._numbers.get)
        texts = np.repeat(np.arange(len(lengths)), lengths)
        return Encoded(self._rows(texts, numbers, len(lengths)), cut)

    def _rows(self, texts: Array, numbers: Array, count: int) -> SparseRows:
        """Returns the ids of so many texts; `texts` says which one each of the `numbers` is of."""
        width = len(self.features) + 1
        offsets = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(texts, minlength=count), out=offsets[1:])
        ids = (np.sort(texts * width + numbers) % width).astype(np.int32)
        return SparseRows(torch.from_numpy(ids), torch.from_numpy(offsets), width)

    def _found(self, texts: Iterable[str], number_of: Callable[[str], int | None]) -> tuple[Array, Array, int]:
        """Returns the numbers of the n-grams that texts have, how many each text has, and how many texts are cut."""
        numbers, lengths, cut = array("i"), [], 0
        for text in texts:
            words = words_of(text)
            cut += len(words) > self.maximum_words
            words = words[: self.maximum_words]
            grams = set(words)
            for length in range(2, self._ngrams + 1):
                grams.update(map(" ".join, zip(*(words[begin:] for begin in range(length)), strict=False)))
            before = len(numbers)
            numbers.extend(filter(None, map(number_of, grams)))
            lengths.append(len(numbers) - before)
        return np.array(numbers, dtype=np.int64), np.array(lengths, dtype=np.int64), cut

    def _keep(self, features: Sequence[str]) -> None:
        self.features = tuple(features)
        self._numbers = {feature: number for number, feature in enumerate(features, start=1)}

    def cut_texts(self, count: int, of: int) -> CutTexts:
        """Returns what to say of texts that have more words than are read."""
        return CutTexts(count=count, of=of, setting="maximum_words", limit=self.maximum_words)

    def files(self) -> dict[str, bytes]:
        """Returns the vocabulary, a feature a line, and the settings."""
        settings = {"format": _FORMAT, "maximum_words": self.maximum_words, "column": self.column}
        return {
            VOCABULARY_FILE: "".join(f"{feature}\n" for feature in self.features).encode(),
            SETTINGS_FILE: (json.dumps(settings) + "\n").encode(),
        }

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> BagOfWordsEncoder:
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
            raise DataError(f"{vocabulary}: damaged, a line is empty or occurs twice")
        longest = max(feature.count(" ") + 1 for feature in features)
        found = cls(ngrams=longest, maximum_words=settings.maximum_words)
        found.column = settings.column
        found._keep(features)
        return found
