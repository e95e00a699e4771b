"""How many texts are longer than what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CutTexts:
    """Texts that are cut.

    Attributes:
        count: How many; one or more.
        of: Of how many texts of all parts.
        setting: The key of `data` that says how much of a text is read.
        limit: Its value.
        most: The largest value that makes sense, which is how much an encoder reads; None: nothing says so.
    """

    count: int
    of: int
    setting: str
    limit: int
    most: int | None = None

    @classmethod
    def among(
        cls, is_cut: npt.NDArray[np.bool_], rows: Tensor, *, setting: str, limit: int, most: Callable[[], int | None]
    ) -> CutTexts | None:
        """Returns how many texts at these positions are cut; None where none is.

        Args:
            is_cut: Of every text whether it is [N].
            rows: Positions [M], int64.
            setting: See the class.
            limit: See the class.
            most: Returns what the class says; asked only where there is something to tell.
        """
        count = int(is_cut[rows.numpy()].sum())
        return cls(count=count, of=len(rows), setting=setting, limit=limit, most=most()) if count else None

    @property
    def note(self) -> str:
        """What the user should know."""
        share = 100 * self.count / self.of
        shown = "less than 0.1" if share < 0.1 else f"{share:.2g}" if share < 10 else f"{share:.0f}"
        unit = self.setting.removeprefix("maximum_")
        said = f"{shown} % of the texts ({self.count:,} of {self.of:,}) are longer than {self.limit:,} {unit}"
        if self.most is not None and self.limit >= self.most:
            return f"{said}, the most that the encoder reads, and are cut there"
        more = min(2 * self.limit, self.most or 2 * self.limit)
        return f"{said} and are cut there; --set data.{self.setting}={more} keeps more"
