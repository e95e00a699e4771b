"""Is the network as sure as it is right: accuracy against confidence, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labelembed.report.drawing import INK, Sketch, add_legend, line_style, series_colour
from labelembed.report.errors_seen import Reliability, SeenErrors
from labelembed.report.formatting import number, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The accuracy of fewer examples is mostly chance.
_FEWEST = 10
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def reliability_figure(found: Sequence[tuple[str, int, SeenErrors]], key: str = "reliability") -> Sketch | None:
    """Returns accuracy against confidence, before any temperature and with it.

    Args:
        found: For each variant its name, the position of its colour, and its errors.
        key: Begins every id in the SVG.
    """
    if not found:
        return None
    calibrated = [
        (name, position, one.calibrated, one.runs) for name, position, one in found if one.calibrated is not None
    ]
    panels: list[tuple[str, list[tuple[str, int, Reliability, int]]]] = [
        ("before temperature scaling", [(name, position, one.reliability, one.runs) for name, position, one in found])
    ]
    if calibrated:
        panels.append(("after temperature scaling", calibrated))

    def paint(figure: Figure) -> None:
        axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (heading, lines) in zip(axes_of, panels, strict=True):
            axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
            for name, position, one, runs in lines:
                known = one.count >= _FEWEST * runs
                axes.plot(
                    100 * one.confidence[known],
                    100 * one.accuracy[known],
                    color=series_colour(position),
                    linestyle=line_style(position),
                    linewidth=1.3,
                    label=wrapped(name, 24),
                )
                # The larger a mark, the more examples.
                axes.scatter(
                    100 * one.confidence[known],
                    100 * one.accuracy[known],
                    s=4 + 60 * np.sqrt(one.count[known] / one.count.sum()),
                    color=series_colour(position),
                    marker=_MARKERS[position % len(_MARKERS)],
                    alpha=0.75,
                    linewidths=0,
                )
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
        f"{name} {number(100 * calibration_gap(one.reliability), 1)} %"
        + (
            f", {number(100 * calibration_gap(one.calibrated), 1)} % after temperature scaling"
            if one.calibrated
            else ""
        )
        for name, _, one in found
    ]
    description = f"Lines of accuracy over confidence. Mean distance from the diagonal: {'; '.join(gaps)}."
    numbers: list[list[object]] = [["variant", "temperature", "examples", "confidence", "accuracy"]]
    numbers += [
        [name, heading, int(count), sure, right]
        for heading, lines in panels
        for name, _, one, _ in lines
        for count, sure, right in zip(one.count.tolist(), one.confidence.tolist(), one.accuracy.tolist(), strict=True)
        if count
    ]
    return Sketch(key, (7.6, 3.3), "Reliability", description, paint, caption, numbers)


def calibration_gap(found: Reliability) -> float:
    """Returns the expected calibration error of the examples of all runs together, a fraction."""
    return float(np.nansum(found.count * np.abs(found.accuracy - found.confidence)) / max(found.count.sum(), 1))
