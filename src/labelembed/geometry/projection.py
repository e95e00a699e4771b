"""Labels as points in a few dimensions, and how alike two such maps are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Alignment(NamedTuple):
    """Two maps of the same labels, laid over each other.

    Attributes:
        disparity: The sum of squared distances between the two, from 0 (alike) to 1.
        points: [C, d], the first map, moved, scaled and turned to fit.
        reference: [C, d], the second, centred at 0 and scaled to a sum of squares of 1.
    """

    disparity: float
    points: NDArray[np.float64]
    reference: NDArray[np.float64]


class LabelMap(NamedTuple):
    """Labels in a plane.

    Attributes:
        labels: The indices of those drawn: all, or those that the reference has.
        points: [L, 2], as `multidimensional_scaling` gives them.
        alignment: Over the reference's own map; None without a reference, or where all points of one fall together.
    """

    labels: list[int]
    points: NDArray[np.float64]
    alignment: Alignment | None


def label_plane(distances: ArrayLike, reference: ArrayLike | None = None) -> LabelMap:
    """Returns the map of labels, laid over the map of a reference's distances where there is one.

    Args:
        distances: [C, C].
        reference: [C, C], e.g. `WordNet.distances`; labels whose row is nan throughout are left out. Fewer than three
            labels, or an infinite distance, give no alignment: two points fit any two.

    Raises:
        ValueError: As `multidimensional_scaling`.
    """
    table = np.asarray(distances, dtype=np.float64)
    if reference is not None:
        theirs = np.asarray(reference, dtype=np.float64)
        there = np.flatnonzero(~np.isnan(theirs).all(axis=1)).tolist()
        theirs = theirs[np.ix_(there, there)]
        if len(there) > 2 and np.isfinite(theirs).all():
            ours_at = multidimensional_scaling(table[np.ix_(there, there)])
            theirs_at = multidimensional_scaling(theirs)
            different = np.ptp(ours_at) > 0 and np.ptp(theirs_at) > 0
            return LabelMap(there, ours_at, procrustes_disparity(ours_at, theirs_at) if different else None)
    return LabelMap(list(range(len(table))), multidimensional_scaling(table), None)


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


def procrustes_disparity(points: ArrayLike, reference: ArrayLike) -> Alignment:
    """Returns two maps of the same labels laid over each other, and what is left between them.

    Moving, scaling, turning and mirroring do not count (Procrustes analysis, `scipy.spatial.procrustes`).

    Args:
        points: [C, d].
        reference: [C, d].

    Raises:
        ValueError: When they are of different shape, not finite, or all points of one fall together.
    """
    from scipy.spatial import procrustes

    standard, aligned, disparity = procrustes(np.asarray(reference), np.asarray(points))
    return Alignment(float(disparity), aligned, standard)
