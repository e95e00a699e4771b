"""Numbers over the epochs, as a figure and for the page's chart: error, NLL, BLEU and each term of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.drawing import Sketch, add_legend, line_style, series_colour, series_number
from labelembed.lab.report.formatting import number, packed_json, wrapped
from labelembed.lab.report.ranking import drawn_variants, others_note, series_positions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of more the lines of each run are a grey fog, and the page is heavy; the interactive chart has them all.
_MOST_POINTS = 3_000
# Numbers of the interactive chart, about three bytes each in the page.
_MOST_NUMBERS = 300_000
_IN_WORDS = {"error": "error", "bleu": "BLEU", "nll": "NLL", "top5_error": "top-5 error", "top2_error": "top-2 error"}


class CurveMetric(NamedTuple):
    """What stands on the axis of one chart.

    Attributes:
        place: `train`, `validation` or `test`.
        name: The metric, or the term of the loss.
    """

    place: str
    name: str

    @property
    def key(self) -> str:
        """Names it in the page and on the command line: ``test-error``, ``validation-nll``, ``train-target``."""
        return f"{self.place}-{self.name}".replace("_", "-")

    @property
    def scale(self) -> int:
        """What the shown number is times: 100 of a fraction."""
        return 100 if self.place != "train" and self.name in _IN_WORDS and self.name != "nll" else 1

    @property
    def title(self) -> str:
        """In words: ``test error``, ``training term target``."""
        term = self.place == "train"
        return f"training term {self.name}" if term else f"{self.place} {_IN_WORDS.get(self.name, self.name)}"

    @property
    def unit(self) -> str:
        """What the shown numbers are in; empty for BLEU."""
        return "" if self.name == "bleu" else "%" if self.scale == 100 else "nats"


def curve_metrics(comparison: Comparison) -> list[CurveMetric]:
    """Returns what there are curves of, first that which decides the comparison; a term that is always 0 is none."""
    firsts = [entry.get("train") for run in comparison.runs for entry in run.history[:1]]
    terms = dict.fromkeys(str(name) for terms in firsts if isinstance(terms, dict) for name in terms)
    names = dict.fromkeys((comparison.headline, *_IN_WORDS))
    wanted = [CurveMetric(split, name) for name in names for split in ("test", "validation")]
    wanted += [CurveMetric("train", name) for name in terms]
    runs = comparison.runs
    return [one for one in wanted if any(np.nan_to_num(run.curve(one.place, one.name)).any() for run in runs)]


def curve_sketch(comparison: Comparison, metric: CurveMetric, *, log: bool = False) -> Sketch | None:
    """Returns a number after each epoch: every run light, the mean of a variant dark; None without a curve.

    The mean is drawn where every run of the variant has the number, so that a run that ended earlier does not
    bend it.

    Args:
        comparison: What is drawn.
        metric: Of which number.
        log: Whether the axis is logarithmic.
    """
    every: dict[str, list[NDArray[np.float64]]] = {}
    for variant in comparison.variants:
        curves = [run.curve(metric.place, metric.name) for run in variant.runs.values()]
        if curves := [curve for curve in curves if _known(curve).size]:
            every[variant.name] = curves
    if not every:
        return None
    order = series_positions(comparison)
    shown = {variant.name: every[variant.name] for variant in drawn_variants(comparison) if variant.name in every}
    curves = [curve for found in shown.values() for curve in found]
    scale = metric.scale
    lowest, highest, is_cut = _range_of(curves)
    shaded = sum(len(curve) for curve in curves) > _MOST_POINTS

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()

        def line(curve: NDArray[np.float64], **style: Any) -> None:
            alone = len(_known(curve)) == 1  # one point makes no line
            axes.plot(np.arange(1, len(curve) + 1), scale * curve, marker="o" if alone else None, markersize=4, **style)

        for name, found in shown.items():
            colour, table = series_colour(order[name]), _together(found)
            if len(found) > 1 and shaded:
                low, high = np.fmin.reduce(table), np.fmax.reduce(table)
                axes.fill_between(range(1, len(low) + 1), scale * low, scale * high, color=colour, alpha=0.15, lw=0)
            elif len(found) > 1:
                for curve in found:
                    line(curve, color=colour, alpha=0.3, linewidth=0.7)
            mean = table[:, : min(map(len, found))].mean(axis=0)
            style = line_style(order[name]) if len(every) > 1 else "-"
            line(mean, color=colour, linestyle=style, linewidth=1.9, label=wrapped(name, 24))
        epochs = max(map(len, curves))
        axes.set_xlim(1 - 0.02 * epochs, 1.02 * epochs)
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(scale * lowest, scale * highest)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(f"{metric.title} ({metric.unit})" if metric.unit else metric.title)
        axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        add_legend(figure)

    parts = []
    if any(len(found) > 1 for found in shown.values()):
        whole = "The mean over seeds, shaded from the lowest to the highest run; the numbers have every run."
        parts.append(whole if shaded else "Each run light, the mean over seeds dark.")
    if len(shown) < len(every):
        parts.append(f"{others_note(len(shown), len(every) - len(shown))} are in the chart and the tables.")
    if is_cut and not log:
        parts.append(f"The axis ends at {number(scale * highest, 1)} {metric.unit}: the first epochs lie above it.")
    if not all(np.isfinite(curve).all() for curve in curves):
        parts.append("Where a run has no finite number its curve has a gap, and so has the mean.")
    if len({len(curve) for curve in curves}) > 1:
        parts.append("The runs are of unequal length; a mean ends with the shortest of its runs.")
    ends = {name: float(np.mean([_known(curve)[-1] for curve in found])) for name, found in shown.items()}
    last = [f"{name} {number(scale * end, 2 if scale == 100 else 3)} {metric.unit}" for name, end in ends.items()]
    description = f"Lines of {metric.title} over epochs. Mean in the last epoch: {'; '.join(last)}."
    title = f"{metric.title[:1].upper()}{metric.title[1:]} over epochs"
    return Sketch(f"curves-{metric.key}", (7.6, 3.3), title, description, paint, " ".join(parts))


def _together(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns curves of any length as one table [runs, epochs], nan where one has ended or has a gap."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = np.where(np.isfinite(curve), curve, np.nan)
    return table


def _known(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return curve[np.isfinite(curve)]


def _range_of(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float, bool]:
    """Returns the ends of the axis, and whether the first epochs lie above it.

    The first epochs are often ten times as bad as all that matters; where they are, the axis ends where the
    first fifth of the epochs does.
    """
    everything = np.concatenate([_known(curve) for curve in curves])
    later = np.concatenate([_known(curve[len(curve) // 5 :]) for curve in curves])
    lowest, highest = float(everything.min()), float(everything.max())
    is_cut = bool(later.size) and float(later.max()) < highest / 2
    highest = float(later.max()) if is_cut else highest
    margin = 0.06 * ((highest - lowest) or abs(highest) or 0.01)
    return max(0.0, lowest - margin) if lowest >= 0 else lowest - margin, highest + margin, is_cut


def curve_data(comparison: Comparison, metrics: Sequence[CurveMetric]) -> dict[str, Any]:
    """Returns what the interactive chart draws, as JSON values; every number with six significant digits.

    Args:
        comparison: Whose runs.
        metrics: What there is to choose from.

    Returns:
        `series`, a variant each, with `shown`, whether it is to be seen at first; `every`, that only every so many
        epochs are there, of very many numbers; and `packed`, see `packed_json`: `epochs`, which they are, and
        `metrics`, each with `runs`, for each variant and run its numbers in these epochs.
    """
    order, drawn = series_positions(comparison), drawn_variants(comparison)
    series = []
    for variant in comparison.variants:
        style = line_style(order[variant.name]) if len(comparison.variants) > 1 else "-"
        series.append(
            {
                "name": variant.name,
                "colour": series_number(order[variant.name]),
                "dash": [] if isinstance(style, str) else [2 * part for part in style[1]],
                "seeds": list(variant.runs),
                "shown": variant in drawn,
            }
        )
    longest = max((len(run.curve("test", "error")) for run in comparison.runs), default=0)
    every = max(1, math.ceil(longest * len(comparison.runs) * len(metrics) / _MOST_NUMBERS))
    # The last of every so many, so that the last epoch is there.
    epochs = list(range(longest, 0, -every))[::-1]
    values = [
        {
            "key": metric.key,
            "title": metric.title,
            "unit": metric.unit,
            "scale": metric.scale,
            "runs": [
                [_rounded(run.curve(metric.place, metric.name), epochs) for run in variant.runs.values()]
                for variant in comparison.variants
            ],
        }
        for metric in metrics
    ]
    return {"series": series, "every": every, "packed": packed_json({"epochs": epochs, "metrics": values})}


def _rounded(curve: NDArray[np.float64], epochs: Sequence[int]) -> list[float | None]:
    """Returns the numbers of some epochs with six digits that count, to the last that there is."""
    some = [float(curve[epoch - 1]) if epoch <= len(curve) else math.nan for epoch in epochs]
    values = [float(f"{value:.6g}") if math.isfinite(value) else None for value in some]
    while values and values[-1] is None:
        values.pop()
    return values
