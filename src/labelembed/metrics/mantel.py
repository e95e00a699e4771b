"""Mantel's test: whether two tables of pairs, such as similarity and confusion of labels, go together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Enough for p = 0.05 with a standard error of 0.007.
_SHUFFLES = 999
_SEED = 19_670_201


class MantelTest(NamedTuple):
    """What `mantel_test` returns.

    Attributes:
        correlation: Spearman's rank correlation over all pairs; nan where one table is the same for all pairs.
        p_value: Two-sided; nan where the correlation is.
    """

    correlation: float
    p_value: float


def mantel_test(first: ArrayLike, second: ArrayLike) -> MantelTest:
    """Returns Spearman's rank correlation of two symmetric tables over all pairs, and its p by shuffling.

    Pairs share their members, so that they are not independent and their number says nothing about chance. Mantel's
    test shuffles the members of one table: p is the share of 999 shuffles, and the order given, whose correlation is
    at least as far from 0. The shuffles are always the same. Of few members there are few orders, and p stays large:
    1 in 6 or more of three members.

    Args:
        first: Symmetric ``[C, C]``; the diagonal takes no part.
        second: The same of the same members.

    Raises:
        ValueError: If the tables are not square and of one size, or have fewer than three members.

    Reference:
        Mantel (1967), The detection of disease clustering and a generalized regression approach.
    """
    one, other = (np.asarray(table, dtype=np.float64) for table in (first, second))
    if one.ndim != 2 or one.shape[0] != one.shape[1] or one.shape != other.shape or len(one) < 3:
        raise ValueError(f"the tables must be [C, C] with C >= 3, both the same, got {one.shape} and {other.shape}")
    members = len(one)
    rows, columns = np.triu_indices(members, 1)
    alike, often = one[rows, columns], other[rows, columns]
    if np.ptp(alike) == 0 or np.ptp(often) == 0:
        return MantelTest(float("nan"), float("nan"))
    ranks, weights = _centred_ranks(alike), _centred_ranks(often)
    table = np.zeros((members, members))
    table[rows, columns] = table[columns, rows] = ranks
    # The lowest value is the commonest (most labels are never confused). As the ranks sum to 0, its weight can be taken
    # off all weights, and the sum over the other pairs alone is the same.
    higher = np.flatnonzero(often > often.min())
    rows, columns, above = rows[higher], columns[higher], weights[higher] - weights.min()
    observed = abs(float(table[rows, columns] @ above))
    random = np.random.default_rng(_SEED)
    as_far = 1  # the order given is one of those drawn from, so that p is never 0
    for _ in range(_SHUFFLES):
        order = random.permutation(members)
        found = abs(float(table[order[rows], order[columns]] @ above))
        as_far += found >= observed * (1 - 1e-9)  # equal up to rounding counts
    correlation = float(ranks @ weights / np.sqrt((ranks @ ranks) * (weights @ weights)))
    return MantelTest(correlation, as_far / (_SHUFFLES + 1))


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata  # half a second to import

    ranks: NDArray[np.float64] = rankdata(values)
    centred: NDArray[np.float64] = ranks - ranks.mean()
    return centred
