"""Which columns hold the texts and the labels, by name or by one simple rule; and the labels of a column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import counted, few, folded, printable
from labelembed.lab.data.table_files import Table, is_missing
from labelembed.lab.data.tables import Parts

_LABEL_WORDS = (
    "label", "labels", "class", "target", "category", "sentiment", "intent", "polarity", "topic", "tag", "emotion",
    "rating", "stars", "score", "genre", "spam", "toxic", "outcome", "verdict", "diagnosis",
    "species", "survived", "churn", "result", "y",
)  # fmt: skip
# The short forms at the end are taken only where no other column is called a text.
_TEXT_WORDS = (
    "text", "texts", "review", "sentence", "comment", "message", "content", "document", "body", "utterance", "tweet",
    "post", "description", "abstract", "article", "question", "query", "headline", "title", "summary", "subject",
)  # fmt: skip
_SHORT_FORMS = {"title", "headline", "subject", "summary"}
_LOOKED_AT = 2_000
#: Words on average of a column that counts as texts whatever its name, and how many times those of the next.
_WORDS_OF_TEXTS, _TIMES_LONGER = 4.0, 3.0


def find_columns(table: Table, *, texts: Sequence[str], label: str | None) -> tuple[tuple[str, ...], str]:
    """Returns the columns of texts and that of labels: those given, and otherwise those found.

    Raises:
        DataError: A column that is given is not there, or one cannot be found; names the columns, what they hold, and
            the settings to type.
    """
    found = find_label(table, label, without=texts)
    if found in texts:
        raise DataError(f"{table.source}: column {found!r} cannot hold both the texts and the labels")
    if label is None and not table.typed and found in map(str, table.values(found)):
        raise DataError(
            f"{table.source}: its first row looks like no heading, for {found!r} stands below it too; name the columns "
            "with --set data.columns='[NAME, NAME, ...]', or that of the labels with --set "
            f"data.label_column={found!r}"
        )
    return find_texts(table, texts, label=found), found


def find_texts(table: Table, texts: Sequence[str], *, label: str | None = None) -> tuple[str, ...]:
    """Returns the columns of texts: those given, or the one found; raises DataError as `find_columns`."""
    for name in texts:
        if name not in table.names:
            raise DataError(table.missing_column("text_column", name))
    found = tuple(texts) or tuple(filter(None, [likely_text(table, label=label or likely_label(table))]))
    if not found:
        raise DataError(_unclear(table, "texts", "text_column"))
    return found


def find_label(table: Table, label: str | None, *, key: str = "label_column", without: Sequence[str] = ()) -> str:
    """Returns the column of labels, the one given or the one found; raises DataError as `find_columns`.

    `key` is the key of `data` that names it; the columns `without` hold something else.
    """
    if label is not None and label not in table.names:
        raise DataError(table.missing_column(key, label))
    found = label or likely_label(table, without=without)
    if found is None:
        raise DataError(_unclear(table, "labels", key))
    return found


def likely_label(table: Table, *, without: Sequence[str] = ()) -> str | None:
    """Returns the column of labels: called so and with values that repeat, or the only one of few short values."""
    columns = [name for name in table.names if name not in without]
    called = _called(columns, _LABEL_WORDS)
    repeat = [name for name in called if name in table.label_names or _repeats(table, name, 2)]
    if repeat:
        return repeat[0]
    few_values = [name for name in columns if name in table.label_names or _has_few_values(table, name)]
    exact = [name for name in called if name.strip().lower() in _LABEL_WORDS]  # its values are refused later
    return few_values[0] if len(few_values) == 1 else next(iter([] if few_values else exact), None)


def likely_text(table: Table, *, label: str | None) -> str | None:
    """Returns the column of texts: called so, or by far the one of the longest; None where it is unclear."""
    words = {name: _mean_words(table, name) for name in table.names if name != label and _holds_texts(table, name)}
    called = sorted(_called(list(words), _TEXT_WORDS), key=lambda name: (words[name] < 1.5, _is_short_form(name)))
    if called:
        return called[0] if words[called[0]] > 1 or len(words) == 1 else None
    if not words:  # what is wrong with a column of that name is said later
        return next((name for name in table.names if name != label and name.strip().lower() in _TEXT_WORDS), None)
    longest, *others = sorted(words, key=lambda name: -words[name])
    least = max([_WORDS_OF_TEXTS, *(_TIMES_LONGER * words[name] for name in others)])
    return longest if words[longest] >= least else None


def is_text_column(table: Table, name: str) -> bool:
    """Tells whether a column holds what a text classifier reads, and not a name or a title in a table of numbers."""
    called_so = bool(_called([name], _TEXT_WORDS)) and not _is_short_form(name)
    return _mean_words(table, name) >= _WORDS_OF_TEXTS * (1 if called_so else 2)


def _called(columns: Sequence[str], words: Sequence[str]) -> list[str]:
    """Returns the columns called so, or with such a word in their name: `Star_Rating`, `reviewText`."""
    exact = [name for word in words for name in columns if name.strip().lower() == word]
    inside = [name for word in words for name in columns if word in _words_in(name) and "id" not in _words_in(name)]
    return list(dict.fromkeys([*exact, *inside]))


def _words_in(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()))


def _is_short_form(name: str) -> bool:
    return bool(_words_in(name) & _SHORT_FORMS)


def _seen(table: Table, name: str) -> list[Any]:
    return [value for value in table.frame[name].iloc[:_LOOKED_AT].tolist() if not is_missing(value)]


def _repeats(table: Table, name: str, times: int) -> bool:
    values = _seen(table, name)
    return 2 <= len(set(values)) <= max(2, len(values) // times)


def _has_few_values(table: Table, name: str) -> bool:
    def is_short(value: Any) -> bool:
        if isinstance(value, float):
            return value.is_integer()
        return _count_words(str(value)) <= 5 and not re.fullmatch(r"[-+]?\d*[.,]\d+", str(value).strip())

    return _repeats(table, name, 5) and all(map(is_short, set(_seen(table, name))))


def _holds_texts(table: Table, name: str) -> bool:
    values = _seen(table, name)
    return 2 * sum(isinstance(value, str) and bool(re.search(r"[^\W\d_]", value)) for value in values) > len(values)


def _mean_words(table: Table, name: str) -> float:
    values = [value for value in _seen(table, name) if isinstance(value, str)]
    return sum(map(_count_words, values)) / max(1, len(values))


def _count_words(text: str) -> float:
    """Returns how many words a text has; of scripts written without spaces four letters stand for one."""
    apart = len(text.split())
    return apart if text.isascii() else max(apart, sum(ord(letter) >= 0x2E80 for letter in text) / 4)


def _unclear(table: Table, what: str, key: str) -> str:
    """Returns the message where it is unclear what holds the texts or the labels: the columns, and what to type."""
    lines = [f"{table.source}: which column holds the {what} is unclear; name it: --set data.{key}=NAME"]
    for name in table.names[:8]:
        values = list(dict.fromkeys(map(str, _seen(table, name))))
        shown = ", ".join(printable(value[:20]) for value in values[:4]) + (", ..." if len(values) > 4 else "")
        lines.append(f"  {printable(name)[:40]} ({counted(len(values), 'different value')}: {shown})")
    others = [*table.names[8:], *(f"{name} ({kind})" for name, kind in table.left_aside.items())]
    lines += [f"  and {few(others)}"] if others else []
    if not table.typed:
        lines.append("Without a heading: --set data.columns='[NAME, NAME, ...]'; cut wrongly: --set data.delimiter=...")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class LabelReading:
    """How labels are read.

    Attributes:
        key: The setting that names their column.
        merge: Whether labels that differ by case or spaces are one; None: refuse them.
        skip_incomplete: Leave examples without a label out; otherwise refuse them. None: no setting does that.
        to_evaluate: The examples are for a finished run to evaluate: none is left out for its label, which may be
            one of any split, and spellings are left to the run (see `dataset.renumbered`).
    """

    key: str = "label_column"
    merge: bool | None = None
    skip_incomplete: bool | None = False
    to_evaluate: bool = False


def labelled(
    tables: Parts, column: str, how: LabelReading, source: Path
) -> tuple[dict[str, Examples], tuple[str, ...], list[str]]:
    """Returns the examples that have a label, by split, the names of the labels, and notes.

    Labels are numbered in the order of their names (as numbers where all are whole numbers), or as the file numbers
    them where it knows their names. Merged labels are
    called by what they have in common: ``positive`` for ``Positive ``.

    Args:
        tables: As `read_parts` returned them.
        column: That of the labels.
        how: See the class.
        source: The data set's file or folder, for messages.

    Raises:
        DataError: Labels are missing or differ by case or spaces only, there is one label, there are about as many as
            examples, or one stands in another split only; names the column, and the setting that goes on.
    """
    notes: list[str] = []
    tables = dict(tables)
    if "test" in tables and _is_secret(tables["test"], tables["train"], column):
        notes.append(f"test examples without labels left out: {len(tables.pop('test')):,}")
    known = tables["train"].label_names.get(column)
    names: dict[str, list[str]] = {}
    for part, table in tables.items():
        if column not in table.names:
            raise DataError(table.missing_column(how.key, column))
        of_part = table.label_names.get(column, known)  # another file may number the same names otherwise
        found = [_name_of(value, of_part, table, row) for row, value in enumerate(table.values(column))]
        missing = [row for row, name in enumerate(found) if name is None]
        if missing:
            of = f"{len(missing):,} of {len(table):,} examples ({table.places_of(missing)})"
            if not how.skip_incomplete:
                way = "" if how.skip_incomplete is None else "; leave them out with --set data.skip_incomplete=true"
                raise DataError(f"{table.source}: column {column!r} has no label in {of}{way}")
            notes.append(f"left out, without a label: {of}")
            tables[part] = table.select([row for row, name in enumerate(found) if name is not None])
        names[part] = [name for name in found if name is not None]
    where = f"{source}: column {column!r}"
    if not how.to_evaluate:
        _check_spellings(names, where, how)
        if known is None:
            _check_labels(names["train"], where, how.key)
        if how.merge is not False:
            before = {name for found in names.values() for name in found}
            names = {part: list(map(folded if how.merge else str.strip, found)) for part, found in names.items()}
            after = {name for found in names.values() for name in found}
            if how.merge and len(after) < len(before):
                notes.append(
                    f"labels merged that differ by case or spaces: {len(before)} spellings, {len(after)} labels"
                )
        known = known if known and set(names["train"]) <= set(known) else None
    label_names, labels = numbered(names, where, names=known, to_evaluate=how.to_evaluate)
    return {part: Examples(table, labels[part]) for part, table in tables.items()}, label_names, notes


def numbered(
    found: Mapping[str, Sequence[str]], where: str, *, names: Sequence[str] | None = None, to_evaluate: bool = False
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Returns the names of the labels, in order, and the labels [N] of each split.

    Args:
        found: The name of each example's label, by split; `train` is among them.
        where: The data set, for messages.
        names: Names in the order that the file gives them; None: ordered here.
        to_evaluate: A label may stand in any split, and there may be one only.

    Raises:
        DataError: There is one label, or one stands in no training example.
    """
    decided_by = list(found.values()) if to_evaluate else [found["train"]]
    ordered = list(names or ordered_names({name for part in decided_by for name in part}))
    if len(ordered) < 2 and not to_evaluate:
        raise DataError(f"{where} has one label only, {few(ordered) or 'none'}; there is nothing to tell apart")
    number = {name: place for place, name in enumerate(ordered)}
    for part, of_part in found.items():
        unknown = sorted(set(of_part) - number.keys())
        if unknown:
            raise DataError(
                f"{where} has labels in the {part} set that no training example has: {few(unknown)}; the training set "
                f"has {few(ordered)}"
            )
    labels = {
        part: torch.tensor([number[name] for name in of_part], dtype=torch.int64) for part, of_part in found.items()
    }
    return tuple(ordered), labels


