"""Labels as points in a few dimensions, and how alike two such maps are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class LabelMap(NamedTuple):
    """Labels in a plane.

    Attributes:
        labels: The indices of those drawn: all, or those that the reference has.
        points: [L, 2], as `multidimensional_scaling` gives them, or laid over the reference's.
        reference: [L, 2], the map of the reference; None without one, or where all points of a map fall together.
        disparity: The sum of squared distances between the two maps, from 0 (alike) to 1; None without a reference.
    """

    labels: list[int]
    points: NDArray[np.float64]
    reference: NDArray[np.float64] | None = None
    disparity: float | None = None


def label_plane(distances: ArrayLike, reference: ArrayLike | None = None) -> LabelMap:
    """Returns the map of labels, laid over the map of a reference's distances where there is one.

    Moving, scaling, turning and mirroring do not count (Procrustes analysis, `scipy.spatial.procrustes`).

    Args:
        distances: [C, C].
        reference: [C, C], e.g. `WordNet.distances`; labels whose row is nan throughout are left out. Fewer than three
            labels, or an infinite distance, give no reference: two points fit any two.

    Raises:
        ValueError: As `multidimensional_scaling`.
    """
    table = np.asarray(distances, dtype=np.float64)
    theirs = np.full_like(table, np.nan) if reference is None else np.asarray(reference, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(theirs).all(axis=1))
    theirs = theirs[np.ix_(known, known)]
    if len(known) < 3 or not np.isfinite(theirs).all():
        return LabelMap(list(range(len(table))), multidimensional_scaling(table))
    ours_at, theirs_at = (multidimensional_scaling(one) for one in (table[np.ix_(known, known)], theirs))
    if not (np.ptp(ours_at) > 0 and np.ptp(theirs_at) > 0):
        return LabelMap(known.tolist(), ours_at)
    from scipy.spatial import procrustes

    theirs_at, ours_at, disparity = procrustes(theirs_at, ours_at)
    return LabelMap(known.tolist(), ours_at, theirs_at, float(disparity))


def multidimensional_scaling(distances: ArrayLike, dimensions: int = 2) -> NDArray[np.float64]:
    """Returns [C, dimensions], points whose distances are near to those given: classical scaling (Torgerson 1952).

    The centred squared distances are decomposed once; a coordinate is an eigenvector by the root of its eigenvalue,
    the largest first. Where the distances span fewer dimensions the others are 0. The largest coordinate of each axis
    is positive, so that the map is the same at every call.

    Args:
        distances: [C, C], symmetric and finite.
        dimensions: At least 1.

    Raises:
        ValueError: When the distances are not square, symmetric and finite, or `dimensions` < 1.
    """
    table = np.asarray(distances, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
        raise ValueError(f"`distances` must be square [C, C], got {list(table.shape)}")
    if not np.isfinite(table).all():
        raise ValueError("`distances` must be finite")
    if not np.allclose(table, table.T):
        raise ValueError("`distances` must be symmetric")
    if dimensions < 1:
        raise ValueError(f"`dimensions` must be >= 1, got {dimensions}")
    from scipy.linalg import eigh

    count, squared = len(table), table**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = eigh(-centred / 2, subset_by_index=(max(count - dimensions, 0), count - 1))
    points = np.zeros((count, dimensions))
    points[:, : len(values)] = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1]
    # An eigenvector has no sign of its own.
    largest = points[np.abs(points).argmax(axis=0), range(dimensions)]
    upright: NDArray[np.float64] = points * np.where(largest < 0, -1.0, 1.0)
    return upright
