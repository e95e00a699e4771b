"""What every objective returns."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Terms(Protocol):
    """A named tuple of scalars. `total` is the loss to go back from; the other terms are not weighted."""

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms."""
        ...

    def _asdict(self) -> dict[str, Tensor]: ...