def ordered_names(found: Iterable[str]) -> list[str]:
    """Returns label names in order: as numbers where all are whole numbers, and otherwise as texts."""
    names = set(found)
    # int() would take '٣' and '1_0' as well; '01' and '1' must stay apart
    numbers = all(name.isascii() and name.isdecimal() and len(name) < 19 for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)


def _is_secret(test: Table, train: Table, column: str) -> bool:
    """Tells whether the labels of a test set are kept secret: no column, nothing in it, or -1 everywhere."""
    values = (
        [str(value).strip() for value in test.values(column) if not is_missing(value)] if column in test.names else []
    )
    if not values or set(values) != {"-1"}:
        return not values
    return column in train.label_names or "-1" not in map(str, train.values(column))


def _name_of(value: Any, known: Sequence[str] | None, table: Table, row: int) -> str | None:
    if is_missing(value) or (known is not None and value == -1):
        return None
    if isinstance(value, float) and value.is_integer():  # as whole numbers are where one is missing
        value = int(value)
    if known is not None and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(known):
            raise DataError(
                f"{table.source}: {table.place(row)} has the label {value}; the file names labels 0 to {len(known) - 1}"
            )
        return known[value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_spellings(parts: Mapping[str, Sequence[str]], where: str, how: LabelReading) -> None:
    """Raises DataError where labels differ by case or spaces only and nothing says whether they are one."""
    if how.merge is not None:
        return
    counts = Counter(name for names in parts.values() for name in names)
    spellings: dict[str, list[str]] = {}
    for name, count in counts.most_common():
        spellings.setdefault(folded(name), []).append(f"{name!r} ({counted(count, 'example')})")
    several = [" and ".join(found) for found in spellings.values() if len(found) > 1]
    if several:
        raise DataError(
            f"{where} has labels that differ by case or spaces only: {'; '.join(several[:4])}\n"
            "  --set data.merge_labels=true makes them one label, --set data.merge_labels=false keeps them apart"
        )


def _check_labels(names: Sequence[str], where: str, key: str) -> None:
    """Raises DataError where a column holds no labels but texts, numbers or measurements."""
    different, most = set(names), max(2, len(names) // 2)
    measured = [name for name in different if re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*(e[-+]?\d+)?", name.strip())]
    if len(different) > most or (len(measured) > 20 and len(measured) > len(different) // 2):
        raise DataError(
            f"{where} has {len(different):,} values in {len(names):,} examples: probably texts or measurements; "
            f"labels repeat, so name another with --set data.{key}=..."
        )
