"""Texts that stand in several columns, title and body or two sentences, joined to one text a row."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from labelembed.data.columns.column_table import ColumnTable, is_missing
from labelembed.data.columns.parts import missing_column
from labelembed.errors import ArgumentFaults, DataError

#: What stands between the texts of two columns.
BETWEEN = "\n"
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+(e[-+]?\d+)?\s*", re.IGNORECASE)
_PLAIN = re.compile(r"[^\W\d]\w*( \w+)*")
# What YAML takes for something else than a text.
_NO_TEXTS = frozenset({"null", "true", "false", "yes", "no", "on", "off"})


def column_names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the columns that `text_column` names: none, one, or several."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def name_faults(given: str | Sequence[str] | None) -> ArgumentFaults:
    """Returns what is wrong with a list of columns: none in it, or one twice."""
    faults = ArgumentFaults()
    names = column_names(given)
    faults.require(given is None or bool(names), "text_column", given, "must name one column or more")
    faults.require(len(set(names)) == len(names), "text_column", given, "must name each column once")
    return faults


def as_setting(names: Sequence[str]) -> str:
    """Returns how several columns are named on the command line: ``--set data.text_column='[title, body]'``."""
    plain = [_PLAIN.fullmatch(name) is not None and name.lower() not in _NO_TEXTS for name in names]
    shown = [name if as_is else json.dumps(name) for name, as_is in zip(names, plain, strict=True)]
    return f"--set data.text_column={shlex.quote('[' + ', '.join(shown) + ']')}"


def quoted(names: Sequence[str]) -> str:
    """Returns names as a message has them: ``'title', 'subtitle' and 'body'``."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def with_texts(table: ColumnTable, names: Sequence[str], *, skip: bool, notes: list[str]) -> ColumnTable:
    """Returns the rows that have a text, which stands in the first of the columns and is that of all, joined.

    A column of a row that has none counts as an empty text.

    Args:
        table: The rows.
        names: Columns of the texts.
        skip: Leave rows without a text out, with a note, instead of refusing the table.
        notes: Where that is noted.

    Raises:
        DataError: A column is not there or holds numbers, or rows have no text in any of the columns.
    """
    for name in names:
        if name not in table.columns:
            raise DataError(missing_column(table, "text_column", name))
        _refuse_numbers(table, name)
    table = _complete(table, names, skip=skip, notes=notes)
    if len(names) == 1:
        return table
    rows = zip(*(table.columns[name] for name in names), strict=True)
    texts = [BETWEEN.join("" if is_missing(value) else value for value in row) for row in rows]
    return replace(table, columns={**table.columns, names[0]: texts})


def _refuse_numbers(table: ColumnTable, column: str) -> None:
    values = [value for value in table.columns[column] if not is_missing(value)]
    numeric = sum(not isinstance(value, str) or _NUMBER.fullmatch(value) is not None for value in values)
    if numeric > len(values) // 2:
        raise DataError(
            f"{table.source}: column {column!r} holds numbers in {numeric:,} of {len(table):,} rows; "
            f"name the column of the texts with --set data.text_column=...; there are: {table.listed()}"
        )


def _complete(table: ColumnTable, names: Sequence[str], *, skip: bool, notes: list[str]) -> ColumnTable:
    """Returns the rows that have a text; refuses those without unless `skip`."""
    rows = list(zip(*(table.columns[name] for name in names), strict=True))
    missing = [number for number, row in enumerate(rows) if all(map(is_missing, row))]
    others = [
        number
        for number, row in enumerate(rows)
        if any(not isinstance(value, str) and not is_missing(value) for value in row)
    ]
    if not missing and not others:
        return table
    wrong = [
        f"{what} in {len(found):,} ({table.places(found)})"
        for what, found in (("no text", missing), ("a number", others))
        if found
    ]
    has = f"column {quoted(names)} has" if len(names) == 1 else f"columns {quoted(names)} have"
    said = f"{has} {' and '.join(wrong)} of {len(table):,} rows"
    if not skip:
        raise DataError(f"{table.source}: {said}; leave those rows out with --set data.skip_incomplete=true")
    notes.append(f"rows left out: {said}")
    without = {*missing, *others}
    return table.select([row for row in range(len(table)) if row not in without])
