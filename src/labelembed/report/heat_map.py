"""The picture of how alike labels are, in the order of their tree: for the page, for paper, and to zoom into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelembed.report.drawing import Sketch, cells
from labelembed.report.formatting import counted, number, shortened
from labelembed.report.packing import packed
from labelembed.report.similarities import LabelSimilarities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A picture of more cells says no more to the eye, and would make the page heavy.
PICTURE_CELLS = 150
ZOOM_CELLS = 500
# More names than these cannot be read beside each other.
_MOST_NAMES = 40
_NAME_LENGTH = 18
_DIAGONAL = "#8c8c8c"
_LEVELS = 64
_OWN = 255


def heat_map(similarities: LabelSimilarities, variant: str, key: str) -> Sketch | None:
    """Returns how alike the labels are, like ones beside each other; None with fewer than two labels.

    The diagonal, which is usually far above all else, is left grey, so that the colours tell the others apart.
    """
    drawn, total = len(similarities.drawn), len(similarities.names)
    if drawn < 2:
        return None
    order = similarities.order
    picture, _ = _blocks(_others(similarities), order, PICTURE_CELLS)
    lowest, highest = float(np.nanmin(picture)), float(np.nanmax(picture))
    named = drawn <= _MOST_NAMES
    side = 2.6 + (0.12 * drawn if named else 2.0)
    share = similarities.kind == "share"

    def paint(figure: Figure) -> None:
        import matplotlib

        axes = figure.subplots()
        colours = matplotlib.colormaps["viridis"].resampled(_LEVELS).with_extremes(bad=_DIAGONAL)
        blocks, extent = cells(picture)
        image = axes.imshow(
            np.ma.masked_invalid(blocks),
            extent=extent,
            cmap=colours,
            vmin=lowest,
            # Before training all are equal, and a range of nothing has no colours.
            vmax=highest if highest > lowest else lowest + 1e-6,
            interpolation="none",
        )
        axes.spines[:].set_visible(False)
        if named:
            names = [shortened(similarities.names[place], _NAME_LENGTH) for place in order]
            turned = 90 if max(len(name) for name in names) > 2 else 0
            letters = 8.5 if drawn <= 20 else 6.5
            axes.set_xticks(range(drawn), names, rotation=turned, fontsize=letters)
            axes.set_yticks(range(drawn), names, fontsize=letters)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.tick_params(length=0)
        axes.set_ylabel("label")
        axes.set_xlabel("share of its soft target that goes to" if share else "as far from")
        bar = figure.colorbar(image, ax=axes, shrink=0.85, format=lambda value, _: _bar_text(value, similarities.kind))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)

    caption = _caption(similarities, drawn, total)
    if drawn > PICTURE_CELLS:
        caption += f" A cell is the mean over about {drawn / PICTURE_CELLS:.2g} by as many labels."
    low, high = (likeness_text(value, similarities.kind) for value in (lowest, highest))
    description = (
        f"Heat map of {drawn} by {drawn} labels in the order of their tree. From {low} to {high}; the list of the most "
        "similar labels says the same in words."
    )
    title = f"What {shortened(variant, 60)} learned about the labels"
    return Sketch(key, (side + 0.9, side), title, description, paint, caption, _numbers(similarities))


def heat_data(similarities: LabelSimilarities) -> dict[str, Any] | None:
    """Returns what the zoomable picture draws, as JSON values; None with fewer than two labels.

    A byte a cell, 255 for a label with itself, the others from `low` (0) to `high` (254); `order` are the labels'
    numbers from top to bottom, `edges` where each cell begins in it.
    """
    if len(similarities.drawn) < 2:
        return None
    order = similarities.order
    picture, edges = _blocks(_others(similarities), order, ZOOM_CELLS)
    low, high = float(np.nanmin(picture)), float(np.nanmax(picture))
    levels = np.nan_to_num((picture - low) / ((high - low) or 1.0), nan=0.0)
    values = np.where(np.isnan(picture), _OWN, np.rint(254 * levels)).astype(np.uint8)
    return {"low": low, "high": high, "edges": edges, "order": order, "values": packed(values)}


def colour_table() -> str:
    """Returns the colours of the picture, 64 times six hexadecimal digits, the smallest first."""
    import matplotlib

    colours = matplotlib.colormaps["viridis"].resampled(_LEVELS)(range(_LEVELS))
    return "".join(f"{round(255 * part):02x}" for colour in colours for part in colour[:3])


def likeness_text(value: float, kind: str) -> str:
    """Returns how alike two labels are: a share in per cent, a distance, or a cosine."""
    if kind == "share":
        return f"{100 * value:.3g} %"
    return f"distance {-value:.3g}" if kind == "distance" else f"cosine {value:.3g}"


def _bar_text(value: float, kind: str) -> str:
    return f"{100 * value:.3g} %" if kind == "share" else f"{-value if kind == 'distance' else value:.3g}"


def _caption(similarities: LabelSimilarities, drawn: int, total: int) -> str:
    runs = counted(similarities.runs, "run")
    if similarities.kind == "share":
        caption = (
            f"Mean over {runs} of each label's soft target, a row a label, like ones beside each other. What a label "
            f"keeps for itself, on average {number(100 * similarities.own_share, 1)} %, is on the diagonal and left "
            "grey; the colours are the shares of the others, and begin at the smallest."
        )
    else:
        what = "distances between labels" if similarities.kind == "distance" else "cosines of the labels' vectors"
        caption = f"Mean over {runs} of the {what}, like ones beside each other; bright is alike, the diagonal grey."
    if drawn < total:
        caption += f" The first {drawn:,} of {total:,} labels, which in a vocabulary are the most frequent."
    return caption


def _others(similarities: LabelSimilarities) -> NDArray[np.float64]:
    table = similarities.likeness.copy()
    np.fill_diagonal(table, np.nan)
    return table


def _blocks(table: NDArray[np.float64], order: list[int], most: int) -> tuple[NDArray[np.float64], list[int]]:
    """Returns the table in an order, at most so many cells a side, each the mean over its labels; and the edges."""
    ordered = table[np.ix_(order, order)]
    count = len(ordered)
    if count <= most:
        return ordered, list(range(count + 1))
    edges = np.linspace(0, count, most + 1).astype(int)
    known = np.isfinite(ordered)
    sums = _summed(np.where(known, ordered, 0.0), edges)
    numbers = _summed(known.astype(np.float64), edges)
    with np.errstate(invalid="ignore"):  # a block of one label has no others of its own: 0 / 0 is nan
        return sums / numbers, edges.tolist()


def _summed(table: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.add.reduceat(np.add.reduceat(table, edges[:-1]), edges[:-1], axis=1))


def _numbers(similarities: LabelSimilarities) -> list[list[Any]]:
    """Returns the table that the picture is of, of up to 100 labels; of more the page makes it from what it zooms."""
    if len(similarities.drawn) > 100:
        return []
    order = similarities.order
    names = [similarities.names[place] for place in order]
    rows = similarities.likeness[np.ix_(order, order)].tolist()
    return [["label", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
