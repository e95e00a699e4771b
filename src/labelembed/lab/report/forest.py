"""The forest plot: each variant against the control, with both intervals, every seed as a dot, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.drawing import INK, Sketch, series_colour
from labelembed.lab.report.formatting import NOTHING, listed, number, points, shortened, wrapped
from labelembed.lab.report.ranking import drawn_variants, others_note, series_positions
from labelembed.lab.report.table import Row, comparison_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: of the wide form the columns left and right of the panel and the height of a line of text, of the narrow one
# the whole width, which on a phone leaves letters of about 10 pixels.
_WIDTH, _NAMES, _COLUMN, _LINE = 8.4, 1.75, 0.9, 0.155
_NARROW, _BLOCK = 4.2, 0.74
_QUIET = 0.75


class _Line(NamedTuple):
    """One variant as it is drawn: `seeds` are its differences to the control, in points."""

    name: str
    colour: str
    row: Row
    seeds: list[float]
    cells: list[str]


def forest_plot(comparison: Comparison, rows: Sequence[Row] | None = None) -> str:
    """Returns the forest plot of a comparison as an SVG of its own, dark on white.

    A line a variant: the mean difference to the control as a stroke, the 95 % interval over seeds as a thick bar, the
    one over seeds and test examples as a thin bar, each seed as a dot; beside it error (or BLEU), NLL and ECE after and
    before temperature scaling, and the time of an epoch as a ratio.

    Args:
        comparison: What `load_comparison` read.
        rows: What `comparison_rows` made of it, where that is at hand.

    Returns:
        The text of the SVG; empty where nothing is compared, as for a single run.
    """
    sketch = forest_sketch(comparison, comparison_rows(comparison) if rows is None else rows)
    return "" if sketch is None else sketch.standalone_svg()


def forest_sketch(comparison: Comparison, rows: Sequence[Row], *, narrow: bool = False) -> Sketch | None:
    """Returns the forest plot; None where no variant is compared with another.

    Args:
        comparison: What is drawn.
        rows: What `comparison_rows` made of it.
        narrow: For a phone: the numbers stand below each panel instead of beside it.
    """
    baseline = comparison.baseline_runs
    if baseline is None or not any(row.headline_difference for row in rows):
        return None
    headings = _headings(comparison, rows)
    is_text, words = comparison.headline == "bleu", comparison.headline_words
    short = ("BLEU", "chrF", "token error", "time") if is_text else ("error", "NLL", "ECE", "time")
    lines = _lines(comparison, rows, narrow=narrow)
    low, high, is_cut = _range(lines)
    better = "higher" if is_text else "lower"
    label = f"{words} minus that of {shortened(baseline.name, 40)}, points ({better} is better)"
    heights = [_BLOCK if narrow else 0.27 + _LINE * (1 + line.name.count("\n")) for line in lines]
    width, top, bottom = (_NARROW, 0.06, 0.62) if narrow else (_WIDTH, 0.48, 0.52)

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")
        wide, high_by = figure.get_size_inches()
        left = 0.12 if narrow else _NAMES
        right = 0.12 if narrow else _COLUMN * len(headings) + 0.1
        axes = figure.add_axes((left / wide, bottom / high_by, 1 - (left + right) / wide, 1 - (top + bottom) / high_by))
        page = figure.add_axes((0, 0, 1, 1))
        page.set_axis_off()
        page.set_xlim(0, wide)
        page.set_ylim(0, high_by)
        axes.set_xlim(low, high)
        axes.set_ylim(sum(heights), 0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, lw=0.8, alpha=0.6, zorder=0)
        axes.grid(axis="x", alpha=0.15, linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\u2212"))
        axes.set_xlabel(label if not narrow else label.replace(", points", ",\npoints"))
        # In another size than it was laid out for the lines keep their shares of the height.
        stretch = (high_by - top - bottom) / sum(heights)
        columns = [wide - right + _COLUMN * (place + 1) for place in range(len(headings))]
        for heading, x in zip(headings, columns, strict=True) if not narrow else ():
            page.text(x, high_by - 0.08, heading, ha="right", va="top", fontsize=8.5, alpha=_QUIET)
        for line, start, tall in zip(lines, np.cumsum([0.0, *heights]), heights, strict=False):
            _draw(axes, line, start + (0.66 if narrow else 0.5) * tall, 0.1)
            y = high_by - top - stretch * start
            if narrow:
                page.text(left, y, line.name, ha="left", va="top", fontweight="bold")
                text = " \u00b7 ".join(f"{what} {cell}" for what, cell in zip(short, line.cells, strict=True))
                page.text(left, y - 0.16, text, ha="left", va="top", fontsize=8.5, alpha=_QUIET)
                continue
            page.text(0.04, y - stretch * tall / 2, line.name, ha="left", va="center")
            for cell, x in zip(line.cells, columns, strict=True):
                page.text(x, y - stretch * tall / 2, cell, ha="right", va="center")

    found = [one for row in rows if (one := row.headline_difference)]
    caption = "Each dot is a seed, the stroke their mean; "
    if any(one.joint for one in found):
        caption += "the thick bar is the 95 % interval over seeds, the thin one over seeds and test examples."
    elif any(math.isfinite(one.interval_low) for one in found):
        caption += "the bar is the 95 % interval over seeds."
    else:
        caption += "one seed, or seeds that all differ by the same, have no interval."
    caption += " A bar that ends at the edge goes on beyond it." if is_cut else ""
    if any(row.shared_machine for row in rows):
        caption += " \u2248: runs shared the machine, so times are rough."
    drawn = len(drawn_variants(comparison))
    if drawn < len(rows):
        caption += f" {others_note(drawn, len(rows) - drawn)} are in the tables."
    said = [f"{line.row.name} {_spoken(line.row)}" for line in lines if line.row.headline_difference]
    description = f"Differences of {words} to {baseline.name}: {listed(said)}."
    size = (width, top + sum(heights) + bottom)
    key = "forest-narrow" if narrow else "forest"
    return Sketch(key, size, "Each variant against the control", description, paint, caption, _numbers(comparison))


def _headings(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    words = comparison.headline_words.replace(" ", "\n")
    if comparison.headline == "bleu":
        return [words, "chrF", "token\nerror %", "time of\nan epoch"]
    calibrated = any("calibrated_nll" in row.metrics for row in rows)
    nll = "NLL after\ntemperature" if calibrated else "NLL"
    return [f"{words} %", nll, "ECE %\nbefore \u2192 after" if calibrated else "ECE %", "time of\nan epoch"]


def _lines(comparison: Comparison, rows: Sequence[Row], *, narrow: bool) -> list[_Line]:
    split, order, baseline = comparison.split, series_positions(comparison), comparison.baseline_runs
    theirs = baseline.metrics(split, comparison.headline) if baseline else {}
    by_name = {row.name: row for row in rows}
    lines = []
    for variant in drawn_variants(comparison):
        row, ours = by_name[variant.name], variant.metrics(split, comparison.headline)
        if ours:
            name = variant.name + (" (control)" if row.is_baseline else "")
            name = shortened(name, 52) if narrow else wrapped(name, 25)
            seeds = [100 * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
            lines.append(_Line(name, series_colour(order[variant.name]), row, seeds, _cells(row)))
    return lines


def _cells(row: Row) -> list[str]:
    def text(name: str, scale: float, decimals: int) -> str:
        summary = row.metrics.get(name)
        return NOTHING if summary is None else number(scale * summary.mean, decimals)

    time = "1\u00d7" if row.timed_against == row.name else NOTHING
    if "time_ratio" in row.metrics:
        time = f"{chr(0x2248) if row.shared_machine else ''}{text('time_ratio', 1, 2)}\u00d7"
    if row.headline == "bleu":
        return [text("bleu", 100, 2), text("chrf", 100, 2), text(f"{row.split}_error", 100, 2), time]
    nll = text("calibrated_nll" if "calibrated_nll" in row.metrics else "nll", 1, 3)
    ece = text("calibration_error", 100, 1)
    if "calibrated_calibration_error" in row.metrics:
        ece += f" \u2192 {text('calibrated_calibration_error', 100, 1)}"
    return [text(f"{row.split}_error", 100, 2), nll, ece, time]


def _range(lines: Sequence[_Line]) -> tuple[float, float, bool]:
    """Returns the ends of the axis, and whether an interval goes on beyond them.

    All dots and 0 are within; so are the intervals, unless one is so wide that the dots would fall together.
    """
    dots = [0.0, *(one for line in lines for one in line.seeds)]
    ends = list(dots)
    for found in (line.row.headline_difference for line in lines):
        if found is not None:
            both = (found.interval_low, found.interval_high, *(found.joint[:2] if found.joint else ()))
            ends += [100 * end for end in both if math.isfinite(end)]
    reach = 2 * ((max(dots) - min(dots)) or 1.0)
    low, high = max(min(ends), min(dots) - reach), min(max(ends), max(dots) + reach)
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin, min(ends) < low or max(ends) > high


def _draw(axes: Axes, line: _Line, middle: float, reach: float) -> None:
    """Draws dots, mean and intervals of one variant around a height."""
    found = line.row.headline_difference
    if found is None:
        if line.row.is_baseline:
            axes.scatter([0], [middle], s=20, marker="D", color=line.colour, zorder=3)
        return
    if found.joint is not None:
        axes.plot([100 * end for end in found.joint[:2]], [middle, middle], color=line.colour, lw=1.1, zorder=1)
    if math.isfinite(found.interval_low):
        ends = [100 * found.interval_low, 100 * found.interval_high]
        axes.plot(ends, [middle, middle], color=line.colour, lw=5, alpha=0.45, solid_capstyle="butt", zorder=2)
    # Spread by the order of the seeds, never by chance.
    count = len(line.seeds)
    spread = np.linspace(-reach, reach, count) if count > 1 else np.zeros(count)
    axes.scatter(line.seeds, middle + spread, s=9, color=line.colour, alpha=0.85, linewidths=0, zorder=5)
    mean = 100 * found.difference
    axes.plot([mean, mean], [middle - 1.25 * reach, middle + 1.25 * reach], color=line.colour, lw=2, zorder=4)


def _spoken(row: Row) -> str:
    found = row.headline_difference
    assert found is not None
    text = f"{points(found.difference)[0]} points"
    if math.isfinite(found.interval_low):
        low, high = points(found.interval_low, found.interval_high)
        text += f", 95 % interval over seeds {low} to {high}"
    return text


def _numbers(comparison: Comparison) -> list[list[object]]:
    """Returns each seed's value and its difference to the control's, in full precision."""
    split, metric, baseline = comparison.split, comparison.headline, comparison.baseline_runs
    theirs = baseline.metrics(split, metric) if baseline else {}
    lines: list[list[object]] = [["variant", "seed", comparison.headline_words, "difference"]]
    for variant in comparison.variants:
        for seed, value in sorted(variant.metrics(split, metric).items()):
            lines.append([variant.name, seed, value, value - theirs[seed] if seed in theirs else None])
    return lines
