"""Figures of what runs get wrong: are like labels the confused ones, and is the network as sure as it is right?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.metrics import mantel_test
from labelembed.report.drawing import INK, Sketch, add_legend, cells, line_style, series_colour
from labelembed.report.errors_seen import Reliability, SeenErrors
from labelembed.report.formatting import counted, number, shortened, wrapped
from labelembed.report.similarities import LabelSimilarities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CELLS = 150
_MOST_NAMES = 40
_NAME_LENGTH = 18
_MOST_RANKS = 20
_DIAGONAL = "#8c8c8c"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class ConfusedLikeness(NamedTuple):
    """Whether like labels are the confused ones.

    Attributes:
        correlation: Spearman's rank correlation, over all pairs of labels, of how alike two are and how often they
            are confused, whichever way; nan where either is the same for all pairs.
        p_value: Two-sided p of `correlation` by Mantel's permutation test; nan where that is.
        pairs: Over how many pairs.
        by_rank: [C - 1], the share of the mistakes in which the prediction is the most, second most, ... similar
            label of the right one.
        mistakes: Of how many mistakes.
    """

    correlation: float
    p_value: float
    pairs: int
    by_rank: NDArray[np.float64]
    mistakes: int


def confused_likeness(errors: SeenErrors, similarities: LabelSimilarities) -> ConfusedLikeness | None:
    """Returns whether like labels are the confused ones, of the labels that the figures are of.

    None where there are fewer than three labels, other labels than those of the errors, or no mistake.
    """
    count = len(similarities.drawn)
    if count < 3 or len(similarities.names) != errors.labels:
        return None
    confused = confusion_table(errors, count)
    if not confused.any():
        return None
    likeness = similarities.likeness.copy()
    correlation, p_value = mantel_test(likeness + likeness.T, confused + confused.T)
    np.fill_diagonal(likeness, -np.inf)
    ranks = np.empty((count, count), dtype=np.int64)
    ranks[np.arange(count)[:, None], np.argsort(-likeness, axis=1, kind="stable")] = np.arange(count)
    by_rank = np.bincount(ranks.ravel(), weights=confused.ravel(), minlength=count)[: count - 1]
    pairs = count * (count - 1) // 2
    return ConfusedLikeness(correlation, p_value, pairs, by_rank / by_rank.sum(), round(float(by_rank.sum())))


def confusion_table(errors: SeenErrors, count: int) -> NDArray[np.float64]:
    """Returns [count, count], how often each of the first labels is taken for each other."""
    table = np.zeros((count, count))
    for (right, predicted), times in errors.pairs.items():
        if right < count and predicted < count:
            table[right, predicted] = times
    return table


def confusion_figure(errors: SeenErrors, similarities: LabelSimilarities, variant: str, key: str) -> Sketch | None:
    """Returns which labels are taken for which, beside how alike they are, both in the order of the tree."""
    count = len(similarities.drawn)
    if count < 2 or len(similarities.names) != errors.labels or not errors.pairs:
        return None
    order = similarities.order
    table = confusion_table(errors, count)[np.ix_(order, order)]
    rows = errors.of_label[:count][order] if errors.of_label is not None else np.ones(count)
    shares = table / np.maximum(rows, 1)[:, None]
    likeness = similarities.likeness[np.ix_(order, order)].copy()
    for one in (shares, likeness):
        np.fill_diagonal(one, np.nan)
    shares, likeness = _coarse(shares), _coarse(likeness)
    named = count <= _MOST_NAMES
    names = [shortened(similarities.names[place], _NAME_LENGTH) for place in order]

    def paint(figure: Figure) -> None:
        import matplotlib

        panels = figure.subplots(1, 2)
        for axes, values, scheme, heading in zip(
            panels,
            (shares, likeness),
            ("magma_r", "viridis"),
            ("taken for (a row a label, share of its rows)", "how alike, as learned"),
            strict=True,
        ):
            colours = matplotlib.colormaps[scheme].resampled(64).with_extremes(bad=_DIAGONAL)
            blocks, extent = cells(values)
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            masked = np.ma.masked_invalid(blocks)
            axes.imshow(
                masked, extent=extent, cmap=colours, vmin=low, vmax=max(high, low + 1e-12), interpolation="none"
            )
            axes.spines[:].set_visible(False)
            ticks = range(count) if named else []
            letters = 8.5 if count <= 20 else 6
            turned = 90 if max(map(len, names)) > 2 else 0
            axes.set_xticks(ticks, names if named else [], rotation=turned, fontsize=letters)
            axes.set_yticks(ticks, names if named else [], fontsize=letters)
            axes.tick_params(length=0)
            axes.set_title(heading)

    worst = [
        f"{similarities.names[one]} and {similarities.names[other]} ({times})"
        for one, other, times in errors.confused(3)
    ]
    caption = (
        f"Left: how often the rows of a label are taken for another, {counted(errors.runs, 'run')} together, darker "
        "is more often. Right: how alike the labels are, the brighter the more. Both in the order of the tree; the "
        "diagonal is grey."
    )
    description = f"Two tables of {count} by {count} labels. Confused most: {', '.join(worst)}."
    side = 3.1 + (0.09 * count if named else 1.2)
    labels = [similarities.names[place] for place in order]
    by_label = confusion_table(errors, count)[np.ix_(order, order)].astype(int).tolist()
    numbers = [["taken for, rows: the right label", *labels]]
    numbers += [[name, *row] for name, row in zip(labels, by_label, strict=True)]
    title = f"What {shortened(variant, 60)} takes for what"
    size = (2 * side, side + 0.35)
    return Sketch(key, size, title, description, paint, caption, numbers if count <= 100 else [])


def rank_figure(found: Sequence[tuple[str, int, ConfusedLikeness]], key: str = "confused-ranks") -> Sketch | None:
    """Returns the share of mistakes by how similar the predicted label is to the right one.

    Args:
        found: For each variant its name, the position of its colour, and what `confused_likeness` found.
        key: Begins every id in the SVG.
    """
    if not found:
        return None
    ranks = min(_MOST_RANKS, min(len(one.by_rank) for _, _, one in found))
    chance = 1 / len(found[0][2].by_rank)

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for name, position, one in found:
            axes.plot(
                range(1, ranks + 1),
                100 * one.by_rank[:ranks],
                color=series_colour(position),
                linestyle=line_style(position),
                marker=_MARKERS[position % len(_MARKERS)],
                markersize=4,
                linewidth=1.4,
                label=wrapped(name, 24),
            )
        axes.axhline(100 * chance, color=INK, linewidth=0.8, linestyle=(0, (1, 2)), label="by chance")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("rank of the predicted label among those most similar to the right one")
        axes.set_ylabel("share of the mistakes (%)")
        axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        add_legend(figure)

    told = [
        f"{name} {number(100 * float(one.by_rank[0]), 1)} % with the most similar label, rank correlation "
        + ("not defined" if math.isnan(one.correlation) else number(one.correlation, 2))
        for name, _, one in found
    ]
    caption = (
        "Of all mistakes, the share in which the predicted label is the most similar one to the right label, the "
        "second most similar, and so on, by each variant's own likeness of labels. A falling line: like labels are the "
        "confused ones."
    )
    numbers: list[list[object]] = [["variant", "rank", "share of mistakes"]]
    numbers += [
        [name, rank, share] for name, _, one in found for rank, share in enumerate(one.by_rank.tolist(), start=1)
    ]
    title = "Mistakes by how similar the labels are"
    return Sketch(key, (7.6, 3.0), title, f"Lines by rank. {'; '.join(told)}.", paint, caption, numbers)


def reliability_figure(found: Sequence[tuple[str, int, SeenErrors]], key: str = "reliability") -> Sketch | None:
    """Returns accuracy against confidence, before any temperature and with it.

    Args:
        found: For each variant its name, the position of its colour, and its errors.
        key: Begins every id in the SVG.
    """
    if not found:
        return None
    calibrated = [(name, position, one.calibrated) for name, position, one in found if one.calibrated is not None]
    panels: list[tuple[str, list[tuple[str, int, Reliability]]]] = [
        ("as trained", [(name, position, one.reliability) for name, position, one in found])
    ]
    if calibrated:
        panels.append(("with the fitted temperature", calibrated))

    def paint(figure: Figure) -> None:
        axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (heading, lines) in zip(axes_of, panels, strict=True):
            axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
            for name, position, one in lines:
                known = one.count > 0
                axes.plot(
                    100 * one.confidence[known],
                    100 * one.accuracy[known],
                    color=series_colour(position),
                    linestyle=line_style(position),
                    linewidth=1.3,
                    label=wrapped(name, 24),
                )
                # The larger a mark, the more rows: a bin of a few rows says little.
                axes.scatter(
                    100 * one.confidence[known],
                    100 * one.accuracy[known],
                    s=4 + 60 * np.sqrt(one.count[known] / one.count.sum()),
                    color=series_colour(position),
                    marker=_MARKERS[position % len(_MARKERS)],
                    alpha=0.75,
                    linewidths=0,
                )
            axes.set_xlim(0, 101)
            axes.set_ylim(-1, 101.5)
            axes.set_title(heading)
            axes.set_xlabel("confidence (%)")
            axes.grid(alpha=0.15, linewidth=0.6)
        axes_of[0].set_ylabel("accuracy (%)")
        handles, labels = axes_of[0].get_legend_handles_labels()
        add_legend(figure, handles, labels)

    caption = (
        "Rows by their top probability, in bins of equal width; on the dotted line the network is right as often as it "
        "is sure, below it too sure. The larger a mark, the more rows; all runs of a variant together."
    )
    gaps = [
        f"{name} {number(100 * calibration_gap(one.reliability), 1)} %"
        + (f", {number(100 * calibration_gap(one.calibrated), 1)} % with the temperature" if one.calibrated else "")
        for name, _, one in found
    ]
    description = f"Lines of accuracy over confidence. Mean distance from the diagonal: {'; '.join(gaps)}."
    numbers: list[list[object]] = [["variant", "temperature", "rows", "confidence", "accuracy"]]
    numbers += [
        [name, heading, int(rows), sure, right]
        for heading, lines in panels
        for name, _, one in lines
        for rows, sure, right in zip(one.count.tolist(), one.confidence.tolist(), one.accuracy.tolist(), strict=True)
        if rows
    ]
    return Sketch(key, (7.6, 3.3), "Reliability", description, paint, caption, numbers)


def calibration_gap(found: Reliability) -> float:
    """Returns the expected calibration error of all rows together, a fraction."""
    return float(np.nansum(found.count * np.abs(found.accuracy - found.confidence)) / max(found.count.sum(), 1))


def _coarse(table: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(table) <= _MOST_CELLS:
        return table
    edges = np.linspace(0, len(table), _MOST_CELLS + 1).astype(int)[:-1]
    known = np.isfinite(table)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.add.reduceat(values, edges), edges, axis=1))

    return summed(np.where(known, table, 0.0)) / np.maximum(summed(known.astype(np.float64)), 1)
