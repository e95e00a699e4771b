"""The numbers behind the interactive chart: every run, packed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelembed.report.comparison import Comparison
from labelembed.report.curves import CurveMeasure
from labelembed.report.drawing import LINE_STYLES, series_number
from labelembed.report.packing import packed_text
from labelembed.report.ranking import drawn_positions, series_positions

# About four bytes each in the page.
_MOST_NUMBERS = 300_000


def curve_data(comparison: Comparison, measures: Sequence[CurveMeasure]) -> dict[str, Any]:
    """Returns what the interactive chart draws, as JSON values; every number with six digits that count.

    Args:
        comparison: Whose runs.
        measures: What there is to choose from.

    Returns:
        `series`, a variant each, with `shown`, whether it is to be seen at first; `every`, that only every so many
        epochs are there, of very many numbers; and `packed`, see `packed_text`: `epochs`, which they are, and
        `measures`, each with `runs`, for each variant and run its numbers in these epochs.
    """
    order, drawn = series_positions(comparison), set(drawn_positions(comparison))
    several = len(comparison.variants) > 1
    series = [
        {
            "name": variant.name,
            "colour": series_number(order[position]),
            "dash": _dash(order[position]) if several else [],
            "seeds": list(variant.runs),
            "shown": position in drawn,
        }
        for position, variant in enumerate(comparison.variants)
    ]
    runs = [run for variant in comparison.variants for run in variant.runs.values()]
    longest = max((len(run.error_curve("test")) for run in runs), default=0)
    every = max(1, math.ceil(longest * len(runs) * len(measures) / _MOST_NUMBERS))
    # The last of every so many, so that the last epoch is there.
    epochs = list(range(longest, 0, -every))[::-1]
    values = [
        {
            "key": measure.key,
            "title": measure.title,
            "unit": measure.unit,
            "scale": 100 if measure.is_fraction else 1,
            "runs": [
                [_rounded(run.curve(measure.place, measure.name), epochs) for run in variant.runs.values()]
                for variant in comparison.variants
            ],
        }
        for measure in measures
    ]
    return {"series": series, "every": every, "packed": packed_text({"epochs": epochs, "measures": values})}


def _dash(position: int) -> list[float]:
    style = LINE_STYLES[(position + position // 7) % len(LINE_STYLES)]
    return [] if isinstance(style, str) else [2 * part for part in style[1]]


def _rounded(curve: NDArray[np.float64], epochs: Sequence[int]) -> list[float | None]:
    chosen = (curve[epoch - 1] if epoch <= len(curve) else None for epoch in epochs)
    values = [None if value is None or not np.isfinite(value) else float(f"{value:.6g}") for value in chosen]
    while values and values[-1] is None:
        values.pop()
    return values
