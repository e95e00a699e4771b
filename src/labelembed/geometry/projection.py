"""The tree of labels, and labels as points in a few dimensions: what figures of a geometry are drawn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.geometry.label_geometry import LabelGeometry

#: scipy needs 1.6 GB for a tree of 20,000 labels, and nobody reads one of that many.
MOST_LABELS = 5_000


def linkage(geometry: LabelGeometry) -> NDArray[np.float64]:
    """Returns the tree of 2 to `MOST_LABELS` labels by average linkage, [C - 1, 4] as scipy's `linkage` has it.

    Each row holds the two labels or groups that are joined, their linkage distance (the mean distance of their labels),
    and how many labels the new group has. The trees in Yu, Verma (2022) are drawn so. From left to right its labels are
    ``scipy.cluster.hierarchy.leaves_list(tree)``.

    Raises:
        ValueError: When there are too few or too many labels.
    """
    if not 2 <= len(geometry) <= MOST_LABELS:
        way_out = f"of more take some: geometry.select(geometry.names[:{MOST_LABELS}])"
        raise ValueError(f"a tree needs 2 to {MOST_LABELS:,} labels, got {len(geometry):,}; {way_out}")
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    return np.asarray(hierarchy.linkage(squareform(geometry.distances().numpy(), checks=False), "average"))


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
