"""The hierarchy that a geometry itself has: labels joined by agglomerative clustering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry.label_geometry import LabelGeometry

#: scipy needs 1.6 GB at 20,000 labels, and nobody reads a tree of that many.
MOST_LABELS = 5_000
LinkageMethod = Literal["average", "complete", "single", "ward"]


def linkage(geometry: LabelGeometry, method: LinkageMethod = "average") -> NDArray[np.float64]:
    """Returns [C - 1, 4], which labels and groups join at which distance, as `scipy.cluster.hierarchy.linkage`.

    Average linkage is that of the figures of Learning with Adaptive Labels (Yu, Verma 2022).

    Args:
        geometry: Two labels or more, at most `MOST_LABELS`.
        method: How far two groups are apart: the mean, the largest or the smallest distance of their labels, or
            Ward's growth of the variance, which is meant for Euclidean vectors alone.

    Raises:
        ValueError: When there are too few or too many labels, or the method does not fit.
    """
    if method == "ward" and (geometry.vectors is None or geometry.metric != "euclidean"):
        raise ValueError("`method` ward needs vectors compared by Euclidean distance; take average")
    if not 2 <= len(geometry) <= MOST_LABELS:
        raise ValueError(
            f"a tree has 2 to {MOST_LABELS:,} labels, got {len(geometry):,}; of more take some, for instance the "
            f"first: geometry.select(range({MOST_LABELS}))"
        )
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    distances = squareform(geometry.distances().numpy(), checks=False)
    joined: NDArray[np.float64] = hierarchy.linkage(distances, method=method)
    return joined


def leaf_order(joined: NDArray[np.float64]) -> list[int]:
    """Returns the label indices from left to right in the tree that `linkage` returned."""
    from scipy.cluster.hierarchy import leaves_list

    order: list[int] = leaves_list(joined).tolist()
    return order


def to_json(joined: NDArray[np.float64], names: Sequence[str]) -> str:
    """Returns what `linkage` returned as nested JSON: ``{"name"}`` a label, ``{"name", "height", "children"}`` a group.

    Raises:
        ValueError: When names and labels are of different number.
    """
    if len(joined) + 1 != len(names):
        raise ValueError(f"the tree has {len(joined) + 1} labels, but there are {len(names)} names")
    # Joined as text from below: the tree of single linkage may be as deep as it has labels.
    nodes = [json.dumps({"name": name}, ensure_ascii=False) for name in names]
    for one, other, height, _ in joined.tolist():
        children = f"{nodes[int(one)]}, {nodes[int(other)]}"
        nodes[int(one)] = nodes[int(other)] = ""  # or the texts of all groups of a deep tree would be kept
        nodes.append(f'{{"name": "", "height": {height!r}, "children": [{children}]}}')
    return nodes[-1] + "\n"
