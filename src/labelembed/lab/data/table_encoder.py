"""How the columns of a table become numbers: scikit-learn's numbers of the training examples, kept as JSON."""

from __future__ import annotations

import json
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
from labelembed.lab.data.columns import words_in
from labelembed.lab.data.encoder import Encoded, Encoder, read_settings
from labelembed.lab.data.table_files import Table, as_text

COLUMNS_FILE = "columns.json"
#: Inputs of a column of categories at most; rarer ones have none.
MOST_CATEGORIES = 50
# Values that stand for nothing, in lower case.
_MISSING_WORDS = ("", "na", "n/a", "nan", "nat", "null", "none", "<na>", "?", "-")
# Scaled numbers are clipped here: a value that far from the training examples would drive a network out of its range.
_FARTHEST = 20.0
# The sum of the squares of larger training numbers may be infinite.
_TOO_LARGE = 1e150
# So few different values are categories, whatever most of them look like.
_FEW = 20
# 2026-11-25, 25.11.2026, 11/25/26, with or without a time.
_DATE = r"(\d{4}([-./])\d{1,2}\2\d{1,2}|\d{1,2}([-./])\d{1,2}\3(\d{4}|\d{2}))([T ].*)?"

Kind = Literal["numeric", "categorical"]
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
        """Learns from the numbers of training examples, a Series with two values or more."""
        median = float(numbers.median())
        filled = numbers.fillna(median).to_numpy()
        return cls(name, median, float(filled.mean()), float(filled.std()) or 1.0, bool(numbers.isna().any()))

    def encode(self, numbers: Any) -> Numbers:
        """Returns the inputs [N, 1 or 2] of numbers, a Series."""
        scaled = (numbers.fillna(self.median).to_numpy() - self.mean) / self.deviation
        columns = [np.clip(scaled, -_FARTHEST, _FARTHEST), numbers.isna().to_numpy(np.float64)]
        return np.stack(columns[: 1 + self.indicator], axis=1)


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories: an input for each, 1 where the example has it; an empty one is a missing value."""

    name: str
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, texts: Any, name: str) -> CategoricalColumn:
        """Learns the most frequent texts of training examples, a Series."""
        counts = texts.fillna("").value_counts()
        ordered = sorted(counts.index, key=lambda text: (-counts[text], text))  # of equally rare ones by their letters
        return cls(name, tuple(sorted(ordered[:MOST_CATEGORIES], key=lambda text: (not text, text))))

    def encode(self, texts: Any) -> Numbers:
        """Returns the inputs [N, categories] of texts, a Series; one that is not known has zeros."""
        import pandas as pd

        codes = pd.Index(self.categories, dtype=object).get_indexer(texts.fillna(""))
        inputs: Numbers = np.eye(len(self.categories) + 1)[codes, :-1]  # -1, the last, of a text that is none of them
        return inputs


@dataclass
class _Columns:
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    left_out: dict[str, str]


class TableEncoder(Encoder):
    """How columns become numbers, to the same numbers as scikit-learn's scalers and encoders; see `TableReader`.

    `asked` has the columns that the user says are categories (true), or to be left out (false); others are looked at.
    """

    numeric: tuple[NumericColumn, ...] = ()
    categorical: tuple[CategoricalColumn, ...] = ()
    input_range = (0.0, 1.0)  # inputs are scaled already

    def __init__(self, *, asked: Mapping[str, bool] | None = None) -> None:
        self._asked = asked or {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Which columns are used, and which are left out."""
        left_out = few([f"{printable(name)} ({why})" for name, why in self.left_out.items()])
        used = f"{len(self.numeric)} of numbers, {len(self.categorical)} of categories"
        return (f"columns used: {used}", *([f"columns left out: {left_out}"] if left_out else []))

    def fit_transform(self, examples: Table) -> Encoded:
        """Learns what the columns are and how they become numbers; raises DataError where no column can be used."""
        numeric, categorical, left_out = [], [], dict(examples.left_aside)
        for name in examples.names:
            kind, why = kind_of(examples, name)
            if name in self._asked:
                kind, why = ("categorical", "") if self._asked[name] else (None, "as asked")
            if kind == "numeric":
                numeric.append(NumericColumn.fit(_numbers(examples, name, _TOO_LARGE), name))
            elif kind == "categorical":
                categorical.append(CategoricalColumn.fit(texts_of(examples.frame[name]), name))
            else:
                left_out[name] = why
        if not numeric and not categorical:
            why = few([f"{name} ({reason})" for name, reason in left_out.items()])
            raise DataError(f"{examples.source}: has no column to learn from: {why or 'none but the labels'}")
        self.numeric, self.categorical, self.left_out = tuple(numeric), tuple(categorical), left_out
        return self.transform(examples)

    def transform(self, examples: Table) -> Encoded:
        """Returns the inputs [N, F], float32: numbers, then categories; raises DataError where a value is no number."""
        for name in [column.name for column in self.numeric] + [column.name for column in self.categorical]:
            if name not in examples.names:
                had = f"has no column {name!r}, which the training examples had; it has {examples.listed()}"
                raise DataError(f"{examples.source}: {had}")
        parts = [column.encode(_numbers(examples, column.name)) for column in self.numeric]
        parts += [column.encode(texts_of(examples.frame[column.name])) for column in self.categorical]
        return Encoded(torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32)))

    def files(self) -> dict[str, bytes]:
        """Returns the columns with their numbers, as JSON."""
        kept = asdict(_Columns(self.numeric, self.categorical, dict(self.left_out)))
        return {COLUMNS_FILE: (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TableEncoder:
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept, encoder = read_settings(folder / COLUMNS_FILE, _Columns), cls()
        vars(encoder).update(vars(kept))
        return encoder


def kind_of(table: Table, name: str) -> tuple[Kind | None, str]:
    """Returns the kind of a column of training examples, or None and the reason to leave it out."""
    import pandas as pd

    texts = texts_of(table.frame[name]).dropna()
    different, numbers = texts.nunique(), pd.to_numeric(texts, errors="coerce")
    if different < 2:
        return None, "one value only" if different else "no value"
    if numbers.notna().all():
        is_whole = different == len(table) > 10 and (numbers % 1 == 0).all()
        is_named = "id" in words_in(name) or name.strip().lower() in ("", "index", "unnamed: 0")
        counts = is_whole and (is_named or numbers.is_monotonic_increasing)
        return (None, "counts the examples") if counts else ("numeric", "")
    if different > _FEW and numbers.notna().mean() > 0.5:
        return "numeric", ""  # a value that is not a number is an error in `transform`
    if texts.str.fullmatch(_DATE).mean() > 0.5:
        return None, "dates"
    if different <= len(texts) / 2 or len(texts) <= 10:
        return "categorical", ""
    unread = texts[numbers.isna() & texts.str.fullmatch(r"[-+\d.,\s%$€£¥]+")].tolist()
    why = f"numbers that cannot be read, such as {unread[0]!r:.40}" if unread else ""
    return None, why if len(unread) > len(texts) / 2 else "another value in nearly every example"


def texts_of(values: Any) -> Any:
    """Returns a column as a Series of texts, NaN where a value is missing."""
    import pandas as pd

    texts = pd.Series(map(as_text, values.tolist()), index=values.index, dtype=object)
    texts = texts.str.replace(r"^([-+]?\d+)\.0$", r"\1", regex=True)  # pandas writes 1.0 for 1 where one is missing
    return texts.mask(texts.str.lower().isin(_MISSING_WORDS))


def _numbers(table: Table, name: str, too_large: float = np.inf) -> Any:
    import pandas as pd

    texts = texts_of(table.frame[name])
    numbers = pd.to_numeric(texts, errors="coerce").astype(np.float64)
    wrong = np.flatnonzero((numbers.isna() & texts.notna()) | (numbers.abs() >= too_large))
    if len(wrong):
        raise DataError(
            f"{table.source}: {table.place(wrong[0])}: column {name!r} holds numbers, but "
            f"{texts.iloc[wrong[0]][:40]!r} stands there; repair it, or train with "
            f"--set 'data.categorical=[{name}]' or --set 'data.leave_out=[{name}]'"
        )
    return numbers
