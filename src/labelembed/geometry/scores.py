"""A geometry in numbers: its nearest labels, and its agreement with WordNet and with a hierarchy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from labelembed.geometry.agreement import AgreementResult, kendall_agreement
from labelembed.geometry.hierarchy import GroupAgreement, Hierarchy, group_agreement
from labelembed.geometry.label_geometry import LabelGeometry
from labelembed.geometry.projection import label_plane
from labelembed.geometry.senses import dataset_of, shipped_senses

#: Mean tau-b to WordNet in table 2 of Learning with Adaptive Labels (Yu, Verma 2022); for AwA2 over 23 of 50 labels.
#: Its scores of the baselines are left out: features and labels were paired wrongly there.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "cifar10": {"LwAL": 0.473, "LwAL10": 0.544, "LwAL10+rpl": 0.609},
    "fashion_mnist": {"LwAL": 0.306, "LwAL10": 0.494, "LwAL10+rpl": 0.305},
    "awa2": {"LwAL": 0.299, "LwAL10": 0.288, "LwAL10+rpl": 0.260},
}


@dataclass(frozen=True)
class GeometryScores:
    """Scores of one geometry.

    Attributes:
        nearest: The pairs of labels with the smallest distances: two names and the distance.
        wordnet: Kendall's tau-b to WordNet; None where it was not asked for.
        disparity: Between the labels' map and WordNet's, from 0 (alike) to 1; None where there is none.
        hierarchy: Agreement with a hierarchy; None where none was given.
    """

    nearest: list[tuple[str, str, float]]
    wordnet: AgreementResult | None = None
    disparity: float | None = None
    hierarchy: GroupAgreement | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; null where there is no number."""
        found: dict[str, Any] = {
            "nearest": [{"labels": [one, other], "distance": distance} for one, other, distance in self.nearest],
            "wordnet": None,
            "hierarchy": None,
        }
        if self.wordnet is not None:
            found["wordnet"] = _kendall_json(self.wordnet) | {"procrustes_disparity": self.disparity}
        if self.hierarchy is not None:
            found["hierarchy"] = _kendall_json(self.hierarchy.kendall) | {
                "same_group": _number(self.hierarchy.same_group),
                "same_group_by_chance": _number(self.hierarchy.by_chance),
                "same_group_labels": self.hierarchy.labels,
            }
        return found


def geometry_scores(
    geometry: LabelGeometry, *, wordnet: Tensor | None = None, hierarchy: Hierarchy | None = None, pairs: int = 5
) -> GeometryScores:
    """Returns the scores of a geometry.

    Args:
        geometry: The labels.
        wordnet: [C, C], as `WordNet.distances` returns them for `geometry.names`; nan rows are left out.
        hierarchy: As `read_hierarchy` returns it for `geometry.names`.
        pairs: How many of the nearest pairs of labels to name.

    Raises:
        ValueError: When a reference is of other labels, or the geometry too large for its distances.
    """
    if hierarchy is not None and hierarchy.names != geometry.names:
        raise ValueError("the hierarchy is of other labels, or has them in another order")
    names, distances = geometry.names, geometry.distances().numpy()
    rows, columns = np.triu_indices(len(names), k=1)
    smallest = np.argsort(distances[rows, columns], kind="stable")[:pairs]
    nearest = [
        (names[one], names[other], float(distances[one, other]))
        for one, other in zip(rows[smallest], columns[smallest], strict=True)
    ]
    over = None if wordnet is None else label_plane(distances, wordnet).alignment
    return GeometryScores(
        nearest,
        None if wordnet is None else kendall_agreement(distances, wordnet, names),
        None if over is None else over.disparity,
        None if hierarchy is None else group_agreement(distances, hierarchy),
    )


def published_scores(names: Sequence[str]) -> dict[str, float]:
    """Returns the published tau-b to WordNet by method where the names are all those of a data set, else nothing."""
    dataset = dataset_of(names)
    if dataset is None or dataset not in PUBLISHED or len(names) != len(shipped_senses(dataset)):
        return {}
    return dict(PUBLISHED[dataset])


def _kendall_json(result: AgreementResult) -> dict[str, Any]:
    return {
        "tau_b": _number(result.mean),
        "labels": len(result.per_label),
        "left_out": result.left_out,
        "per_label": result.per_label,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
