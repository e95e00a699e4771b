"""Rows of JSON lines, or of a JSON file that holds a list of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.columns.column_table import ColumnTable, Section
from labelembed.errors import DataError

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


def json_lines_table(text: str, file: Path) -> ColumnTable:
    """Returns the rows of JSON lines: an object a line; empty lines count and are passed over.

    Raises:
        DataError: A line is no JSON object; names it.
    """
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, f"{file}: line {number:,}"))
            numbers.append(number)
    return _table(rows, file, "line", numbers)


def json_table(text: str, file: Path) -> ColumnTable:
    """Returns the rows of a JSON file: a list of objects, or JSON lines under another name.

    Raises:
        DataError: It is neither; names the row.
    """
    if not text.lstrip().startswith("["):
        return json_lines_table(text, file)
    rows = _parsed(text, f"{file}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{file}: entry {number:,} is {_kind(row)}; expected an object, {{column: value, ...}}")
    return _table(rows, file, "entry", range(len(rows)))


def _object(line: str, where: str) -> dict[str, Any]:
    row = _parsed(line, where)
    if not isinstance(row, dict):
        raise DataError(f"{where} is {_kind(row)}; expected an object, {{column: value, ...}}, in every line")
    return row


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({str(error)[:120]})") from None


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def _table(rows: list[dict[str, Any]], file: Path, word: str, numbers: Sequence[int]) -> ColumnTable:
    if not rows:
        raise DataError(f"{file}: has no row")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, list[Any]] = {}
    left_aside = {}
    for name in names:
        values = [row.get(name) for row in rows]
        nested = next((value for value in values if isinstance(value, dict | list)), None)
        if nested is None:
            columns[name] = values
        else:
            left_aside[name] = "objects" if isinstance(nested, dict) else "lists"
    return ColumnTable(
        source=file,
        columns=columns,
        sections=(Section(file, word, numbers),),
        typed=True,
        left_aside=left_aside,
    )
