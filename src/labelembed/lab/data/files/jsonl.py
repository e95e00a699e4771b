"""JSON lines, or a JSON file that holds a list of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.files.table import Table

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


def read_json(text: str, file: Path, *, lines: bool = True) -> Table:
    """Returns the examples of a file of JSON.

    Args:
        text: The file's text: an object a line; empty lines count and are passed over.
        file: The file, for messages.
        lines: Whether it must be lines; otherwise it may be a list of objects.

    Raises:
        DataError: The text is no JSON, or no object; names the line.
    """
    if not lines and text.lstrip().startswith("["):
        listed = parsed(text, str(file))
        rows = [_object(row, f"{file}: entry {number:,}") for number, row in enumerate(listed)]
        return _table(rows, file, "entry", range(len(rows)))
    rows, numbers = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{file}: line {number:,}"
            rows.append(parsed_object(line, where))
            numbers.append(number)
    return _table(rows, file, "line", numbers)


def parsed(text: str, where: str) -> Any:
    """Returns what a text of JSON holds.

    Raises:
        DataError: It is no JSON; begins with `where`.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({str(error)[:120]})") from None


def parsed_object(text: str, where: str) -> dict[str, Any]:
    """Returns the object that a text of JSON holds.

    Raises:
        DataError: It is no JSON, or no object; begins with `where`.
    """
    return _object(parsed(text, where), where)


def _object(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    kind = _KINDS.get(type(row), "a number")
    raise DataError(f"{where} is {kind}; expected an object, {{column: value, ...}}")


def _table(rows: Sequence[dict[str, Any]], file: Path, word: str, numbers: Sequence[int]) -> Table:
    if not rows:
        raise DataError(f"{file}: has no {word}")
    columns: dict[str, list[Any]] = {}
    left_aside = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        nested = next((value for value in values if isinstance(value, dict | list)), None)
        if nested is None:
            columns[name] = values
        else:
            left_aside[name] = "objects" if isinstance(nested, dict) else "lists"
    return Table(source=file, columns=columns, places=numbers, word=word, typed=True, left_aside=left_aside)
