"""What a run leaves for the report to look into, read and checked: a run folder may come from anybody."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import RunRecord
from labelembed.lab.training.run_folder import RunFolder

_BINS = 15
Count = Annotated[int, Field(ge=0, lt=2**53)]
# A float sum of shares may end a little above 1.
Share = Annotated[float, Field(ge=0, le=1.000001)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Bins(_Strict):
    """Confidence and accuracy in bins of equal width; null where a bin is empty."""

    count: list[Count] = Field(min_length=_BINS, max_length=_BINS)
    confidence: list[Share | None] = Field(min_length=_BINS, max_length=_BINS)
    accuracy: list[Share | None] = Field(min_length=_BINS, max_length=_BINS)


class ReliabilityBins(_Strict):
    """Before temperature scaling and after; None where no temperature was fitted."""

    before: Bins
    calibrated: Bins | None = None


class WorstExample(_Strict):
    """An example with a high loss: its label, the prediction and their probabilities, as picture or as text."""

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
    examples: int = Field(ge=1, lt=2**53)
    confusions: list[Annotated[list[Count], Field(min_length=3, max_length=3)]]
    of_label: list[Count] | None = None
    reliability: ReliabilityBins
    worst: list[WorstExample]

    @model_validator(mode="after")
    def _fits(self) -> ErrorDiagnostics:
        named = [label for pair in self.confusions for label in pair[:2]]
        named += [label for one in self.worst for label in (one.label, one.predicted)]
        if max(named, default=0) >= self.labels:
            raise ValueError(f"it names label {max(named)} of {self.labels}")
        if self.of_label is not None and len(self.of_label) != self.labels:
            raise ValueError(f"of_label does not hold {self.labels} counts")
        if any((one.png is None) == (one.text is None) for one in self.worst):
            raise ValueError("one of the worst examples is neither a picture nor a text")
        return self


class Sentence(_Strict):
    """What was written for one sentence, and its chrF."""

    place: int
    source: str
    reference: str
    output: str
    score: float


class AttentionMap(_Strict):
    """Where the network looked, in hundredths: a row a written token, a column a token of the source."""

    place: int
    source: list[str]
    output: list[str] = Field(min_length=1)
    weights: list[list[float]]

    @model_validator(mode="after")
    def _fits(self) -> AttentionMap:
        if len(self.weights) != len(self.output) or {len(row) for row in self.weights} != {len(self.source)}:
            raise ValueError("the weights are not of so many tokens")
        return self


class SentenceDiagnostics(_Strict):
    """``diagnostics/sentences.json``."""

    split: str
    of: int
    sentences: list[Sentence] = Field(min_length=1)
    attention: list[AttentionMap] = []


Kind = TypeVar("Kind", ErrorDiagnostics, SentenceDiagnostics)


def read_diagnostics(run: RunRecord, name: str, kind: type[Kind]) -> Kind | str:
    """Returns what a run has left under a name, or in words why there is nothing."""
    try:
        found: dict[str, Any] = RunFolder(run.folder).evidence(name)
    except RunFolderError as error:
        return str(error).replace(f"{run.folder}/", "")
    if not found:
        return f"it left no evidence of its {name}, as runs of older versions"
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"diagnostics/{name}.json: damaged, {where + ': ' if where else ''}{first['msg']}"
