"""Figures of labels: their tree beside the matrix of similarities and of confusions, a map, and all of it as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelembed.errors import DataError
from labelembed.geometry import (
    LabelGeometry,
    LabelMap,
    label_plane,
    leaf_order,
    linkage,
    read_hierarchy,
    shipped_hierarchies,
    to_json,
)
from labelembed.geometry.clustering import LinkageMethod
from labelembed.geometry.senses import dataset_of
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.drawing import INK, SERIES, Figure, series_colour
from labelembed.lab.report.formatting import short_label, shortened
from labelembed.lab.report.table import write_csv, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Of more labels the columns have no names; of many more the rows have none either, and cells are means over blocks.
_NAMED_COLUMNS, _NAMED_ROWS, _MOST_CELLS = 40, 150, 150
# Seen on white and on black, from nothing to full: paper is a lift of 1, and a distance of the mean or more.
_COLOURS = {"lift": (0.14, 0.48, 0.75), "relative distance": (0.12, 0.55, 0.36), "confusions": (0.7, 0.28, 0.63)}


class Panel(NamedTuple):
    """One square [L, L] beside the tree, in the order of the labels' indices; the diagonal takes no part."""

    title: str
    table: NDArray[np.float64]
    shows: str = "lift"  # or `relative distance`, or `confusions`


def groups_for(names: Sequence[str], source: str | Path | None = None) -> tuple[str, ...] | None:
    """Returns the group of each label; None where nobody gives any and none ship for these labels.

    Raises:
        DataError: When `source`, a hierarchy as `geometry.read_hierarchy` takes it, cannot be read.
    """
    known = source or dataset_of(names)
    if source is None and known not in shipped_hierarchies():
        return None
    try:
        return tuple(path[-1] for path in read_hierarchy(str(known), names).paths)
    except DataError:
        if source is not None:
            raise
        return None  # some of the labels only


