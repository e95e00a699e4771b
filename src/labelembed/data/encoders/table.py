"""How the columns of a table become numbers: fitted on the training rows by scikit-learn, kept as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.data.checks import printable
from labelembed.data.encoders.table_columns import category_of, is_nothing, number_of
from labelembed.data.files.table import Table
from labelembed.errors import DataError

COLUMNS_FILE = "columns.json"
_FORMAT = "labelembed.columns.1"
# Scaled numbers are cut here: a value that far from the training rows would drive a network out of its range.
_FARTHEST = 20.0


class NotANumber(Exception):  # noqa: N818 - said of a value
    """A value of a column of numbers that is none."""

    def __init__(self, column: str, row: int, value: Any) -> None:
        super().__init__(column, row, value)
        self.column, self.row, self.value = column, row, value


def numbers_in(name: str, values: Sequence[Any], *, comma: bool) -> npt.NDArray[np.float64]:
    """Returns the values of a column as numbers [N], nan where they are missing.

    Raises:
        NotANumber: A value is neither a finite number nor missing.
    """
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        number = math.nan if is_nothing(value) else number_of(value, comma=comma)
        if number is None or math.isinf(number):
            raise NotANumber(name, row, value)
        numbers[row] = number
    return numbers


@contextmanager
def told_where(table: Table, rows: Sequence[int]) -> Iterator[None]:
    """Turns NotANumber of values at these rows of a table into a DataError that names the place."""
    try:
        yield
    except NotANumber as wrong:
        raise DataError(
            f"{table.source}: {table.place(rows[wrong.row])}: column {wrong.column!r} holds numbers, but "
            f"{printable(str(wrong.value)[:40])!r} stands there; repair it, or say what the column is: "
            f"--set 'data.categorical=[{wrong.column}]' or --set 'data.leave_out=[{wrong.column}]'"
        ) from None


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: ``(value - mean) / deviation``, and where training rows miss it, whether it is missing.

    Attributes:
        name: The column.
        median: What stands for a missing value.
        mean: Of the training rows, missing ones filled.
        deviation: The same; 1 where it is 0.
        indicator: Whether a further input says that the value is missing.
        comma: Whether numbers are written with commas for points.
    """

    name: str
    median: float
    mean: float
    deviation: float
    indicator: bool
    comma: bool

    @property
    def width(self) -> int:
        """How many inputs it gives."""
        return 1 + self.indicator

    def encode(self, values: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Returns the inputs [N, width].

        Raises:
            NotANumber: A value is no number.
        """
        numbers = numbers_in(self.name, values, comma=self.comma)
        missing = np.isnan(numbers)
        scaled = (np.where(missing, self.median, numbers) - self.mean) / self.deviation
        columns = [np.clip(scaled, -_FARTHEST, _FARTHEST)]
        if self.indicator:
            columns.append(missing.astype(np.float64))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories: an input for each, 1 where the row has it.

    Attributes:
        name: The column.
        categories: Those with an input of their own; None is a missing value.
        others: Whether a further input stands for the rare ones of the training rows, and for those never seen there.
    """

    name: str
    categories: tuple[str | None, ...]
    others: bool

    @property
    def width(self) -> int:
        """How many inputs it gives."""
        return len(self.categories) + self.others

    def encode(self, values: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Returns the inputs [N, width]; a category that is not known has zeros, or is one of the others."""
        inputs = np.zeros((len(values), self.width))
        number = {category: column for column, category in enumerate(self.categories)}
        for row, value in enumerate(values):
            column = number.get(category_of(value), len(self.categories) if self.others else None)
            if column is not None:
                inputs[row, column] = 1.0
        return inputs


class TableEncoding:
    """What was learned of a table's columns from the training rows.

    Args:
        numeric: Columns of numbers.
        categorical: Columns of categories.
        left_out: Columns that no network is given, and why.
    """

    def __init__(
        self,
        *,
        numeric: Sequence[NumericColumn],
        categorical: Sequence[CategoricalColumn],
        left_out: Mapping[str, str],
    ) -> None:
        self.numeric = tuple(numeric)
        self.categorical = tuple(categorical)
        self.left_out = dict(left_out)
        self._columns: tuple[NumericColumn | CategoricalColumn, ...] = (*self.numeric, *self.categorical)

    @property
    def input_range(self) -> tuple[float, float]:
        """Inputs are scaled already."""
        return (0.0, 1.0)

    @property
    def width(self) -> int:
        """How many inputs a row has."""
        return sum(column.width for column in self._columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which columns are used, and which are left out."""
        used = f"columns used: {len(self.numeric)} of numbers, {len(self.categorical)} of categories"
        notes = [f"{used}, together {self.width} inputs"]
        if self.left_out:
            shown = [f"{printable(name)} ({why})" for name, why in list(self.left_out.items())[:8]]
            more = f" and {len(self.left_out) - 8} more" if len(self.left_out) > 8 else ""
            notes.append(f"columns left out: {', '.join(shown)}{more}")
        others = [column.name for column in self.categorical if column.others]
        if others:
            notes.append(f"rare categories taken together, in: {', '.join(map(printable, others[:8]))}")
        return tuple(notes)

    def encode(self, table: Table, rows: Sequence[int] | None = None) -> Tensor:
        """Returns the inputs [N, width], float32: numbers, then categories, in the order of the columns.

        Args:
            table: Rows with the same columns.
            rows: Which of them; None: all.

        Raises:
            DataError: A column is missing, or a value is no number.
        """
        rows = range(len(table)) if rows is None else rows
        parts = []
        for column in self._columns:
            if column.name not in table.names:
                raise DataError(
                    f"{table.source}: has no column {column.name!r}, which the training rows had; it has "
                    f"{table.listed()}"
                )
            values = table.values(column.name)
            with told_where(table, rows):
                parts.append(column.encode([values[row] for row in rows]))
        return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))

    def files(self) -> dict[str, bytes]:
        """Returns the columns with their numbers, as JSON."""
        content = {
            "format": _FORMAT,
            "numeric": [asdict(column) for column in self.numeric],
            "categorical": [asdict(column) for column in self.categorical],
            "left_out": self.left_out,
        }
        return {COLUMNS_FILE: (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path) -> TableEncoding:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: The file is missing or damaged.
        """
        file = folder / COLUMNS_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"the format {content['format']!r}")
            numeric = [_numeric(entry) for entry in content["numeric"]]
            categorical = [_categorical(entry) for entry in content["categorical"]]
            left_out = {str(name): str(why) for name, why in content["left_out"].items()}
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{file}: damaged, or of another version ({str(error)[:100]})") from None
        return cls(numeric=numeric, categorical=categorical, left_out=left_out)


def _numeric(entry: dict[str, Any]) -> NumericColumn:
    column = NumericColumn(**entry)
    numbers = (column.median, column.mean, column.deviation)
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers) or not column.deviation:
        raise ValueError(f"the numbers of column {column.name!r}")
    return column


def _categorical(entry: dict[str, Any]) -> CategoricalColumn:
    column = CategoricalColumn(**{**entry, "categories": tuple(entry["categories"])})
    if not all(category is None or isinstance(category, str) for category in column.categories):
        raise ValueError(f"the categories of column {column.name!r}")
    return column
