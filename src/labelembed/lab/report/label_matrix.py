"""The matrix of labels: lift of soft targets or relative distance of vectors, and confusions, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry import leaf_order
from labelembed.lab.report.drawing import Sketch
from labelembed.lab.report.formatting import shortened
from labelembed.lab.report.label_figures import LETTER, draw_branches, short_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of more labels the matrix has no names, and of many more its cells are means over blocks.
MOST_BESIDE, _MOST_CELLS = 40, 150
# A picture has so many pixels a side at least: viewers other than browsers blur what they enlarge.
_LEAST_PIXELS = 300
# Seen on white and on black: lift above 1, below 1, a small distance, and how often confused. Paper is a lift of 1, and
# a distance of the mean or more.
_MORE, _LESS, _NEAR, _CONFUSED = (0.14, 0.48, 0.75), (0.86, 0.43, 0.14), (0.12, 0.55, 0.36), (0.7, 0.28, 0.63)
_OWN = (0.5, 0.5, 0.5, 0.27)
_PALE = 0.25
Box = tuple[float, float, float, float]
Shown = Literal["lift", "relative distance", "confusions"]


class Panel(NamedTuple):
    """One square of the matrix.

    Attributes:
        title: What stands above it.
        table: [L, L], in the order of the labels' numbers; the diagonal takes no part.
        shows: What its values are; `LabelSimilarities.relative` says what the first two mean.
    """

    title: str
    table: NDArray[np.float64]
    shows: Shown = "lift"


def label_matrix(
    names: Sequence[str],
    joined: NDArray[np.float64],
    panels: Sequence[Panel],
    *,
    key: str = "matrix",
    caption: str = "",
) -> Sketch:
    """Returns squares of labels by labels side by side, all in the order of one tree.

    Args:
        names: The labels, in the order of their numbers.
        joined: [L - 1, 4], the tree that orders them; drawn beside the squares where the names can be read.
        panels: The squares.
        key: Begins every id in the SVG.
        caption: What a reader must know to read it.
    """
    order, count = leaf_order(joined), len(names)
    named = count <= MOST_BESIDE
    shown = [short_label(names[label], 20) for label in order]
    letters = 8.5 if count <= 20 else 6.5
    longest = max(len(name) + name.count("\u2581") for name in shown)  # the mark of a subword is a wide letter
    name_width = LETTER * letters / 72 * longest + 0.18 if named else 0.1
    tree = 0.9 if named else 0.0
    side = min(max(0.21 * count, 1.9), 2.6) if count <= 20 else 5.5 if len(panels) == 1 else 4.2
    below = max(0.15, name_width if longest > 2 else 0.2) if named else 0.15
    gap, top, scale_height = 0.3, 0.42, 0.5
    columns = min(len(panels), 3 if side < 3 else 2)
    rows_of = -(-len(panels) // columns)
    step = side + top + below
    width = tree + columns * (side + name_width) + (columns - 1) * gap + 0.1
    height = rows_of * step + scale_height
    tables = [_coarse(panel.table[np.ix_(order, order)]) for panel in panels]
    reaches = {
        kind: _reach([table for table, one in zip(tables, panels, strict=True) if one.shows == kind], kind)
        for kind in dict.fromkeys(panel.shows for panel in panels)
    }

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")

        def box(left: float, upper: float, wide: float, high: float) -> Box:
            return (left / width, 1 - (upper + high) / height, wide / width, high / height)

        for place, (panel, table) in enumerate(zip(panels, tables, strict=True)):
            left = tree + (place % columns) * (side + name_width + gap) + name_width
            upper = top + (place // columns) * step
            axes = figure.add_axes(box(left, upper, side, side))
            times, edge = -(-_LEAST_PIXELS // len(table)), len(table) - 0.5
            blocks = table.repeat(times, axis=0).repeat(times, axis=1)
            _painted(axes, blocks, panel.shows, reaches[panel.shows], (-0.5, edge, edge, -0.5))
            axes.tick_params(length=0)
            axes.spines[:].set(visible=True, linewidth=0.4, alpha=0.4)
            axes.set_title(
                "\n".join(wrap(shortened(panel.title, int(side * 26)), int(side * 13))[:2]), loc="left", fontsize=8.5
            )
            axes.set_yticks(range(count) if named else [], shown if named else [], fontsize=letters)
            axes.set_xticks(
                range(count) if named else [],
                shown if named else [],
                fontsize=letters,
                rotation=90 if longest > 2 else 0,
            )
            for tick, label in zip(axes.get_yticklabels(), order, strict=False):
                tick.set_gid(f"row{place}-label-{label}")
        if named:
            branches = figure.add_axes(box(0.02, top, tree - 0.04, side))
            draw_branches(branches, joined, [None] * count, coloured=False, thick=1.0)
            branches.set_axis_off()
        for place, kind in enumerate(kind for kind in reaches if kind != "confusions"):
            left = tree + name_width + place * (min(side, 2.4) + 0.4)
            _scale(figure.add_axes(box(left, height - 0.36, min(side, 2.4), 0.11)), kind, reaches[kind])

    description = f"Matrix of {count:,} labels in the order of their tree: {', '.join(shown[:10])}"
    description += f"{', ...' if count > 10 else ''}. The list of nearest labels says the same in words."
    numbers = _numbers(names, order, panels) if count <= 100 else []
    title = f"Which of {count:,} labels are similar"
    return Sketch(key, (width, height), title, description, paint, caption, numbers)


def _positive(table: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.where(np.isfinite(table), table, 1.0)
    return np.asarray(np.clip(known, 2.0**-6, 2.0**6))


def _reach(tables: Sequence[NDArray[np.float64]], kind: Shown) -> float:
    """Returns where the colours are full, so that all but the most similar pairs lie within.

    Of lifts a power of two, of relative distances the smallest in tenths, of confusions the largest share.
    """
    values = np.concatenate([table[np.isfinite(table)] for table in tables])
    if kind == "confusions":
        return float(values.max(initial=1e-300))
    if kind == "relative distance":
        return float(np.clip(np.floor(10 * np.quantile(values, 0.01)) / 10, 0.0, 0.9)) if values.size else 0.0
    powers = np.log2(_positive(values))
    above = powers[powers > 0]
    return float(np.clip(np.ceil(np.quantile(above, 0.99)), 1, 4)) if above.size else 1.0


def _painted(axes: Axes, table: NDArray[np.float64], kind: Shown, reach: float, extent: Box) -> None:
    """Paints a table: paper where nothing is to be seen, so that it lies on white as on black."""
    from matplotlib.colors import LinearSegmentedColormap

    if kind == "confusions":
        nodes = [(0.0, (*_CONFUSED, 0.0)), (1.0, (*_CONFUSED, 1.0))]
        levels, ends = np.sqrt(table / reach), (0.0, 1.0)
    elif kind == "relative distance":
        nodes = [(0.0, (*_NEAR, 1.0)), (1.0, (*_NEAR, 0.0))]
        levels, ends = table, (reach, 1.0)
    else:
        # A lift below 1 is most of a matrix and says little: it stays pale.
        nodes = [(0.0, (*_LESS, _PALE)), (0.5, (*_LESS, 0.0)), (0.5, (*_MORE, 0.0)), (1.0, (*_MORE, 1.0))]
        levels, ends = np.where(np.isfinite(table), np.log2(_positive(table)), np.nan), (-reach, reach)
    colours = LinearSegmentedColormap.from_list("labels", nodes).with_extremes(bad=_OWN)
    axes.imshow(levels, cmap=colours, vmin=ends[0], vmax=ends[1], extent=extent, interpolation="none", aspect="auto")


def _scale(axes: Axes, kind: Shown, reach: float) -> None:
    if kind == "lift":
        _painted(axes, 2.0 ** np.linspace(-reach, reach, 65)[None], kind, reach, (-reach, reach, 0.0, 1.0))
        step = 1 if reach <= 2 else 2
        whole = [power for power in range(-4, 5) if abs(power) <= reach and power % step == 0]
        texts = [f"{2**power}\u00d7" if power >= 0 else f"1/{2**-power}" for power in whole]
        axes.set_xticks(whole, texts, fontsize=7.5)
    else:
        _painted(axes, np.linspace(reach, 1.0, 65)[None], kind, reach, (reach, 1.0, 0.0, 1.0))
        axes.set_xticks([reach, 1.0], [f"{reach:.1f}", "1 (mean)"], fontsize=7.5)
    axes.set_yticks([])
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)


def _coarse(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the table, of very many labels the means over blocks."""
    if len(table) <= _MOST_CELLS:
        table = table.copy()
        np.fill_diagonal(table, np.nan)
        return table
    edges = np.linspace(0, len(table), _MOST_CELLS + 1).astype(int)[:-1]
    known = np.isfinite(table)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.add.reduceat(values, edges), edges, axis=1))

    return summed(np.where(known, table, 0.0)) / np.maximum(summed(known.astype(np.float64)), 1)


def _numbers(names: Sequence[str], order: Sequence[int], panels: Sequence[Panel]) -> list[list[object]]:
    lines: list[list[object]] = [["matrix", "label", *(names[label] for label in order)]]
    for panel in panels:
        table = panel.table[np.ix_(order, order)].tolist()
        lines += [[panel.title, names[label], *row] for label, row in zip(order, table, strict=True)]
    return lines
