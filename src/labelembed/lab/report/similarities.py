"""What a variant's runs learned about the labels: how similar they are, the mean over seeds, and how stable that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, leaf_order
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import VariantRuns
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder

#: Labels that the figures are of; of more the first, which in a vocabulary are the most frequent.
DRAWN_LABELS = 1_000
Kind = Literal["share", "distance", "cosine"]
Measure = Literal["lift", "relative distance"]


class Neighbours(NamedTuple):
    """The most similar labels of every label.

    Attributes:
        places: [C, k], their numbers, most similar first.
        scores: [C, k], as in `LabelSimilarities.relative`; of more than `DRAWN_LABELS` labels the share of the label's
            soft target, minus the distance, or the cosine.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class LabelSimilarities:
    """How alike labels are, the mean over runs.

    Attributes:
        names: All labels.
        kind: What a similarity is: the share of a label's soft target that another gets, minus a distance, or a cosine.
        runs: How many runs the mean is over; 0 when none can be read.
        similarity: ``[L, L]`` of the first `DRAWN_LABELS`: row y how alike each other label is to y. Larger is more.
        own_share: How much of its soft target a label keeps for itself, the mean over all labels; nan for vectors.
        distances: ``[L, L]``, symmetric.
        joined: Their tree by average linkage, `[L - 1, 4]`; empty for a single label.
        skipped: How many special tokens stand before the first label: of a vocabulary they are no labels to look at.
        agreement: Spearman's rank correlation of the similarity of all pairs between two seeds, the mean over pairs of
            seeds; nan for one run.
        nearest_in: [L], in how many runs the label that is nearest by the mean is the nearest.
        geometries: Of each run, by seed; with more than `DRAWN_LABELS` labels that of the first run alone.
        left_out: Why a run is not in the mean, by seed.
    """

    names: tuple[str, ...]
    kind: Kind
    runs: int
    similarity: NDArray[np.float64]
    own_share: float
    distances: NDArray[np.float64]
    joined: NDArray[np.float64]
    skipped: int = 0
    agreement: float = float("nan")
    nearest_in: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    geometries: dict[int, LabelGeometry] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)

    @property
    def drawn(self) -> tuple[str, ...]:
        """The labels that the figures are of."""
        return self.names[: len(self.similarity)]

    @property
    def order(self) -> list[int]:
        """Their numbers in the order of the tree."""
        return leaf_order(self.joined) if len(self.joined) else list(range(len(self.similarity)))

    @property
    def measure(self) -> Measure:
        """What `relative` is."""
        return "lift" if self.kind == "share" else "relative distance"

    @property
    def relative(self) -> NDArray[np.float64]:
        """How similar a label is to y, beside the other labels [L, L]; nan on the diagonal.

        Of soft targets the lift: the share that a label gets, over a uniform share of all that y gives away to the
        other C - 1. Of vectors the relative distance: the distance from y over the mean distance from y.
        """
        table = self.similarity.copy() if self.kind == "share" else self.distances.copy()
        given_away = 1.0 - np.diagonal(table)[:, None]
        np.fill_diagonal(table, np.nan)
        if self.kind == "share":
            return np.asarray(table * (len(self.names) - 1) / np.maximum(given_away, 1e-12))
        return np.asarray(table / np.maximum(np.nanmean(table, axis=1, keepdims=True), 1e-12))

    def neighbours(self, k: int, labels: int | None = None) -> Neighbours:
        """Returns the most similar labels: by the mean over runs, of more than `DRAWN_LABELS` labels by the first run.

        Args:
            k: How many of each label; of fewer labels all others.
            labels: Of the first so many labels; None: of all.
        """
        count = len(self.names) if labels is None else labels
        if len(self.names) > len(self.similarity):
            return self._neighbours_of_first_run(count, k)
        table = self.similarity.copy()
        np.fill_diagonal(table, -np.inf)
        places = np.argsort(-table, axis=1, kind="stable")[:count, : min(k, len(table) - 1)]
        return Neighbours(places, np.take_along_axis(self.relative[:count], places, axis=1))

    def _neighbours_of_first_run(self, labels: int, k: int) -> Neighbours:
        geometry = next(iter(self.geometries.values()))
        places, scores = geometry.nearest(range(labels), k, approximate=True)
        return Neighbours(places.numpy(), scores.numpy())


