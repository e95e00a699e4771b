"""What the columns of a table are: numbers, categories, or something no network is given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labelembed.lab.data.files.table import is_missing

Kind = Literal["numeric", "categorical"]

#: Texts that stand for nothing.
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
# As half of Europe writes numbers: 3,14 and 1.234,5.
_COMMA_NUMBER = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d.*)?"
    r"|\d{1,2}:\d{2}(:\d{2}.*)?"
)
_WORDS_OF_A_TEXT = 4.0
# So few different values are categories, whatever most of them look like.
_FEW = 20


@dataclass(frozen=True)
class ColumnKind:
    """What a column is used as.

    Attributes:
        kind: `numeric`, `categorical`, or None: left out.
        reason: Why it is left out.
        comma: Whether its numbers have commas for points.
    """

    kind: Kind | None
    reason: str = ""
    comma: bool = False


def kind_of(name: str, values: Sequence[Any], *, asked: Kind | None = None, places: Sequence[Any] = ()) -> ColumnKind:
    """Returns what a column's training values are; of a column of numbers some may still be none.

    Args:
        name: The column.
        values: Of the training examples.
        asked: What the user says that it is; None: found.
        places: Where the examples stand, see `Table`; none: one after the other.
    """
    found = [value for value in values if not is_nothing(value)]
    comma = _written_with_commas(found)
    if asked == "numeric":
        return ColumnKind("numeric", comma=comma)
    different = Counter(map(str, found))
    if not found:
        return ColumnKind(None, "no value")
    if len(different) == 1:
        return ColumnKind(None, "one value only")
    if asked == "categorical":
        return ColumnKind("categorical")
    if all(isinstance(value, bool) for value in found):
        return ColumnKind("categorical")
    if all(number_of(value, comma=comma) is not None for value in found):
        whole = all(float(number_of(value, comma=comma) or 0).is_integer() for value in found)
        if whole and len(different) == len(values) > 10:
            numbers = [number_of(value, comma=comma) or 0.0 for value in found]
            if _is_id(name) or _counts_up(numbers, places):
                return ColumnKind(None, "counts the examples")
        return ColumnKind("numeric", comma=comma)
    if len(different) > _FEW and sum(number_of(value, comma=comma) is not None for value in found) > len(found) // 2:
        return ColumnKind("numeric", comma=comma)  # and what is no number is asked about
    texts = [str(value).strip() for value in found]
    if all(_DATE.fullmatch(text) for text in texts):
        return ColumnKind(None, "dates")
    if len(different) > len(found) // 2 and len(found) > 10:
        words = sum(len(text.split()) for text in texts) / len(texts)
        return ColumnKind(None, "texts" if words >= _WORDS_OF_A_TEXT else "another value in nearly every example")
    return ColumnKind("categorical")


def is_nothing(value: Any) -> bool:
    """Tells whether a value is missing, or a word that stands for nothing."""
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in MISSING_WORDS)


def number_of(value: Any, *, comma: bool = False) -> float | None:
    """Returns a value as a number, None where it is none; `comma`: commas stand for points."""
    if isinstance(value, str):
        text = value.strip()
        if comma:
            return float(text.replace(".", "").replace(",", ".")) if _COMMA_NUMBER.fullmatch(text) else None
        return float(text) if _NUMBER.fullmatch(text) else None
    return float(value) if isinstance(value, int | float) else None


def category_of(value: Any) -> str | None:
    """Returns a value as the name of its category; None where it is missing."""
    if is_nothing(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _written_with_commas(values: Sequence[Any]) -> bool:
    texts = [value.strip() for value in values if isinstance(value, str)]
    if not any("," in text for text in texts):
        return False
    with_commas = sum(_COMMA_NUMBER.fullmatch(text) is not None for text in texts)
    return with_commas > len(texts) // 2 and with_commas > sum(_NUMBER.fullmatch(text) is not None for text in texts)


def _counts_up(numbers: Sequence[float], places: Sequence[Any]) -> bool:
    """Tells whether whole numbers ascend about as fast as the places of their examples do."""
    # test examples held out before, or rows left out by hand, leave gaps in what counts the examples
    of_one_file = len(places) > 0 and isinstance(places[0], int)
    length = places[-1] - places[0] + 1 if of_one_file else len(numbers)
    return numbers == sorted(numbers) and numbers[-1] - numbers[0] < 3 * length


def _is_id(name: str) -> bool:
    return "id" in re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
