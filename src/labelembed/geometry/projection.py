"""The tree of labels, and labels as points in a few dimensions: what figures of a geometry are drawn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.geometry.label_geometry import LabelGeometry

#: scipy needs 1.6 GB for a tree of 20,000 labels, and nobody reads one of that many.
MOST_LABELS = 5_000


def linkage(geometry: LabelGeometry) -> NDArray[np.float64]:
    """Returns the tree of 2 to `MOST_LABELS` labels by average linkage, [C - 1, 4] as scipy's `linkage` has it.

    Each row holds the two labels or groups that are joined, their linkage distance (the mean distance of their labels),
    and how many labels the new group has. The trees in Yu, Verma (2022) are drawn so.

    Raises:
        ValueError: When there are too few or too many labels.
    """
    if not 2 <= len(geometry) <= MOST_LABELS:
        way_out = f"of more take some: geometry.select(range({MOST_LABELS}))"
        raise ValueError(f"a tree needs 2 to {MOST_LABELS:,} labels, got {len(geometry):,}; {way_out}")
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    return np.asarray(hierarchy.linkage(squareform(geometry.distances().numpy(), checks=False), "average"))


def leaf_order(tree: NDArray[np.float64]) -> list[int]:
    """Returns the label indices from left to right in a tree of `linkage`."""
    from scipy.cluster.hierarchy import leaves_list

    return [int(label) for label in leaves_list(tree)]


class LabelMap(NamedTuple):
    """Labels in a plane.

    Attributes:
        labels: The indices of those drawn: all, or those that the reference has.
        points: [L, 2], of `multidimensional_scaling`, aligned with the reference where there is one.
        reference: [L, 2], the map of the reference; None without one, or where all points of a map fall together.
        disparity: The sum of squared distances between the two maps, from 0 (equal) to 1; None without a reference.
    """

    labels: list[int]
    points: NDArray[np.float64]
    reference: NDArray[np.float64] | None = None
    disparity: float | None = None


def label_plane(distances: ArrayLike, reference: ArrayLike | None = None) -> LabelMap:
    """Returns the map of labels, aligned with the map of a reference's distances by Procrustes analysis.

    Args:
        distances: [C, C].
        reference: [C, C], e.g. `WordNet.distances`; labels whose row is nan throughout are left out. Fewer than three
            labels, or an infinite distance, give no reference: two points fit any two.

    Raises:
        ValueError: As `multidimensional_scaling`.
    """
    learned = np.asarray(distances, dtype=np.float64)
    other = np.full_like(learned, np.nan) if reference is None else np.asarray(reference, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(other).all(axis=1))
    other = other[np.ix_(known, known)]
    if len(known) < 3 or not np.isfinite(other).all():
        return LabelMap(list(range(len(learned))), multidimensional_scaling(learned))
    points, reference_points = (multidimensional_scaling(table) for table in (learned[np.ix_(known, known)], other))
    if not (np.ptp(points) > 0 and np.ptp(reference_points) > 0):
        return LabelMap(known.tolist(), points)
    from scipy.spatial import procrustes

    reference_points, points, disparity = procrustes(reference_points, points)
    return LabelMap(known.tolist(), points, reference_points, float(disparity))


def multidimensional_scaling(distances: ArrayLike) -> NDArray[np.float64]:
    """Returns points [C, 2] whose distances are near to those given: classical scaling (Torgerson 1952).

    With D the squared distances and J = I - 1/C, the points are V sqrt(max(L, 0)) of the two largest eigenvalues L of
    -J D J / 2, the larger first. The largest coordinate of each axis is positive, so that every call gives the same.

    Args:
        distances: [C, C], symmetric and finite.

    Raises:
        ValueError: When the distances are not square, symmetric and finite.
    """
    table = np.asarray(distances, dtype=np.float64)
    square = table.ndim == 2 and table.shape[0] == table.shape[1] and table.size > 0
    if not square or not np.isfinite(table).all() or not np.allclose(table, table.T):
        raise ValueError(f"`distances` must be square [C, C], finite and symmetric, got {list(table.shape)}")
    from scipy.linalg import eigh

    count, squared = len(table), table**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    values, vectors = eigh(-centred / 2, subset_by_index=(max(count - 2, 0), count - 1))
    points = np.zeros((count, 2))
    points[:, : len(values)] = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1]
    largest = points[np.abs(points).argmax(axis=0), [0, 1]]
    return np.asarray(points * np.where(largest < 0, -1.0, 1.0))  # an eigenvector has no sign of its own
