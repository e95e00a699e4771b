"""The picture of how far labels are from each other, for a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelembed.report.drawing import Sketch, cells
from labelembed.report.label_figures import MOST_LABEL_NAMES, short_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CELLS = 1000


def distance_heat_map(
    names: Sequence[str], distances: NDArray[np.float64], order: Sequence[int], *, key: str = "distances"
) -> Sketch:
    """Returns the distances between labels, in the order of the tree.

    Args:
        names: The labels, in the order of their numbers.
        distances: [C, C].
        order: The labels' numbers from first to last, as `geometry.leaf_order` gives them.
        key: Begins every id in the SVG.
    """
    count, named = len(names), len(names) <= MOST_LABEL_NAMES
    table = distances[np.ix_(order, order)].astype(np.float64)
    if count > _MOST_CELLS:
        edges = np.linspace(0, count, _MOST_CELLS + 1).astype(int)
        table = np.add.reduceat(np.add.reduceat(table, edges[:-1]), edges[:-1], axis=1)
        table /= np.outer(np.diff(edges), np.diff(edges))
    shown = [short_label(names[number]) for number in order]
    step = 0.19 if count <= 40 else 0.115
    side = 1.4 + (step * count + 0.07 * max(map(len, shown)) if named else 6.0)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        blocks, extent = cells(table)
        top = float(table.max()) or 1.0
        image = axes.imshow(blocks, cmap="viridis_r", interpolation="none", vmin=0, vmax=top, extent=extent)
        axes.spines[:].set_visible(False)
        letters = 8.5 if count <= 40 else 6.5
        ticks = range(count) if named else []
        turned = 90 if max(map(len, shown)) > 2 else 0
        axes.set_xticks(ticks, shown if named else [], rotation=turned, fontsize=letters)
        axes.set_yticks(ticks, shown if named else [], fontsize=letters)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, label="distance")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)

    description = (
        f"Heat map of the distances between {count} labels, like ones beside each other: {', '.join(shown[:10])}."
    )
    return Sketch(key, (side + 1.1, side), f"Distances between {count:,} labels", description, paint)
