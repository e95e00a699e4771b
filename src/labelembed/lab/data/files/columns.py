"""Finds the columns of texts and of labels: by name, then by content."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.checks import printable
from labelembed.lab.data.files.table import Table, is_missing, missing_column

_LABEL_WORDS = (
    "label", "labels", "class", "target", "category", "sentiment", "intent", "polarity", "topic", "tag", "emotion",
    "rating", "stars", "score", "genre", "spam", "toxic", "outcome", "verdict", "diagnosis",
    "species", "survived", "churn", "result", "y",
)  # fmt: skip
_TEXT_WORDS = (
    "text", "texts", "review", "sentence", "comment", "message", "content", "document", "body", "utterance", "tweet",
    "post", "description", "abstract", "article", "question", "query", "headline", "title", "summary", "subject",
)  # fmt: skip
# What is said in short: taken only where no other column is called a text.
_SHORT_FORMS = {"title", "headline", "subject", "summary"}
#: A column of labels has so many different values at most.
_MOST_LABELS = 10_000
_LOOKED_AT = 2_000
# Texts found by what they are: words on average, and how many times as long as the next longest column.
_TEXT_WORDS_LEAST = 4.0
_TEXT_LONGER = 3.0
# Further columns of texts that are told at most.
_MOST_TOLD = 3


def find_columns(table: Table, *, texts: Sequence[str], label: str | None) -> tuple[tuple[str, ...], str]:
    """Returns the columns of texts and that of labels: those given, and otherwise those found.

    Args:
        table: The training rows.
        texts: Columns of texts; none: one is found.
        label: Column of labels; None: found.

    Raises:
        DataError: A column that is given is not there, or one cannot be told; names the columns, what they hold, and
            the settings to type.
    """
    _require(table, "text_column", *texts)
    _require(table, "label_column", label)
    if label in texts:
        raise DataError(f"{table.source}: column {label!r} cannot hold both the texts and the labels")
    found_label = label or likely_label(table, without=texts)
    found_texts = tuple(texts or filter(None, [likely_text(table, without=found_label)]))
    if not found_texts or found_label is None:
        raise DataError(_unclear(table, texts=bool(found_texts), label=found_label))
    if label is None and not table.typed and found_label in {str(value) for value in table.values(found_label)}:
        raise DataError(
            f"{table.source}: its first row looks like no heading, for {found_label!r} stands below it too; name the "
            "columns with --set data.columns='[NAME, NAME, ...]', or name that of the labels with "
            f"--set data.label_column={found_label!r}"
        )
    return found_texts, found_label


def find_text_columns(table: Table, *, texts: Sequence[str]) -> tuple[str, ...]:
    """As `find_columns`, for rows that need no label."""
    _require(table, "text_column", *texts)
    label = likely_label(table)
    found = tuple(texts or filter(None, [likely_text(table, without=label)]))
    if not found:
        raise DataError(_unclear(table, texts=False, label=label or ""))
    return found


def find_label(table: Table, label: str | None, *, key: str = "label_column", without: Sequence[str] = ()) -> str:
    """As `find_columns`, for rows without texts.

    Args:
        table: The training rows.
        label: Column of labels; None: found.
        key: The key of `data` that names it.
        without: Columns that hold something else.
    """
    _require(table, key, label)
    found = label or likely_label(table, without=without)
    if found is None:
        raise DataError(_unclear(table, texts=True, label=None, key=key))
    return found


def likely_label(table: Table, *, without: Sequence[str] = ()) -> str | None:
    """Returns the column of labels, None where it is unclear."""
    columns = [name for name in table.names if name not in without]
    named = [name for name in _by_name(columns, _LABEL_WORDS) if _may_be_labels(table, name)]
    if named:
        return named[0]
    # a file of label names knows better than any guess
    known = [name for name in columns if name in table.label_names]
    candidates = known or [name for name in columns if _looks_like_labels(table, name)]
    if not candidates:  # what is wrong with a column of that name is told later
        candidates = [name for name in columns if name.strip().lower() in _LABEL_WORDS][:1]
    return candidates[0] if len(candidates) == 1 else None


def _require(table: Table, key: str, *names: str | None) -> None:
    for name in names:
        if name is not None and name not in table.names:
            raise DataError(missing_column(table, key, name))


def surely_texts(table: Table, name: str) -> bool:
    """Tells whether a column holds what a text classifier reads, and not a name or a title in a table of numbers.

    Several words will do where it is called as texts are; otherwise twice as many.
    """
    called_so = bool(_by_name([name], _TEXT_WORDS)) and not _parts(name) & _SHORT_FORMS
    return _mean_words(table, name) >= _TEXT_WORDS_LEAST * (1 if called_so else 2)


def more_texts(table: Table, text: str | None, label: str | None) -> list[str]:
    """Returns the columns beside that of the texts that hold texts too, by their names or by their length."""
    columns = [name for name in table.names if name not in (text, label) and _holds_texts(table, name)]
    named = _by_name(columns, _TEXT_WORDS)
    words = {name: _mean_words(table, name) for name in columns}
    found = [name for name in columns if words[name] >= (1.5 if name in named else _TEXT_WORDS_LEAST)]
    return found[:_MOST_TOLD]


def likely_text(table: Table, *, without: str | None) -> str | None:
    """Returns the column of texts, None where it is unclear."""
    columns = [name for name in table.names if name != without and _holds_texts(table, name)]
    named = _by_name(columns, _TEXT_WORDS)
    words = {name: _mean_words(table, name) for name in columns}
    if named:
        # 'text_id' is no text, and 'review_title' not all of it where there is a 'review_body'
        wordy = [name for name in named if words[name] >= 1.5]
        wordy.sort(key=lambda name: bool(_parts(name) & _SHORT_FORMS))
        best = (wordy or named)[0]
        return best if words[best] > 1 or len(columns) == 1 else None
    if not columns:  # what is wrong with a column of that name is told later
        return next((name for word in _TEXT_WORDS for name in table.names if name.strip().lower() == word), None)
    longest = sorted(columns, key=lambda name: -words[name])
    if not longest or words[longest[0]] < _TEXT_WORDS_LEAST:
        return None
    alone = len(longest) == 1 or words[longest[0]] >= _TEXT_LONGER * words[longest[1]]
    return longest[0] if alone else None


def _by_name(columns: Sequence[str], words: Sequence[str]) -> list[str]:
    """Returns the columns called so, or with such a word in their name: `Star_Rating`, `reviewText`."""
    exact = [name for word in words for name in columns if name.strip().lower() == word]
    parts = {name: _parts(name) for name in columns}
    inside = [name for word in words for name in columns if word in parts[name] and "id" not in parts[name]]
    return list(dict.fromkeys([*exact, *inside]))


def _parts(name: str) -> set[str]:
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return set(re.split(r"[^a-z]+", apart.lower()))


def _may_be_labels(table: Table, name: str) -> bool:
    """Tells whether the values of a column repeat, as labels do: two or more, and fewer than half as many as rows."""
    if name in table.label_names:
        return True
    values = [value for value in table.values(name) if not is_missing(value)]
    different = len(set(values))
    return 2 <= different <= max(2, min(_MOST_LABELS, len(values) // 2))


def _looks_like_labels(table: Table, name: str) -> bool:
    """As `_may_be_labels`, for a column whose name says nothing: few values, short, no fractions."""
    values = _seen(table, name)
    different = set(values)
    if not _may_be_labels(table, name) or len(different) > max(2, min(200, len(values) // 5)):
        return False
    return all(_is_short(value) for value in different)


def _is_short(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return _words(str(value)) <= 5 and not re.fullmatch(r"[-+]?\d*[.,]\d+", str(value).strip())


def _holds_texts(table: Table, name: str) -> bool:
    values = _seen(table, name)
    texts = sum(isinstance(value, str) and re.search(r"[^\W\d_]", value) is not None for value in values)
    return texts > len(values) // 2


def _mean_words(table: Table, name: str) -> float:
    values = [value for value in _seen(table, name) if isinstance(value, str)]
    return sum(map(_words, values)) / max(1, len(values))


def _words(text: str) -> float:
    """Returns how many words a text has; of languages written without spaces four letters stand for one."""
    apart = len(text.split())
    return apart if text.isascii() else max(apart, sum(ord(letter) >= 0x2E80 for letter in text) / 4)


def _seen(table: Table, name: str) -> list[Any]:
    return [value for value in table.values(name)[:_LOOKED_AT] if not is_missing(value)]


def _described(table: Table, name: str) -> str:
    """Returns a column with what it holds: ``stars (5 values: 1, 2, 3, 4, 5)``."""
    if name in table.left_aside:
        return f"{printable(name)} ({table.left_aside[name]})"
    values = _seen(table, name)
    different = list(dict.fromkeys(str(value) for value in values))
    if not values:
        what = "empty"
    elif len(different) <= max(2, min(20, len(values) // 2)):
        shown = ", ".join(printable(value[:20]) for value in sorted(different)[:4])
        what = f"{len(different)} value{'s' if len(different) > 1 else ''}: {shown}"
        what += ", ..." if len(different) > 4 else ""
    elif _holds_texts(table, name) and _mean_words(table, name) >= 2:
        what = f"texts of {_mean_words(table, name):.0f} words"
    else:
        kind = "short texts" if _holds_texts(table, name) else "numbers" if _numbers(values) else "values"
        what = f"{len(different):,} different {kind}"
    return f"{printable(name)[:40]} ({what})"


def _numbers(values: Iterable[Any]) -> bool:
    return all(not isinstance(value, str) or re.fullmatch(r"[-+\d.,eE]+", value.strip()) for value in values)


def _unclear(table: Table, *, texts: bool, label: str | None, key: str = "label_column") -> str:
    """Returns the message where it is unclear what holds the texts or the labels.

    Args:
        table: The rows.
        texts: Whether it is known what holds the texts.
        label: What holds the labels; None: unclear.
        key: The key of `data` that names it.
    """
    missing = [] if texts else [("texts", "text_column")]
    missing += [("labels", key)] if label is None else []
    what = " and which the ".join(what for what, _ in missing)
    settings = " ".join(f"--set data.{setting}=NAME" for _, setting in missing)
    likely = [name for name in table.names if label is None and _looks_like_labels(table, name)]
    names = list(dict.fromkeys([*likely, *table.names, *table.left_aside]))
    shown = [f"  {_described(table, name)}" for name in names[:6]]
    if len(names) > 6:
        shown.append(f"  and {len(names) - 6} more: {', '.join(map(printable, names[6:18]))}"[:200])
    lines = [f"{table.source}: which column holds the {what} is unclear; name it: {settings}", *shown]
    several = [] if texts else more_texts(table, None, label)
    hint = _hint(table)
    if not hint and len(several) > 1:
        hint = f"Or join columns of texts: {as_setting(several)}"
    return "\n".join([*lines, hint] if hint else lines)


def _hint(table: Table) -> str:
    names = list(table.names)
    if len(names) == 1 and not table.typed:
        return "It has one column only: where its cells are cut at something else, --set data.delimiter=..."
    unlike_names = any(len(name.split()) > 6 or re.fullmatch(r"[-\d.]*", name) for name in names)
    repeated = any(name in table.values(name) for name in names)
    if not table.typed and (unlike_names or repeated):
        return "Is its first row no heading? Name the columns: --set data.columns='[NAME, NAME, ...]'"
    return ""


def as_setting(names: Sequence[str]) -> str:
    """Returns how several columns are named on the command line: ``--set data.text_column='["title", "body"]'``."""
    return f"--set data.text_column={shlex.quote(json.dumps(list(names), ensure_ascii=False))}"
