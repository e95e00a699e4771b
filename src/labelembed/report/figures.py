"""The figures of the report: error curves, every seed as a dot, and the learned label embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelembed.measures import summarise
from labelembed.report.comparison import Comparison, Split
from labelembed.report.drawing import INK, Drawing, draw, line_style, series_colour
from labelembed.report.formatting import number, shortened
from labelembed.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.6
_NAME_LENGTH = 90


def error_curves(comparison: Comparison, split: Split, key: str) -> Drawing | None:
    """Returns the error after each epoch: every run light, the mean of a variant dark; None without a curve.

    The mean is drawn where every run of the variant has an error, so that a run that ended earlier does not
    bend it.
    """
    curves = {
        position: [run.error_curve(split) for run in variant.runs.values()]
        for position, variant in enumerate(comparison.variants)
    }
    curves = {position: [curve for curve in found if _known(curve).size] for position, found in curves.items()}
    curves = {position: found for position, found in curves.items() if found}
    if not curves:
        return None
    order = series_positions(comparison)
    lowest, highest, is_cut = _range_of_errors([curve for found in curves.values() for curve in found])

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for position, found in curves.items():
            colour = series_colour(order[position])
            style = line_style(order[position]) if len(curves) > 1 else "-"
            for curve in found if len(found) > 1 else ():
                _line(axes, curve, color=colour, alpha=0.3, linewidth=0.7)
            label = _wrapped(comparison.variants[position].name, 24)
            _line(axes, _mean_curve(found), color=colour, linestyle=style, linewidth=1.9, label=label)
        epochs = max(len(curve) for found in curves.values() for curve in found)
        axes.set_xlim(1 - 0.02 * epochs, 1.02 * epochs)
        axes.set_ylim(lowest, highest)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(f"{split} error (%)")
        _percent_axis(axes.yaxis)
        axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        figure.legend(loc="outside right upper", frameon=False, handlelength=3.2, labelspacing=0.8)

    many = any(len(found) > 1 for found in curves.values())
    caption = "Each run light, the mean over seeds dark." if many else ""
    if is_cut:
        caption += f" The axis ends at {number(100 * highest, 1)} %: the first epochs lie above it."
    if any(not np.isfinite(curve).all() for found in curves.values() for curve in found):
        caption += " Where a run has no finite error, its curve has a gap, and so has the mean."
    if len({len(curve) for found in curves.values() for curve in found}) > 1:
        caption += " The runs are of unequal length; a mean ends with the shortest of its runs."
    last = [
        f"{comparison.variants[position].name} {number(100 * float(np.mean([_known(c)[-1] for c in found])), 2)} %"
        for position, found in curves.items()
    ]
    description = f"Lines of {split} error over epochs. Mean error in the last epoch: {'; '.join(last)}."
    return Drawing(draw(key, (_WIDTH, 3.3), f"{split} error over epochs", description, paint), caption.strip())


def seed_dots(comparison: Comparison, rows: Sequence[Row], key: str) -> Drawing | None:
    """Returns every run as a dot: its error, and its difference to the baseline with the paired interval."""
    split, order = comparison.split, series_positions(comparison)
    shown = [(variant, row) for variant, row in zip(comparison.variants, rows, strict=True) if row.error is not None]
    if not shown:
        return None
    with_differences = any(row.error_difference for _, row in shown)
    baseline = comparison.baseline_runs
    baseline_errors = baseline.measures(split, "error") if baseline else {}

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2 if with_differences else 1, sharey=True, squeeze=False)[0]
        for place, (variant, row) in enumerate(shown):
            colour = series_colour(order[comparison.variants.index(variant)])
            errors = variant.measures(split, "error")
            _dots(panels[0], place, errors, colour)
            panels[0].plot([summarise(list(errors.values())).mean] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
            difference = row.error_difference
            if difference is not None:
                paired = {seed: errors[seed] - baseline_errors[seed] for seed in errors if seed in baseline_errors}
                _dots(panels[1], place, paired, colour)
                mean, low, high = difference.difference, difference.interval_low, difference.interval_high
                panels[1].plot([mean] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
                if not math.isnan(low):
                    panels[1].plot([low, high], [place + 0.36] * 2, color=colour, lw=2.4, solid_capstyle="butt")
        panels[0].set_yticks(range(len(shown)), [_wrapped(variant.name, 24) for variant, _ in shown])
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        panels[0].set_xlabel(f"{split} error (%)")
        if with_differences and baseline is not None:
            panels[1].axvline(0, lw=0.8, alpha=0.6, color=INK)
            panels[1].set_xlabel("\n".join(wrap(f"minus {baseline.name}, same seed (points)", 42)))
        for panel in panels:
            _percent_axis(panel.xaxis)
            panel.grid(axis="x", alpha=0.15, linewidth=0.6)
            panel.tick_params(axis="y", length=0)

    caption = "Every dot is a run, the stroke the mean."
    if with_differences:
        has_interval = any(row.error_difference and row.error_difference.n > 1 for _, row in shown)
        caption += " Right: differences between runs of the same seed" + (
            "; the bar below the dots is the 95 % interval of their mean." if has_interval else "; one has no interval."
        )
    means = "; ".join(f"{row.name} {number(100 * row.error.mean, 2)} %, n {row.n}" for _, row in shown if row.error)
    title = f"{split} error of every run"
    description = f"Dots for each run by variant. Mean {split} error: {means}."
    return Drawing(draw(key, (_WIDTH, 0.75 + 0.62 * len(shown)), title, description, paint), caption)


def series_positions(comparison: Comparison) -> dict[int, int]:
    """Returns the colour and style of each variant by its position: 0, the grey one, for the baseline."""
    others = [i for i, variant in enumerate(comparison.variants) if variant.name != comparison.baseline]
    series = {position: place for place, position in enumerate(others, start=1)}
    return {position: series.get(position, 0) for position in range(len(comparison.variants))}


def _dots(axes: Axes, place: int, values: dict[int, float], colour: str) -> None:
    # Spread by the order of the seeds, never by chance: a run stands at the same height in both panels.
    heights = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(
        [values[seed] for seed in sorted(values)], place + heights, s=16, color=colour, alpha=0.6, linewidths=0
    )


def _line(axes: Axes, curve: NDArray[np.float64], **style: object) -> None:
    alone = np.isfinite(curve).sum() == 1  # one point makes no line
    axes.plot(np.arange(1, len(curve) + 1), curve, marker="o" if alone else None, markersize=4, **style)  # type: ignore[arg-type]


def _mean_curve(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    length = min(len(curve) for curve in curves)
    return np.asarray(np.mean([curve[:length] for curve in curves], axis=0), dtype=np.float64)


def _known(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return curve[np.isfinite(curve)]


def _range_of_errors(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float, bool]:
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
    margin = 0.06 * ((highest - lowest) or highest or 0.01)
    return max(0.0, lowest - margin), highest + margin, is_cut


def _percent_axis(axis: object) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")  # type: ignore[attr-defined]


def _wrapped(name: str, width: int) -> str:
    return "\n".join(wrap(shortened(name, _NAME_LENGTH), width))
