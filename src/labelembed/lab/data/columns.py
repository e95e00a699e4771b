"""Which columns hold the texts and the labels, by name or by one simple rule; and the labels of a column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import few
from labelembed.lab.data.table_files import Table, as_text, is_missing
from labelembed.lab.data.tables import Parts

_LABEL_WORDS = (
    "label", "labels", "class", "target", "category", "sentiment", "intent", "polarity", "topic", "tag", "emotion",
    "rating", "stars", "score", "genre", "spam", "toxic", "outcome", "verdict", "diagnosis",
    "species", "survived", "churn", "result", "y",
)  # fmt: skip
_TEXT_WORDS = (
    "text", "texts", "review", "sentence", "comment", "message", "content", "document", "body", "utterance", "tweet",
    "post", "description", "abstract", "article", "question", "query", "headline", "title", "summary", "subject",
)  # fmt: skip
_LOOKED_AT = 2_000
#: Words on average of a column that counts as texts whatever its name, and how many times those of the next.
_WORDS_OF_TEXTS, _TIMES_LONGER = 4.0, 3.0


def find_columns(table: Table, *, texts: Sequence[str], label: str | None) -> tuple[tuple[str, ...], str]:
    """Returns the columns of texts and that of labels: those given, and otherwise those found.

    Raises DataError where one is not there or cannot be found; names the columns, what they hold, and what to type.
    """
    column = find_label(table, label, without=texts)
    if column in texts:
        raise DataError(f"{table.source}: column {column!r} cannot hold both the texts and the labels")
    return find_texts(table, texts, label=column), column


def find_texts(table: Table, texts: Sequence[str], *, label: str | None = None) -> tuple[str, ...]:
    """Returns the columns of texts: those given, or the one found; raises DataError as `find_columns`."""
    found: Sequence[str | None] = texts or [likely_text(table, label=label or likely_label(table))]
    return tuple(_require(table, name, "texts", "text_column") for name in found)


def find_label(table: Table, label: str | None, *, without: Sequence[str] = ()) -> str:
    """Returns the column of labels, the one given or found among those not `without`; raises as `find_columns`."""
    return _require(table, label or likely_label(table, without=without), "labels", "label_column")


def likely_label(table: Table, *, without: Sequence[str] = ()) -> str | None:
    """Returns the column of labels: called so and with values that repeat, or the only one of few short values."""

    def repeats(name: str, times: int) -> bool:
        values = _seen(table, name)
        return 2 <= len(set(values)) <= max(2, len(values) // times)

    def is_short(value: Any) -> bool:
        return _count_words(str(value)) <= 5 and not re.fullmatch(r"\s*[-+]?\d*[.,]\d*[1-9]\d*\s*", str(value))

    columns = [name for name in table.names if name not in without]
    called = [name for name in _called(columns, _LABEL_WORDS) if repeats(name, 2)]
    short = [name for name in columns if repeats(name, 5) and all(map(is_short, set(_seen(table, name))))]
    exact = [name for name in columns if name.strip().lower() in _LABEL_WORDS and not short]  # refused later
    return next(iter([*called, *(short if len(short) == 1 else exact)]), None)


def likely_text(table: Table, *, label: str | None) -> str | None:
    """Returns the column of texts: the longest that is called so, or by far the longest; None where it is unclear."""
    words = {name: _mean_words(table, name) for name in table.names if name != label}
    longest, *others = sorted(words, key=lambda name: -words[name]) or [""]
    called = _called([name for name in words if words[name] > 1], _TEXT_WORDS)
    least = max([_WORDS_OF_TEXTS, *(_TIMES_LONGER * words[name] for name in others)])
    likely = longest if words.get(longest, 0) >= least else None
    return max(called, key=lambda name: words[name], default=likely)


def is_text_column(table: Table, name: str) -> bool:
    """Tells whether a column holds what a text classifier reads, and not a name in a table of numbers."""
    return _mean_words(table, name) >= _WORDS_OF_TEXTS * (1 if _called([name], _TEXT_WORDS) else 2)


def words_in(name: str) -> set[str]:
    """Returns the words of a column's name, in lower case: `Star_Rating`, `reviewText`."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()))


