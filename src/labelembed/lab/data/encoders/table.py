"""How the columns of a table become numbers: scikit-learn's numbers of the training examples, kept as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, FiniteFloat

from labelembed.errors import DataError
from labelembed.lab.data.checks import printable
from labelembed.lab.data.encoder import Encoded, Encoder, read_settings
from labelembed.lab.data.encoders.table_columns import Kind, category_of, is_nothing, kind_of, number_of
from labelembed.lab.data.files.table import Table

COLUMNS_FILE = "columns.json"
_FORMAT = "labelembed.columns.1"
# Scaled numbers are cut here: a value that far from the training examples would drive a network out of its range.
_FARTHEST = 20.0

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: ``(value - mean) / deviation``, and where training examples miss it, whether it is missing.

    Attributes:
        name: The column.
        median: What stands for a missing value.
        mean: Of the training examples, missing ones filled.
        deviation: The same; 1 where it is 0.
        indicator: Whether a further input says that the value is missing.
        comma: Whether numbers are written with commas for points.
    """

    name: str
    median: FiniteFloat
    mean: FiniteFloat
    deviation: Annotated[FiniteFloat, Field(gt=0)]
    indicator: bool
    comma: bool

    @classmethod
    def fit(cls, table: Table, name: str, *, comma: bool) -> NumericColumn:
        """Learns from the examples of a table."""
        numbers = _numbers(table, name, comma=comma)
        missing = np.isnan(numbers)
        median = float(np.median(numbers[~missing])) if not missing.all() else 0.0
        filled = np.where(missing, median, numbers)
        mean, deviation = float(filled.mean()), float(filled.std())
        is_constant = deviation <= 10 * np.finfo(np.float64).eps * abs(mean)  # up to rounding
        return cls(name, median, mean, 1.0 if is_constant else deviation, bool(missing.any()), comma)

    @property
    def width(self) -> int:
        """How many inputs it gives."""
        return 1 + self.indicator

    def encode(self, table: Table) -> Numbers:
        """Returns the inputs [N, width]."""
        numbers = _numbers(table, self.name, comma=self.comma)
        missing = np.isnan(numbers)
        scaled = (np.where(missing, self.median, numbers) - self.mean) / self.deviation
        columns = [np.clip(scaled, -_FARTHEST, _FARTHEST)]
        if self.indicator:
            columns.append(missing.astype(np.float64))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories: an input for each, 1 where the example has it.

    Attributes:
        name: The column.
        categories: Those with an input of their own; None is a missing value.
        others: Whether a further input stands for the rare ones of the training examples, and for those never seen
            there.
    """

    name: str
    categories: tuple[str | None, ...]
    others: bool

    @classmethod
    def fit(cls, table: Table, name: str, *, most: int) -> CategoricalColumn:
        """Learns from the examples of a table; of more than `most` categories the rarest share one input."""
        counts = Counter(map(category_of, table.values(name)))
        # missing ones come last, as scikit-learn has them
        different = sorted(counts, key=lambda category: (category is None, category or ""))
        if len(different) <= most:
            return cls(name, tuple(different), others=False)
        rarest_first = sorted(different, key=lambda category: counts[category])
        rare = set(rarest_first[: len(different) - (most - 1)])
        return cls(name, tuple(category for category in different if category not in rare), others=True)

    @property
    def width(self) -> int:
        """How many inputs it gives."""
        return len(self.categories) + self.others

    def encode(self, table: Table) -> Numbers:
        """Returns the inputs [N, width]; a category that is not known has zeros, or is one of the others."""
        inputs = np.zeros((len(table), self.width))
        number = {category: column for column, category in enumerate(self.categories)}
        for row, value in enumerate(table.values(self.name)):
            column = number.get(category_of(value), len(self.categories) if self.others else None)
            if column is not None:
                inputs[row, column] = 1.0
        return inputs


@dataclass
class _Columns:
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    left_out: dict[str, str]


class TableEncoder(Encoder):
    """How columns become numbers, to the same numbers as scikit-learn's scalers and encoders.

    Numbers are filled with the median and scaled; categories get an input each, the rarest of a column that has too
    many one together, which is also that of categories seen later only.

    Args:
        asked: What the user says that columns are, None: to be left out; other columns are looked at.
        most_categories: Inputs of a column of categories at most.

    Attributes:
        numeric: Columns of numbers.
        categorical: Columns of categories.
    """

    def __init__(self, *, asked: Mapping[str, Kind | None] | None = None, most_categories: int = 50) -> None:
        self._asked = dict(asked or {})
        self._most_categories = most_categories
        self.numeric: tuple[NumericColumn, ...] = ()
        self.categorical: tuple[CategoricalColumn, ...] = ()

    @property
    def _columns(self) -> tuple[NumericColumn | CategoricalColumn, ...]:
        return (*self.numeric, *self.categorical)

    @property
    def input_range(self) -> tuple[float, float]:
        """Inputs are scaled already."""
        return (0.0, 1.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which columns are used, and which are left out."""
        width = sum(column.width for column in self._columns)
        used = f"columns used: {len(self.numeric)} of numbers, {len(self.categorical)} of categories"
        notes = [f"{used}, together {width} inputs"]
        if self.left_out:
            shown = [f"{printable(name)} ({why})" for name, why in list(self.left_out.items())[:8]]
            more = f" and {len(self.left_out) - 8} more" if len(self.left_out) > 8 else ""
            notes.append(f"columns left out: {', '.join(shown)}{more}")
        others = [column.name for column in self.categorical if column.others]
        if others:
            notes.append(f"rare categories taken together, in: {', '.join(map(printable, others[:8]))}")
        return tuple(notes)

    def fit_transform(self, examples: Table) -> Encoded:
        """Learns what the columns are and how they become numbers.

        Raises:
            DataError: No column can be used, or a column of numbers has a value that is none.
        """
        numeric: list[NumericColumn] = []
        categorical: list[CategoricalColumn] = []
        left_out = dict(examples.left_aside)
        for name in examples.names:
            if name in self._asked and self._asked[name] is None:
                left_out[name] = "as asked"
                continue
            found = kind_of(name, examples.values(name), asked=self._asked.get(name), places=examples.places)
            if found.kind is None:
                left_out[name] = found.reason
            elif found.kind == "numeric":
                numeric.append(NumericColumn.fit(examples, name, comma=found.comma))
            else:
                categorical.append(CategoricalColumn.fit(examples, name, most=self._most_categories))
        if not numeric and not categorical:
            why = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:8])
            raise DataError(f"{examples.source}: has no column to learn from: {why or 'none but the labels'}")
        self.numeric, self.categorical, self.left_out = tuple(numeric), tuple(categorical), left_out
        return self.transform(examples)

    def transform(self, examples: Table) -> Encoded:
        """Returns the inputs [N, F], float32: numbers, then categories, in the order of the columns.

        Raises:
            DataError: A column is missing, or a value is no number.
        """
        for column in self._columns:
            if column.name not in examples.names:
                raise DataError(
                    f"{examples.source}: has no column {column.name!r}, which the training examples had; it has "
                    f"{examples.listed()}"
                )
        parts = [column.encode(examples) for column in self._columns]
        return Encoded(torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32)))

    def files(self) -> dict[str, bytes]:
        """Returns the columns with their numbers, as JSON."""
        content = {
            "format": _FORMAT,
            "numeric": [asdict(column) for column in self.numeric],
            "categorical": [asdict(column) for column in self.categorical],
            "left_out": dict(self.left_out),
        }
        return {COLUMNS_FILE: (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TableEncoder:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: The file is missing or damaged.
        """
        kept = read_settings(folder / COLUMNS_FILE, _FORMAT, _Columns)
        found = cls()
        found.numeric, found.categorical, found.left_out = kept.numeric, kept.categorical, kept.left_out
        return found


def _numbers(table: Table, name: str, *, comma: bool) -> Numbers:
    """Returns the values of a column as numbers [N], nan where they are missing.

    Raises:
        DataError: A value is neither a finite number nor missing; names the place.
    """
    numbers = np.empty(len(table))
    for row, value in enumerate(table.values(name)):
        number = math.nan if is_nothing(value) else number_of(value, comma=comma)
        if number is None or math.isinf(number):
            raise DataError(
                f"{table.source}: {table.place(row)}: column {name!r} holds numbers, but "
                f"{printable(str(value)[:40])!r} stands there; repair it, or say what the column is: "
                f"--set 'data.categorical=[{name}]' or --set 'data.leave_out=[{name}]'"
            )
        numbers[row] = number
    return numbers
