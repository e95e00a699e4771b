"""What kind of data a path holds, for `--data` without a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.lab.data.files.parts import Parts, Reading, is_readable, read_parts


class Found(NamedTuple):
    """Data that a reader can read.

    Attributes:
        what: In words: ``4,952 texts, 6 classes, columns text and kind``.
        train: Number of training examples, a validation set among them that is still to be held out.
        names: Names of the labels.
        shape: Shape of an input, where nothing has to be decoded or learned to know it; else empty.
    """

    what: str
    train: int
    names: tuple[str, ...]
    shape: tuple[int, ...] = ()


class Place:
    """A path and what was typed of it; its columns are read once, however many readers look at them.

    Args:
        path: A file or a folder that is there.
        given: Keys of `data` that were typed, as ``{"label_column": "kind"}``.
    """

    def __init__(self, path: Path, given: Mapping[str, Any]) -> None:
        self.path = path
        self.given = given

    def text(self, key: str) -> str | None:
        """Returns a text that was typed; what is none is refused with the recipe."""
        value = self.given.get(key)
        return value if isinstance(value, str) else None

    def names(self, key: str) -> list[str]:
        """Returns names of columns that were typed as a list or as one text."""
        value = self.given.get(key)
        listed = [value] if isinstance(value, str) else value
        return listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else []

    @cached_property
    def tables(self) -> Parts | None:
        """The tables of CSV, TSV, JSON lines or parquet, or of a saved data set; None where there is no such file.

        Raises:
            DataError: There is one, and it cannot be read.
        """
        if self.path.is_dir():
            inside = [*self.path.iterdir(), *self.path.glob("*/*.parquet")]
            has_tables = any(is_readable(file) and ".txt" not in file.suffixes for file in inside)
        else:
            has_tables = is_readable(self.path)
        if not has_tables:
            return None
        columns = self.names("columns") or None
        reading = Reading(delimiter=self.text("delimiter"), encoding=self.text("encoding"), columns=columns)
        if reading.errors().errors:
            reading = Reading()  # what is wrong with it is said with the recipe
        return read_parts(self.path, reading, split=self.text("split_column") or self.text("split"))
