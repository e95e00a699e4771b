"""What a method writes where the baseline writes something else: sentences by their scores' difference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelembed.errors import RunFolderError
from labelembed.report.comparison import Comparison, RunRecord, VariantRuns
from labelembed.report.drawing import Sketch
from labelembed.report.formatting import shortened
from labelembed.report.run_checks import number_in
from labelembed.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_EACH_WAY = 15
_MOST_MAPS = 3
_LONGEST = 600
_LONGEST_TOKEN = 16


class SentencePair(NamedTuple):
    """One sentence and what is written for it.

    Attributes:
        place: Its number among the sentences, from 0.
        source: What was read.
        reference: What should have been written.
        baseline: What the baseline wrote; empty where there is none.
        output: What the method wrote.
        baseline_score: Its chrF, a fraction; nan where there is no baseline.
        score: The method's.
    """

    place: int
    source: str
    reference: str
    baseline: str
    output: str
    baseline_score: float
    score: float

    @property
    def difference(self) -> float:
        """The method's score less the baseline's; nan where there is none."""
        return self.score - self.baseline_score


@dataclass(frozen=True)
class SeenSentences:
    """A sample of sentences of one method against the baseline, both with the same seed.

    Attributes:
        method: The variant.
        baseline: The other; None for a single run.
        seed: Of both.
        split: Of which rows.
        sample: How many sentences were looked at.
        of: How many there are.
        pairs: The best for the method first, then those worst for it.
        better: In how many of the sample the method has the higher score, and the lower.
        maps: Where the method looks, a figure a sentence.
    """

    method: str
    baseline: str | None
    seed: int
    split: str
    sample: int
    of: int
    pairs: list[SentencePair]
    better: tuple[int, int]
    maps: list[Sketch] = field(default_factory=list)


def seen_sentences(comparison: Comparison, method: VariantRuns) -> SeenSentences | None:
    """Returns the sentences of a method and the baseline; None where its runs left none."""
    baseline = comparison.baseline_runs
    baseline = None if baseline is None or baseline.name == method.name else baseline
    for seed, run in method.runs.items():
        ours = _read(run)
        if ours is None:
            continue
        theirs = _read(baseline.runs[seed]) if baseline is not None and seed in baseline.runs else None
        if baseline is not None and theirs is None:
            continue
        return _seen(method.name, baseline.name if baseline else None, seed, ours, theirs)
    return None


def _seen(
    method: str, baseline: str | None, seed: int, ours: dict[str, Any], theirs: dict[str, Any] | None
) -> SeenSentences:
    by_place = {one["place"]: one for one in theirs["sentences"]} if theirs else {}
    pairs = [
        SentencePair(
            one["place"],
            shortened(one["source"], _LONGEST),
            shortened(one["reference"], _LONGEST),
            shortened(other["output"], _LONGEST) if other else "",
            shortened(one["output"], _LONGEST),
            float(other["score"]) if other else math.nan,
            float(one["score"]),
        )
        for one in ours["sentences"]
        if (other := by_place.get(one["place"])) is not None or not by_place
    ]
    if by_place:
        pairs.sort(key=lambda pair: -pair.difference)
        shown = pairs if len(pairs) <= 2 * _SHOWN_EACH_WAY else pairs[:_SHOWN_EACH_WAY] + pairs[-_SHOWN_EACH_WAY:]
    else:
        pairs.sort(key=lambda pair: -pair.score)
        shown = pairs[: 2 * _SHOWN_EACH_WAY]
    better = sum(pair.difference > 0 for pair in pairs), sum(pair.difference < 0 for pair in pairs)
    maps = [_attention(one, f"attention-{number}") for number, one in enumerate(ours["attention"][:_MOST_MAPS])]
    return SeenSentences(method, baseline, seed, ours["split"], len(pairs), ours["of"], shown, better, maps)


def _attention(one: dict[str, Any], key: str) -> Sketch:
    source = [shortened(token, _LONGEST_TOKEN) for token in one["source"]]
    output = [shortened(token, _LONGEST_TOKEN) for token in one["output"]]
    weights = np.asarray(one["weights"], dtype=np.float64) / 100

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(weights, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(output)), output)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    most = [source[int(row.argmax())] for row in weights]
    looks = ", ".join(f"{token} at {seen}" for token, seen in list(zip(output, most, strict=True))[:12])
    numbers: list[list[Any]] = [["written", *one["source"]]]
    numbers += [[token, *row] for token, row in zip(one["output"], weights.tolist(), strict=True)]
    size = (1.6 + 0.3 * len(source), 1.2 + 0.21 * len(output))
    title = f"Where it looks in sentence {one['place'] + 1}"
    caption = "A row a written word, a column a word of the source; the brighter, the more of its attention."
    return Sketch(key, size, title, f"Most attention of each written word: {looks}.", paint, caption, numbers)


def _read(run: RunRecord) -> dict[str, Any] | None:
    """Returns what a run wrote; None where it left nothing that can be read."""
    try:
        found = RunFolder(run.folder).evidence("sentences")
    except RunFolderError:
        return None
    sentences, maps = found.get("sentences"), found.get("attention", [])
    whole = isinstance(sentences, list) and bool(sentences) and all(map(_is_sentence, sentences))
    if not whole or not isinstance(found.get("split"), str) or not isinstance(found.get("of"), int):
        return None
    return found | {"attention": [one for one in maps if _is_map(one)] if isinstance(maps, list) else []}


def _is_sentence(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("place"), int):
        return False
    texts = all(isinstance(one.get(name), str) for name in ("source", "reference", "output"))
    return texts and number_in(one.get("score")) is not None


def _is_map(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("place"), int):
        return False
    source, output, weights = one.get("source"), one.get("output"), one.get("weights")
    if not (isinstance(source, list) and isinstance(output, list) and isinstance(weights, list) and output):
        return False
    if not all(isinstance(token, str) for token in [*source, *output]):
        return False
    return len(weights) == len(output) and all(
        isinstance(row, list) and len(row) == len(source) and all(number_in(value) is not None for value in row)
        for row in weights
    )
