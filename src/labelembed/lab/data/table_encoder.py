"""How the columns of a table become numbers: scikit-learn's numbers of the training examples, kept as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, FiniteFloat

from labelembed.errors import DataError
from labelembed.lab.data.checks import few, printable
from labelembed.lab.data.encoder import Encoded, Encoder, read_settings
from labelembed.lab.data.table_files import Table

COLUMNS_FILE = "columns.json"
#: Values that stand for nothing, in lower case.
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "nat", "null", "none", "<na>", "?", "-"})
# Scaled numbers are clipped here: a value that far from the training examples would drive a network out of its range.
_FARTHEST = 20.0
# So few different values are categories, whatever most of them look like.
_FEW = 20
_WORDS_OF_A_TEXT = 4.0
_TIME = r"\d{1,2}:\d{2}(:\d{2}.*)?"
_DATE = rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}([ T].*)?|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}( .*)?|{_TIME}"

Kind = Literal["numeric", "categorical"]
Decimal = Literal[".", ","]
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
    """

    name: str
    median: FiniteFloat
    mean: FiniteFloat
    deviation: Annotated[FiniteFloat, Field(gt=0)]
    indicator: bool

    @classmethod
    def fit(cls, numbers: Any, name: str) -> NumericColumn:
        """Learns from the numbers of training examples, a Series."""
        median = 0.0 if numbers.isna().all() else float(numbers.median())
        filled = numbers.fillna(median).to_numpy()
        mean, deviation = float(filled.mean()), float(filled.std())
        is_constant = deviation <= 10 * np.finfo(np.float64).eps * abs(mean)  # up to rounding
        return cls(name, median, mean, 1.0 if is_constant else deviation, bool(numbers.isna().any()))

    def encode(self, numbers: Any) -> Numbers:
        """Returns the inputs [N, 1 or 2] of numbers, a Series."""
        scaled = (numbers.fillna(self.median).to_numpy() - self.mean) / self.deviation
        columns = [np.clip(scaled, -_FARTHEST, _FARTHEST)]
        columns += [numbers.isna().to_numpy(np.float64)] if self.indicator else []
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
    def fit(cls, texts: Any, name: str, *, most: int) -> CategoricalColumn:
        """Learns from the texts of training examples, a Series; of more than `most` the rarest share one input."""
        counts = texts.value_counts(dropna=False)
        # missing ones come last, as scikit-learn has them
        different = sorted(
            (None if text != text else text for text in counts.index), key=lambda text: (text is None, text)
        )
        if len(different) <= most:
            return cls(name, tuple(different), others=False)
        rarest_first = sorted(different, key=lambda text: int(counts[text]) if text else int(texts.isna().sum()))
        rare = set(rarest_first[: len(different) - (most - 1)])
        return cls(name, tuple(text for text in different if text not in rare), others=True)

    def encode(self, texts: Any) -> Numbers:
        """Returns the inputs [N, categories] of texts, a Series; one that is not known has zeros, or is another."""
        import pandas as pd

        width = len(self.categories) + self.others
        known = pd.Index([category for category in self.categories if category is not None], dtype=object)
        codes = known.get_indexer(texts.to_numpy())
        codes = np.where(codes >= 0, codes, width - 1 if self.others else width)
        is_missing = texts.isna().to_numpy()
        if None in self.categories:
            codes[is_missing] = self.categories.index(None)
        return np.eye(width + 1, width)[codes]


@dataclass
class _Columns:
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    left_out: dict[str, str]
    decimal: Decimal = "."


