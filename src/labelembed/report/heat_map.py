"""The picture of the learned label embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labelembed.report.drawing import Drawing, cells, draw
from labelembed.report.formatting import counted, number, shortened
from labelembed.report.similarities import PICTURE_CELLS, LabelSimilarities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More names than these cannot be read beside each other.
_MOST_NAMES = 40
_NAME_LENGTH = 18
_DIAGONAL = "#8c8c8c"
_LEVELS = 64


def heat_map(similarities: LabelSimilarities, variant: str, key: str) -> Drawing | None:
    """Returns the mean soft targets of the labels; None with fewer than two labels.

    The diagonal, which is usually far above all else, is left grey, so that the colours tell the others apart.
    """
    count, picture = len(similarities.names), similarities.picture
    if count < 2 or not np.isfinite(picture).any():
        return None
    lowest, highest = float(np.nanmin(picture)), float(np.nanmax(picture))
    named = count <= _MOST_NAMES
    side = 2.6 + (0.12 * count if named else 2.0)

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
            names = [shortened(name, _NAME_LENGTH) for name in similarities.names]
            turned = 90 if max(len(name) for name in names) > 2 else 0
            letters = 8.5 if count <= 20 else 6.5
            axes.set_xticks(range(count), names, rotation=turned, fontsize=letters)
            axes.set_yticks(range(count), names, fontsize=letters)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.tick_params(length=0)
        axes.set_ylabel("label")
        axes.set_xlabel("share of its soft target that goes to")
        bar = figure.colorbar(image, ax=axes, shrink=0.85, format=lambda value, _: f"{100 * value:.3g} %")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)

    caption = (
        f"Mean over {counted(similarities.runs, 'run')} of each label's soft target, a row a label. What a label keeps "
        f"for itself, on average {number(100 * similarities.own_share, 1)} %, is on the diagonal and left grey; the "
        "colours are the shares of the others, and begin at the smallest."
    )
    if count > PICTURE_CELLS:
        caption += f" With {count} labels a cell is the mean over about {count / PICTURE_CELLS:.2g} by as many labels."
    description = (
        f"Heat map of {count} by {count} labels. Shares of other labels go from "
        f"{number(100 * lowest, 2)} % to {number(100 * highest, 2)} %; the table below names the most similar ones."
    )
    title = f"What {shortened(variant, 60)} learned about the labels"
    return Drawing(draw(key, (side + 0.9, side), title, description, paint), caption)
