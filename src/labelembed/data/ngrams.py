"""N-grams of texts as numbers: which there are, in how many texts each stands, and which are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labelembed.data.words import WordRows

Numbers = npt.NDArray[np.int64]


class GramIndex:
    """Finds many n-grams among known ones at once.

    Word by word the beginnings that are known are numbered, so that no code of a whole n-gram is ever needed: it would
    not fit 64 bits.

    Args:
        grams: Known n-grams [K, size], numbers of words, all different.
    """

    def __init__(self, grams: Numbers) -> None:
        self._base = int(grams.max(initial=0)) + 1
        self._levels: list[Numbers] = []
        code = np.zeros(len(grams), np.int64)
        for column in grams.T:
            different, code = np.unique(code * self._base + column, return_inverse=True)
            self._levels.append(different)
        self._order = np.argsort(code)

    def places(self, grams: Numbers) -> Numbers:
        """Returns where each n-gram [M, size] stands among the known ones [M]; -1 where it does not.

        Words that have no number, -1, are in no known n-gram.
        """
        found = np.arange(len(grams))
        code = np.zeros(len(grams), np.int64)
        for column, level in zip(grams.T, self._levels, strict=True):
            word = column[found]
            # a larger number than any known one would pass for another beginning with a smaller one
            inside = (word >= 0) & (word < self._base)
            found, wanted = found[inside], code[inside] * self._base + word[inside]
            place = np.minimum(np.searchsorted(level, wanted), len(level) - 1)
            known = level[place] == wanted
            found, code = found[known], place[known]
        places = np.full(len(grams), -1, np.int64)
        places[found] = self._order[code]
        return places


def grams_of(rows: WordRows, size: int) -> tuple[Numbers, Numbers]:
    """Returns every run of `size` words [M, size] that stands within one text, and in which text each stands [M]."""
    count = len(rows.numbers) - size + 1
    if count <= 0:
        return np.empty((0, size), np.int64), np.empty(0, np.int64)
    text = rows.row_of_word()
    within = text[:count] == text[size - 1 :]
    grams = np.lib.stride_tricks.sliding_window_view(rows.numbers, size)[within]
    return grams, text[:count][within]


def texts_with_each(grams: Numbers, text: Numbers) -> tuple[Numbers, Numbers]:
    """Returns the different n-grams [D, size], and in how many texts each stands [D]."""
    if len(grams) == 0:
        return grams, np.empty(0, np.int64)
    code = grams[:, 0]
    place = np.arange(len(grams))
    for column in [None, *grams.T[1:]]:  # codes are packed at each step, so that they stay small
        if column is not None:
            code = code * (int(column.max()) + 1) + column
        _, place, code = np.unique(code, return_index=True, return_inverse=True)
    pairs = different_numbers(text * len(place) + code)
    return grams[place], np.bincount(pairs % len(place), minlength=len(place))


def different_numbers(numbers: Numbers) -> Numbers:
    """Returns the different numbers in order; np.unique takes twenty times as long since it hashes (numpy 2.3)."""
    numbers = np.sort(numbers)
    first = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]
