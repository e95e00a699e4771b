"""Bags of words as loops: which features training texts have, which of them a text has, the mean of their vectors."""

from __future__ import annotations

import unicodedata


def naive_words(text: str, most: int) -> list[str]:
    """Letters, their marks, digits and inner apostrophes; `!` and `?`; lower case."""
    words, word = [], ""
    text = unicodedata.normalize("NFC", text.lower()) + " "
    for place, letter in enumerate(text):
        inner = letter == "'" and word and place + 1 < len(text) and text[place + 1].isalnum()
        mark = word and (letter == "\u200d" or unicodedata.category(letter).startswith("M"))
        if letter.isalnum() or inner or mark:
            word += letter
            continue
        if word:
            words.append(word)
            word = ""
        if letter in "!?":
            words.append(letter)
    return words[:most]


def naive_features(text: str, ngrams: int, most_words: int) -> set[str]:
    """The different n-grams of a text."""
    words = naive_words(text, most_words)
    found = set()
    for size in range(1, ngrams + 1):
        for begin in range(len(words) - size + 1):
            found.add(" ".join(words[begin : begin + size]))
    return found


def naive_vocabulary(texts, *, ngrams: int, minimum_texts: int, maximum_features: int, maximum_words: int) -> list[str]:
    """Features by how many texts have them; of equals the shorter, then by their letters."""
    counts: dict[str, int] = {}
    for text in texts:
        for feature in naive_features(text, ngrams, maximum_words):
            counts[feature] = counts.get(feature, 0) + 1
    often = [feature for feature, count in counts.items() if count >= minimum_texts]
    often.sort(key=lambda feature: (-counts[feature], feature.count(" "), feature))
    return often[:maximum_features]


def naive_row(text: str, vocabulary, *, ngrams: int, maximum_words: int) -> list[int]:
    """Numbers from 1 of the features that a text has, ascending."""
    found = naive_features(text, ngrams, maximum_words)
    return [number for number, feature in enumerate(vocabulary, start=1) if feature in found]


def naive_mean(numbers, vectors) -> list[float]:
    """The mean of the vectors of the numbers that are not 0; zeros where there are none."""
    width = len(vectors[0])
    total, count = [0.0] * width, 0
    for number in numbers:
        if number != 0:
            count += 1
            for place in range(width):
                total[place] += vectors[number][place]
    return [value / count if count else 0.0 for value in total]
