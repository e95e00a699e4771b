"""What a variant's runs get wrong: distinct examples, confused labels, how sure they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import RunFolderError
from labelembed.metrics import mantel_test
from labelembed.report.comparison import RunRecord, VariantRuns
from labelembed.report.evidence_files import Bins, ErrorEvidence, WorstExample, read_evidence
from labelembed.report.similarities import LabelSimilarities
from labelembed.training.run_folder import RunFolder

_MOST_WORST = 12


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width, the examples of all runs together.

    Attributes:
        count: [bins], over all runs.
        confidence: [bins], nan where there are none.
        accuracy: [bins], nan where there are none.
        runs: How many runs there are.
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    runs: int


@dataclass(frozen=True)
class SeenErrors:
    """Errors of a variant's runs.

    Attributes:
        split: Of which examples.
        labels: How many labels there are.
        runs: How many runs are added up.
        examples: How many examples each run was measured on.
        pairs: How often label `a` is predicted as `b`, for `(a, b)`, over all runs.
        of_label: Examples of each label, or None with thousands of labels.
        reliability: Before temperature scaling.
        calibrated: With the temperature of each run; None where any has none.
        worst: Examples of the first run with the highest loss.
        worst_seed: The seed of that run.
        ever_wrong: How many distinct examples any run gets wrong; None where the runs keep no outcomes.
        always_wrong: How many every run gets wrong.
        unknown: Why runs are not counted, by seed.
    """

    split: str
    labels: int
    runs: int
    examples: int
    pairs: dict[tuple[int, int], int]
    of_label: NDArray[np.int64] | None
    reliability: Reliability
    calibrated: Reliability | None
    worst: list[WorstExample]
    worst_seed: int
    ever_wrong: int | None = None
    always_wrong: int | None = None
    unknown: dict[int, str] = field(default_factory=dict)

    @property
    def mistakes(self) -> int:
        """How many predictions are wrong, over all runs."""
        return sum(self.pairs.values())

    def confused(self, most: int) -> list[tuple[int, int, int]]:
        """Returns (true class, predicted class, count over all runs), the most frequent first."""
        ordered = sorted(self.pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(true, predicted, count) for (true, predicted), count in ordered[:most]]


def seen_errors(variant: VariantRuns) -> SeenErrors | None:
    """Returns what a variant's runs get wrong; None where no run left anything."""
    unknown: dict[int, str] = {}
    read: dict[int, ErrorEvidence] = {}
    for seed, run in variant.runs.items():
        found = read_evidence(run, "errors", ErrorEvidence)
        if isinstance(found, str):
            unknown[seed] = found
        elif {(one.labels, one.split) for one in read.values()} - {(found.labels, found.split)}:
            unknown[seed] = "evidence/errors.json: of other labels or examples than the first run"
        else:
            read[seed] = found
    if not read:
        return None
    first_seed, first = next(iter(read.items()))
    pairs: Counter[tuple[int, int]] = Counter()
    for one in read.values():
        for true, predicted, count in one.confusions:
            pairs[true, predicted] += count
    reliabilities = [one.reliability for one in read.values()]
    after = [one.calibrated for one in reliabilities if one.calibrated is not None]
    wrong = _wrong(variant, first.split, list(read))
    return SeenErrors(
        split=first.split,
        labels=first.labels,
        runs=len(read),
        examples=first.rows,
        pairs=dict(pairs),
        of_label=None if first.of_label is None else np.asarray(first.of_label),
        reliability=_added([one.before for one in reliabilities]),
        calibrated=_added(after) if len(after) == len(read) else None,
        worst=first.worst[:_MOST_WORST],
        worst_seed=first_seed,
        ever_wrong=None if wrong is None else int(wrong.any(axis=0).sum()),
        always_wrong=None if wrong is None else int(wrong.all(axis=0).sum()),
        unknown=unknown,
    )


def most_frequent_label(run: RunRecord, split: str) -> float | None:
    """Returns the share of a run's examples that have its most frequent label; None where it counted none."""
    found = read_evidence(run, "errors", ErrorEvidence)
    if isinstance(found, str) or found.split != split or not found.of_label or not sum(found.of_label):
        return None
    return max(found.of_label) / sum(found.of_label)


def _wrong(variant: VariantRuns, split: str, seeds: list[int]) -> NDArray[np.bool_] | None:
    """Returns which examples each run gets wrong [runs, N]; None where any run keeps no outcomes of these examples."""
    wrong: list[NDArray[np.bool_]] = []
    for seed in seeds:
        try:
            outcomes = RunFolder(variant.runs[seed].folder).examples()
        except RunFolderError:
            return None
        if outcomes is None or outcomes.split != split or (wrong and len(wrong[0]) != len(outcomes.right)):
            return None
        wrong.append(~outcomes.right)
    return np.array(wrong)


def _added(found: list[Bins]) -> Reliability:
    counts = np.array([one.count for one in found], dtype=np.float64)
    total = counts.sum(axis=0)

    def mean(values: list[list[float | None]]) -> NDArray[np.float64]:
        table = np.array([[0.0 if value is None else value for value in one] for one in values])
        with np.errstate(invalid="ignore"):
            return np.asarray((counts * table).sum(axis=0) / np.where(total > 0, total, np.nan))

    return Reliability(
        total, mean([one.confidence for one in found]), mean([one.accuracy for one in found]), len(found)
    )


class ConfusedLikeness(NamedTuple):
    """Whether similar labels are the confused ones.

    Attributes:
        correlation: Spearman's rank correlation, over all pairs of labels, of how similar two are and how often they
            are confused, whichever way; nan where either is the same for all pairs.
        p_value: Two-sided p of `correlation` by Mantel's permutation test; nan where that is.
        pairs: Over how many pairs.
        nearest: The share of the mistakes in which the predicted class is the label nearest to the true one.
        chance: What that share would be by chance.
    """

    correlation: float
    p_value: float
    pairs: int
    nearest: float
    chance: float


def confused_likeness(errors: SeenErrors, similarities: LabelSimilarities) -> ConfusedLikeness | None:
    """Returns whether similar labels are the confused ones, of the labels that are drawn.

    None where there are fewer than three labels, other labels than those of the errors, or no mistake.
    """
    confused = confusion_table(errors, similarities)
    if confused is None or len(confused) < 3 or not confused.any():
        return None
    count, likeness = len(confused), similarities.likeness.copy()
    correlation, p_value = mantel_test(likeness + likeness.T, confused + confused.T)
    np.fill_diagonal(likeness, -np.inf)
    nearest = confused[np.arange(count), likeness.argmax(axis=1)].sum() / confused.sum()
    return ConfusedLikeness(correlation, p_value, count * (count - 1) // 2, float(nearest), 1 / (count - 1))


def confusion_table(errors: SeenErrors, similarities: LabelSimilarities) -> NDArray[np.float64] | None:
    """Returns how often each drawn label [L, L] is predicted as each other, over all runs; None of other labels."""
    if len(similarities.names) + similarities.skipped != errors.labels:
        return None
    count, first = len(similarities.drawn), similarities.skipped
    table = np.zeros((count, count))
    for (true, predicted), times in errors.pairs.items():
        if 0 <= true - first < count and 0 <= predicted - first < count:
            table[true - first, predicted - first] = times
    return table
