"""What the measures of text share: lines that fit each other, and how many tokens a line is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

Level = Literal["word", "character"]
LEVELS = ("word", "character")
# Beginnings of the names that Unicode gives to the letters of scripts that put no space between words.
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_LINES_LOOKED_AT = 200


class TextScore(NamedTuple):
    """What one measure says of a text.

    Attributes:
        value: The score, a fraction in [0, 1]; publications print it times 100.
        signature: Every choice that the value depends on, in a form to be printed beside it.
        details: The parts of the value, by name: fractions where they are shares, counts where they are counts.
        notes: What is odd about the text, in sentences; empty where nothing is.
    """

    value: float
    signature: str
    details: dict[str, float]
    notes: tuple[str, ...] = ()


def check_lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, name: str = "hypotheses") -> None:
    """Refuses lines that cannot be compared.

    Args:
        hypotheses: One text a sentence.
        references: One list for each set of references, each with one text a sentence.
        name: What the hypotheses are called in the message.

    Raises:
        TypeError: When a text stands where a list of texts is expected, or something else where a text is.
        ValueError: When there is no line or no reference, or numbers of lines differ.
    """
    if isinstance(hypotheses, str):
        raise TypeError(f"`{name}` must be a list of texts, one a sentence, got one text")
    if isinstance(references, str) or any(isinstance(lines, str) for lines in references):
        raise TypeError(
            "`references` must be a list of lists, one for each set of references with one text a sentence; "
            "with one reference a sentence: [references]"
        )
    if not references:
        raise ValueError("`references` must hold one or more sets of references, got none")
    if not hypotheses:
        raise ValueError(f"`{name}` must hold one or more texts, got none")
    for number, lines in enumerate(references, start=1):
        if len(lines) != len(hypotheses):
            which = "`references`" if len(references) == 1 else f"set {number} of `references`"
            raise ValueError(f"{which} must have as many texts as `{name}`, {len(hypotheses):,}, got {len(lines):,}")
    for what, lines in ((name, hypotheses), *(("references", lines) for lines in references)):
        wrong = next((row for row, line in enumerate(lines) if not isinstance(line, str)), None)
        if wrong is not None:
            raise TypeError(f"`{what}` must hold texts, got {type(lines[wrong]).__name__} at {wrong}")


def split_tokens(line: str, *, level: Level, lowercase: bool = False) -> list[str]:
    """Returns the tokens of a line: its words between white space, or its characters without white space.

    Args:
        line: The text.
        level: `word` or `character`; characters are the way for Chinese and Japanese, whose words no space divides.
        lowercase: Whether capitals count as small letters.
    """
    text = line.lower() if lowercase else line
    words = text.split()
    return words if level == "word" else list("".join(words))


def mostly_without_spaces(lines: Sequence[str]) -> bool:
    """Tells whether most letters of the first lines are of a script that puts no space between words."""
    letters = [letter for line in lines[:_LINES_LOOKED_AT] for letter in line if letter.isalpha()]
    found = sum(unicodedata.name(letter, "").startswith(_WITHOUT_SPACES) for letter in letters)
    return 2 * found > len(letters) > 0
