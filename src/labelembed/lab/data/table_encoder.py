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
# Values that stand for nothing, in lower case.
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "nat", "null", "none", "<na>", "?", "-"})
# Scaled numbers are clipped here: a value that far from the training examples would drive a network out of its range.
_FARTHEST = 20.0
# So few different values are categories, whatever most of them look like.
_FEW = 20

Kind = Literal["numeric", "categorical"]
Decimal = Literal[".", ","]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: ``(value - mean) / deviation``, with the median for a missing one.

    Where training examples miss it, `indicator`, a further input says whether it is missing.
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
        columns = [np.clip(scaled, -_FARTHEST, _FARTHEST), numbers.isna().to_numpy(np.float64)]
        return np.stack(columns[: 1 + self.indicator], axis=1)


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories: an input for each, 1 where the example has it; an empty one is a missing value.

    With `others` a further input stands for the rare ones of the training examples, and for those never seen.
    """

    name: str
    categories: tuple[str, ...]
    others: bool

    @classmethod
    def fit(cls, texts: Any, name: str, *, most: int) -> CategoricalColumn:
        """Learns from the texts of training examples, a Series; of more than `most` the rarest share one input."""
        counts = texts.fillna("").value_counts()
        others = len(counts) > most
        # of those that are equally rare the last by their letters stay; missing ones come last
        ordered = sorted(counts.index, key=lambda text: (counts[text], not text, text))[-(most - 1) if others else 0 :]
        return cls(name, tuple(sorted(ordered, key=lambda text: (not text, text))), others)

    def encode(self, texts: Any) -> Numbers:
        """Returns the inputs [N, categories] of texts, a Series; one that is not known has zeros, or is another."""
        import pandas as pd

        codes = pd.Index(self.categories, dtype=object).get_indexer(texts.fillna(""))
        inputs: Numbers = np.eye(len(self.categories) + 1)[codes]  # -1, the last, of a text that is none of them
        return inputs if self.others else inputs[:, :-1]


@dataclass
class _Columns:
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    left_out: dict[str, str]
    decimal: Decimal = "."


class TableEncoder(Encoder):
    """How columns become numbers, to the same numbers as scikit-learn's scalers and encoders; see `TableReader`.

    `asked` has what the user says that columns are, None: to be left out; other columns are looked at.
    """

    numeric: tuple[NumericColumn, ...] = ()
    categorical: tuple[CategoricalColumn, ...] = ()
    input_range = (0.0, 1.0)  # inputs are scaled already

    def __init__(
        self, *, asked: Mapping[str, Kind | None] | None = None, most_categories: int = 50, decimal: Decimal = "."
    ) -> None:
        self._asked = dict(asked or {})
        self._most_categories = most_categories
        self.decimal: Decimal = decimal

    @property
    def notes(self) -> tuple[str, ...]:
        """Which columns are used, and which are left out."""
        left_out = few([f"{printable(name)} ({why})" for name, why in self.left_out.items()])
        others = few([column.name for column in self.categorical if column.others])
        return (
            f"columns used: {len(self.numeric)} of numbers, {len(self.categorical)} of categories",
            *([f"columns left out: {left_out}"] if left_out else []),
            *([f"rare categories taken together, in: {others}"] if others else []),
        )

    def fit_transform(self, examples: Table) -> Encoded:
        """Learns what the columns are and how they become numbers; raises DataError where no column can be used."""
        numeric, categorical, left_out = [], [], dict(examples.left_aside)
        for name in examples.names:
            kind, why = self._asked.get(name), "as asked"
            if kind is not None or name not in self._asked:
                kind, why = kind_of(examples, name, decimal=self.decimal, asked=kind)
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
        """Returns the inputs [N, F], float32: numbers, then categories; raises DataError where a value is no number."""
        names = [column.name for column in self.numeric] + [column.name for column in self.categorical]
        missing = [name for name in names if name not in examples.names]
        if missing:
            had = f"has no column {missing[0]!r}, which the training examples had; it has {examples.listed()}"
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
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept = read_settings(folder / COLUMNS_FILE, _Columns)
        encoder = cls(decimal=kept.decimal)
        encoder.numeric, encoder.categorical, encoder.left_out = kept.numeric, kept.categorical, kept.left_out
        return encoder


def kind_of(table: Table, name: str, *, decimal: Decimal = ".", asked: Kind | None = None) -> tuple[Kind | None, str]:
    """Returns what a column of training examples is (`asked`: said by the user), and where it is left out why."""
    texts = texts_of(table.frame[name]).dropna()
    different = texts.nunique()
    if asked == "numeric" or different < 2:
        return ("numeric", "") if asked else (None, "one value only" if different else "no value")
    if asked == "categorical":
        return "categorical", ""
    numbers = _as_numbers(texts, decimal)
    if numbers.notna().all():
        is_id = "id" in re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
        every = different == len(table) > 10 and (numbers % 1 == 0).all()
        counts = every and (is_id or numbers.is_monotonic_increasing)
        return (None, "counts the examples") if counts else ("numeric", "")
    if different > _FEW and numbers.notna().mean() > 0.5:
        return "numeric", ""  # and what is no number is asked about
    if different <= len(texts) / 2 or len(texts) <= 10:
        return "categorical", ""
    if decimal == "." and _as_numbers(texts, ",").notna().all():
        return None, "numbers with commas: --set data.decimal=','"
    return None, "another value in nearly every example"


def texts_of(values: Any) -> Any:
    """Returns a column as a Series of texts, ``3`` for 3.0 and ``true`` for True, NaN where a value is missing."""
    import pandas as pd

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

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
