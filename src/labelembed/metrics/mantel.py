"""Mantel's test: whether two tables of pairs, such as similarity and confusion of labels, go together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Enough for p = 0.05 with a standard error of 0.007. Up to six members have fewer orders, and all are looked at.
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
    test shuffles the members of one table: p is the share of all orders whose correlation is at least as far from 0,
    above six members of 999 random orders (always the same) and the one given. Of few members there are few orders, and
    p stays large: 1 in 6 or more of three members.

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
    from scipy import stats  # half a second to import
    from scipy.spatial.distance import squareform

    upper = np.triu_indices(len(one), 1)
    if np.ptp(one[upper]) == 0 or np.ptp(other[upper]) == 0:
        return MantelTest(float("nan"), float("nan"))
    ranks, theirs = (stats.rankdata(table[upper]) - (len(upper[0]) + 1) / 2 for table in (one, other))
    table = squareform(ranks)

    def together(order: NDArray[np.float64]) -> float:
        shuffled = order.astype(np.int64)
        return abs(float(table[np.ix_(shuffled, shuffled)][upper] @ theirs))

    found = stats.permutation_test(
        (np.arange(len(one)),),
        together,
        permutation_type="pairings",
        vectorized=False,
        alternative="greater",
        n_resamples=_SHUFFLES,
        random_state=np.random.default_rng(_SEED),
    )
    correlation = stats.spearmanr(one[upper], other[upper]).statistic
    return MantelTest(float(correlation), float(found.pvalue))
