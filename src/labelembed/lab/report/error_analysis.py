"""What the runs got wrong and a sample of what they wrote, read from `diagnostics/`: a folder may come from anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelembed.lab.report.comparison import RunRecord, VariantRuns, readable
from labelembed.lab.report.formatting import number
from labelembed.lab.report.tables import Table, make_table
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder

_BINS, _MOST_SHOWN = 15, 12
Count = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(ge=0, le=1.000001)]  # a float sum of shares may end a little above 1
OfBins = Field(min_length=_BINS, max_length=_BINS)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Bins(_Strict):
    count: list[Count] = OfBins
    confidence: list[Share | None] = OfBins
    accuracy: list[Share | None] = OfBins


class HighLossExample(_Strict):
    """An example with a high loss: label, prediction and their probabilities, as picture or as text."""

    row: Count
    label: Count
    predicted: Count
    share: Share
    predicted_share: Share
    png: str | None = Field(None, pattern=r"^[A-Za-z0-9+/=\s]+$", max_length=100_000)
    text: str | None = Field(None, max_length=1_000)


class ErrorDiagnostics(_Strict):
    """``diagnostics/errors.json``: `confusions` are [true class, predicted class, count]."""

    split: str
    labels: int = Field(ge=1, lt=2**53)
    confusions: list[Annotated[list[Count], Field(min_length=3, max_length=3)]]
    of_label: list[Count] | None = None
    reliability: dict[Literal["before", "calibrated"], _Bins | None]
    worst: list[HighLossExample]

    @model_validator(mode="after")
    def _fits(self) -> ErrorDiagnostics:
        named = [label for pair in self.confusions for label in pair[:2]]
        named += [label for one in self.worst for label in (one.label, one.predicted)]
        if max(named, default=0) >= self.labels or len(self.of_label or range(self.labels)) != self.labels:
            raise ValueError(f"not of {self.labels} labels")
        if any((one.png is None) == (one.text is None) for one in self.worst):
            raise ValueError("an example is neither a picture nor a text")
        return self


class _Sentence(_Strict):
    place: int
    source: str
    reference: str
    output: str
    score: float  # its chrF


class SentenceDiagnostics(_Strict):
    """``diagnostics/sentences.json``."""

    split: str
    of: int
    sentences: list[_Sentence] = Field(min_length=1)


Kind = TypeVar("Kind", ErrorDiagnostics, SentenceDiagnostics)


def read_diagnostics(run: RunRecord, name: str, kind: type[Kind]) -> Kind | None:
    """Returns diagnostics of a run by name; None where there are none, or they are damaged."""
    content = readable(lambda: RunFolder(run.folder).read(f"diagnostics/{name}.json"))
    try:
        return kind.model_validate(content) if content else None
    except ValidationError:
        return None


@dataclass(frozen=True)
class ErrorAnalysis:
    """Errors of a variant's runs, added up; `first` is what the first run left.

    Attributes:
        pairs: How often label `a` is predicted as `b`, for `(a, b)`, over all runs.
        reliability, calibrated: Count, mean confidence and accuracy [3, bins], nan in empty bins, before and
            after temperature scaling.
        wrong: Which examples each run gets wrong [runs, N]; None where any run keeps no outcomes.
    """

    first: ErrorDiagnostics
    runs: int
    pairs: Counter[tuple[int, int]]
    reliability: NDArray[np.float64] | None
    calibrated: NDArray[np.float64] | None
    wrong: NDArray[np.bool_] | None

    def counts(self, count: int, first: int = 0) -> NDArray[np.float64]:
        """Returns how often each of so many labels, from the first on, is predicted as another [count, count]."""
        table = np.zeros((count, count))
        for (true, predicted), times in self.pairs.items():
            if first <= min(true, predicted) and max(true, predicted) < first + count:
                table[true - first, predicted - first] = times
        return table

    def lines(self, nearest: NDArray[np.int64] | None) -> list[str]:
        """Returns in sentences how many distinct examples are wrong, and how often the nearest label is predicted.

        The second where `nearest` has all labels, those of a vocabulary without its special tokens.
        """
        lines = []
        if self.wrong is not None:
            ever, always = int(self.wrong.any(axis=0).sum()), int(self.wrong.all(axis=0).sum())
            where = f" in at least one of {self.runs} runs, {always:,} in every one" if self.runs > 1 else ""
            lines.append(f"{ever:,} of {self.wrong.shape[1]:,} {self.first.split} examples are wrong{where}.")
        special = self.first.labels - len(nearest) if nearest is not None else -1
        if nearest is not None and len(nearest) > 2 and self.pairs and special in (0, len(SPECIAL_TOKENS)):
            confused = self.counts(len(nearest), special)
            near = confused[np.arange(len(nearest)), nearest].sum() / max(confused.sum(), 1)
            chance = f"{100 / (len(nearest) - 1):.0f} % by chance"
            lines.append(
                f"In {100 * near:.0f} % of the mistakes the label nearest to the true one is predicted ({chance})."
            )
        return lines

    def confused(self, names: Sequence[str]) -> Table:
        """Returns the most frequent confusions, a line each."""
        rows = []
        for (true, predicted), count in sorted(self.pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_SHOWN]:
            per_run = count / self.runs
            rows.append({"true class": names[true], "predicted class": names[predicted], "per run": f"{per_run:.1f}"})
            if self.first.of_label is not None:
                rows[-1]["of the class (%)"] = number(per_run / max(self.first.of_label[true], 1), 1, scale=100)
        return make_table("confused", "Most confused", rows)


def error_analysis(variant: VariantRuns) -> ErrorAnalysis | None:
    """Returns the errors of a variant's runs; None where no run has diagnostics."""
    read = {
        seed: one for seed, run in variant.runs.items() if (one := read_diagnostics(run, "errors", ErrorDiagnostics))
    }
    if not read:
        return None
    first = next(iter(read.values()))
    alike = {seed: one for seed, one in read.items() if (one.labels, one.split) == (first.labels, first.split)}
    pairs: Counter[tuple[int, int]] = Counter()
    for one in alike.values():
        for true, predicted, count in one.confusions:
            pairs[true, predicted] += count
    before, calibrated = (
        _added([one.reliability.get(when) for one in alike.values()]) for when in ("before", "calibrated")
    )
    losses = [loss["error"] for seed in alike if (loss := variant.runs[seed].losses(first.split))]
    whole = len(losses) == len(alike) and len({len(loss) for loss in losses}) == 1
    wrong = np.array(losses, dtype=bool) if whole else None
    return ErrorAnalysis(first, len(alike), pairs, before, calibrated, wrong)


