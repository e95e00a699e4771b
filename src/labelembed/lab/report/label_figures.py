"""The figure of labels: their tree beside the matrices of similarities and of confusions; and a geometry as files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry import LabelGeometry, linkage, read_hierarchy, shipped_hierarchy
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.drawing import INK, SERIES, Figure, series_colour
from labelembed.lab.report.formatting import short_label
from labelembed.lab.report.table import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# More labels than these cannot be read in a figure, and more than those not below the columns.
MOST_DRAWN, _NAMED_COLUMNS = 150, 40
# Seen on white and on black, from nothing to full: paper is a lift of 1, and a distance of the mean or more.
_COLOURS = {"lift": (0.14, 0.48, 0.75), "relative distance": (0.12, 0.55, 0.36), "confusion matrix": (0.7, 0.28, 0.63)}


class Panel(NamedTuple):
    """One square [L, L] beside the tree, of labels in the order of their indices; the diagonal takes no part."""

    shows: str  # `lift`, `relative distance` or `confusion matrix`
    table: NDArray[np.float64]


def groups_for(names: Sequence[str], source: str | Path | None = None) -> tuple[str, ...] | None:
    """Returns the group of each label; None where nobody gives any and none ship for these labels.

    Raises:
        DataError: When `source`, a hierarchy as `geometry.read_hierarchy` takes it, cannot be read.
    """
    hierarchy = shipped_hierarchy(names) if source is None else read_hierarchy(source, names)
    return None if hierarchy is None else tuple(path[-1] for path in hierarchy.paths)


def label_figure(
    names: Sequence[str],
    distances: NDArray[np.float64],
    panels: Sequence[Panel] = (),
    *,
    groups: Sequence[str] | None = None,
    key: str = "labels",
) -> Figure:
    """Returns the tree of labels, a label a line, and beside it squares in the order of the tree.

    Args:
        names: The labels, in the order of their indices; the first `MOST_DRAWN` are drawn.
        distances: [L, L].
        panels: The squares; none: the tree alone.
        groups: The group of each label, which colours it, and the branches whose labels are all of one group.
        key: Begins every id in the SVG.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    count = min(len(names), MOST_DRAWN)
    joined = hierarchy.linkage(squareform(distances[:count, :count], checks=False), "average")
    order = hierarchy.leaves_list(joined).tolist()
    shown = [short_label(names[label], 24) + (f" ({groups[label]})" if groups else "") for label in order]
    letters, row = (9.0, 0.23) if count <= 20 else (7.5, 0.16) if count <= _NAMED_COLUMNS else (6.5, 0.125)
    widest = 0.009 * letters * max(map(len, shown)) + 0.15
    below = widest if panels and count <= _NAMED_COLUMNS else 0.1
    height, tree = max(2.6, row * count), 1.7 if panels else 3.4
    side = min(height, 5.0) if panels else 0.0
    width, total = tree + widest + len(panels) * (side + 0.3) + 0.15, height + below + 0.3
    group_numbers = {group: 1 + index % 6 for index, group in enumerate(dict.fromkeys(groups or ()))}
    colours = [series_colour(group_numbers[groups[label]]) if groups else SERIES[1] for label in range(count)]
    for one, other in joined[:, :2].astype(int).tolist():
        colours.append(colours[one] if colours[one] == colours[other] else SERIES[0])

    def draw(canvas: Canvas) -> None:
        canvas.set_layout_engine("none")

        def axes_at(left: float, wide: float) -> Axes:
            return canvas.add_axes((left / width, below / total, wide / width, height / total))

        axes = axes_at(0.05, tree)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # labels that all have one distance make a tree without height
            hierarchy.dendrogram(
                joined, ax=axes, orientation="left", no_labels=True, link_color_func=colours.__getitem__
            )
        axes.invert_yaxis()  # the first label on top
        axes.yaxis.tick_right()
        axes.set_yticks(range(5, 10 * count, 10), shown, fontsize=letters)
        for tick, label in zip(axes.get_yticklabels(), order, strict=True):
            tick.set_color(colours[label] if groups else INK)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        for index, panel in enumerate(panels):
            axes = axes_at(tree + widest + index * (side + 0.3), side)
            _draw_square(axes, panel.table[np.ix_(order, order)], panel.shows)
            axes.set_title(panel.shows, loc="left")
            below_columns = shown if count <= _NAMED_COLUMNS else []
            turned = 90 if max(map(len, shown)) > 2 else 0
            axes.set_xticks(range(len(below_columns)), below_columns, fontsize=letters, rotation=turned)
            axes.set_yticks([])
            axes.tick_params(length=0)
            axes.spines[:].set(visible=True, linewidth=0.4, alpha=0.4)

    description = f"Tree of {count} labels, from the top: {', '.join(shown[:10])}{', ...' if count > 10 else ''}."
    return Figure(key, (width, total), f"Which of {count} labels are similar", description, draw)


def _draw_square(axes: Axes, table: NDArray[np.float64], shows: str) -> None:
    """Draws a table in one colour, transparent where nothing is to be seen, so that it lies on white as on black."""
    from matplotlib.colors import LinearSegmentedColormap

    table = np.where(np.eye(len(table), dtype=bool), np.nan, table)
    if shows == "confusion matrix":
        shade = np.sqrt(table)
    elif shows == "lift":
        shade = np.log2(np.clip(table, 1.0, 2.0**6))
    else:
        shade = np.clip(1 - table, 0.0, 1.0)
    full = np.nanquantile(shade, 0.99) or np.nanmax(shade) or 1.0  # all but the most similar pairs lie within
    colours = LinearSegmentedColormap.from_list(shows, [(*_COLOURS[shows], 0.0), (*_COLOURS[shows], 1.0)])
    # A picture has 300 pixels a side at least: viewers other than browsers blur what they enlarge.
    blocks = np.kron(shade, np.ones((-(-300 // len(table)),) * 2))
    extent = (-0.5, len(table) - 0.5, len(table) - 0.5, -0.5)
    grey = colours.with_extremes(bad=(0.5, 0.5, 0.5, 0.27))
    axes.imshow(blocks, cmap=grey, vmin=0, vmax=full, extent=extent, interpolation="none", aspect="auto")


def export_geometry(geometry: LabelGeometry, folder: Path, *, groups: Sequence[str] | None = None) -> list[Path]:
    """Writes the tree, the tree beside the matrix (both as SVG and PDF) and distances.csv; returns their paths.

    Args:
        geometry: Two labels or more; the first `MOST_DRAWN` are drawn.
        folder: Made where it is not there.
        groups: The group of each label, which colours the tree.

    Raises:
        ValueError: When the geometry is too large.
        RunFolderError: When a file cannot be written.
    """
    import pandas as pd

    linkage(geometry)  # refuses too many
    names, distances = geometry.names, geometry.distances().numpy()
    relative = distances * (len(names) - 1) / np.maximum(distances.sum(axis=1, keepdims=True), 1e-12)
    panels = [Panel("relative distance", relative)]
    make_folder(folder)
    table = pd.DataFrame(distances, columns=list(names))
    table.insert(0, "label", list(names), allow_duplicates=True)
    return [
        *label_figure(names, distances, groups=groups, key="tree").save(folder),
        *label_figure(names, distances, panels, groups=groups, key="matrix").save(folder),
        write_csv(table, folder / "distances.csv"),
    ]


def make_folder(folder: Path) -> None:
    """Makes a folder; raises RunFolderError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made ({error.strerror})") from error