def label_similarities(variant: VariantRuns) -> LabelSimilarities | None:
    """Returns the mean similarity of labels over a variant's runs, or None where the runs left none.

    Of more than `DRAWN_LABELS` labels the first run alone is read: the files of tens of thousands are large.
    """
    geometries: dict[int, LabelGeometry] = {}
    left_out: dict[int, str] = {}
    skipped = 0
    for seed, found in _geometries(variant):
        if isinstance(found, str):
            left_out[seed] = found
            continue
        if found.names[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS and len(found) > len(SPECIAL_TOKENS) + 1:
            skipped = len(SPECIAL_TOKENS)
            found = found.select(found.names[skipped:])
        first = next(iter(geometries.values()), found)
        if found.names != first.names or _kind(found) != _kind(first):
            left_out[seed] = "its labels are others than those of the first run"
            continue
        geometries[seed] = found
        if len(found) > DRAWN_LABELS:
            break
    if not geometries:
        none = np.zeros((0, 0))
        return LabelSimilarities((), "share", 0, none, 0.0, none, none, left_out=left_out) if left_out else None
    first = next(iter(geometries.values()))
    each = [_similarity(geometry) for geometry in geometries.values()]
    similarity, kind = np.mean(each, axis=0), _kind(first)
    distances = _distances([_drawn(geometry) for geometry in geometries.values()])
    return LabelSimilarities(
        first.names,
        kind,
        len(geometries),
        similarity,
        float(np.mean(np.diagonal(similarity))) if kind == "share" else float("nan"),
        distances,
        _joined(distances),
        skipped=skipped,
        agreement=_agreement(each),
        nearest_in=np.sum([_nearest(one) == _nearest(similarity) for one in each], axis=0),
        geometries=geometries,
        left_out=left_out,
    )


def _agreement(each: list[NDArray[np.float64]]) -> float:
    """Returns Spearman's rank correlation of the similarity of all pairs, the mean over pairs of runs."""
    from scipy.stats import rankdata

    if len(each) < 2 or len(each[0]) < 3:
        return float("nan")
    ranks = np.array([rankdata(similarity[~np.eye(len(similarity), dtype=bool)]) for similarity in each])
    if not np.ptp(ranks, axis=1).all():
        return float("nan")
    return float(np.corrcoef(ranks)[np.triu_indices(len(each), 1)].mean())


def _nearest(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the number of the label nearest to each [L]."""
    others = np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity)
    return np.asarray(others.argmax(axis=1))


def _geometries(variant: VariantRuns) -> Iterator[tuple[int, LabelGeometry | str]]:
    """Gives the geometry of each run that left one, or why it cannot be read."""
    for seed, run in variant.runs.items():
        folder = RunFolder(run.folder)
        if not folder.geometry_file.exists():
            continue
        try:
            yield seed, folder.label_geometry()
        except (DataError, RunFolderError) as error:
            yield seed, str(error).replace(f"{folder.path}/", "")


def _kind(geometry: LabelGeometry) -> Kind:
    if geometry.similarities is not None:
        return "share"
    return "cosine" if geometry.metric == "cosine" else "distance"


def _drawn(geometry: LabelGeometry) -> LabelGeometry:
    return geometry if len(geometry) <= DRAWN_LABELS else geometry.select(geometry.names[:DRAWN_LABELS])


def _similarity(geometry: LabelGeometry) -> NDArray[np.float64]:
    if geometry.similarities is not None:
        # By numpy: torch wakes all its threads, which for ten labels takes far longer than the work.
        logits = geometry.similarities[:DRAWN_LABELS].numpy().astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray(shares[:, : len(shares)], dtype=np.float64)
    distances = _drawn(geometry).distances().numpy()
    return 1 - distances if geometry.metric == "cosine" else -distances


def _distances(geometries: list[LabelGeometry]) -> NDArray[np.float64]:
    """Returns the mean distances; of similarities those of the mean, which is decomposed once."""
    first = geometries[0]
    if first.similarities is None:
        return np.asarray(np.mean([geometry.distances().numpy() for geometry in geometries], axis=0))
    tables = [geometry.similarities for geometry in geometries if geometry.similarities is not None]
    mean = torch.stack([table.double() for table in tables]).mean(dim=0)
    return LabelGeometry(first.names, similarities=mean).distances().numpy()


def _joined(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(distances) < 2:
        return np.zeros((0, 4))
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    joined: NDArray[np.float64] = hierarchy.linkage(squareform(distances, checks=False), method="average")
    return joined
