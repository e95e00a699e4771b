"""How well the distances between labels agree with a reference: Kendall's tau-b, label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
