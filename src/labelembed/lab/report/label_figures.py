"""The tree and the map of labels, for the page or a file of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry import LabelMap, leaf_order, read_hierarchy, shipped_hierarchy
from labelembed.lab.report.drawing import INK, Sketch, series_colour
from labelembed.lab.report.formatting import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More names than these cannot be read, and the figure would be metres long.
MOST_LABEL_NAMES = 150
_NAME_LENGTH = 28
LETTER = 0.55  # mean width of a letter, in its height
# Beside the colours, so that they are told apart without them.
_MARKERS = ("o", "o", "s", "^", "D", "v", "P")
_SIGNS = ("\u00b7", "\u25cf", "\u25a0", "\u25b2", "\u25c6", "\u25bc", "\u271a")


class LabelGroups(NamedTuple):
    """Labels in groups, which colour tree and map.

    Attributes:
        source: Where the groups come from, as it stands in a sentence.
        names: What each group is called.
        of: The number of each label's group, in the order of the labels.
    """

    source: str
    names: tuple[str, ...]
    of: tuple[int, ...]

    def select(self, labels: Sequence[int]) -> LabelGroups:
        """Returns the groups of some labels, by their numbers."""
        return self._replace(of=tuple(self.of[label] for label in labels))


def groups_for(names: Sequence[str], source: str | Path | None = None) -> LabelGroups | None:
    """Returns the groups of labels; None where nobody gives any and none ship for these labels.

    Args:
        names: The labels, in the order of their numbers.
        source: A hierarchy, as `geometry.read_hierarchy` takes it; None: the one that ships for these labels.

    Raises:
        DataError: When `source` cannot be read.
    """
    hierarchy = shipped_hierarchy(names) if source is None else read_hierarchy(source, names)
    if hierarchy is None:
        return None
    of_labels = [path[-1] for path in hierarchy.paths]
    groups = list(dict.fromkeys(of_labels))
    return LabelGroups(f"groups of {hierarchy.source}", tuple(groups), tuple(map(groups.index, of_labels)))


def dendrogram(
    names: Sequence[str], joined: NDArray[np.float64], *, groups: LabelGroups | None = None, key: str = "dendrogram"
) -> Sketch:
    """Returns the tree of `geometry.linkage`: a label a line, joined further left the more they differ.

    Args:
        names: The labels, in the order of their numbers.
        joined: [C - 1, 4].
        groups: Colours the labels, and the branches whose labels are all of one group.
        key: Begins every id in the SVG.
    """
    order = leaf_order(joined)
    count, named = len(names), len(names) <= MOST_LABEL_NAMES
    of_labels = list(groups.of) if groups is not None else [None] * count
    ordered = [short_label(names[label]) for label in order]
    margin = 0.09 * max(map(len, ordered)) if named else 0.0

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        draw_branches(axes, joined, of_labels, coloured=groups is not None, thick=1.0 if named else 0.4)
        axes.yaxis.tick_right()
        own = [of_labels[label] for label in order]
        marked = [
            f"{_SIGNS[_of_six(group)]} {name}" if groups else name for group, name in zip(own, ordered, strict=True)
        ]
        axes.set_yticks(range(count) if named else [], marked if named else [])
        for tick, label, group in zip(axes.get_yticklabels(), order, own, strict=False):
            tick.set_gid(f"tree-label-{label}")
            if groups is not None:
                tick.set_color(_group_colour(group))
        if groups is not None:
            _write_legend(figure, groups)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("distance at which they join")
        if not named:
            axes.set_ylabel(f"{count:,} labels")

    description = f"Tree of {count} labels. From the top: {', '.join(ordered[:10])}{', ...' if count > 10 else ''}."
    legend = 0.2 * len(groups.names) + 0.2 if groups is not None else 0.0
    if groups is not None:
        description += f" Coloured by {groups.source}: {'; '.join(groups.names)}."
    size = (4.2 + margin, 0.9 + (0.19 * count if named else 8.0) + legend)
    numbers = _joins(names, joined) if named else []
    return Sketch(key, size, f"Tree of {count:,} labels", description, paint, numbers=numbers)


def label_map(
    names: Sequence[str],
    plane: LabelMap,
    *,
    stress: float | None = None,
    groups: LabelGroups | None = None,
    key: str = "map",
) -> Sketch:
    """Returns the labels as points of a plane; over WordNet's points, where they are laid over each other.

    Args:
        names: The labels that the map has.
        plane: As `geometry.label_plane` gives it.
        stress: How much of the distances the plane loses, see `map_stress`; None: not told.
        groups: Of the labels that are drawn; each has a colour and a mark.
        key: Begins every id in the SVG.
    """
    count, named = len(names), len(names) <= MOST_LABEL_NAMES
    ours, theirs = plane.points, plane.reference
    shown = [short_label(name) for name in names]
    everything = ours if theirs is None else np.concatenate([ours, theirs])
    letters = 8.5 if count <= 60 else 7.0
    width = 72 * (5.5 if count <= 25 else 7.5 if count <= 60 else 10.0)
    border = 40 if named else 24
    low, spread = everything.min(axis=0), np.maximum(np.ptp(everything, axis=0), 1e-12)
    scale = min((width - 2 * border) / spread[0], 1.3 * width / spread[1])
    height = float(spread[1] * scale + 2 * border)

    def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
        left = (width - spread[0] * scale) / 2
        return np.asarray((points - low) * scale + (left, border))

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")  # laid out here, to the point, so that names can be placed
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(0, height)
        dot = 26 if count <= 25 else 16 if named else 4
        at = placed(ours)
        if theirs is not None:
            there, ring = placed(theirs), series_colour(2)
            for one, other in zip(at, there, strict=True):
                axes.plot((one[0], other[0]), (one[1], other[1]), color=INK, linewidth=0.5, alpha=0.35, zorder=1)
            axes.scatter(there[:, 0], there[:, 1], s=dot, facecolors="none", edgecolors=ring, label="WordNet")
        of = groups.of if groups is not None else (None,) * count
        for group in dict.fromkeys(of):
            chosen = at[[place for place, one in enumerate(of) if one == group]]
            colour = _group_colour(group) if groups is not None else series_colour(1)
            marker = _MARKERS[_of_six(group)]
            label = "learned" if groups is None else None
            axes.scatter(chosen[:, 0], chosen[:, 1], s=dot, color=colour, marker=marker, zorder=3, label=label)
        if theirs is not None:
            axes.legend(loc="upper center", ncols=2, frameon=False, borderaxespad=0.2)
        if named:
            _write_names(axes, placed(everything), at, shown, plane.labels, letters=letters, width=width)

    over = f", over those of WordNet; disparity {plane.disparity:.3f}" if theirs is not None else ""
    told = f" Stress {stress:.2f}: 0 keeps every distance." if stress is not None else ""
    description = f"{count} labels as points of a plane, by multidimensional scaling of their distances{over}.{told}"
    numbers: list[list[object]] = []
    if named:
        numbers = [["label", "x", "y", *(["x there", "y there"] if theirs is not None else [])]]
        both = ours if theirs is None else np.concatenate([ours, theirs], axis=1)
        numbers += [[name, *place] for name, place in zip(names, both.tolist(), strict=True)]
    title = f"Map of {count:,} labels{over}"
    return Sketch(key, (width / 72, height / 72), title, description, paint, told.strip(), numbers)


def map_stress(distances: NDArray[np.float64], plane: LabelMap) -> float:
    """Returns Kruskal's stress of a map, from 0 (all distances kept) up, at the scale that fits best.

    Args:
        distances: [C, C], those that the map was made of.
        plane: The map.
    """
    wanted = distances[np.ix_(plane.labels, plane.labels)]
    found = np.linalg.norm(plane.points[:, None] - plane.points[None], axis=-1)
    scale = float((wanted * found).sum() / max(float((found**2).sum()), 1e-300))
    return float(np.sqrt(((wanted - scale * found) ** 2).sum() / max(float((wanted**2).sum()), 1e-300)))


def short_label(name: str, length: int = _NAME_LENGTH) -> str:
    """Returns a name with its end kept: names that differ at their ends only must still be told apart."""
    line = shortened(name, 10_000)
    end = min(10, length // 2)
    return line if len(line) <= length else f"{line[: length - end - 1].rstrip()}…{line[-end:].lstrip()}"


def draw_branches(
    axes: Axes, joined: NDArray[np.float64], groups: Sequence[int | None], *, coloured: bool, thick: float
) -> None:
    """Draws the branches with the first label on top and the root to the left."""
    count = len(groups)
    group: list[int | None] = list(groups)
    place = np.argsort(leaf_order(joined)).astype(float).tolist()
    heights = [0.0] * count
    points: dict[int | None, list[tuple[float, float]]] = {}
    for one, other, height, _ in joined.tolist():
        children = [int(one), int(other)]
        at = [place[child] for child in children]
        group.append(group[children[0]] if group[children[0]] == group[children[1]] else None)
        # One line for all branches of a colour, with gaps: a tree of a thousand labels has thousands of branches.
        points.setdefault(group[-1], []).extend([(height, min(at)), (height, max(at)), (np.nan, np.nan)])
        for y, child in zip(at, children, strict=True):
            points.setdefault(group[child], []).extend([(height, y), (heights[child], y), (np.nan, np.nan)])
        place.append(sum(at) / 2)
        heights.append(height)
    for number, line in points.items():
        colour = _group_colour(number) if coloured else series_colour(1)
        axes.plot(*np.array(line).T, color=colour, linewidth=thick, solid_capstyle="butt")
    axes.set_xlim(1.03 * (heights[-1] or 1.0), 0)
    axes.set_ylim(count - 0.5, -0.5)


def _joins(names: Sequence[str], joined: NDArray[np.float64]) -> list[list[object]]:
    """Returns a line for each join of the tree, nearest first: what is joined, at which distance, into how many."""
    called = [*names, *(f"join {number}" for number in range(1, len(joined) + 1))]
    lines: list[list[object]] = [["join", "one", "other", "distance", "labels"]]
    lines += [
        [number, called[int(one)], called[int(other)], distance, int(labels)]
        for number, (one, other, distance, labels) in enumerate(joined.tolist(), start=1)
    ]
    return lines


def _write_names(
    axes: Axes,
    taken_by: NDArray[np.float64],
    points: NDArray[np.float64],
    names: Sequence[str],
    labels: Sequence[int],
    *,
    letters: float,
    width: float,
) -> None:
    """Writes each name right, left, above or below its point, where it covers least of what is there already."""
    taken = [(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in taken_by]
    for position in np.argsort(-points[:, 1], kind="stable"):
        x, y = points[position]
        wide = LETTER * letters * len(names[position])
        choices = []
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            left = x - wide / 2 + right * (wide / 2 + 5)
            below = y - letters / 2 + up * (letters / 2 + 5)
            box = (left, below, left + wide, below + letters)
            outside = max(0.0, -left, left + wide - width) * letters
            choices.append((round(sum(_overlap(box, other) for other in taken) + 3 * outside, 6), -right, -up, box))
        *_, box = min(choices)
        taken.append(box)
        text = axes.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, names[position], fontsize=letters, zorder=4)
        text.set(ha="center", va="center", gid=f"map-label-{labels[position]}")


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _write_legend(figure: Figure, groups: LabelGroups) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=_group_colour(number), marker=_MARKERS[_of_six(number)], linewidth=1.4, markersize=5)
        for number in range(len(groups.names))
    ]
    figure.legend(
        lines, [short_label(name) for name in groups.names], loc="outside lower left", frameon=False, fontsize=8
    )


def _of_six(group: int | None) -> int:
    return 0 if group is None else 1 + group % 6


def _group_colour(group: int | None) -> str:
    """Returns a colour; after six groups they begin again, with the names beside them to tell them apart."""
    return series_colour(_of_six(group))
