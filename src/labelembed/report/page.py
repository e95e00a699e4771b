"""The report: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from labelembed.measures import PairedComparison
from labelembed.report.comparison import Comparison, VariantRuns, load_comparison
from labelembed.report.drawing import Drawing, series_number
from labelembed.report.figures import error_curves, seed_dots, series_positions
from labelembed.report.formatting import (
    MEASURES,
    NOTHING,
    SPEED_MEASURES,
    MeasureColumn,
    counted,
    detectable_text,
    interval_text,
    number,
    p_text,
    shortened,
)
from labelembed.report.heat_map import heat_map
from labelembed.report.notes import failure_notes, reading_notes
from labelembed.report.reproduction import describe_reproduction
from labelembed.report.similarities import label_similarities
from labelembed.report.table import Row, comparison_rows
from labelembed.report.verdict import verdict
from labelembed.report.writing import write_text

_NAME_LENGTH = 40


def write_report(path: str | Path) -> Path:
    """Writes ``report.html`` into a comparison folder, or into the folder of a single finished run.

    The page loads nothing from anywhere, runs no script, and is the same to the byte when it is made again
    from the same runs.

    Args:
        path: The folder.

    Returns:
        The page.

    Raises:
        RunFolderError: When the folder is neither, or the page cannot be written into it.
    """
    comparison = load_comparison(path)
    return write_text(comparison.path / "report.html", _page(comparison))


def _page(comparison: Comparison) -> str:
    from jinja2 import Environment, StrictUndefined

    room = files("labelembed.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(typeset=_typeset, unbroken=_unbroken)
    template = environment.from_string(room.joinpath("template.html").read_text(encoding="utf-8"))
    rows = comparison_rows(comparison)
    return template.render(
        style=room.joinpath("style.css").read_text(encoding="utf-8"),
        title=comparison.recipe if comparison.baseline is not None else comparison.variants[0].name,
        subtitle=_subtitle(comparison),
        verdict=verdict(comparison, rows),
        split=comparison.split,
        baseline=comparison.baseline,
        measures=_measures_table(MEASURES, rows, series_positions(comparison)),
        speed=_measures_table(SPEED_MEASURES, rows, series_positions(comparison)),
        speed_split=comparison.speed_split,
        differences=_differences_table(rows),
        notes=reading_notes(rows),
        failures=failure_notes(rows),
        figures=_figures(comparison, rows),
        labels=[
            section
            for position, variant in enumerate(comparison.variants)
            if (section := _labels_section(variant, f"labels-{position}")) is not None
        ],
        reproduction=describe_reproduction(comparison),
        variants=[variant.name for variant in comparison.variants],
    )


def _subtitle(comparison: Comparison) -> str:
    if comparison.baseline is None:
        return f"One run, seed {comparison.seeds[0]}, folder {comparison.recipe}"
    variants = counted(len(comparison.variants), "variant")
    return f"{variants}, {counted(len(comparison.seeds), 'seed')}, compared with {comparison.baseline}"


def _measures_table(measures: Sequence[MeasureColumn], rows: Sequence[Row], series: dict[int, int]) -> dict[str, Any]:
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


def _differences_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns one group a measure, with a line for each variant that is compared."""
    split = rows[0].split if rows else ""
    measures = (
        ("error_difference", f"{split} error", "points", 100, 2),
        ("bleu_difference", f"{split} BLEU", "points", 100, 2),
        ("top5_difference", f"{split} top-5 error", "points", 100, 2),
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


def _difference_cells(difference: PairedComparison, *, scale: float, decimals: int) -> list[tuple[str, str]]:
    """Returns difference, interval, p, corrected p and what could be shown: as shown, and in full precision."""
    could_show = NOTHING if math.isnan(difference.detectable) else number(scale * difference.detectable, decimals)
    return [
        (number(scale * difference.difference, decimals), repr(difference.difference)),
        (interval_text(difference, scale=scale, decimals=decimals), ""),
        (p_text(difference.p_value), _repr(difference.p_value)),
        (p_text(difference.p_holm), _repr(difference.p_holm)),
        (detectable_text(difference) if scale == 100 else could_show, ""),
    ]


def _figures(comparison: Comparison, rows: Sequence[Row]) -> list[tuple[str, Drawing]]:
    found = [
        ("Test error over epochs", error_curves(comparison, "test", "test-curves")),
        ("Development error over epochs", error_curves(comparison, "development", "development-curves")),
        # The dot of a single run would say no more than the table does.
        ("Every run", seed_dots(comparison, rows, "seeds") if comparison.baseline is not None else None),
    ]
    return [(heading, drawing) for heading, drawing in found if drawing is not None]


def _labels_section(variant: VariantRuns, key: str) -> dict[str, Any] | None:
    similarities = label_similarities(variant)
    if similarities is None:
        return None
    return {
        "variant": variant.name,
        "drawing": heat_map(similarities, variant.name, key),
        "count": len(similarities.names),
        "runs": similarities.runs,
        "listed": [
            (
                shortened(name, _NAME_LENGTH),
                [(shortened(other, _NAME_LENGTH), number(100 * share, 2), repr(share)) for other, share in others],
            )
            for name, others in similarities.most_similar
        ],
        "left_out": similarities.left_out,
    }


def _typeset(text: str) -> str:
    """Returns a number's text with a real minus sign, and an en dash for nothing."""
    return "\u2013" if text == NOTHING else text.replace("-", "\u2212")


def _unbroken(sentence: str) -> str:
    """Returns a sentence whose numbers stay beside what they are of."""
    return sentence.replace(" %", "\u00a0%").replace("n = ", "n\u00a0=\u00a0").replace(" points", "\u00a0points")


def _full(summary: Any) -> str:
    return "" if summary is None else repr(summary.mean)


def _repr(value: float | None) -> str:
    return "" if value is None else repr(value)