def label_figure(
    names: Sequence[str],
    joined: NDArray[np.float64],
    panels: Sequence[Panel] = (),
    *,
    groups: Sequence[str] | None = None,
    key: str = "labels",
    caption: str = "",
) -> Figure:
    """Returns the tree of `geometry.linkage`, a label a line, and beside it squares in the order of the tree.

    Args:
        names: The labels, in the order of their indices.
        joined: [L - 1, 4].
        panels: The squares; none: the tree alone.
        groups: The group of each label, which colours it, and the branches whose labels are all of one group.
        key: Begins every id in the SVG.
        caption: What a reader must know to read it.
    """
    order, count = leaf_order(joined), len(names)
    named, columns = count <= _NAMED_ROWS, count <= _NAMED_COLUMNS
    shown = [short_label(names[label], 24) + (f" ({groups[label]})" if groups else "") for label in order]
    letters = 9 if count <= 20 else 7.5 if columns else 6.5
    height = max(2.2, count * (0.23 if count <= 20 else 0.16 if columns else 0.125)) if named else 6.0
    below = 0.35 + (0.062 * letters / 7 * max(len(name) for name in shown) if columns and panels else 0)
    beside = 0.062 * letters / 7 * max(len(name) for name in shown) if named else 0.1
    side = min(height, 4.6) if panels else 0.0
    tree = 1.5 if panels else 3.4
    width = tree + beside + len(panels) * (side + 0.35) + 0.15
    of_six = {group: 1 + index % 6 for index, group in enumerate(dict.fromkeys(groups or ()))}
    colours = [series_colour(of_six[group]) for group in groups] if groups else [SERIES[1]] * count

    def draw(canvas: Canvas) -> None:
        canvas.set_layout_engine("none")
        total = height + below + 0.35

        def axes_at(left: float, wide: float) -> Axes:
            return canvas.add_axes((left / width, below / total, wide / width, height / total))

        axes = axes_at(0.05, tree)
        _draw_branches(axes, joined, colours, thick=1.1 if named else 0.4)
        axes.yaxis.tick_right()
        axes.set_yticks(range(count) if named else [], shown if named else [], fontsize=letters)
        for tick, label in zip(axes.get_yticklabels(), order, strict=False):
            tick.set_color(colours[label] if groups else INK)
        axes.tick_params(axis="y", length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        for index, panel in enumerate(panels):
            axes = axes_at(tree + beside + 0.1 + index * (side + 0.35), side)
            _draw_square(axes, _coarse(panel.table[np.ix_(order, order)]), panel.shows)
            axes.set_title(shortened(panel.title, int(side * 14)), loc="left", fontsize=9)
            axes.set_yticks([])
            names_of = shown if columns else []
            axes.set_xticks(range(len(names_of)), names_of, fontsize=letters, rotation=90)
            axes.tick_params(length=0)
            axes.spines[:].set(visible=True, linewidth=0.4, alpha=0.4)

    description = f"Tree of {count:,} labels, from the top: {', '.join(shown[:10])}{', ...' if count > 10 else ''}."
    title = f"Which of {count:,} labels are similar"
    return Figure(key, (width, height + below + 0.35), title, description, draw, caption)


def _draw_branches(axes: Axes, joined: NDArray[np.float64], colours: Sequence[str], *, thick: float) -> None:
    """Draws the branches with the first label on top and the root to the left."""
    count, colour = len(colours), list(colours)
    at = np.argsort(leaf_order(joined)).astype(float).tolist()
    heights = [0.0] * count
    points: dict[str, list[tuple[float, float]]] = {}
    for one, other, height, _ in joined.tolist():
        children = [int(one), int(other)]
        colour.append(colour[children[0]] if colour[children[0]] == colour[children[1]] else SERIES[0])
        # One line for all branches of a colour, with gaps: a tree of a thousand labels has thousands of branches.
        ends = [at[child] for child in children]
        points.setdefault(colour[-1], []).extend([(height, min(ends)), (height, max(ends)), (np.nan, np.nan)])
        for y, child in zip(ends, children, strict=True):
            points.setdefault(colour[child], []).extend([(height, y), (heights[child], y), (np.nan, np.nan)])
        at.append(sum(ends) / 2)
        heights.append(height)
    for one_colour, line in points.items():
        axes.plot(*np.array(line).T, color=one_colour, linewidth=thick, solid_capstyle="butt")
    axes.set_xlim(1.03 * (heights[-1] or 1.0), 0)
    axes.set_ylim(count - 0.5, -0.5)


def _draw_square(axes: Axes, table: NDArray[np.float64], shows: str) -> None:
    """Draws a table in one colour, transparent where nothing is to be seen, so that it lies on white as on black."""
    from matplotlib.colors import LinearSegmentedColormap

    known = table[np.isfinite(table)]
    if shows == "confusions":
        shade = np.sqrt(table / max(known.max(initial=0.0), 1e-300))
    elif shows == "lift":  # full where all but the most similar pairs lie within
        powers = np.log2(np.clip(table, 2.0**-6, 2.0**6))
        above = powers[np.isfinite(powers) & (powers > 0)]
        shade = powers / (np.quantile(above, 0.99) if above.size else 1.0)
    else:
        low = min(np.quantile(known, 0.01), 0.9) if known.size else 0.0
        shade = (1 - table) / (1 - low)
    colour = _COLOURS[shows]
    colours = LinearSegmentedColormap.from_list(shows, [(*colour, 0.0), (*colour, 1.0)])
    colours = colours.with_extremes(bad=(0.5, 0.5, 0.5, 0.27))
    extent = (-0.5, len(table) - 0.5, len(table) - 0.5, -0.5)
    # A picture has 300 pixels a side at least: viewers other than browsers blur what they enlarge.
    blocks = np.kron(shade, np.ones((-(-300 // len(table)),) * 2))
    axes.imshow(blocks, cmap=colours, vmin=0, vmax=1, extent=extent, interpolation="none", aspect="auto")


def _coarse(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the table without its diagonal, of very many labels the means over blocks."""
    table = np.where(np.eye(len(table), dtype=bool), np.nan, table)
    if len(table) <= _MOST_CELLS:
        return table
    edges = np.linspace(0, len(table), _MOST_CELLS + 1).astype(int)[:-1]

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.add.reduceat(values, edges), edges, axis=1))

    return summed(np.nan_to_num(table)) / np.maximum(summed(np.isfinite(table).astype(np.float64)), 1)


def map_figure(names: Sequence[str], plane: LabelMap) -> Figure:
    """Returns the labels as points of a plane; over WordNet's points, where they are laid over each other."""
    points, theirs = plane.points, plane.reference

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.set_axis_off()
        axes.set_aspect("equal")
        if theirs is not None:
            for pair in zip(points, theirs, strict=True):
                axes.plot(*np.array(pair).T, color=INK, linewidth=0.5, alpha=0.35, zorder=1)
            axes.scatter(*theirs.T, s=16, facecolors="none", edgecolors=series_colour(2), label="WordNet")
        axes.scatter(*points.T, s=16, color=series_colour(1), zorder=3, label="learned")
        if theirs is not None:
            axes.legend(frameon=False)
        for name, (x, y) in zip(names, points, strict=True) if len(names) <= _NAMED_ROWS else ():
            axes.annotate(short_label(name), (x, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)

    over = "" if theirs is None else f", over those of WordNet; disparity {plane.disparity:.3f}"
    description = f"{len(names)} labels as points of a plane, by multidimensional scaling of their distances{over}."
    return Figure("map", (7.5, 6.5), f"Map of {len(names):,} labels{over}", description, draw)


def export_geometry(
    geometry: LabelGeometry,
    folder: Path,
    *,
    method: LinkageMethod = "average",
    reference: Tensor | None = None,
    groups: Sequence[str] | None = None,
) -> list[Path]:
    """Writes tree, matrix and map as SVG and PDF, tree.json and distances.csv; returns their paths.

    Args:
        geometry: Two labels or more, at most `geometry.clustering.MOST_LABELS`.
        folder: Made where it is not there.
        method: How groups of labels join.
        reference: [C, C] distances, nan rows for labels that it lacks, over which the map is laid: WordNet's.
        groups: The group of each label, which colours the tree.

    Raises:
        ValueError: When the geometry is too large, or the method does not fit it.
        RunFolderError: When a file cannot be written.
    """
    import pandas as pd

    names, distances = geometry.names, geometry.distances().numpy()
    joined, plane = linkage(geometry, method), label_plane(distances, reference)
    apart = np.where(np.eye(len(names), dtype=bool), np.nan, distances)
    relative = apart / np.maximum(np.nanmean(apart, axis=1, keepdims=True), 1e-12)
    make_folder(folder)
    table = pd.DataFrame(distances, columns=list(names))
    table.insert(0, "label", list(names), allow_duplicates=True)
    return [
        *label_figure(names, joined, groups=groups, key="tree").save(folder),
        *label_figure(names, joined, [Panel("relative distance", relative, "relative distance")], key="matrix").save(folder),
        *map_figure([names[label] for label in plane.labels], plane).save(folder),
        write_text(folder / "tree.json", to_json(joined, names)),
        write_csv(table, folder / "distances.csv"),
    ]


def make_folder(folder: Path) -> None:
    """Makes a folder; raises RunFolderError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be made ({error.strerror})") from error
