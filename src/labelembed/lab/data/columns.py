"""Which columns hold the texts and the labels, by name or by one simple rule; and the labels of a column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import counted, few, printable
from labelembed.lab.data.table_files import Table, is_missing
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
    found = find_label(table, label, without=texts)
    if found in texts:
        raise DataError(f"{table.source}: column {found!r} cannot hold both the texts and the labels")
    if label is None and not table.typed and found in table.values(found):
        raise DataError(
            f"{table.source}: its first row looks like no heading, for {found!r} stands below it too; name the columns "
            f"with --set data.columns='[NAME, NAME, ...]', or that of the labels with --set data.label_column={found!r}"
        )
    return find_texts(table, texts, label=found), found


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


def _called(columns: Sequence[str], words: Sequence[str]) -> list[str]:
    """Returns the columns called so, or with such a word in their name: `Star_Rating`, `reviewText`."""

    def words_in(name: str) -> set[str]:
        return set(re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()))

    exact = [name for word in words for name in columns if name.strip().lower() == word]
    inside = [name for word in words for name in columns if word in words_in(name) and "id" not in words_in(name)]
    return list(dict.fromkeys([*exact, *inside]))


def _seen(table: Table, name: str) -> list[Any]:
    return [value for value in table.frame[name].iloc[:_LOOKED_AT].tolist() if not is_missing(value)]


def _mean_words(table: Table, name: str) -> float:
    values = [value for value in _seen(table, name) if isinstance(value, str)]
    return sum(map(_count_words, values)) / max(1, len(values))


def _count_words(text: str) -> float:
    """Returns how many words a text has; of scripts written without spaces four letters stand for one."""
    apart = len(text.split())
    return apart if text.isascii() else max(apart, sum(ord(letter) >= 0x2E80 for letter in text) / 4)


def _require(table: Table, name: str | None, what: str, key: str) -> str:
    """Returns the name of a column; raises DataError where it is not there, or None: the columns, and what to type."""
    if name in table.names:
        return name
    if name is not None:
        raise DataError(table.missing_column(key, name))
    lines = [f"{table.source}: which column holds the {what} is unclear; name it: --set data.{key}=NAME"]
    for column in table.names[:8]:
        values = list(dict.fromkeys(str(value)[:20] for value in _seen(table, column)))
        lines.append(f"  {printable(column)[:40]} ({counted(len(values), 'different value')}: {few(values, 4)})")
    others = [*table.names[8:], *(f"{name} ({kind})" for name, kind in table.left_aside.items())]
    lines += [f"  and {few(others)}"] if others else []
    if not table.typed:
        lines.append("Without a heading: --set data.columns='[NAME, NAME, ...]'; cut wrongly: --set data.delimiter=...")
    raise DataError("\n".join(lines))


def labelled(
    tables: Parts, column: str, source: Path, *, to_evaluate: bool = False
) -> tuple[dict[str, Examples], tuple[str, ...], list[str]]:
    """Returns the examples that have a label, by split, the names of the labels, and notes on those left out.

    Spaces around a label do not count. In data `to_evaluate` a label may be one of any split.

    Raises DataError where the column is missing, there is one label or about as many as examples, or one stands in
    another split only; names the column, and the setting that goes on.
    """
    notes: list[str] = []
    kept: Parts = {}
    names: dict[str, list[str]] = {}
    for part, table in tables.items():
        found = [_name_of(value) for value in table.values(column)] if column in table.names else []
        if part == "test" and set(found) <= {None, "-1"}:
            notes.append(f"test examples without labels left out: {len(table):,}")
            continue
        _require(table, column, "labels", "label_column")
        kept[part] = table.complete([name is not None for name in found], f"label in column {column!r}", notes)
        names[part] = [name.strip() for name in found if name is not None]
    where = f"{source}: column {column!r}"
    if not to_evaluate:
        _check_labels(names["train"], where)
    label_names, labels = numbered(names, where, to_evaluate=to_evaluate)
    return {part: Examples(table, labels[part]) for part, table in kept.items()}, label_names, notes


def numbered(
    found: Mapping[str, Sequence[str]], where: str, *, to_evaluate: bool = False
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Returns the names of the labels, in order (of numbers where all are whole), and the labels [N] of each split.

    `found` has the name of each example's label, by split. Raises DataError where there is one label, or one stands in
    no training example; in data `to_evaluate` both may be.
    """
    names = {name for part in found if to_evaluate or part == "train" for name in found[part]}
    # int() would take '٣' and '1_0' as well; '01' and '1' must stay apart
    are_numbers = all(name.isascii() and name.isdecimal() and len(name) < 19 for name in names)
    number = {name: label for label, name in enumerate(sorted(names, key=lambda n: (int(n) if are_numbers else 0, n)))}
    if len(number) < 2 and not to_evaluate:
        raise DataError(f"{where} has one label only, {few(list(number)) or 'none'}; there is nothing to tell apart")
    for part, of_part in found.items():
        unknown = sorted(set(of_part) - names)
        if unknown:
            raise DataError(
                f"{where} has labels in the {part} set that no training example has: {few(unknown)}; the training set "
                f"has {few(list(number))}"
            )
    return tuple(number), {part: torch.tensor([number[name] for name in found[part]]).long() for part in found}


def _name_of(value: Any) -> str | None:
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)  # 2.0 where one is missing


def _check_labels(names: Sequence[str], where: str) -> None:
    """Raises DataError where values do not repeat, as labels do."""
    different, examples = len(set(names)), len(names)
    if different > max(2, examples // 2):
        raise DataError(
            f"{where} has {different:,} values in {examples:,} examples: probably texts or measurements; labels "
            "repeat, so name another with --set data.label_column=..."
        )
