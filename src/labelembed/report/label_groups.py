"""What learned labels are held against: WordNet's distances, and groups that colour trees and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import DataError
from labelembed.geometry import WordNet, read_hierarchy, senses_for, shipped_hierarchies
from labelembed.geometry.senses import dataset_of

_WORDNET_GROUPS = 5
_NAMED = 3


class LabelGroups(NamedTuple):
    """Labels in groups.

    Attributes:
        source: Where the groups come from, as it stands in a sentence.
        names: What each group is called.
        of: The number of each label's group, in the order of the labels; None for a label without one.
    """

    source: str
    names: tuple[str, ...]
    of: tuple[int | None, ...]

    def select(self, labels: Sequence[int]) -> LabelGroups:
        """Returns the groups of some labels, by their numbers."""
        return self._replace(of=tuple(self.of[label] for label in labels))


@dataclass(frozen=True)
class Reference:
    """What is known of some labels from elsewhere.

    Attributes:
        wordnet: [C, C] path lengths in WordNet, nan rows for labels that it lacks; None where there is none.
        why_not: Why there is none, where a reader may want to know.
        groups: What colours the labels; None for one colour.
    """

    wordnet: NDArray[np.float64] | None = None
    why_not: str = ""
    groups: LabelGroups | None = None


def reference_for(names: Sequence[str], *, groups: str | Path | None = None, wordnet: bool = False) -> Reference:
    """Returns what is known of labels: WordNet's distances where their senses ship or are asked for, and groups.

    Args:
        names: The labels, in the order of their numbers.
        groups: A hierarchy, as `geometry.read_hierarchy` takes it; None: the one that ships for these labels, else
            groups cut from WordNet's tree.
        wordnet: Look the labels up by their names; those that WordNet lacks are left out.

    Raises:
        DataError: When `groups` cannot be read, or `wordnet` is asked for and is not there.
    """
    senses = senses_for(names)
    distances, why_not = None, ""
    if senses is not None or wordnet:
        try:
            distances = WordNet().distances(names, senses, missing="drop").numpy()
        except DataError as error:
            if wordnet:
                raise
            why_not = str(error).splitlines()[0]
        if distances is not None and (~np.isnan(distances).all(axis=1)).sum() < 3:
            distances, why_not = None, "WordNet knows fewer than three of the labels"
    found = _given_groups(groups, names) if groups is not None else None
    if found is None and dataset_of(names) in shipped_hierarchies():
        try:
            found = _given_groups(str(dataset_of(names)), names)
        except DataError:  # some of the labels only
            found = None
    if found is None and distances is not None:
        found = _wordnet_groups(names, distances)
    return Reference(distances, why_not, found)


def _given_groups(source: str | Path, names: Sequence[str]) -> LabelGroups:
    hierarchy = read_hierarchy(source, names)
    called = [path[-1] for path in hierarchy.paths]
    kinds = list(dict.fromkeys(called))
    return LabelGroups(f"groups of {source}", tuple(kinds), tuple(kinds.index(kind) for kind in called))


def _wordnet_groups(names: Sequence[str], distances: NDArray[np.float64]) -> LabelGroups | None:
    """Returns the groups at which WordNet's tree, by average linkage, falls into five parts."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    there = np.flatnonzero(~np.isnan(distances).all(axis=1))
    table = distances[np.ix_(there, there)]
    if len(there) < 4 or not np.isfinite(table).all():
        return None
    joined = hierarchy.linkage(squareform(table, checks=False), method="average")
    cut = hierarchy.fcluster(joined, min(_WORDNET_GROUPS, len(there) - 1), criterion="maxclust").tolist()
    order = list(dict.fromkeys(cut))
    of: list[int | None] = [None] * len(names)
    for label, group in zip(there.tolist(), cut, strict=True):
        of[label] = order.index(group)
    called = []
    for number in range(len(order)):
        inside = [names[label] for label, group in enumerate(of) if group == number]
        called.append(", ".join(inside[:_NAMED]) + (f" and {len(inside) - _NAMED} more" if inside[_NAMED:] else ""))
    return LabelGroups("WordNet's tree of nouns", tuple(called), tuple(of))
