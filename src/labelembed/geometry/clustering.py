"""The hierarchy that a geometry itself has: labels joined by agglomerative clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry.label_geometry import LabelGeometry
from labelembed.geometry.label_tree import TreeNode, json_of, newick_of

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
    if method not in get_args(LinkageMethod):
        raise ValueError(f"`method` must be one of {', '.join(get_args(LinkageMethod))}, got {method!r}")
    if method == "ward" and (geometry.vectors is None or geometry.metric != "euclidean"):
        raise ValueError("`method` ward needs vectors compared by Euclidean distance; take average")
    if len(geometry) < 2:
        raise ValueError("a tree needs two labels or more, got 1")
    if len(geometry) > MOST_LABELS:
        raise ValueError(
            f"a tree of {len(geometry):,} labels cannot be read, at most {MOST_LABELS:,}; take some, for instance "
            f"the first: geometry.select(range({MOST_LABELS}))"
        )
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    distances = squareform(geometry.distances().numpy(), checks=False)
    joined: NDArray[np.float64] = hierarchy.linkage(distances, method=method)
    return joined


def leaf_order(joined: NDArray[np.float64]) -> list[int]:
    """Returns the labels' numbers from left to right in the tree that `linkage` returned."""
    return [int(leaf.name) for leaf in tree_of(joined, [str(number) for number in range(len(joined) + 1)]).leaves()]


def tree_of(joined: NDArray[np.float64], names: Sequence[str]) -> TreeNode:
    """Returns what `linkage` returned as a tree whose leaves are the labels.

    A branch is as long as the nodes' distances are apart, halved, so that the way between two labels is the
    distance at which they join.

    Raises:
        ValueError: When names and labels are of different number.
    """
    if len(joined) + 1 != len(names):
        raise ValueError(f"the tree has {len(joined) + 1} labels, but there are {len(names)} names")
    nodes = [TreeNode(name) for name in names]
    for one, other, height, _ in joined:
        children = [nodes[int(one)], nodes[int(other)]]
        for child in children:
            child.length = max(float(height) - (child.height or 0.0), 0.0) / 2
        nodes.append(TreeNode(children=children, height=float(height)))
    return nodes[-1]


def to_newick(joined: NDArray[np.float64], names: Sequence[str]) -> str:
    """Returns what `linkage` returned as Newick text with branch lengths; see `tree_of`."""
    return newick_of(tree_of(joined, names))


def to_json(joined: NDArray[np.float64], names: Sequence[str]) -> str:
    """Returns what `linkage` returned as nested JSON, ``{"name", "height", "children"}``; see `tree_of`."""
    return json_of(tree_of(joined, names))
