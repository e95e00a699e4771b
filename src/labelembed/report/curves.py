"""Numbers over the epochs: error, NLL, BLEU and each term of the loss, every run light, the mean of a variant dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelembed.report.comparison import Comparison
from labelembed.report.drawing import INK, Sketch, add_legend, line_style, series_colour
from labelembed.report.formatting import number, wrapped
from labelembed.report.ranking import drawn_positions, others_note, series_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.6
# Of more the lines of each run are a grey fog, and a page full of them is heavy; the interactive chart has them all.
_MOST_POINTS = 3_000
_MOST_POINTS_OF_ERRORS = 8_000
_SPLIT_MEASURES = ("error", "bleu", "nll", "top5_error", "top2_error")
_IN_WORDS = {"error": "error", "nll": "NLL", "bleu": "BLEU", "top5_error": "top-5 error", "top2_error": "top-2 error"}
_FRACTIONS = ("error", "bleu", "top5_error", "top2_error")


@dataclass(frozen=True)
class CurveMeasure:
    """What stands on the axis of one chart.

    Attributes:
        place: `train`, `validation` or `test`.
        name: The measure, or the term of the loss.
    """

    place: str
    name: str

    @property
    def key(self) -> str:
        """Names it in the page and on the command line: ``test-error``, ``train-target``."""
        return f"{self.place}-{self.name}".replace("_", "-")

    @property
    def is_fraction(self) -> bool:
        """Whether it is shown in per cent."""
        return self.place != "train" and self.name in _FRACTIONS

    @property
    def title(self) -> str:
        """In words: ``test error``, ``training term target``."""
        if self.place == "train":
            return f"training term {self.name}"
        return f"{self.place} {_IN_WORDS.get(self.name, self.name)}"

    @property
    def unit(self) -> str:
        """What the shown numbers are in."""
        return "%" if self.is_fraction else "nats" if self.place == "train" or self.name == "nll" else ""


def curve_measures(comparison: Comparison) -> list[CurveMeasure]:
    """Returns what there are curves of, test and validation first; a term that is always 0 is none."""
    runs = [run for variant in comparison.variants for run in variant.runs.values()]
    terms = dict.fromkeys(
        str(name)
        for run in runs
        for entry in run.journal[:1]
        if isinstance(entry.get("train"), dict)
        for name in entry["train"]
    )
    wanted = [CurveMeasure(split, name) for name in _SPLIT_MEASURES for split in ("test", "validation")]
    wanted += [CurveMeasure("train", name) for name in terms]
    found = []
    for measure in wanted:
        curves = [run.curve(measure.place, measure.name) for run in runs]
        if any(np.nan_to_num(curve).any() for curve in curves):
            found.append(measure)
    return found


def curve_sketch(comparison: Comparison, measure: CurveMeasure, *, log: bool = False) -> Sketch | None:
    """Returns a number after each epoch: every run light, the mean of a variant dark; None without a curve.

    The mean is drawn where every run of the variant has the number, so that a run that ended earlier does not
    bend it.

    Args:
        comparison: What is drawn.
        measure: Of which number.
        log: Whether the axis is logarithmic.
    """
    curves = _curves(comparison, measure)
    if not curves:
        return None
    order = series_positions(comparison)
    shown = [position for position in drawn_positions(comparison) if position in curves]
    others = [_mean_curve(found) for position, found in curves.items() if position not in shown]
    lowest, highest, is_cut = _range_of([curve for found in curves.values() for curve in found])
    points = sum(len(curve) for position in shown for curve in curves[position])
    shaded = points > (_MOST_POINTS_OF_ERRORS if measure.name == "error" else _MOST_POINTS)

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        if others:
            _shade(axes, others, color=INK, alpha=0.12)
        for position in shown:
            found, colour = curves[position], series_colour(order[position])
            style = line_style(order[position]) if len(curves) > 1 else "-"
            if shaded and len(found) > 1:
                _shade(axes, found, color=colour, alpha=0.15)
            for curve in found if len(found) > 1 and not shaded else ():
                _line(axes, curve, color=colour, alpha=0.3, linewidth=0.7)
            label = wrapped(comparison.variants[position].name, 24)
            _line(axes, _mean_curve(found), color=colour, linestyle=style, linewidth=1.9, label=label)
        epochs = max(len(curve) for found in curves.values() for curve in found)
        axes.set_xlim(1 - 0.02 * epochs, 1.02 * epochs)
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(lowest, highest)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(f"{measure.title} ({measure.unit})" if measure.unit else measure.title)
        if measure.is_fraction:
            percent_axis(axes.yaxis)
        axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        add_legend(figure)

    scale = 100 if measure.is_fraction else 1
    unit = f" {measure.unit}" if measure.unit else ""
    caption = ""
    if any(len(curves[position]) > 1 for position in shown):
        caption = "Each run light, the mean over seeds dark."
        if shaded:
            caption = "The mean over seeds, shaded from the lowest to the highest run; the numbers have every run."
    if others:
        caption += f" {others_note(len(shown), len(others))}, shaded in grey from the lowest to the highest mean."
    if is_cut and not log:
        caption += f" The axis ends at {number(scale * highest, 1)}{unit}: the first epochs lie above it."
    if any(not np.isfinite(curve).all() for found in curves.values() for curve in found):
        caption += f" Where a run has no finite {_IN_WORDS.get(measure.name, 'value')}, its curve has a gap, and so has"
        caption += " the mean."
    if len({len(curve) for found in curves.values() for curve in found}) > 1:
        caption += " The runs are of unequal length; a mean ends with the shortest of its runs."
    last = [
        f"{comparison.variants[position].name} "
        f"{number(scale * float(np.mean([_known(curve)[-1] for curve in curves[position]])), 2 if scale == 100 else 3)}"
        f"{unit}"
        for position in shown
    ]
    description = f"Lines of {measure.title} over epochs. Mean in the last epoch: {'; '.join(last)}."
    title = f"{measure.title[:1].upper()}{measure.title[1:]} over epochs"
    return Sketch(f"curves-{measure.key}", (_WIDTH, 3.3), title, description, paint, caption.strip())


def percent_axis(axis: object) -> None:
    """Shows an axis of fractions in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")  # type: ignore[attr-defined]


