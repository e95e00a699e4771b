"""Every run as a dot: its error, and its difference to the baseline's run with the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelembed.metrics import PairedComparison, summarise
from labelembed.report.comparison import Comparison
from labelembed.report.curves import percent_axis
from labelembed.report.drawing import INK, Sketch, series_colour
from labelembed.report.formatting import listed, number, shortened, wrapped
from labelembed.report.ranking import MOST_NAMED, series_positions
from labelembed.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.6
_GAP = (math.nan, math.nan)


def seed_dots(comparison: Comparison, rows: Sequence[Row], key: str) -> Sketch | None:
    """Returns every run as a dot: what decides, and the difference to the baseline with the paired interval."""
    split, measure, order = comparison.split, comparison.headline, series_positions(comparison)
    words = f"{split} {'BLEU' if measure == 'bleu' else 'error'}"
    shown = [
        (variant, row)
        for variant, row in zip(comparison.variants, rows, strict=True)
        if variant.measures(split, measure)
    ]
    if not shown:
        return None
    with_differences = any(row.headline_difference for _, row in shown)
    baseline = comparison.baseline_runs
    theirs = baseline.measures(split, measure) if baseline else {}

    dense = len(shown) > MOST_NAMED
    names = [shortened(variant.name, 34) if dense else wrapped(variant.name, 24) for variant, _ in shown]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2 if with_differences else 1, sharey=True, squeeze=False)[0]
        # By colours and not by variants: of hundreds of variants each mark of its own makes the page large.
        of_colours: dict[str, list[int]] = {}
        for place, (variant, _) in enumerate(shown):
            colour = series_colour(order[comparison.variants.index(variant)])
            of_colours.setdefault(colour, []).append(place)
        for colour, places in of_colours.items():
            values = {place: shown[place][0].measures(split, measure) for place in places}
            _dots(panels[0], values, colour)
            _strokes(
                panels[0], {place: summarise(list(by_seed.values())).mean for place, by_seed in values.items()}, colour
            )
            differences = {
                place: difference for place in places if (difference := shown[place][1].headline_difference) is not None
            }
            if differences:
                paired = {
                    place: {seed: value - theirs[seed] for seed, value in values[place].items() if seed in theirs}
                    for place in differences
                }
                _dots(panels[1], paired, colour)
                _strokes(panels[1], {place: found.difference for place, found in differences.items()}, colour)
                _bars(panels[1], differences, colour)
        panels[0].set_yticks(range(len(shown)), names, fontsize=7 if dense else 8.5)
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        panels[0].set_xlabel(f"{words} (%)")
        if with_differences and baseline is not None:
            panels[1].axvline(0, lw=0.8, alpha=0.6, color=INK)
            panels[1].set_xlabel("\n".join(wrap(f"minus {baseline.name}, same seed (points)", 42)))
        for panel in panels:
            percent_axis(panel.xaxis)
            panel.grid(axis="x", alpha=0.15, linewidth=0.6)
            panel.tick_params(axis="y", left=False)

    caption = "Every dot is a run, the stroke the mean."
    if with_differences:
        found = [row.headline_difference for _, row in shown if row.headline_difference is not None]
        has_interval = any(not math.isnan(difference.interval_low) for difference in found)
        caption += " Right: differences between runs of the same seed" + (
            "; the bar below the dots is the 95 % interval of their mean over seeds."
            if has_interval
            else "; one run, or runs that all differ by the same, have no interval."
        )
    means = listed(
        [
            f"{variant.name} {number(100 * summarise(list(variant.measures(split, measure).values())).mean, 2)} %, "
            f"n {len(variant.measures(split, measure))}"
            for variant, _ in shown
        ]
    )
    title = f"{words[:1].upper()}{words[1:]} of every run"
    description = f"Dots for each run by variant. Mean {words}: {means}."
    numbers: list[list[object]] = [["variant", "seed", words]]
    numbers += [
        [variant.name, seed, value]
        for variant, _ in shown
        for seed, value in sorted(variant.measures(split, measure).items())
    ]
    return Sketch(
        key, (_WIDTH, 0.75 + (0.17 if dense else 0.62) * len(shown)), title, description, paint, caption, numbers
    )


def _dots(axes: Axes, values: Mapping[int, Mapping[int, float]], colour: str) -> None:
    """Draws the value of each seed of the variants at these places."""
    points = [
        (values[place][seed], place + height)
        for place in values
        # Spread by the order of the seeds, never by chance: a run stands at the same height in both panels.
        for seed, height in zip(sorted(values[place]), _heights(len(values[place])), strict=True)
    ]
    x, y = np.array(points).reshape(-1, 2).T
    axes.scatter(x, y, s=16, color=colour, alpha=0.6, linewidths=0)


def _heights(count: int) -> NDArray[np.float64]:
    return np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(1)


def _strokes(axes: Axes, means: Mapping[int, float], colour: str) -> None:
    points = [point for place, mean in means.items() for point in ((mean, place - 0.3), (mean, place + 0.3), _GAP)]
    axes.plot(*np.array(points).T, color=colour, lw=2)


def _bars(axes: Axes, differences: Mapping[int, PairedComparison], colour: str) -> None:
    points = [
        point
        for place, found in differences.items()
        if not math.isnan(found.interval_low)
        for point in ((found.interval_low, place + 0.36), (found.interval_high, place + 0.36), _GAP)
    ]
    if points:
        axes.plot(*np.array(points).T, color=colour, lw=2.4, solid_capstyle="butt")
