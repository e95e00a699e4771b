"""What a variant's runs get wrong, added up over its seeds from the evidence that each has left."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import RunFolderError
from labelembed.report.comparison import RunRecord, VariantRuns
from labelembed.training.run_folder import RunFolder

_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
_MOST_PICTURES = 12
_MOST_LETTERS = 1_000
_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width, all rows of all runs together.

    Attributes:
        count: [bins].
        confidence: [bins], nan where there are no rows.
        accuracy: [bins], nan where there are no rows.
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True)
class SeenErrors:
    """Errors of a variant's runs.

    Attributes:
        split: Of which rows.
        labels: How many labels there are.
        runs: How many runs are added up.
        rows: Rows of one run.
        pairs: How often label `a` is taken for `b`, for `(a, b)`, over all runs.
        of_label: Rows of each label over all runs, or None with thousands of labels.
        reliability: Before any temperature.
        calibrated: With the temperature of each run; None where any has none.
        worst: Pictures or texts of the first run with the highest loss, see `training.diagnostics`.
        worst_seed: The seed of that run.
        unknown: Runs of older versions that left nothing, and why others cannot be read, by seed.
    """

    split: str
    labels: int
    runs: int
    rows: int
    pairs: dict[tuple[int, int], int]
    of_label: NDArray[np.int64] | None
    reliability: Reliability
    calibrated: Reliability | None
    worst: list[dict[str, Any]] = field(default_factory=list)
    worst_seed: int = 0
    unknown: dict[int, str] = field(default_factory=dict)

    @property
    def mistakes(self) -> int:
        """How many rows are predicted wrongly, over all runs, of the pairs that are known."""
        return sum(self.pairs.values())

    def confused(self, most: int) -> list[tuple[int, int, int]]:
        """Returns the pairs of labels confused most, whichever way: two labels and how often."""
        both: Counter[tuple[int, int]] = Counter()
        for (one, other), count in self.pairs.items():
            both[min(one, other), max(one, other)] += count
        ordered = sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(one, other, count) for (one, other), count in ordered[:most]]


def seen_errors(variant: VariantRuns) -> SeenErrors | None:
    """Returns what a variant's runs get wrong; None where no run left anything."""
    unknown: dict[int, str] = {}
    read: dict[int, dict[str, Any]] = {}
    for seed, run in variant.runs.items():
        found = evidence_of_errors(run)
        if isinstance(found, str):
            unknown[seed] = found
        elif read and any(found[key] != next(iter(read.values()))[key] for key in ("labels", "split")):
            unknown[seed] = "evidence/errors.json: of other labels or rows than the first run"
        else:
            read[seed] = found
    if not read:
        return None
    first_seed, first = next(iter(read.items()))
    pairs: Counter[tuple[int, int]] = Counter()
    for found in read.values():
        for right, predicted, count in found["confusions"]:
            pairs[right, predicted] += count
    of_label: list[Any] = [found.get("of_label") for found in read.values()]
    bins = [found["reliability"] for found in read.values()]
    return SeenErrors(
        split=first["split"],
        labels=first["labels"],
        runs=len(read),
        rows=first["rows"],
        pairs=dict(pairs),
        of_label=np.sum(of_label, axis=0) if all(rows is not None for rows in of_label) else None,
        reliability=_added([one["before"] for one in bins]),
        calibrated=_added([one["calibrated"] for one in bins]) if all(one.get("calibrated") for one in bins) else None,
        worst=first["worst"][:_MOST_PICTURES],
        worst_seed=first_seed,
        unknown=unknown,
    )


def evidence_of_errors(run: RunRecord) -> dict[str, Any] | str:
    """Returns what a run has left of its errors, of the form it should have, or why there is nothing."""
    try:
        found = RunFolder(run.folder).evidence("errors")
    except RunFolderError as error:
        return str(error).replace(f"{run.folder}/", "")
    if not found:
        return "it left no evidence of its errors, as runs of older versions"
    fault = _fault(found)
    return f"evidence/errors.json: damaged, {fault}" if fault else found


def _fault(found: dict[str, Any]) -> str:
    labels: Any = found.get("labels")
    of_label, bins = found.get("of_label"), found.get("reliability")
    if not _whole(labels, least=1) or not _whole(found.get("rows"), least=1) or not isinstance(found.get("split"), str):
        return "it does not say of how many labels and rows"
    pairs = found.get("confusions")
    if not isinstance(pairs, list) or not all(_is_pair(pair, labels) for pair in pairs):
        return "its confusions are no [right, predicted, count]"
    if of_label is not None and not (
        isinstance(of_label, list) and len(of_label) == labels and all(map(_whole, of_label))
    ):
        return f"of_label does not hold {labels} counts"
    if not (isinstance(bins, dict) and _are_bins(bins.get("before"))):
        return "it has no reliability"
    if bins.get("calibrated") is not None and not _are_bins(bins["calibrated"]):
        return "its calibrated reliability is none"
    worst = found.get("worst")
    if not isinstance(worst, list) or not all(_is_picture(one, labels) for one in worst):
        return "its worst pictures are none"
    return ""


def _whole(value: object, *, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def _is_pair(pair: object, labels: int) -> bool:
    return isinstance(pair, list) and len(pair) == 3 and all(map(_whole, pair)) and max(pair[:2]) < labels


def _are_bins(bins: object) -> bool:
    if not isinstance(bins, dict):
        return False
    parts: list[Any] = [bins.get(name) for name in ("count", "confidence", "accuracy")]
    if not all(isinstance(part, list) and len(part) == _BINS for part in parts):
        return False
    count, confidence, accuracy = parts
    return all(map(_whole, count)) and all(
        value is None or (isinstance(value, (int, float)) and 0 <= value <= 1.000001)
        for value in [*confidence, *accuracy]
    )


def _is_picture(one: object, labels: int) -> bool:
    if not isinstance(one, dict) or not all(_whole(one.get(name)) for name in ("row", "label", "predicted")):
        return False
    shares = [one.get(name) for name in ("share", "predicted_share")]
    known = all(isinstance(share, (int, float)) and 0 <= share <= 1.000001 for share in shares)
    png, text = one.get("png"), one.get("text")
    named = max(one["label"], one["predicted"]) < labels
    if isinstance(text, str):
        return known and named and len(text) <= _MOST_LETTERS and png is None
    return known and named and isinstance(png, str) and bool(_BASE64.fullmatch(png)) and len(png) < 100_000


def _added(found: list[dict[str, Any]]) -> Reliability:
    counts = np.array([one["count"] for one in found], dtype=np.float64)
    total = counts.sum(axis=0)

    def mean(name: str) -> NDArray[np.float64]:
        values = np.array([[0.0 if value is None else value for value in one[name]] for one in found])
        with np.errstate(invalid="ignore"):
            return np.asarray((counts * values).sum(axis=0) / np.where(total > 0, total, np.nan))

    return Reliability(total, mean("confidence"), mean("accuracy"))
