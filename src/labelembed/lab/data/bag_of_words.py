"""Bags of words: which words and n-grams of a vocabulary, learned from the training texts, each text has.

A feature counts once however often it occurs (Wang and Manning 2012, "Baselines and bigrams", section 2).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from labelembed.errors import DataError
from labelembed.lab.data.encoder import Encoded, Encoder, Texts, read_settings
from labelembed.lab.sparse_rows import SparseRows

VOCABULARY_FILE = "words.json"
#: Words of a text that are read, and features at most, those of the most texts.
MAXIMUM_WORDS, MAXIMUM_FEATURES = 1_000, 200_000

# Accents, vowel signs and the joiner of Sinhala; marks beyond 0xFFFF would make the patterns slow.
_MARKS = "\u200d" + "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark)[0] == "M")
# Words with the marks and apostrophes inside them, numbers, and the signs that carry a feeling.
_WORD = re.compile(rf"[^\W_]+(?:(?:[{_MARKS}]|'(?=[^\W_]))[^\W_]*)*|[!?]")
# Of scripts written without spaces each letter is a word with its marks; pairs of them are the n-grams.
_UNSPACED = re.compile(
    rf"(?!\d)[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff][{_MARKS}]*"
)


def words_of(text: str) -> list[str]:
    """Returns the first words of a text, in lower case: letters and digits with inner apostrophes, `!` and `?`.

    Example:
        >>> words_of("Don't <b>miss</b> it!")
        ["don't", 'b', 'miss', 'b', 'it', '!']
    """
    text = text.lower()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).replace("\u2019", "'")  # the apostrophe of typesetters
        text = _UNSPACED.sub(r" \g<0> ", text)
    return _WORD.findall(text)[:MAXIMUM_WORDS]


@dataclass
class _Kept:
    column: str | None
    vocabulary: Annotated[tuple[str, ...], Field(min_length=1)]


class BagOfWordsEncoder(Encoder):
    """A vocabulary of words and n-grams, and how texts become the ids of those that they have; see `TextReader`.

    Of features that stand in equally many texts the shorter are taken, then those first by their letters. In the
    `vocabulary` n-grams are their words with a space between; the first feature has the id 1, see `SparseRows`.
    """

    reads_texts = True
    sparse = True
    vocabulary: tuple[str, ...] = ()

    def __init__(self, *, ngrams: int = 2, minimum_texts: int = 2) -> None:
        self._ngrams, self._minimum_texts = ngrams, minimum_texts

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest id of a feature."""
        return (0.0, float(len(self.vocabulary)))

    def fit_transform(self, examples: Texts) -> Encoded:
        """Learns the vocabulary of the training texts, and returns the features of each, as `transform`."""
        self.column = examples.column
        counter = self._counter(min_df=self._minimum_texts)
        try:
            counts = counter.fit_transform(examples)
        except ValueError:  # none is left
            least = f"no word occurs in {self._minimum_texts} training texts or more"
            raise DataError(f"{examples.source}: {least}; lower it with --set data.minimum_texts=1") from None
        features = counter.get_feature_names_out().tolist()  # by their letters
        texts_with = np.bincount(counts.indices, minlength=len(features))
        words = np.array([feature.count(" ") for feature in features])
        chosen = np.lexsort((words, -texts_with))[:MAXIMUM_FEATURES]
        self.vocabulary = tuple(features[place] for place in chosen)
        return self._encoded(counts[:, chosen])

    def transform(self, examples: Sequence[str] | Texts) -> Encoded:
        """Returns the ids of the features that each text has, ascending."""
        return self._encoded(self._counter(vocabulary=self.vocabulary).transform(examples))

    def _counter(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer  # costs a second to import

        how: dict[str, Any] = {"tokenizer": words_of, "token_pattern": None, "lowercase": False, "dtype": np.int32}
        return CountVectorizer(binary=True, ngram_range=(1, self._ngrams), **how, **settings)

    def _encoded(self, counts: Any) -> Encoded:
        counts.sort_indices()
        ids, offsets = counts.indices.astype(np.int32) + 1, counts.indptr.astype(np.int64)
        return Encoded(SparseRows(torch.from_numpy(ids), torch.from_numpy(offsets), len(self.vocabulary) + 1))

    def files(self) -> dict[str, bytes]:
        """Returns the column of the texts and the vocabulary, a feature a line."""
        kept = _Kept(self.column, self.vocabulary)
        return {VOCABULARY_FILE: (json.dumps(vars(kept), indent=0, ensure_ascii=False) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> BagOfWordsEncoder:
        """Reads what `files` returned from a run folder; raises DataError where the file is missing or damaged."""
        kept = read_settings(folder / VOCABULARY_FILE, _Kept)
        encoder = cls(ngrams=max(feature.count(" ") + 1 for feature in kept.vocabulary))
        encoder.column, encoder.vocabulary = kept.column, kept.vocabulary
        return encoder