def _curves(comparison: Comparison, measure: CurveMeasure) -> dict[int, list[NDArray[np.float64]]]:
    found = {
        position: [run.curve(measure.place, measure.name) for run in variant.runs.values()]
        for position, variant in enumerate(comparison.variants)
    }
    found = {position: [curve for curve in curves if _known(curve).size] for position, curves in found.items()}
    return {position: curves for position, curves in found.items() if curves}


def _line(axes: Axes, curve: NDArray[np.float64], **style: object) -> None:
    alone = np.isfinite(curve).sum() == 1  # one point makes no line
    axes.plot(np.arange(1, len(curve) + 1), curve, marker="o" if alone else None, markersize=4, **style)  # type: ignore[arg-type]


def _shade(axes: Axes, curves: Sequence[NDArray[np.float64]], **style: object) -> None:
    """Fills from the lowest to the highest of the curves, which may be of unequal length and have gaps."""
    every = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(every, curves, strict=True):
        row[: len(curve)] = np.where(np.isfinite(curve), curve, np.nan)
    low, high = np.fmin.reduce(every), np.fmax.reduce(every)
    axes.fill_between(np.arange(1, every.shape[1] + 1), low, high, linewidth=0, **style)  # type: ignore[arg-type]


def _mean_curve(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    length = min(len(curve) for curve in curves)
    return np.asarray(np.mean([curve[:length] for curve in curves], axis=0), dtype=np.float64)


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
    if is_cut:
        highest = float(later.max())
    margin = 0.06 * ((highest - lowest) or abs(highest) or 0.01)
    return max(0.0, lowest - margin) if lowest >= 0 else lowest - margin, highest + margin, is_cut
