"""Figures of a label geometry, for the page or a file of their own: tree and map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelembed.geometry import LabelMap, leaf_order
from labelembed.report.drawing import INK, Sketch, series_colour
from labelembed.report.formatting import shortened
from labelembed.report.label_groups import LabelGroups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More names than these cannot be read, and the figure would be metres long.
MOST_LABEL_NAMES = 150
_NAME_LENGTH = 28
_LETTER = 0.55  # mean width of a letter, in its height
# Beside the colours, so that they are told apart without them.
_MARKERS = ("o", "o", "s", "^", "D", "v", "P")
_SIGNS = ("\u00b7", "\u25cf", "\u25a0", "\u25b2", "\u25c6", "\u25bc", "\u271a")
_PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def dendrogram(
    names: Sequence[str],
    joined: NDArray[np.float64],
    *,
    groups: LabelGroups | None = None,
    key: str = "dendrogram",
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
    group: list[int | None] = list(groups.of) if groups is not None else [None] * count
    of_labels = [group[label] for label in order]
    ordered = [short_label(names[label]) for label in order]
    place = np.argsort(order).astype(float).tolist()
    heights = [0.0] * count
    segments: list[list[tuple[float, float]]] = []
    of_segments: list[int | None] = []
    for one, other, height, _ in joined.tolist():
        children = [int(one), int(other)]
        at = [place[child] for child in children]
        group.append(group[children[0]] if group[children[0]] == group[children[1]] else None)
        segments.append([(height, min(at)), (height, max(at))])
        segments += [[(height, y), (heights[child], y)] for y, child in zip(at, children, strict=True)]
        of_segments += [group[-1], *(group[child] for child in children)]
        place.append(sum(at) / 2)
        heights.append(height)
    margin = 0.09 * max(map(len, ordered)) if named else 0.0

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        # One line for all branches of a colour, with gaps: a page of a thousand labels holds thousands of branches.
        for number in dict.fromkeys(of_segments):
            own = [segment for segment, one in zip(segments, of_segments, strict=True) if one == number]
            points = [point for segment in own for point in [*segment, (np.nan, np.nan)]]
            colour = _group_colour(number) if groups is not None else series_colour(1)
            x, y = np.array(points).T
            axes.plot(x, y, color=colour, linewidth=1.0 if named else 0.4, solid_capstyle="butt")
        top = heights[-1] or 1.0
        axes.set_xlim(1.03 * top, 0)
        axes.set_ylim(count - 0.5, -0.5)
        axes.yaxis.tick_right()
        names_of = zip(of_labels, ordered, strict=True)
        marked = [f"{_mark(number)} {name}" if groups else name for number, name in names_of]
        axes.set_yticks(range(count) if named else [], marked if named else [])
        if groups is not None:
            for tick, number in zip(axes.get_yticklabels(), of_labels, strict=False):
                tick.set_color(_group_colour(number))
            _write_legend(figure, groups)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("distance at which they join")
        if not named:
            axes.set_ylabel(f"{count:,} labels")

    last = f"{ordered[0]} and {ordered[1]} stand first"
    description = (
        f"Tree of {count} labels. From the top: {', '.join(ordered[:10])}{', ...' if count > 10 else ''}; {last}."
    )
    legend = 0.2 * len(groups.names) + 0.2 if groups is not None else 0.0
    if groups is not None:
        description += f" Coloured by {groups.source}: {'; '.join(groups.names)}."
    size = (4.2 + margin, 0.9 + (0.19 * count if named else 8.0) + legend)
    numbers = _joins(names, joined) if named else []
    return Sketch(key, size, f"Hierarchy of {count:,} labels", description, paint, numbers=numbers)


def _joins(names: Sequence[str], joined: NDArray[np.float64]) -> list[list[object]]:
    """Returns a line for each join of the tree, nearest first: what is joined, at which distance, into how many."""
    called = [*names, *(f"join {number}" for number in range(1, len(joined) + 1))]
    lines: list[list[object]] = [["join", "one", "other", "distance", "labels"]]
    lines += [
        [number, called[int(one)], called[int(other)], distance, int(labels)]
        for number, (one, other, distance, labels) in enumerate(joined.tolist(), start=1)
    ]
    return lines


def label_map(
    names: Sequence[str],
    plane: LabelMap,
    *,
    reference: str = "WordNet",
    groups: LabelGroups | None = None,
    key: str = "map",
) -> Sketch:
    """Returns the labels as points of a plane; over a reference's points, where they are laid over each other.

    Args:
        names: The labels that the map has.
        plane: As `geometry.label_plane` gives it.
        reference: What the map's reference is called.
        groups: Of the labels that are drawn; each has a colour and a mark.
        key: Begins every id in the SVG.
    """
    count, named = len(names), len(names) <= MOST_LABEL_NAMES
    ours, theirs = plane.points, plane.reference
    shown = [short_label(name) for name in names]
    everything = ours if theirs is None else np.concatenate([ours, theirs])
    letters = 8.5 if count <= 60 else 7.0
    page = _Page(everything, width=5.5 if count <= 25 else 7.5 if count <= 60 else 10.0, border=40 if named else 24)

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("none")  # the page is laid out here, to the point
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, page.width)
        axes.set_ylim(0, page.height)
        dot = 26 if count <= 25 else 16 if named else 4
        ours_at = page.places(ours)
        if theirs is not None:
            theirs_at = page.places(theirs)
            for one, other in zip(ours_at, theirs_at, strict=True):
                axes.plot((one[0], other[0]), (one[1], other[1]), color=INK, linewidth=0.5, alpha=0.35, zorder=1)
            ring = series_colour(2)
            axes.scatter(theirs_at[:, 0], theirs_at[:, 1], s=dot, facecolors="none", edgecolors=ring, label=reference)
        if groups is None:
            axes.scatter(ours_at[:, 0], ours_at[:, 1], s=dot, color=series_colour(1), zorder=3, label="learned")
        else:
            for number in sorted({-1 if one is None else one for one in groups.of}):
                of_group = [place for place, one in enumerate(groups.of) if (-1 if one is None else one) == number]
                own = None if number < 0 else number
                x, y = ours_at[of_group].T
                axes.scatter(x, y, s=1.4 * dot, color=_group_colour(own), marker=_MARKERS[_of_six(own)], zorder=3)
        if theirs is not None:
            axes.legend(loc="upper center", ncols=2, frameon=False, borderaxespad=0.2)
        if named:
            _write_names(axes, page, ours_at, shown, letters=letters)

    over = f", over those of {reference}; disparity {plane.disparity:.3f}" if theirs is not None else ""
    description = f"{count} labels as points of a plane, by multidimensional scaling of their distances{over}."
    size = (page.width / 72, page.height / 72)
    numbers: list[list[object]] = []
    if named:
        numbers = [["label", "x", "y", *(["x there", "y there"] if theirs is not None else [])]]
        both = ours if theirs is None else np.concatenate([ours, theirs], axis=1)
        numbers += [[name, *place] for name, place in zip(names, both.tolist(), strict=True)]
    return Sketch(key, size, f"Map of {count:,} labels{over}", description, paint, numbers=numbers)


class _Page:
    """Where points lie on a page, in units of 1/72 inch, so that names can be placed before they are drawn.

    Args:
        points: [P, 2], all that is drawn.
        width: Of the page in inches; the height follows the points.
        border: Around the points, for the names.
    """

    def __init__(self, points: NDArray[np.float64], *, width: float, border: float) -> None:
        self.border, self.width = border, 72 * width
        self.low, high = points.min(axis=0), points.max(axis=0)
        wide, high_by = (high - self.low).tolist()
        most = 1.3 * self.width
        self.scale = min((self.width - 2 * border) / max(wide, 1e-12), most / max(high_by, 1e-12))
        self.left = (self.width - wide * self.scale) / 2
        self.height = high_by * self.scale + 2 * border
        self.points = self.places(points)

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns where points lie."""
        placed: NDArray[np.float64] = (points - self.low) * self.scale + (self.left, self.border)
        return placed


