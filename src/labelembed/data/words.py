"""Texts cut into words, the words as numbers in one flat array."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True, eq=False)
class WordRows:
    """Texts as numbers of words.

    Args:
        numbers: Places of the words in the lexicon [words], int64, text after text.
        starts: Where each text begins in `numbers` [N + 1], int64; the last is its length.
        lexicon: Every word that occurs.
        is_cut: Whether a text has more words than are read of it [N].
    """

    numbers: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lexicon: Sequence[str]
    is_cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Iterable[str], *, maximum_words: int) -> WordRows:
        """Cuts texts into words, of each the first `maximum_words`."""
        place = _Places()
        rows: list[npt.NDArray[np.int64]] = []
        starts = [0]
        is_cut = []
        for text in texts:
            words = words_of(text)
            is_cut.append(len(words) > maximum_words)
            words = words[:maximum_words]
            rows.append(np.fromiter(map(place.__getitem__, words), np.int64, len(words)))
            starts.append(starts[-1] + len(words))
        numbers = np.concatenate(rows) if rows else np.empty(0, np.int64)
        return cls(numbers, np.array(starts, dtype=np.int64), list(place), np.array(is_cut, dtype=bool))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def select(self, rows: npt.NDArray[np.int64]) -> WordRows:
        """Returns the texts at these positions, with the same lexicon."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # the places of each text's words, text after text, without a loop over texts
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return WordRows(self.numbers[places], starts, self.lexicon, self.is_cut[rows])

    def row_of_word(self) -> npt.NDArray[np.int64]:
        """Returns in which text each word stands [words]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def renumbered(self, places: npt.NDArray[np.int64], lexicon: Sequence[str]) -> WordRows:
        """Returns the texts over another lexicon; `places` [old words]: where each word stands there, -1: nowhere."""
        numbers = places[self.numbers] if len(self.numbers) else self.numbers
        return WordRows(numbers, self.starts, lexicon, self.is_cut)


class _Places(dict[str, int]):
    """Words and their places; a word that is asked for the first time gets the next one."""

    def __missing__(self, word: str) -> int:
        self[word] = place = len(self)
        return place
