"""The page's tables: each cell as people read it, with the number in full precision behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from labelembed.metrics import PairedComparison, Summary
from labelembed.report.cost import CostRow, memory_text, seconds_decimals, summary_text
from labelembed.report.drawing import series_number
from labelembed.report.formatting import (
    NOTHING,
    MeasureColumn,
    detectable_text,
    interval_text,
    joint_text,
    number,
    p_text,
)
from labelembed.report.labels_shown import KendallRow
from labelembed.report.table import Row

Cell = tuple[str, str]


def measures_table(measures: Sequence[MeasureColumn], rows: Sequence[Row], series: dict[int, int]) -> dict[str, Any]:
    """Returns a line for each variant and a column for each measure that any has."""
    shown = [measure for measure in measures if any(measure.summary(row) is not None for row in rows)]
    return {
        "headings": [(measure.heading, measure.unit) for measure in shown],
        "rows": [
            {
                "name": row.name,
                "series": series_number(series[position]),
                "n": row.n,
                "asked": row.n + len(row.failed) + len(row.missing),
                "is_baseline": row.is_baseline,
                # The mean in full precision stands behind what is shown, the number of the CSV file.
                "cells": [(measure.text(row), _full(measure.summary(row))) for measure in shown],
            }
            for position, row in enumerate(rows)
        ],
    }


def differences_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns one group a measure, with a line for each variant that is compared."""
    split = rows[0].split if rows else ""
    measures = (
        ("error_difference", f"{split} error", "points", 100, 2),
        ("bleu_difference", f"{split} BLEU", "points", 100, 2),
        ("top5_difference", f"{split} top-5 error", "points", 100, 2),
        ("top2_difference", f"{split} top-2 error", "points", 100, 2),
        ("nll_difference", "NLL", "nats", 1, 3),
        ("calibrated_nll_difference", "NLL, calibrated", "nats", 1, 3),
    )
    groups = []
    for name, heading, unit, scale, decimals in measures:
        lines = [
            {
                "name": row.name,
                "n": difference.n,
                "cells": _difference_cells(difference, scale=scale, decimals=decimals),
            }
            for row in rows
            if (difference := row.difference(name)) is not None
        ]
        if lines:
            groups.append({"heading": heading, "unit": unit, "rows": lines})
    return groups


def cost_table(costs: Sequence[CostRow], reference: str | None, series: Mapping[str, int]) -> dict[str, Any]:
    """Returns a line for each variant: seconds an epoch, against the reference, memory, numbers that are trained.

    Args:
        costs: What `cost_rows` returned.
        reference: What ratios are to; None for none.
        series: The position of each variant's colour, by its name.
    """
    decimals = seconds_decimals(costs)
    headings = [("seconds an epoch", ""), ("peak memory", ""), ("trained numbers", ""), ("a run", "s")]
    if reference is not None:
        headings[1:1] = [(f"times {reference}", "")]
    if any(row.epochs_saved is not None for row in costs):
        headings.append(("epochs saved", "%"))
    lines = []
    for row in costs:
        cells: list[Cell] = [(summary_text(row.epoch_seconds, decimals), _full(row.epoch_seconds))]
        if reference is not None:
            cells.append(("1" if row.name == reference else summary_text(row.ratio, 2), _full(row.ratio)))
        cells.append((memory_text(row), _repr(row.peak_bytes)))
        cells.append((NOTHING if row.parameters is None else f"{row.parameters:,}", _repr(row.parameters)))
        cells.append((summary_text(row.seconds, 1), _full(row.seconds)))
        if any(other.epochs_saved is not None for other in costs):
            saved = row.epochs_saved
            cells.append((NOTHING if saved is None else number(100 * saved, 1), _repr(saved)))
        lines.append({"name": row.name, "series": series_number(series[row.name]), "cells": cells})
    return {"headings": headings, "rows": lines, "reference": reference}


def kendall_table(rows: Sequence[KendallRow]) -> list[dict[str, Any]]:
    """Returns a line for each variant and each published method."""
    return [
        {
            "name": row.name,
            "is_published": row.published is not None,
            "cells": [
                (summary_text(row.learned, 3), _full(row.learned)),
                (summary_text(row.means, 3), _full(row.means)),
                (NOTHING if row.published is None else number(row.published, 3), _repr(row.published)),
            ],
            "n": row.learned.n if row.learned else row.means.n if row.means else None,
        }
        for row in rows
    ]


def _difference_cells(difference: PairedComparison, *, scale: float, decimals: int) -> list[Cell]:
    """Returns difference, both intervals, p, corrected p and what could be shown: as shown, and in full precision."""
    could_show = NOTHING if math.isnan(difference.detectable) else number(scale * difference.detectable, decimals)
    return [
        (number(scale * difference.difference, decimals), repr(difference.difference)),
        (interval_text(difference, scale=scale, decimals=decimals), ""),
        (joint_text(difference, scale=scale, decimals=decimals), ""),
        (p_text(difference.p_value), _repr(difference.p_value)),
        (p_text(difference.p_holm), _repr(difference.p_holm)),
        (detectable_text(difference) if scale == 100 else could_show, ""),
    ]


def _full(summary: Summary | None) -> str:
    return "" if summary is None else repr(summary.mean)


def _repr(value: float | None) -> str:
    return "" if value is None else repr(value)
