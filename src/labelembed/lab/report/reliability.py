"""Is the network as sure as it is right: accuracy against confidence, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.drawing import INK, Sketch, add_legend, line_style, series_colour
from labelembed.lab.report.error_analysis import ErrorAnalysis, Reliability
from labelembed.lab.report.formatting import number, wrapped
from labelembed.lab.report.ranking import by_weight, series_positions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The accuracy of fewer examples is mostly chance.
_FEWEST = 10
# Lines of more variants than these cannot be told apart in so small a figure.
_MOST_LINES = 7
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def reliability_figure(comparison: Comparison, errors: Mapping[str, ErrorAnalysis]) -> Sketch | None:
    """Returns accuracy against confidence, before any temperature and with it; None without errors.

    Args:
        comparison: Of many variants the best and the baseline are drawn.
        errors: What the variants get wrong, by name.
    """
    if not errors:
        return None
    chosen = [one.name for one in by_weight(comparison) if one.name in errors][:_MOST_LINES]
    order = series_positions(comparison)
    panels = {"before temperature scaling": {name: one.reliability for name, one in errors.items() if name in chosen}}
    after = {name: one.calibrated for name, one in errors.items() if name in chosen and one.calibrated is not None}
    panels |= {"after temperature scaling": after} if after else {}

    def paint(figure: Figure) -> None:
        axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (heading, lines) in zip(axes_of, panels.items(), strict=True):
            axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
            for name, one in lines.items():
                known, place = one.count >= _FEWEST * errors[name].runs, order[name]
                points = 100 * one.confidence[known], 100 * one.accuracy[known]
                colour, style = series_colour(place), line_style(place)
                axes.plot(*points, color=colour, linestyle=style, linewidth=1.3, label=wrapped(name, 24))
                # The larger a mark, the more examples.
                size = 4 + 60 * np.sqrt(one.count[known] / one.count.sum())
                marker = _MARKERS[place % len(_MARKERS)]
                axes.scatter(*points, s=size, color=colour, marker=marker, alpha=0.75, linewidths=0)
            axes.set_xlim(0, 101)
            axes.set_ylim(0, 102)
            axes.set_title(heading)
            axes.set_xlabel("confidence (%)")
            axes.grid(alpha=0.15, linewidth=0.6)
        axes_of[0].set_ylabel("accuracy (%)")
        handles, labels = axes_of[0].get_legend_handles_labels()
        add_legend(figure, handles, labels)

    caption = (
        "Examples by the probability of the prediction, in bins of equal width; bins with fewer than "
        f"{_FEWEST} examples a run are left out. On the dotted line the network is right as often as it says; below it "
        "is over-confident, above it under-confident. The larger a mark, the more examples."
    )
    gaps = [
        f"{name} {number(100 * calibration_gap(one), 1)} %"
        + (f", {number(100 * calibration_gap(after[name]), 1)} % after temperature scaling" if name in after else "")
        for name, one in panels["before temperature scaling"].items()
    ]
    description = f"Lines of accuracy over confidence. Mean distance from the diagonal: {'; '.join(gaps)}."
    numbers: list[list[object]] = [["variant", "temperature", "examples", "confidence", "accuracy"]]
    numbers += [
        [name, heading, int(count), sure, right]
        for heading, lines in panels.items()
        for name, one in lines.items()
        for count, sure, right in zip(one.count.tolist(), one.confidence.tolist(), one.accuracy.tolist(), strict=True)
        if count
    ]
    return Sketch("reliability", (7.6, 3.3), "Reliability", description, paint, caption, numbers)


def calibration_gap(found: Reliability) -> float:
    """Returns the expected calibration error of the examples of all runs together, a fraction."""
    return float(np.nansum(found.count * np.abs(found.accuracy - found.confidence)) / max(found.count.sum(), 1))
