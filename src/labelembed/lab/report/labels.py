"""What the runs learned about the labels: how similar they are, how stable that is over seeds, and the figure of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, shipped_hierarchy
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import VariantRuns
from labelembed.lab.report.figures import INK, SERIES, Figure
from labelembed.lab.report.formatting import shortened
from labelembed.lab.report.tables import Table, make_table, write_csv
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

#: Labels that are drawn and listed; of more the first, which in a vocabulary are the most frequent.
MOST_LABELS = 1_000
# More labels than these cannot be read in a figure, and more than those not below the columns.
MOST_DRAWN, _NAMED_COLUMNS = 150, 40
# Seen on white and on black, from nothing to full: paper is a lift of 1, and a distance of the mean or more.
_COLOURS = {"lift": (0.14, 0.48, 0.75), "relative distance": (0.12, 0.55, 0.36), "confusion matrix": (0.7, 0.28, 0.63)}


@dataclass(frozen=True)
class LabelSimilarities:
    """How similar labels are: of the first `MOST_LABELS` in each run [runs, L, L], in row y to y; and the distances.

    A similarity is the share of a label's soft target that another gets where `is_share`, else minus a distance.
    `left_out` says by seed why a run takes no part.
    """

    variant: str
    names: tuple[str, ...]
    is_share: bool
    each: NDArray[np.float64]
    distances: NDArray[np.float64]
    left_out: dict[int, str]

    @property
    def measure(self) -> str:
        """What `relative` is."""
        return "lift" if self.is_share else "relative distance"

    @property
    def similarity(self) -> NDArray[np.float64]:
        """The mean over runs [L, L]."""
        return np.asarray(self.each.mean(axis=0))

    @property
    def nearest(self) -> NDArray[np.int64]:
        """The index of the label nearest to each [L]."""
        return _nearest(self.similarity)

    @property
    def nearest_in(self) -> NDArray[np.int64]:
        """In how many runs the label that is nearest by the mean is the nearest [L]."""
        return np.asarray((_nearest(self.each) == self.nearest).sum(axis=0))

    @property
    def relative(self) -> NDArray[np.float64]:
        """How similar a label is to y, beside the other labels [L, L]; nan on the diagonal.

        Of soft targets the lift: the share that a label gets, over a uniform share of all that y gives away. Of vectors
        the distance from y over the mean distance from y.
        """
        table = self.similarity if self.is_share else self.distances.copy()
        given_away = 1.0 - np.diagonal(table)[:, None]
        np.fill_diagonal(table, np.nan)
        if self.is_share:
            return np.asarray(table * (len(self.names) - 1) / np.maximum(given_away, 1e-12))
        return np.asarray(table / np.maximum(np.nanmean(table, axis=1, keepdims=True), 1e-12))

    def table(self, most: int = MOST_LABELS) -> Table:
        """Returns the nearest labels of each of the first, and in how many runs the first of them is the nearest."""
        relative, agreed, sign, lines = self.relative, self.nearest_in, "\u00d7" if self.is_share else "", []
        order = np.argsort(np.where(np.isnan(relative), np.inf, -self.similarity), axis=1, kind="stable")
        columns = (f"nearest ({self.measure})", "second", "third", "fourth", "fifth")[: len(order) - 1]
        for label, others in enumerate(order[:most].tolist()):
            near = [
                f"{shortened(self.names[one], 40)} ({relative[label, one]:.2f}{sign})" for one in others[: len(columns)]
            ]
            line = {"label": shortened(self.names[label], 40)} | dict(zip(columns, near, strict=True))
            lines.append(line | ({"stable": f"{agreed[label]} of {len(self.each)}"} if len(self.each) > 1 else {}))
        return make_table("nearest", "Nearest labels", lines)

    def stability(self) -> str:
        """Returns in a sentence how much the seeds agree."""
        if len(self.each) == 1:
            return "One run: how stable this is over seeds is not known."
        always = int((self.nearest_in == len(self.each)).sum())
        of = f"{always:,} of {len(self.nearest_in):,} labels"
        return f"Mean over {len(self.each)} seeds; for {of} the nearest is always the same."


def label_similarities(variant: VariantRuns) -> LabelSimilarities | None:
    """Returns the similarity of labels in a variant's runs; None where no run left any that can be read.

    Of more than `MOST_LABELS` labels the first run alone is read: the files of tens of thousands are large.
    """
    geometries: list[LabelGeometry] = []
    left_out: dict[int, str] = {}
    for seed, run in variant.runs.items():
        folder = RunFolder(run.folder)
        if not folder.geometry_file.exists() or (geometries and len(geometries[0]) > MOST_LABELS):
            continue
        try:
            geometry = folder.label_geometry()
        except (DataError, RunFolderError) as error:
            left_out[seed] = str(error).replace(f"{folder.path}/", "")
            continue
        if geometry.names[: len(SPECIAL_TOKENS)] == SPECIAL_TOKENS and len(geometry) > len(SPECIAL_TOKENS) + 1:
            geometry = geometry.select(geometry.names[len(SPECIAL_TOKENS) :])  # of a vocabulary they are no labels
        kinds = {(one.names, one.similarities is None) for one in (geometry, *geometries[:1])}
        if len(kinds) > 1 or len(geometry) < 2:
            left_out[seed] = "other labels than those of the first run"
        else:
            geometries.append(geometry)
    if not geometries:
        return None
    from scipy.special import softmax

    names, is_share = geometries[0].names, geometries[0].similarities is not None
    drawn = [one if len(one) <= MOST_LABELS else one.select(names[:MOST_LABELS]) for one in geometries]
    if not is_share:
        apart = np.array([one.distances().numpy() for one in drawn], dtype=np.float64)
        return LabelSimilarities(variant.title, names, is_share, -apart, apart.mean(axis=0), left_out)
    # Of similarities the distances are those of the mean, which is decomposed once.
    mean = torch.stack([one.similarities.double() for one in drawn if one.similarities is not None]).mean(dim=0)
    distances = LabelGeometry(drawn[0].names, similarities=mean).distances().numpy()
    # By scipy: torch wakes all its threads, which for ten labels takes far longer than the work.
    logits = [one.similarities[:MOST_LABELS].double().numpy() for one in geometries if one.similarities is not None]
    each = softmax(np.array(logits), axis=-1)[..., :MOST_LABELS]
    return LabelSimilarities(variant.title, names, is_share, each, np.asarray(distances), left_out)


def _nearest(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    labels = similarity.shape[-1]
    return np.asarray(np.where(np.eye(labels, dtype=bool), -np.inf, similarity).argmax(axis=-1))


def groups_for(names: Sequence[str]) -> tuple[str, ...] | None:
    """Returns the group of each label by a hierarchy that ships; None where none has these labels."""
    hierarchy = shipped_hierarchy(names)
    return None if hierarchy is None else tuple(path[-1] for path in hierarchy.paths)


def label_figure(
    names: Sequence[str],
    distances: NDArray[np.float64],
    squares: Mapping[str, NDArray[np.float64]],
    *,
    groups: Sequence[str] | None = None,
    key: str = "labels",
) -> Figure:
    """Returns the tree of the first `MOST_DRAWN` labels, a label a line, and beside it squares in the tree's order.

    The squares [L, L] are by what they show. Labels, and branches whose labels are all of one, have a group's colour.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    count = min(len(names), MOST_DRAWN)
    joined = hierarchy.linkage(squareform(distances[:count, :count], checks=False), "average")
    order = hierarchy.leaves_list(joined).tolist()
    shown = [shortened(names[label], 24) + (f" ({groups[label]})" if groups else "") for label in order]
    named = shown if count <= _NAMED_COLUMNS else []  # below the columns
    letters, row = (9.0, 0.23) if count <= 20 else (7.5, 0.16) if named else (6.5, 0.125)
    widest = 0.009 * letters * max(map(len, shown)) + 0.15
    height, tree, below = max(2.6, row * count), 1.7 if squares else 3.4, widest if squares and named else 0.1
    side = min(height, 5.0)
    width, total = tree + widest + len(squares) * (side + 0.3) + 0.15, height + below + 0.3
    numbers = {group: 1 + index % 6 for index, group in enumerate(dict.fromkeys(groups or ()))}
    colours = [SERIES[numbers[groups[label]]] if groups else SERIES[1] for label in range(count)]
    for one, other in joined[:, :2].astype(int).tolist():
        colours.append(colours[one] if colours[one] == colours[other] else SERIES[0])

    def draw(canvas: Canvas) -> None:
        canvas.set_layout_engine("none")
        places = [(0.05, tree)] + [(tree + widest + nth * (side + 0.3), side) for nth in range(len(squares))]
        boxes = [(left / width, below / total, wide / width, height / total) for left, wide in places]
        axes, *others = [canvas.add_axes(box) for box in boxes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # labels that all have one distance make a tree without height
            colour = colours.__getitem__
            hierarchy.dendrogram(joined, ax=axes, orientation="left", no_labels=True, link_color_func=colour)
        axes.invert_yaxis()  # the first label on top
        axes.yaxis.tick_right()
        axes.set_yticks(range(5, 10 * count, 10), shown, fontsize=letters)
        for tick, label in zip(axes.get_yticklabels(), order, strict=True):
            tick.set_color(colours[label] if groups else INK)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        for axes, (shows, table) in zip(others, squares.items(), strict=True):
            _draw_square(axes, table[np.ix_(order, order)], shows)
            axes.set_title(shows, loc="left")
            axes.set_xticks(range(len(named)), named, fontsize=letters, rotation=90 if max(map(len, shown)) > 2 else 0)
            axes.set_yticks([])
            axes.tick_params(length=0)
            axes.spines[:].set(visible=True, linewidth=0.4, alpha=0.4)

    description = f"Tree of {count} labels, from the top: {', '.join(shown[:10])}{', ...' if count > 10 else ''}."
    caption = f"The first {count} of {len(names):,} labels." if count < len(names) else ""
    return Figure(key, (width, total), description, draw, caption)


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
    full = max(np.nanquantile(shade, 0.99) or np.nanmax(shade), 0.1)  # all but the most similar pairs lie within
    colours = LinearSegmentedColormap.from_list(shows, [(*_COLOURS[shows], 0.0), (*_COLOURS[shows], 1.0)])
    # A picture has 300 pixels a side at least: viewers other than browsers blur what they enlarge.
    blocks = np.kron(shade, np.ones((-(-300 // len(table)),) * 2))
    extent = (-0.5, len(table) - 0.5, len(table) - 0.5, -0.5)
    grey = colours.with_extremes(bad=(0.5, 0.5, 0.5, 0.27))
    axes.imshow(blocks, cmap=grey, vmin=0, vmax=full, extent=extent, interpolation="none", aspect="auto")


def export_geometry(geometry: LabelGeometry, folder: Path, *, groups: Sequence[str] | None = None) -> list[Path]:
    """Writes the tree, and beside the matrix, as SVG and PDF, and distances.csv; returns their paths.

    Raises RunFolderError when a file cannot be written.
    """
    import pandas as pd

    names, distances = geometry.names, geometry.distances().numpy()
    relative = distances * (len(names) - 1) / np.maximum(distances.sum(axis=1, keepdims=True), 1e-12)
    table = pd.DataFrame(distances, columns=list(names))
    table.insert(0, "label", list(names), allow_duplicates=True)
    return [
        *label_figure(names, distances, {}, groups=groups, key="tree").save(folder),
        *label_figure(names, distances, {"relative distance": relative}, groups=groups, key="matrix").save(folder),
        write_csv(table, folder / "distances.csv"),
    ]
