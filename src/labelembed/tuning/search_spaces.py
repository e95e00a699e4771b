"""What there is to tune about each objective, as plain data.

A search space maps a name to a dimension. The name is that of an argument, but for a `Simplex`, which is of several
arguments and has a name of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

# Values are rounded to so many digits that count, so that what ran can be written down and run again.
_DIGITS = 3


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether they are drawn evenly by their logarithm.
        whole: Whether they are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"`low` must be less than `high`, both finite, got {self.low!r} and {self.high!r}")
        if self.log and self.low <= 0:
            raise ValueError(f"`low` must be > 0 for a logarithmic range, got {self.low!r}")

    def at(self, share: float) -> float:
        """Returns the number that lies a share in [0, 1] of the way from `low` to `high`."""
        if self.log:
            return self.rounded(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))
        return self.rounded(self.low + share * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Returns a number as it is run: whole, or with three digits that count, and within the range."""
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "") + (" (whole)" if self.whole else "")


@dataclass(frozen=True)
class Choices:
    """One of several values.

    Args:
        values: Two or more (one: the value is held); texts, numbers, truth values or None.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("`values` must hold a value, got none")

    def at(self, share: float) -> Any:
        """Returns the value a share in [0, 1] of the way through them."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"held at {self.values[0]}"
        return "one of " + ", ".join(str(value) for value in self.values)


@dataclass(frozen=True)
class Simplex:
    """Weights that are not negative and add up to 1, drawn evenly over all such weights.

    Args:
        arguments: The arguments that are weights.
        rest: Whether what they leave of 1 is the share of something that is no argument; otherwise they leave nothing.
    """

    arguments: tuple[str, ...]
    rest: bool = False

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ValueError(f"`arguments` must leave something to choose, got {self.arguments!r}")

    @property
    def dimensions(self) -> int:
        """How many numbers in [0, 1] a point takes."""
        return len(self.arguments) + self.rest - 1

    def at(self, shares: Sequence[float]) -> dict[str, float]:
        """Returns the weights by argument of a point, to three decimals.

        Each weight takes its part of what the weights before it have left. The part is ``1 - u ** (1 / k)``, k the
        weights still to come: then even shares u give even weights (a Dirichlet distribution with all ones).

        Args:
            shares: `dimensions` numbers in [0, 1].
        """
        left, weights = 1.0, []
        for place, share in enumerate(shares):
            weights.append(round(left * (1 - share ** (1 / (self.dimensions - place))), _DIGITS))
            left = round(left - weights[-1], _DIGITS)
        # The last one gets what is left; where there is a rest, that is the rest.
        return dict(zip(self.arguments, [*weights, left], strict=False))

    def shares_of(self, weights: Sequence[float]) -> tuple[float, ...] | None:
        """Returns the shares that `at` makes these weights of, None where they are none of this simplex."""
        total = sum(weights)
        if min(weights) < 0 or total > 1 + 1e-9 or (not self.rest and total < 1 - 1e-9):
            return None
        left, shares = 1.0, []
        for place, weight in enumerate(weights[: self.dimensions]):
            part = min(weight / left, 1.0) if left > 1e-9 else 0.0
            shares.append((1 - part) ** (self.dimensions - place))
            left -= weight
        return tuple(shares)

    def __str__(self) -> str:
        return f"{' + '.join(self.arguments)} {'at most' if self.rest else '='} 1"


Dimension: TypeAlias = Range | Choices | Simplex
SearchSpace: TypeAlias = Mapping[str, Dimension]

SEARCH_SPACES: dict[str, SearchSpace] = {
    "one_hot": {},
    "label_smoothing": {"smoothing": Range(0.02, 0.9)},
    # The presets differ in their weights most of all, so that what is found is none of theirs.
    "label_embedding": {
        "temperature": Range(1.0, 8.0, log=True),
        "weights": Simplex(("output_weight", "target_weight", "uniform_weight")),
        "embedding_learning_rate": Range(0.3, 10.0, log=True),
    },
    "adaptive_labels": {
        "update": Choices(("batch", "moving_average", "epoch")),
        "repel_weight": Choices((0.0, 1.0, 3.0, 10.0)),
        "gradient_through_centroids": Choices((True, False)),
    },
    "retrospection": {
        "final_weight": Range(0.1, 0.95),
        "temperature": Range(1.0, 10.0, log=True),
        "store_every": Range(1, 10, log=True, whole=True),
    },
    "online_label_smoothing": {
        "weights": Simplex(("similarity_weight", "uniform_weight"), rest=True),
        "temperature": Range(1.0, 4.0, log=True),
    },
    "confidence_penalty": {"penalty_weight": Range(0.01, 2.0, log=True)},
    "teacher_free": {"teacher_weight": Range(0.05, 0.95), "temperature": Range(1.0, 40.0, log=True)},
    "distillation": {"teacher_weight": Range(0.1, 1.0), "temperature": Range(1.0, 10.0, log=True)},
    "static_labels": {"loss": Choices(("huber", "squared", "cosine")), "delta": Range(0.1, 3.0, log=True)},
}