class TableEncoder(Encoder):
    """How columns become numbers, to the same numbers as scikit-learn's scalers and encoders.

    Numbers are filled with the median and scaled; categories get an input each, the rarest of a column that has too
    many one together, which is also that of categories seen later only.

    Args:
        asked: What the user says that columns are, None: to be left out; other columns are looked at.
        most_categories: Inputs of a column of categories at most.
        decimal: What stands before the fraction of a number.

    Attributes:
        numeric: Columns of numbers.
        categorical: Columns of categories.
    """

    def __init__(
        self, *, asked: Mapping[str, Kind | None] | None = None, most_categories: int = 50, decimal: Decimal = "."
    ) -> None:
        self._asked = dict(asked or {})
        self._most_categories = most_categories
        self.decimal: Decimal = decimal
        self.numeric: tuple[NumericColumn, ...] = ()
        self.categorical: tuple[CategoricalColumn, ...] = ()

    @property
    def input_range(self) -> tuple[float, float]:
        """Inputs are scaled already."""
        return (0.0, 1.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which columns are used, and which are left out."""
        notes = [f"columns used: {len(self.numeric)} of numbers, {len(self.categorical)} of categories"]
        if self.left_out:
            notes.append(
                f"columns left out: {few([f'{printable(name)} ({why})' for name, why in self.left_out.items()])}"
            )
        others = [column.name for column in self.categorical if column.others]
        notes += [f"rare categories taken together, in: {few(others)}"] if others else []
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
            asked = self._asked.get(name)
            is_left_out = name in self._asked and asked is None
            kind, why = (
                (None, "as asked") if is_left_out else kind_of(examples, name, decimal=self.decimal, asked=asked)
            )
            if kind == "numeric":
                numeric.append(NumericColumn.fit(_numbers(examples, name, self.decimal), name))
            elif kind == "categorical":
                texts = texts_of(examples.frame[name])
                categorical.append(CategoricalColumn.fit(texts, name, most=self._most_categories))
            else:
                left_out[name] = why
        if not numeric and not categorical:
            why = few([f"{name} ({reason})" for name, reason in left_out.items()])
            raise DataError(f"{examples.source}: has no column to learn from: {why or 'none but the labels'}")
        self.numeric, self.categorical, self.left_out = tuple(numeric), tuple(categorical), left_out
        return self.transform(examples)

    def transform(self, examples: Table) -> Encoded:
        """Returns the inputs [N, F], float32: numbers, then categories, in the order of the columns.

        Raises:
            DataError: A column is missing, or a value is no number.
        """
        names = [*(column.name for column in self.numeric), *(column.name for column in self.categorical)]
        missing = next((name for name in names if name not in examples.names), None)
        if missing is not None:
            had = f"has no column {missing!r}, which the training examples had; it has {examples.listed()}"
            raise DataError(f"{examples.source}: {had}")
        parts = [column.encode(_numbers(examples, column.name, self.decimal)) for column in self.numeric]
        parts += [column.encode(texts_of(examples.frame[column.name])) for column in self.categorical]
        return Encoded(torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32)))

    def files(self) -> dict[str, bytes]:
        """Returns the columns with their numbers, as JSON."""
        kept = asdict(_Columns(self.numeric, self.categorical, dict(self.left_out), self.decimal))
        return {COLUMNS_FILE: (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TableEncoder:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: The file is missing or damaged.
        """
        kept = read_settings(folder / COLUMNS_FILE, _Columns)
        encoder = cls(decimal=kept.decimal)
        encoder.numeric, encoder.categorical, encoder.left_out = kept.numeric, kept.categorical, kept.left_out
        return encoder


def kind_of(table: Table, name: str, *, decimal: Decimal = ".", asked: Kind | None = None) -> tuple[Kind | None, str]:
    """Returns what a column of training examples is, and where it is to be left out (None) why.

    Args:
        table: The examples; of a column of numbers some values may still be none.
        name: The column.
        decimal: See `TableEncoder`.
        asked: What the user says that it is; None: found.
    """
    texts = texts_of(table.frame[name]).dropna()
    if asked == "numeric" or not len(texts):
        return ("numeric", "") if asked == "numeric" else (None, "no value")
    different = texts.nunique()
    if different == 1 or asked == "categorical":
        return ("categorical", "") if different > 1 else (None, "one value only")
    numbers = _as_numbers(texts, decimal)
    is_number = numbers.notna()
    if is_number.all():
        every = different == len(table) > 10 and bool((numbers % 1 == 0).all())
        is_id = "id" in re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
        # test examples held out before, or rows left out by hand, leave gaps in what counts the examples
        first, last = (table.origin[table.frame.index[place]][1] for place in (0, -1))
        counts = numbers.is_monotonic_increasing and numbers.iloc[-1] - numbers.iloc[0] < 3 * max(
            last - first + 1, len(table)
        )
        return (None, "counts the examples") if every and (is_id or counts) else ("numeric", "")
    if different > _FEW and is_number.mean() > 0.5:
        return "numeric", ""  # and what is no number is asked about
    if texts.str.fullmatch(_DATE).all():
        return None, "dates"
    if different > len(texts) / 2 and len(texts) > 10:
        if decimal == "." and _as_numbers(texts, ",").notna().all():
            return None, "numbers with commas: --set data.decimal=','"
        words = texts.str.split().str.len().mean()
        return None, "texts" if words >= _WORDS_OF_A_TEXT else "another value in nearly every example"
    return "categorical", ""


def texts_of(values: Any) -> Any:
    """Returns a column as a Series of texts, ``3`` for 3.0 and ``true`` for True, NaN where a value is missing."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

    import pandas as pd

    texts = pd.Series([text(value) for value in values.tolist()], index=values.index, dtype=object)
    return texts.mask(texts.str.lower().isin(MISSING_WORDS))


def _as_numbers(texts: Any, decimal: Decimal) -> Any:
    import pandas as pd

    if decimal == ",":
        texts = texts.str.replace(r"\.(?=\d{3}(\D|$))", "", regex=True).str.replace(",", ".", regex=False)
    return pd.to_numeric(texts, errors="coerce").astype(np.float64)


def _numbers(table: Table, name: str, decimal: Decimal) -> Any:
    """Returns the values of a column as a Series of numbers, NaN where missing; raises DataError for others."""
    texts = texts_of(table.frame[name])
    numbers = _as_numbers(texts, decimal)
    wrong = np.flatnonzero((numbers.isna() & texts.notna()) | np.isinf(numbers))
    if len(wrong):
        raise DataError(
            f"{table.source}: {table.place(int(wrong[0]))}: column {name!r} holds numbers, but "
            f"{printable(texts.iloc[wrong[0]][:40])!r} stands there; repair it, or say what the column is: "
            f"--set 'data.categorical=[{name}]' or --set 'data.leave_out=[{name}]'"
        )
    return numbers
