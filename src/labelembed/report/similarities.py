"""What a variant's runs learned about the labels, averaged over the seeds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry
from labelembed.report.comparison import VariantRuns
from labelembed.training.run_folder import RunFolder

# A picture of more cells says no more to the eye, and would make the page heavy.
PICTURE_CELLS = 200
LISTED_LABELS = 200
NEIGHBOURS = 5


@dataclass(frozen=True)
class LabelSimilarities:
    """Soft targets of the labels, the mean over runs.

    Attributes:
        names: All labels.
        runs: How many runs the mean is over; 0 when none can be read.
        picture: ``[P, P]``, row y how much of label y's soft target each other label gets; the diagonal is
            nan. With more than `PICTURE_CELLS` labels a cell is the mean over a block of labels.
        own_share: How much of its soft target a label keeps for itself, the mean over all labels.
        most_similar: For each of the first labels: its name and its most similar others with their shares.
        left_out: Why a run is not in the mean, by seed.
    """

    names: tuple[str, ...]
    runs: int
    picture: NDArray[np.float64]
    own_share: float
    most_similar: list[tuple[str, list[tuple[str, float]]]]
    left_out: dict[int, str]


def label_similarities(variant: VariantRuns) -> LabelSimilarities | None:
    """Returns the mean similarities of a variant's runs, or None where its runs learned none."""
    names: tuple[str, ...] = ()
    runs = 0
    left_out: dict[int, str] = {}
    picture_sum, listed_sum, own_sum = np.zeros((0, 0)), np.zeros((0, 0)), 0.0
    for seed, run in variant.runs.items():
        folder = RunFolder(run.folder)
        if not folder.geometry_file.exists():
            continue
        try:
            geometry = folder.label_geometry()
        except DataError as error:
            left_out[seed] = str(error).replace(f"{folder.path}/", "")
            continue
        if geometry.similarities is None:
            continue
        if runs and geometry.names != names:
            left_out[seed] = "its labels are others than those of the first run"
            continue
        picture, listed, own = _soft_target_parts(geometry)
        if not runs:
            names, picture_sum, listed_sum = geometry.names, np.zeros_like(picture), np.zeros_like(listed)
        picture_sum, listed_sum, own_sum, runs = picture_sum + picture, listed_sum + listed, own_sum + own, runs + 1
    if not runs:
        return LabelSimilarities((), 0, picture_sum, 0.0, [], left_out) if left_out else None
    most_similar = _most_similar(names, listed_sum / runs)
    return LabelSimilarities(names, runs, picture_sum / runs, own_sum / runs, most_similar, left_out)


def _soft_target_parts(geometry: LabelGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Returns the picture ``[P, P]``, the first labels' soft targets ``[L, C]`` and the mean of the diagonal."""
    assert geometry.similarities is not None
    logits = geometry.similarities.numpy()
    count = len(geometry)
    cells = min(count, PICTURE_CELLS)
    edges = np.linspace(0, count, cells + 1).astype(int)
    picture = np.zeros((cells, cells))
    listed: list[NDArray[np.float64]] = []
    own = 0.0
    # Block by block of rows: the whole in float64 would be as large as a run's memory at many labels.
    for cell, (start, stop) in enumerate(pairwise(edges.tolist())):
        # By numpy: torch wakes all its threads for each block, which takes far longer than the block.
        targets = logits[start:stop].astype(np.float64)
        targets = np.exp(targets - targets.max(axis=1, keepdims=True))
        targets /= targets.sum(axis=1, keepdims=True)
        if start < LISTED_LABELS:
            listed.append(targets[: LISTED_LABELS - start].copy())
        diagonal = np.arange(stop - start), np.arange(start, stop)
        own += float(targets[diagonal].sum())
        targets[diagonal] = 0
        others = (stop - start) * np.diff(edges)
        others[cell] -= stop - start
        with np.errstate(invalid="ignore"):  # a block of one label has no others of its own: 0 / 0 is nan
            picture[cell] = np.add.reduceat(targets.sum(axis=0), edges[:-1]) / others
    return picture, np.concatenate(listed), own / count


def _most_similar(names: tuple[str, ...], targets: NDArray[np.float64]) -> list[tuple[str, list[tuple[str, float]]]]:
    found = []
    for position, shares in enumerate(targets):
        order = np.argsort(-shares, kind="stable")  # equal shares in the order of the labels
        others = [int(other) for other in order[: NEIGHBOURS + 1] if other != position][:NEIGHBOURS]
        found.append((names[position], [(names[other], float(shares[other])) for other in others]))
    return found
