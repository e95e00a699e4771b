"""Texts before they become inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor


class Texts(Sequence[str]):
    """Texts of one part of a data set, perhaps some of them only.

    A part remembers what it was chosen from, so that what an encoder makes of all of it can be made, and kept, at once.

    Args:
        every: The texts of the part.
        column: The column that they stood in; None: several, or none.
        source: Where they came from, for messages.
        indices: Which of them these are; None: all.
    """

    def __init__(
        self,
        every: Sequence[str],
        *,
        column: str | None = None,
        source: str = "texts",
        indices: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.every = every
        self.column = column
        self.source = source
        self.indices = np.arange(len(every)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[str]:
        return map(self.every.__getitem__, self.indices.tolist())

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.every[int(self.indices[index])]

    def select(self, indices: Tensor) -> Texts:
        """Returns those at these positions [M] (int64)."""
        chosen = self.indices[indices.numpy()]
        return Texts(self.every, column=self.column, source=self.source, indices=chosen)

    def shown(self, index: int, *, without: Collection[str] = ()) -> str:
        """Returns a text."""
        return self[index]

    @cached_property
    def whole(self) -> Texts:
        """The part that these were chosen from."""
        return Texts(self.every, column=self.column, source=self.source)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the texts in their order."""
        digest = hashlib.sha256()
        for text in self:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)  # or two texts could pass for others
        return digest.hexdigest()
