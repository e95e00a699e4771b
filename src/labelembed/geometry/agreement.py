"""A geometry in numbers: its nearest labels, and how well it agrees with WordNet and with a hierarchy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelembed.geometry.hierarchy import Hierarchy
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
class AgreementResult:
    """Kendall's tau-b of each label's distances to a reference's.

    Attributes:
        mean: The mean over the labels that have a tau; nan where none has.
        per_label: Label and its tau, in the order of their indices.
        left_out: Label and why it has no tau. Nothing is left out in silence.
    """

    mean: float
    per_label: dict[str, float]
    left_out: dict[str, str]

    def __str__(self) -> str:
        said = f"tau-b {self.mean:.3f} over {len(self.per_label)} labels"
        return f"{said}, without {', '.join(self.left_out)}" if self.left_out else said

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; null where there is no tau."""
        return {
            "tau_b": _number(self.mean),
            "labels": len(self.per_label),
            "left_out": self.left_out,
            "per_label": self.per_label,
        }


@dataclass(frozen=True)
class GroupAgreement:
    """How well distances agree with a hierarchy.

    Attributes:
        kendall: Tau-b to the path lengths in the tree.
        same_group: The share of labels whose nearest label is of their own group; nan without such labels.
        by_chance: That share if every other label were as likely to be the nearest.
        labels: How many labels the two are over: those whose group has another label.
    """

    kendall: AgreementResult
    same_group: float
    by_chance: float
    labels: int


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
            found["wordnet"] = self.wordnet.as_json() | {"procrustes_disparity": self.disparity}
        if self.hierarchy is not None:
            found["hierarchy"] = self.hierarchy.kendall.as_json() | {
                "same_group": _number(self.hierarchy.same_group),
                "same_group_by_chance": _number(self.hierarchy.by_chance),
                "same_group_labels": self.hierarchy.labels,
            }
        return found


def kendall_agreement(
    learned_distances: ArrayLike, reference_distances: ArrayLike, names: Sequence[str] | None = None
) -> AgreementResult:
    """Returns how well learned distances rank the labels as the reference does (Yu, Verma 2022, eq. 4).

    For each label, tau-b between its two rows of distances without itself; then the mean over the labels.
    A tau is not defined where a row's distances are all equal; such a label is left out, and said.

    Args:
        learned_distances: [C, C], e.g. `LabelGeometry.distances`.
        reference_distances: [C, C], e.g. `WordNet.distances`. A label whose row is nan throughout is left
            out, of the other rows as well.
        names: Of the labels; their indices by default.

    Raises:
        ValueError: When the tables or the names are of different number, or a learned distance is not finite.
    """
    learned, reference = _table(learned_distances, "learned"), _table(reference_distances, "reference")
    count = len(learned)
    if reference.shape != learned.shape:
        raise ValueError(f"{count} learned labels, but the reference has {len(reference)}")
    labels = [str(number) for number in range(count)] if names is None else [str(name) for name in names]
    if len(labels) != count or len(set(labels)) != count:
        raise ValueError(f"{count} labels need {count} different names, got {len(set(labels))}")
    if not np.isfinite(learned).all():
        row = int((~np.isfinite(learned)).any(axis=1).argmax())
        raise ValueError(f"the learned distances of label {labels[row]!r} are not all finite")
    known = np.logical_not(np.isnan(reference).all(axis=1))
    if np.isnan(reference[np.ix_(known, known)]).any():
        raise ValueError("the reference holds nan in the row of a label of which it knows other distances")

    from scipy.stats import kendalltau

    per_label: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for row, label in enumerate(labels):
        if not known[row]:
            left_out[label] = "not in the reference"
            continue
        others = known.copy()
        others[row] = False
        ours, theirs = learned[row, others], reference[row, others]
        if why := _undefined(ours, theirs):
            left_out[label] = why
            continue
        per_label[label] = float(kendalltau(ours, theirs).statistic)
    mean = math.fsum(per_label.values()) / len(per_label) if per_label else math.nan
    return AgreementResult(mean, per_label, left_out)


def group_agreement(distances: ArrayLike, hierarchy: Hierarchy) -> GroupAgreement:
    """Returns how well distances between labels agree with a hierarchy.

    Args:
        distances: [C, C], the labels in the order of `hierarchy.names`.
        hierarchy: As `read_hierarchy` returns it.

    Raises:
        ValueError: When the distances are of another number of labels, or not finite.
    """
    kendall = kendall_agreement(distances, hierarchy.distances(), hierarchy.names)
    table = np.asarray(distances, dtype=np.float64).copy()
    np.fill_diagonal(table, np.inf)
    groups = np.array(hierarchy.groups())
    same = groups[:, None] == groups
    np.fill_diagonal(same, False)
    counted = same.any(axis=1)
    if not counted.any():
        return GroupAgreement(kendall, float("nan"), float("nan"), 0)
    # Of several nearest labels each counts for its part.
    near = table == table.min(axis=1, keepdims=True)
    shares = (near & same).sum(axis=1) / near.sum(axis=1)
    chance = same.sum(axis=1) / (len(table) - 1)
    return GroupAgreement(kendall, float(shares[counted].mean()), float(chance[counted].mean()), int(counted.sum()))


def geometry_scores(
    geometry: LabelGeometry, *, wordnet: ArrayLike | None = None, hierarchy: Hierarchy | None = None, pairs: int = 5
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
    return GeometryScores(
        nearest,
        None if wordnet is None else kendall_agreement(distances, wordnet, names),
        None if wordnet is None else label_plane(distances, wordnet).disparity,
        None if hierarchy is None else group_agreement(distances, hierarchy),
    )


def published_scores(names: Sequence[str]) -> dict[str, float]:
    """Returns the published tau-b to WordNet by method where the names are all those of a data set, else nothing."""
    dataset = dataset_of(names)
    if dataset is None or dataset not in PUBLISHED or len(names) != len(shipped_senses(dataset)):
        return {}
    return dict(PUBLISHED[dataset])


def _undefined(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    """Returns why tau-b of two rows is not defined, or an empty string."""
    if len(ours) < 2:
        return "fewer than two others"
    equal = [which for which, row in (("learned", ours), ("reference", theirs)) if (row == row[0]).all()]
    return f"its {' and '.join(equal)} distances are all equal" if equal else ""


def _table(distances: ArrayLike, which: str) -> NDArray[np.float64]:
    table = np.asarray(distances, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
        raise ValueError(f"the {which} distances must be square [C, C], got {list(table.shape)}")
    return table


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
