"""Learning from the training rows of a table how its columns become numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from labelembed.data.encoders.table import CategoricalColumn, NumericColumn, TableEncoding, numbers_in, told_where
from labelembed.data.encoders.table_columns import ColumnKind, Kind, category_of, kind_of
from labelembed.data.files.table import Table
from labelembed.errors import DataError


def fit_columns(
    table: Table, rows: Sequence[int], *, asked: Mapping[str, Kind | None], most_categories: int
) -> TableEncoding:
    """Learns how columns become numbers, to the same numbers as scikit-learn's scalers and encoders.

    Numbers are filled with the median and scaled; categories get an input each, the rarest of a column that has too
    many one together, which is also that of categories seen later only.

    Args:
        table: The training rows and others.
        rows: Which of them are trained on, in ascending order.
        asked: What the user says that columns are, None: to be left out; other columns are looked at. Columns that are
            not to be inputs, as that of the labels, are to be left out of `table`.
        most_categories: Inputs of a column of categories at most.

    Raises:
        DataError: No column can be used, or a column of numbers has a value that is none.
    """
    numeric: list[NumericColumn] = []
    categorical: list[CategoricalColumn] = []
    left_out = dict(table.left_aside)
    for name in table.names:
        if name in asked and asked[name] is None:
            left_out[name] = "as asked"
            continue
        every = table.values(name)
        values = [every[row] for row in rows]
        found = kind_of(name, values, asked=asked.get(name), places=rows)
        if found.kind is None:
            left_out[name] = found.reason
        elif found.kind == "numeric":
            with told_where(table, rows):
                numeric.append(_numeric_column(name, numbers_in(name, values, comma=found.comma), found))
        else:
            categorical.append(_categorical_column(name, [category_of(value) for value in values], most_categories))
    if not numeric and not categorical:
        why = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:8])
        raise DataError(f"{table.source}: has no column to learn from: {why or 'none but the labels'}")
    return TableEncoding(numeric=numeric, categorical=categorical, left_out=left_out)


def _numeric_column(name: str, numbers: npt.NDArray[np.float64], found: ColumnKind) -> NumericColumn:
    missing = np.isnan(numbers)
    median = float(np.median(numbers[~missing])) if not missing.all() else 0.0
    filled = np.where(missing, median, numbers)
    mean, deviation = float(filled.mean()), float(filled.std())
    is_constant = deviation <= 10 * np.finfo(np.float64).eps * abs(mean)  # up to rounding
    return NumericColumn(
        name=name,
        median=median,
        mean=mean,
        deviation=1.0 if is_constant else deviation,
        indicator=bool(missing.any()),
        comma=found.comma,
    )


def _categorical_column(name: str, categories: Sequence[str | None], most: int) -> CategoricalColumn:
    counts = Counter(categories)
    # missing ones come last, as scikit-learn has them
    different = sorted(counts, key=lambda category: (category is None, category or ""))
    if len(different) <= most:
        return CategoricalColumn(name, tuple(different), others=False)
    rarest_first = sorted(different, key=lambda category: counts[category])
    rare = set(rarest_first[: len(different) - (most - 1)])
    return CategoricalColumn(name, tuple(category for category in different if category not in rare), others=True)
