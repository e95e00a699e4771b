"""What runs get wrong, and what the page says of it: distinct examples, confused labels, the worst in detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, RunRecord, VariantRuns
from labelembed.lab.report.diagnostics_files import Bins, ErrorDiagnostics, WorstExample, read_diagnostics
from labelembed.lab.report.formatting import counted, listed, number, seeds_text, shortened
from labelembed.lab.report.similarities import LabelSimilarities
from labelembed.lab.report.tables import Cell, Heading, Line, Table
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder

_MOST_WORST = 12
_MOST_CONFUSED = 10
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Reliability:
    """Count, confidence and accuracy [bins] in bins of equal width, of all runs together; nan where a bin is empty."""

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True)
class ErrorAnalysis:
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


def error_analysis(variant: VariantRuns) -> ErrorAnalysis | None:
    """Returns what a variant's runs get wrong; None where no run left anything."""
    unknown: dict[int, str] = {}
    read: dict[int, ErrorDiagnostics] = {}
    for seed, run in variant.runs.items():
        found = read_diagnostics(run, "errors", ErrorDiagnostics)
        if isinstance(found, str):
            unknown[seed] = found
        elif {(one.labels, one.split) for one in read.values()} - {(found.labels, found.split)}:
            unknown[seed] = "diagnostics/errors.json: of other labels or examples than the first run"
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
    return ErrorAnalysis(
        split=first.split,
        labels=first.labels,
        runs=len(read),
        examples=first.examples,
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
    found = read_diagnostics(run, "errors", ErrorDiagnostics)
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

    return Reliability(total, mean([one.confidence for one in found]), mean([one.accuracy for one in found]))


def confusion_similarity(errors: ErrorAnalysis, similarities: LabelSimilarities) -> dict[str, float] | None:
    """Returns how often the nearest label is the one that is predicted, of the labels that are drawn.

    None where there are fewer than three labels, other labels than those of the errors, or no mistake.

    Returns:
        `nearest`, the share of the mistakes in which the predicted class is the label nearest to the true one, and
        `chance`, what that would be by chance.
    """
    confused = confusion_table(errors, similarities)
    if confused is None or len(confused) < 3 or not confused.any():
        return None
    count, similarity = len(confused), similarities.similarity.copy()
    np.fill_diagonal(similarity, -np.inf)
    nearest = confused[np.arange(count), similarity.argmax(axis=1)].sum() / confused.sum()
    return {"nearest": float(nearest), "chance": 1 / (count - 1)}


def confusion_table(errors: ErrorAnalysis, similarities: LabelSimilarities) -> NDArray[np.float64] | None:
    """Returns how often each drawn label [L, L] is predicted as each other, over all runs; None of other labels."""
    if len(similarities.names) + similarities.skipped != errors.labels:
        return None
    count, first = len(similarities.drawn), similarities.skipped
    table = np.zeros((count, count))
    for (true, predicted), times in errors.pairs.items():
        if 0 <= true - first < count and 0 <= predicted - first < count:
            table[true - first, predicted - first] = times
    return table


# ------------------------------------------------------------------------------------------------------ on the page


def error_section(
    comparison: Comparison,
    method: VariantRuns | None,
    errors: Mapping[str, ErrorAnalysis],
    similarities: Mapping[str, LabelSimilarities],
) -> dict[str, Any] | None:
    """Returns what the page says of errors; None where no run left diagnostics of them.

    Args:
        comparison: What is shown.
        method: The variant that the verdict is about.
        errors: What the variants get wrong, by name.
        similarities: What the variants learned about labels, by name.

    Returns:
        `split`; `silent`, which runs left no diagnostics; `detailed`, of the method and the baseline each: `variant`,
        `sentences`, the table `confused` with the numbers of its labels in the figures as `labels`, `names` of the
        classes, and `worst`, the examples with the highest loss of the run with `worst_seed`.
    """
    if not errors:
        return None
    silent = [
        f"{name}, {seeds_text(found.unknown)}: {next(iter(found.unknown.values()))}"
        for name, found in errors.items()
        if found.unknown
    ]
    older = [variant.name for variant in comparison.variants if variant.runs and variant.name not in errors]
    if older:
        silent.append(f"{listed(older)}: the runs left no evidence of their errors, as those of older versions")
    shown = {one.name: one for one in (method, comparison.baseline_runs) if one is not None and one.name in errors}
    detailed = [_detail(one, errors[name], similarities.get(name)) for name, one in shown.items()]
    return {"split": next(iter(errors.values())).split, "detailed": detailed, "silent": silent}


def _detail(variant: VariantRuns, errors: ErrorAnalysis, similarities: LabelSimilarities | None) -> dict[str, Any]:
    found = next(iter(variant.runs.values())).data().get("names")
    names, first = [str(name) for name in found] if isinstance(found, list) else [], 0
    if similarities is not None and len(similarities.names) + similarities.skipped == errors.labels:
        first = similarities.skipped
        names = [*SPECIAL_TOKENS[:first], *similarities.names]
    if len(names) != errors.labels:
        names = [str(label) for label in range(errors.labels)]
    names = [shortened(name, _NAME_LENGTH) for name in names]
    alike = confusion_similarity(errors, similarities) if similarities is not None and similarities.names else None
    confused = errors.confused(_MOST_CONFUSED)
    return {
        "variant": variant.name,
        "sentences": [text for text in (_how_many(errors), _nearest_text(alike)) if text],
        "confused": _confused(errors, confused, names),
        "labels": [(true - first, predicted - first) for true, predicted, _ in confused],
        "names": names,
        "worst": errors.worst,
        "worst_seed": errors.worst_seed,
    }


def _how_many(errors: ErrorAnalysis) -> str:
    """Returns how many distinct examples are wrong."""
    if errors.ever_wrong is None:
        return f"{errors.mistakes:,} wrong predictions in {counted(errors.runs, 'run')}."
    of = f"{errors.ever_wrong:,} of {errors.examples:,} {errors.split} examples"
    if errors.runs == 1:
        return f"{of} are wrong."
    return (
        f"{of} are wrong in at least one of {counted(errors.runs, 'run')}, {errors.always_wrong:,} in every one; "
        f"{number(errors.mistakes / errors.runs, 1)} in a run."
    )


def _nearest_text(similar: Mapping[str, float] | None) -> str:
    if similar is None:
        return ""
    nearest, chance = number(100 * similar["nearest"], 1), number(100 * similar["chance"], 1)
    return (
        f"In {nearest} % of the mistakes the predicted class is the label nearest to the true one; by chance it would "
        f"be {chance} %."
    )


def _confused(errors: ErrorAnalysis, confused: Sequence[tuple[int, int, int]], called: Sequence[str]) -> Table:
    headings = [Heading("true class"), Heading("predicted class", is_text=True), Heading("a run")]
    headings += [Heading("of the class", "%")] if errors.of_label is not None else []
    lines = []
    for true, predicted, count in confused:
        a_run = count / errors.runs
        cells = [Cell(called[predicted]), Cell(number(a_run, 1), a_run)]
        if errors.of_label is not None:
            share = 100 * a_run / max(int(errors.of_label[true]), 1)
            cells.append(Cell(number(share, 1), share))
        lines.append(Line(called[true], cells))
    return Table("confused", "Most confused", headings, lines)
