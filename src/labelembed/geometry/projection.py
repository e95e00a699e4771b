"""Labels as points in a few dimensions, and how alike two such pictures are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ITERATIONS = 300
_SMALLEST_GAIN = 1e-6  # of an iteration, as a share of the squared distances; scikit-learn's


class Alignment(NamedTuple):
    """Two pictures of the same labels, laid over each other.

    Attributes:
        disparity: The sum of squared distances between the two, from 0 (alike) to 1.
        points: [C, d], the first picture, moved, scaled and turned to fit.
        reference: [C, d], the second, centred at 0 and scaled to a sum of squares of 1.
    """

    disparity: float
    points: NDArray[np.float64]
    reference: NDArray[np.float64]


class LabelMap(NamedTuple):
    """Labels in a plane.

    Attributes:
        labels: The numbers of those drawn: all, or those that the reference has.
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


def multidimensional_scaling(distances: ArrayLike, dimensions: int = 2, seed: int = 0) -> NDArray[np.float64]:
    """Returns [C, dimensions], points whose distances are as near as possible to those given.

    Metric scaling by SMACOF, begun from classical scaling (Torgerson), so that it is the same at every call;
    axes point where the largest coordinate is positive. scikit-learn's `smacof` from the same start ends at the same
    points; its iterations take several times as long, and its arguments differ between versions.

    Args:
        distances: [C, C], symmetric and finite.
        dimensions: At least 1.
        seed: Draws the first points where classical scaling gives fewer dimensions than asked for.

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
    start = _classical_scaling(table, dimensions, seed)
    if len(table) < 2 or not table.any():
        return start
    return _upright(_smacof(table, start))


def procrustes_disparity(points: ArrayLike, reference: ArrayLike) -> Alignment:
    """Returns two pictures of the same labels laid over each other, and what is left between them.

    Moving, scaling, turning and mirroring do not count (Procrustes analysis, `scipy.spatial.procrustes`).

    Args:
        points: [C, d].
        reference: [C, d].

    Raises:
        ValueError: When they are of different shape, not finite, or all points of one fall together.
    """
    one, other = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if one.ndim != 2 or one.shape != other.shape or not one.size:
        raise ValueError(f"`points` and `reference` must be of one shape [C, d], got {one.shape} and {other.shape}")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("`points` and `reference` must be finite")
    from scipy.spatial import procrustes

    standard, aligned, disparity = procrustes(other, one)
    return Alignment(float(disparity), aligned, standard)


def _classical_scaling(table: NDArray[np.float64], dimensions: int, seed: int) -> NDArray[np.float64]:
    squared = (table + table.T) ** 2 / 4
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    largest = np.argsort(-values, kind="stable")[:dimensions]
    points = np.zeros((len(table), dimensions))
    points[:, : len(largest)] = vectors[:, largest] * np.sqrt(np.maximum(values[largest], 0))
    # A dimension in which all points are 0 would stay so: SMACOF moves points along the lines between them.
    flat = ~(np.abs(points).max(axis=0) > 1e-9 * max(table.max(), 1e-300))
    if flat.any() and table.any():
        points[:, flat] = np.random.default_rng(seed).normal(scale=1e-3 * table.max(), size=(len(table), flat.sum()))
    return _upright(points)


def _smacof(table: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns points moved by Guttman's transform until the raw stress hardly falls (de Leeuw 1977)."""
    off = ~np.eye(len(table), dtype=bool)
    whole = (table**2).sum() / 2
    before = np.inf
    for _ in range(_ITERATIONS):
        squares = (points**2).sum(axis=1)
        now = np.sqrt(np.maximum(squares[:, None] + squares - 2 * (points @ points.T), 0))
        stress = ((now - table) ** 2).sum(where=off) / 2
        if before - stress < _SMALLEST_GAIN * whole:
            break
        before = stress
        ratio = np.divide(table, now, out=np.zeros_like(table), where=off & (now > 0))
        points = (points * ratio.sum(axis=1, keepdims=True) - ratio @ points) / len(points)
    return points


def _upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvectors have no sign of their own: the largest coordinate of each axis is made positive."""
    points = points - points.mean(axis=0)
    signs = np.sign(points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])])
    flipped: NDArray[np.float64] = points * np.where(signs == 0, 1, signs)
    return flipped