def most_frequent_label(run: RunRecord, split: str) -> float | None:
    """Returns the share of a run's examples that have its most frequent label; None where it counted none."""
    errors = read_diagnostics(run, "errors", ErrorDiagnostics)
    if errors is None or errors.split != split or not errors.of_label or not sum(errors.of_label):
        return None
    return max(errors.of_label) / sum(errors.of_label)


def _added(every: list[_Bins | None]) -> NDArray[np.float64] | None:
    bins = [one for one in every if one is not None]
    if len(bins) < len(every):
        return None
    counts = np.array([one.count for one in bins], dtype=np.float64)
    values = np.array([[one.confidence for one in bins], [one.accuracy for one in bins]], dtype=np.float64)
    total = counts.sum(axis=0)
    return np.vstack([total, np.nansum(counts * values, axis=1) / np.where(total > 0, total, np.nan)])


def sentence_pairs(method: VariantRuns, reference: VariantRuns | None) -> dict[str, Any] | None:
    """Returns a sample of sentences of one seed, the best for the method first and the worst last; None without any."""
    for seed, run in method.runs.items():
        ours = read_diagnostics(run, "sentences", SentenceDiagnostics)
        other = reference.runs.get(seed) if reference is not None else None
        theirs = read_diagnostics(other, "sentences", SentenceDiagnostics) if other is not None else None
        if ours is None or (reference is not None and theirs is None):
            continue
        others = {one.place: [one] for one in theirs.sentences} if theirs else {}
        pairs = [[*others.get(one.place, []), one] for one in ours.sentences if theirs is None or one.place in others]
        gains = {id(pair): pair[-1].score - (pair[0].score if theirs else 0) for pair in pairs}
        pairs.sort(key=lambda pair: -gains[id(pair)])
        about = {"seed": seed, "split": ours.split, "sample": len(pairs), "of": ours.of}
        about["writers"] = [one.title for one in (reference, method) if one is not None]
        about["better"], about["worse"] = (sum(sign * gain > 0 for gain in gains.values()) for sign in (1, -1))
        return about | {"pairs": pairs if len(pairs) <= 2 * _MOST_SHOWN else pairs[:_MOST_SHOWN] + pairs[-_MOST_SHOWN:]}
    return None
