"""Learning from the training rows of a table how its columns become numbers, through scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labelembed.data.encoders.table import CategoricalColumn, NumericColumn, TableEncoding, numbers_in, told_where
from labelembed.data.encoders.table_columns import ColumnKind, Kind, category_of, kind_of
from labelembed.data.files.table import Table
from labelembed.errors import DataError


def fit_columns(
    table: Table, rows: Sequence[int], *, asked: Mapping[str, Kind | None], most_categories: int
) -> TableEncoding:
    """Learns how columns become numbers: scikit-learn's ColumnTransformer, whose numbers are then taken out of it.

    Numbers are filled with the median and scaled; categories get an input each, the rarest of a column that has too
    many one together, which is also that of categories seen later only.

    Args:
        table: The training rows and others.
        rows: Which of them are trained on.
        asked: What the user says that columns are, None: to be left out; other columns are looked at. Columns that are
            not to be inputs, as that of the labels, are to be left out of `table`.
        most_categories: Inputs of a column of categories at most.

    Raises:
        DataError: No column can be used, or a column of numbers has a value that is none.
    """
    kinds: dict[str, ColumnKind] = {}
    left_out = dict(table.left_aside)
    for name in table.names:
        values = table.values(name)
        if name in asked and asked[name] is None:
            left_out[name] = "as asked"
            continue
        found = kind_of(name, [values[row] for row in rows], asked=asked.get(name))
        if found.kind is None:
            left_out[name] = found.reason
        else:
            kinds[name] = found
    if not kinds:
        why = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:8])
        raise DataError(f"{table.source}: has no column to learn from: {why or 'none but the labels'}")
    numeric = [name for name, found in kinds.items() if found.kind == "numeric"]
    categorical = [name for name, found in kinds.items() if found.kind == "categorical"]
    matrix = np.empty((len(rows), len(kinds)), dtype=object)
    for place, name in enumerate([*numeric, *categorical]):
        column = table.values(name)
        values = [column[row] for row in rows]
        if name in numeric:
            with told_where(table, rows):
                matrix[:, place] = numbers_in(name, values, comma=kinds[name].comma)
        else:
            matrix[:, place] = [category_of(value) for value in values]
    fitted = transformer(range(len(numeric)), range(len(numeric), len(kinds)), most_categories=most_categories)
    fitted.fit(matrix)
    return TableEncoding(
        numeric=_numeric_columns(fitted, numeric, kinds),
        categorical=_categorical_columns(fitted, categorical),
        left_out=left_out,
    )


def transformer(numeric: Sequence[int], categorical: Sequence[int], *, most_categories: int) -> Any:
    """Returns scikit-learn's ColumnTransformer for a matrix of objects with these columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numbers = FunctionTransformer(_as_numbers)
    scaled = make_pipeline(numbers, SimpleImputer(strategy="median"), StandardScaler())
    missing = make_pipeline(numbers, MissingIndicator(features="missing-only", error_on_new=False))
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=most_categories, sparse_output=False, dtype=np.float64
    )
    parts = []
    if len(numeric):
        parts += [("numbers", scaled, list(numeric)), ("missing", missing, list(numeric))]
    if len(categorical):
        parts.append(("categories", categories, list(categorical)))
    return ColumnTransformer(parts)


def _as_numbers(matrix: Any) -> Any:
    return np.asarray(matrix, dtype=np.float64)


def _numeric_columns(fitted: Any, names: Sequence[str], kinds: Mapping[str, ColumnKind]) -> list[NumericColumn]:
    if not names:
        return []
    scaled, missing = fitted.named_transformers_["numbers"], fitted.named_transformers_["missing"]
    indicated = set(missing[-1].features_.tolist())
    numbers = zip(scaled[1].statistics_, scaled[2].mean_, scaled[2].scale_, strict=True)
    return [
        NumericColumn(name, float(median), float(mean), float(scale), place in indicated, kinds[name].comma)
        for place, (name, (median, mean, scale)) in enumerate(zip(names, numbers, strict=True))
    ]


def _categorical_columns(fitted: Any, names: Sequence[str]) -> list[CategoricalColumn]:
    if not names:
        return []
    encoder = fitted.named_transformers_["categories"]
    found = []
    for name, categories, rare in zip(names, encoder.categories_, encoder.infrequent_categories_, strict=True):
        together = set() if rare is None else set(rare.tolist())
        own = tuple(category for category in categories.tolist() if category not in together)
        found.append(CategoricalColumn(name, own, rare is not None))
    return found
