"""Rows that become inputs only once it is known which are trained on: words are counted and numbers scaled by those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from labelembed.data.encoders.cut_texts import CutTexts


class Encoding(Protocol):
    """What was learned from the training rows, and turns rows of the same kind into inputs.

    Attributes:
        input_range: Smallest and largest value of an input.
        notes: What the user should know of what was learned, one line each.
    """

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value of an input."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line each."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """Returns what a run folder keeps of it, plain text, by the file's name."""
        ...


class RowContent(Protocol):
    """Rows as they were read, all parts of a data set together, numbered from 0."""

    def fit(self, rows: Tensor) -> Encoding:
        """Returns the encoding learned from the rows at these positions [N] (int64), and from no others."""
        ...

    def inputs(self, encoding: Any, rows: Tensor) -> Tensor:
        """Returns the inputs [N, F], int32 or float32, of the rows at these positions [N] (int64).

        Args:
            encoding: What `fit` of content of the same kind returned.
            rows: Which rows.
        """
        ...

    def cut(self, encoding: Any, rows: Tensor) -> CutTexts | None:
        """Returns how many of the rows at these positions [N] (int64) are longer than what is read of them.

        Asked after `inputs`, of the same encoding; None where none is, or where rows are no texts.
        """
        ...

    def shown(self, row: int, encoding: Any = None) -> str:
        """Returns a row as a person reads it; with `encoding` only that of it of which inputs are made."""
        ...