def _write_names(axes: Axes, page: _Page, points: NDArray[np.float64], names: Sequence[str], *, letters: float) -> None:
    """Writes each name beside its point, where it covers least of what is there already.

    Widths are estimated: the letters that a browser takes are not known here.
    """
    taken = [(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in page.points]
    for position in np.argsort(-points[:, 1], kind="stable"):
        x, y = points[position]
        width, height = _LETTER * letters * len(names[position]), letters
        choices = []
        for number, (right, up) in enumerate(_PLACES):
            gap = 5.0 if right == 0 or up == 0 else 3.5
            left = x + (gap if right > 0 else -gap - width if right < 0 else -width / 2)
            below = y + (gap if up > 0 else -gap - height if up < 0 else -height / 2)
            box = (left, below, left + width, below + height)
            outside = max(0.0, -left, left + width - page.width) * height
            choices.append((round(sum(_overlap(box, other) for other in taken) + 3 * outside, 6), number, gap, box))
        _, number, gap, box = min(choices)
        taken.append(box)
        right, up = _PLACES[number]
        axes.annotate(
            names[position],
            (x, y),
            xytext=(right * gap, up * gap),
            textcoords="offset points",
            ha=("right", "center", "left")[right + 1],
            va=("top", "center", "bottom")[up + 1],
            fontsize=letters,
            zorder=4,
        )


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


def _mark(group: int | None) -> str:
    return _SIGNS[_of_six(group)]


def short_label(name: str) -> str:
    """Names that differ at their ends only must still be told apart."""
    line = shortened(name, 10_000)
    return line if len(line) <= _NAME_LENGTH else f"{line[: _NAME_LENGTH - 11].rstrip()}…{line[-10:].lstrip()}"


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
