"""Every run as a dot: its error, and its difference to the baseline's run with the same seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from labelembed.measures import summarise
from labelembed.report.comparison import Comparison
from labelembed.report.curves import percent_axis, series_positions
from labelembed.report.drawing import INK, Sketch, series_colour
from labelembed.report.formatting import number, wrapped
from labelembed.report.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.6


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

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2 if with_differences else 1, sharey=True, squeeze=False)[0]
        for place, (variant, row) in enumerate(shown):
            colour = series_colour(order[comparison.variants.index(variant)])
            errors = variant.measures(split, measure)
            _dots(panels[0], place, errors, colour)
            panels[0].plot([summarise(list(errors.values())).mean] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
            difference = row.headline_difference
            if difference is not None:
                paired = {seed: errors[seed] - theirs[seed] for seed in errors if seed in theirs}
                _dots(panels[1], place, paired, colour)
                mean, low, high = difference.difference, difference.interval_low, difference.interval_high
                panels[1].plot([mean] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
                if not math.isnan(low):
                    panels[1].plot([low, high], [place + 0.36] * 2, color=colour, lw=2.4, solid_capstyle="butt")
        panels[0].set_yticks(range(len(shown)), [wrapped(variant.name, 24) for variant, _ in shown])
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        panels[0].set_xlabel(f"{words} (%)")
        if with_differences and baseline is not None:
            panels[1].axvline(0, lw=0.8, alpha=0.6, color=INK)
            panels[1].set_xlabel("\n".join(wrap(f"minus {baseline.name}, same seed (points)", 42)))
        for panel in panels:
            percent_axis(panel.xaxis)
            panel.grid(axis="x", alpha=0.15, linewidth=0.6)
            panel.tick_params(axis="y", length=0)

    caption = "Every dot is a run, the stroke the mean."
    if with_differences:
        has_interval = any(row.headline_difference and row.headline_difference.n > 1 for _, row in shown)
        caption += " Right: differences between runs of the same seed" + (
            "; the bar below the dots is the 95 % interval of their mean." if has_interval else "; one has no interval."
        )
    means = "; ".join(
        f"{variant.name} {number(100 * summarise(list(values.values())).mean, 2)} %, n {len(values)}"
        for variant, _ in shown
        if (values := variant.measures(split, measure))
    )
    title = f"{words[:1].upper()}{words[1:]} of every run"
    description = f"Dots for each run by variant. Mean {words}: {means}."
    numbers: list[list[object]] = [["variant", "seed", words]]
    numbers += [
        [variant.name, seed, value]
        for variant, _ in shown
        for seed, value in sorted(variant.measures(split, measure).items())
    ]
    return Sketch(key, (_WIDTH, 0.75 + 0.62 * len(shown)), title, description, paint, caption, numbers)


def _dots(axes: Axes, place: int, values: dict[int, float], colour: str) -> None:
    # Spread by the order of the seeds, never by chance: a run stands at the same height in both panels.
    heights = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(
        [values[seed] for seed in sorted(values)], place + heights, s=16, color=colour, alpha=0.6, linewidths=0
    )