def _called(columns: Sequence[str], words: Sequence[str]) -> list[str]:
    """Returns the columns with one of the words in their name, those first that have few others."""
    named = [name for name in columns if words_in(name) & set(words) and "id" not in words_in(name)]
    return sorted(named, key=lambda name: len(words_in(name)))


def _seen(table: Table, name: str) -> list[Any]:
    rows = np.random.default_rng(0).choice(len(table), min(len(table), _LOOKED_AT), replace=False)  # it may be sorted
    return [value for value in table.frame[name].iloc[rows].tolist() if not is_missing(value)]


def _mean_words(table: Table, name: str) -> float:
    values = [value for value in _seen(table, name) if isinstance(value, str)]
    return sum(map(_count_words, values)) / max(1, len(values))


def _count_words(text: str) -> float:
    """Of scripts written without spaces four letters stand for a word."""
    apart = len(text.split())
    return apart if text.isascii() else max(apart, sum(ord(letter) >= 0x2E80 for letter in text) / 4)


def _require(table: Table, name: str | None, what: str, key: str) -> str:
    if name in table.names:
        return name
    if name is not None:
        raise DataError(table.missing_column(key, name))
    way = f"name it: --set data.{key}=NAME"
    raise DataError(f"{table.source}: which column holds the {what} is unclear; {way}; there are: {table.listed()}")


def labelled(
    tables: Parts, column: str, source: Path, *, to_evaluate: bool = False
) -> tuple[dict[str, Examples], tuple[str, ...], list[str]]:
    """Returns the examples that have a label, by split, the names of the labels, and notes.

    Spaces around a label are no part of it. In data `to_evaluate` a label may be one of any split. Raises DataError
    where the column is missing, there is one label or about as many as examples, or one stands in another split only.
    """
    notes: list[str] = []
    kept: Parts = {}
    names: dict[str, list[str]] = {}
    for part, table in tables.items():
        values = table.values(column) if column in table.names else []
        texts = [None if is_missing(value) else as_text(value) for value in values]
        if part == "test" and set(texts) <= {None, "-1"}:
            notes.append(f"test examples without labels left out: {len(table):,}")
            continue
        _require(table, column, "labels", "label_column")
        kept[part] = table.complete([name is not None for name in texts], f"label in column {column!r}", notes)
        names[part] = [name for name in texts if name is not None]
    where = f"{source}: column {column!r}"
    label_names, labels = numbered(names, where, to_evaluate=to_evaluate)
    if not to_evaluate and len(label_names) > max(2, len(names["train"]) // 2):
        counts = f"{len(label_names):,} values in {len(names['train']):,} examples, which labels hardly have"
        raise DataError(f"{where} has {counts}; name another with --set data.label_column=...")
    return {part: Examples(table, labels[part]) for part, table in kept.items()}, label_names, notes


def numbered(
    names_of: Mapping[str, Sequence[str]], where: str, *, to_evaluate: bool = False
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Returns the names of the labels, in order (of numbers where all are whole), and the labels [N] of each split.

    `names_of` has the name of each example's label, by split. Raises DataError where there is one label, or one stands
    in no training example; in data `to_evaluate` both may be.
    """
    names = {name for part in names_of if to_evaluate or part == "train" for name in names_of[part]}
    # int() would take '٣' and '1_0' as well; '01' and '1' must stay apart
    are_numbers = all(name.isascii() and name.isdecimal() and len(name) < 19 for name in names)
    number = {name: label for label, name in enumerate(sorted(names, key=lambda n: (int(n) if are_numbers else 0, n)))}
    if len(number) < 2 and not to_evaluate:
        held = f"one label only, {few(list(number))}" if number else "no label"
        raise DataError(f"{where} has {held}; there is nothing to tell apart")
    for part, of_part in names_of.items():
        unknown = sorted(set(of_part) - names)
        if unknown:
            theirs = f"labels in the {part} set that no training example has: {few(unknown)}"
            raise DataError(f"{where} has {theirs}; the training set has {few(list(number))}")
    return tuple(number), {part: torch.tensor([number[name] for name in names_of[part]]).long() for part in names_of}
