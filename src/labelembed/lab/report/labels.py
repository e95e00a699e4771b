"""What a variant's runs learned about the labels: how similar they are, the mean over seeds, and how stable that is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import VariantRuns
from labelembed.lab.report.formatting import number, shortened
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder

#: Labels that are drawn and listed; of more the first, which in a vocabulary are the most frequent.
MOST_LABELS = 1_000
_NEAREST = 5


@dataclass(frozen=True)
class LabelSimilarities:
    """How similar labels are, the mean over runs.

    Attributes:
        names: The names of all labels.
        is_share: Whether a similarity is the share of a label's soft target that another gets; else minus a distance.
        runs: How many runs the mean is over.
        similarity: [L, L] of the first `MOST_LABELS`: row y how similar each label is to y. Larger is more.
        distances: [L, L], symmetric.
        agreement: Spearman's rank correlation of the similarity of all pairs between two seeds, the mean over pairs of
            seeds; nan for one run.
        nearest_in: [L], in how many runs the label that is nearest by the mean is the nearest.
        left_out: Why a run is not in the mean, by seed.
    """

    names: tuple[str, ...]
    is_share: bool
    runs: int
    similarity: NDArray[np.float64]
    distances: NDArray[np.float64]
    agreement: float
    nearest_in: NDArray[np.int64]
    left_out: dict[int, str] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """What `relative` is."""
        return "lift" if self.is_share else "relative distance"

    @property
    def nearest(self) -> NDArray[np.int64]:
        """The index of the label nearest to each [L]."""
        return _nearest(self.similarity)

    @property
    def relative(self) -> NDArray[np.float64]:
        """How similar a label is to y, beside the other labels [L, L]; nan on the diagonal.

        Of soft targets the lift: the share that a label gets, over a uniform share of all that y gives away to the
        other C - 1. Of vectors the relative distance: the distance from y over the mean distance from y.
        """
        table = self.similarity.copy() if self.is_share else self.distances.copy()
        given_away = 1.0 - np.diagonal(table)[:, None]
        np.fill_diagonal(table, np.nan)
        if self.is_share:
            return np.asarray(table * (len(self.names) - 1) / np.maximum(given_away, 1e-12))
        return np.asarray(table / np.maximum(np.nanmean(table, axis=1, keepdims=True), 1e-12))

    def rows(self) -> list[tuple[str, list[tuple[str, str]], str]]:
        """Returns for each label its name, the nearest with how similar they are, and in how many runs the first is."""
        table, shown = self.relative, []
        order = np.argsort(np.where(np.isnan(table), np.inf, -self.similarity), axis=1, kind="stable")
        sign = "\u00d7" if self.is_share else ""
        for label, others in enumerate(order[:, : min(_NEAREST, len(table) - 1)].tolist()):
            near = [(shortened(self.names[one], 40), f"{table[label, one]:.2f}{sign}") for one in others]
            shown.append((self.names[label], near, f"{self.nearest_in[label]} of {self.runs}"))
        return shown

    def stability(self) -> str:
        """Returns in a sentence how much the seeds agree."""
        if self.runs == 1:
            return "One run: how stable this is over seeds is not known."
        always = int((self.nearest_in == self.runs).sum())
        of = f"{always:,} of {len(self.nearest_in):,} labels"
        text = f"Mean over {self.runs} seeds; for {of} the nearest is always the same"
        if np.isnan(self.agreement):
            return f"{text}."
        return f"{text}. The seeds rank the pairs of labels with a correlation of {number(self.agreement, 2)}."


def label_similarities(variant: VariantRuns) -> LabelSimilarities | None:
    """Returns the mean similarity of labels over a variant's runs; None where no run left any that can be read.

    Of more than `MOST_LABELS` labels the first run alone is read: the files of tens of thousands are large.
    """
    geometries: dict[int, LabelGeometry] = {}
    left_out: dict[int, str] = {}
    for seed, run in variant.runs.items():
        folder, first = RunFolder(run.folder), next(iter(geometries.values()), None)
        if not folder.geometry_file.exists() or (first is not None and len(first) > MOST_LABELS):
            continue
        try:
            geometry = folder.label_geometry()
        except (DataError, RunFolderError) as error:
            left_out[seed] = str(error).replace(f"{folder.path}/", "")
            continue
        if geometry.names[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS and len(geometry) > len(SPECIAL_TOKENS) + 1:
            geometry = geometry.select(geometry.names[len(SPECIAL_TOKENS) :])  # of a vocabulary they are no labels
        kinds = {(one.names, one.similarities is None) for one in (geometry, first or geometry)}
        if len(kinds) > 1 or len(geometry) < 2:
            left_out[seed] = "other labels than those of the first run"
            continue
        geometries[seed] = geometry
    if not geometries:
        return None
    first = next(iter(geometries.values()))
    each = [_similarity(geometry) for geometry in geometries.values()]
    similarity = np.mean(each, axis=0)
    stable = np.sum([_nearest(one) == _nearest(similarity) for one in each], axis=0)
    distances, is_share = _distances(list(geometries.values())), first.similarities is not None
    agreement = _agreement(each)
    return LabelSimilarities(first.names, is_share, len(each), similarity, distances, agreement, stable, left_out)


def _agreement(each: list[NDArray[np.float64]]) -> float:
    from scipy.stats import rankdata

    if len(each) < 2 or len(each[0]) < 3:
        return float("nan")
    ranks = np.array([rankdata(similarity[~np.eye(len(similarity), dtype=bool)]) for similarity in each])
    if not np.ptp(ranks, axis=1).all():
        return float("nan")
    return float(np.corrcoef(ranks)[np.triu_indices(len(each), 1)].mean())


def _nearest(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity).argmax(axis=1))


def _similarity(geometry: LabelGeometry) -> NDArray[np.float64]:
    if geometry.similarities is not None:
        # By numpy: torch wakes all its threads, which for ten labels takes far longer than the work.
        logits = geometry.similarities[:MOST_LABELS].numpy().astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray((shares / shares.sum(axis=1, keepdims=True))[:, : len(shares)])
    return -_drawn(geometry).distances().numpy()


def _drawn(geometry: LabelGeometry) -> LabelGeometry:
    return geometry if len(geometry) <= MOST_LABELS else geometry.select(geometry.names[:MOST_LABELS])


def _distances(geometries: list[LabelGeometry]) -> NDArray[np.float64]:
    """Returns the mean distances; of similarities those of the mean, which is decomposed once."""
    drawn = [_drawn(geometry) for geometry in geometries]
    if drawn[0].similarities is None:
        return np.asarray(np.mean([geometry.distances().numpy() for geometry in drawn], axis=0))
    tables = [geometry.similarities.double() for geometry in drawn if geometry.similarities is not None]
    mean = LabelGeometry(drawn[0].names, similarities=torch.stack(tables).mean(dim=0))
    return np.asarray(mean.distances().numpy())
