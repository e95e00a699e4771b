"""What a method writes where the baseline writes something else: sentences by their scores' difference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.diagnostics_files import AttentionMap, SentenceDiagnostics, read_diagnostics
from labelembed.lab.report.drawing import Sketch
from labelembed.lab.report.formatting import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EACH_WAY = 15
_MOST_MAPS = 3
_LONGEST = 600
_LONGEST_TOKEN = 16


def sentence_section(comparison: Comparison, method: VariantRuns) -> dict[str, Any] | None:
    """Returns a sample of sentences of a method and the baseline, of one seed; None where its runs left none.

    Returns:
        `method`, `baseline` (None for a single run), `seed`, `split`; `sample`, how many sentences were looked at, `of`
        how many; `pairs`, the best for the method first, then those worst for it, with chrF as fractions; `better`, in
        how many of the sample the method has the higher score, and the lower; `maps`, where the method looks.
    """
    baseline = comparison.baseline_runs
    baseline = None if baseline is None or baseline.name == method.name else baseline
    for seed, run in method.runs.items():
        ours = read_diagnostics(run, "sentences", SentenceDiagnostics)
        if isinstance(ours, str) or (baseline is not None and seed not in baseline.runs):
            continue
        theirs = (
            read_diagnostics(baseline.runs[seed], "sentences", SentenceDiagnostics) if baseline is not None else None
        )
        if isinstance(theirs, str):
            continue
        return _seen(method.name, baseline.name if baseline else None, seed, ours, theirs)
    return None


def _seen(
    method: str, baseline: str | None, seed: int, ours: SentenceDiagnostics, theirs: SentenceDiagnostics | None
) -> dict[str, Any]:
    others = {one.place: one for one in theirs.sentences} if theirs else {}
    pairs: list[dict[str, Any]] = []
    for one in ours.sentences:
        other = others.get(one.place)
        if other is not None or not others:
            texts = {"source": one.source, "reference": one.reference, "output": one.output}
            pair: dict[str, Any] = {"place": one.place, "score": one.score, "difference": math.nan}
            if other is not None:
                texts["baseline"] = other.output
                pair |= {"baseline_score": other.score, "difference": one.score - other.score}
            pairs.append(pair | {name: shortened(text, _LONGEST) for name, text in texts.items()})
    pairs.sort(key=lambda pair: -pair["difference" if others else "score"])
    return {
        "method": method,
        "baseline": baseline,
        "seed": seed,
        "split": ours.split,
        "sample": len(pairs),
        "of": ours.of,
        "pairs": pairs if len(pairs) <= 2 * _EACH_WAY else pairs[:_EACH_WAY] + pairs[-_EACH_WAY:],
        "better": (sum(pair["difference"] > 0 for pair in pairs), sum(pair["difference"] < 0 for pair in pairs)),
        "maps": [attention_figure(one, f"attention-{nth}") for nth, one in enumerate(ours.attention[:_MOST_MAPS])],
    }


def attention_figure(one: AttentionMap, key: str) -> Sketch:
    """Returns where the network looked while it wrote a sentence."""
    source = [shortened(token, _LONGEST_TOKEN) for token in one.source]
    output = [shortened(token, _LONGEST_TOKEN) for token in one.output]
    weights = np.asarray(one.weights, dtype=np.float64) / 100

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        # Ink on whatever paper it lies: the more attention, the less is seen through it.
        pixels = np.full((*weights.shape, 4), (36 / 255, 123 / 255, 190 / 255, 0.0))
        pixels[..., 3] = weights.clip(0, 1)
        axes.imshow(pixels, aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(output)), output)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    most = [source[int(row.argmax())] for row in weights]
    looks = ", ".join(f"{token} at {seen}" for token, seen in list(zip(output, most, strict=True))[:12])
    numbers: list[list[Any]] = [["written", *one.source]]
    numbers += [[token, *row] for token, row in zip(one.output, weights.tolist(), strict=True)]
    size = (1.6 + 0.3 * len(source), 1.2 + 0.21 * len(output))
    title = f"Attention in sentence {one.place + 1}"
    caption = "A row a written token, a column a token of the source; the darker, the more attention."
    return Sketch(key, size, title, f"Most attention of each written token: {looks}.", paint, caption, numbers)
