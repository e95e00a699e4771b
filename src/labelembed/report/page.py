"""The report: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from labelembed.errors import RunFolderError
from labelembed.report.comparison import Comparison, VariantRuns
from labelembed.report.cost import cost_rows
from labelembed.report.curve_data import curve_data
from labelembed.report.curves import CurveMeasure, curve_measures, curve_sketch
from labelembed.report.drawing import Sketch
from labelembed.report.error_sections import error_section
from labelembed.report.figures import seed_dots
from labelembed.report.formatting import MEASURES, SPEED_MEASURES, counted
from labelembed.report.gathering import load_several
from labelembed.report.heat_map import colour_table
from labelembed.report.label_groups import Reference, reference_for
from labelembed.report.labels_shown import (
    LISTED_LABELS,
    LISTED_OF_OTHERS,
    kendall_rows,
    label_sections,
    left_out_note,
    listed_neighbours,
    search_data,
    sources_note,
)
from labelembed.report.notes import failure_notes, reading_notes
from labelembed.report.packing import script_json
from labelembed.report.page_tables import cost_table, differences_table, kendall_table, measures_table
from labelembed.report.published import published_lines
from labelembed.report.ranking import best_method, by_weight, series_positions
from labelembed.report.reproduction import describe_reproduction
from labelembed.report.sentences_seen import seen_sentences
from labelembed.report.similarities import SimilaritiesOf, read_once
from labelembed.report.table import Row, comparison_rows
from labelembed.report.tuning_shown import tuning_rows
from labelembed.report.typesetting import breakable, numbers_json, typeset, unbroken
from labelembed.report.verdict import verdict
from labelembed.report.writing import write_text

# uPlot is not ours; its licence stands beside it.
_SCRIPTS = ("uPlot.iife.min.js", "page.js", "figures.js", "curves.js", "labels.js")
_STYLES = ("uPlot.min.css", "style.css")


def write_report(
    *paths: str | Path,
    out: str | Path | None = None,
    baseline: str | None = None,
    groups: str | Path | None = None,
    wordnet: bool = False,
) -> Path:
    """Writes one HTML page of a comparison, of a run, or of several of both.

    The page loads nothing from anywhere, can be read with scripts off, and is the same to the byte when it is made
    again from the same runs.

    Args:
        paths: Run and comparison folders; see `gathering.load_several` for several.
        out: The file; None: ``report.html`` in the folder, of several in the current one.
        baseline: The variant the others are compared with; None: as the comparison says.
        groups: A hierarchy that colours labels, as `geometry.read_hierarchy` takes it; None: the one that ships, or
            WordNet's.
        wordnet: Hold the labels against WordNet by their names, where no senses for them ship.

    Returns:
        The page.

    Raises:
        RunFolderError: When a folder is neither, nothing can be shown, runs are of different data, or the page cannot
            be written.
        DataError: When `groups` cannot be read, or `wordnet` is asked for and is not there.
        ValueError: Without a path.
    """
    if not paths:
        raise ValueError("give one run or comparison folder or more")
    comparison = load_several(paths, baseline=baseline)
    place = Path(out) if out is not None else (Path(paths[0]) if len(paths) == 1 else Path()) / "report.html"
    if place.is_dir():
        raise RunFolderError(f"{place}: is a folder; name a file with --out")

    def reference_of(names: Sequence[str]) -> Reference:
        return reference_for(names, groups=groups, wordnet=wordnet)

    return write_text(place, _page(comparison, reference_of))


def _page(comparison: Comparison, reference_of: Callable[[Sequence[str]], Reference]) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    room = files("labelembed.report")
    templates = FunctionLoader(lambda name: room.joinpath("templates", name).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=templates
    )
    environment.filters.update(
        typeset=typeset, unbroken=unbroken, breakable=breakable, script_json=script_json, numbers_json=numbers_json
    )
    script = "\n".join(room.joinpath("scripts", name).read_text(encoding="utf-8").strip() for name in _SCRIPTS)
    style = "\n".join(room.joinpath("styles", name).read_text(encoding="utf-8").strip() for name in _STYLES)
    rows = comparison_rows(comparison)
    series, method = series_positions(comparison), best_method(comparison)
    measures, similarities_of = curve_measures(comparison), read_once()
    reference_row, costs = cost_rows(comparison, rows)
    errors = error_section(comparison, method, similarities_of)
    sentences = seen_sentences(comparison, method) if method is not None else None
    return environment.get_template("page.html").render(
        style=style,
        script=script,
        # No other script runs in the page, whatever a label is called.
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode("ascii"),
        title=comparison.recipe if comparison.baseline is not None else comparison.variants[0].name,
        subtitle=_subtitle(comparison),
        verdict=verdict(comparison, rows),
        split=comparison.split,
        baseline=comparison.baseline,
        measures=measures_table(MEASURES, rows, series),
        speed=measures_table(SPEED_MEASURES, rows, series),
        # Without a curve of errors only the seconds are left, which are of no split.
        speed_split=comparison.speed_split if any(row.best_accuracy for row in rows) else "",
        differences=differences_table(rows),
        published=published_lines(comparison, rows),
        notes=[*reading_notes(rows), *_silence(comparison, errors, sentences)],
        failures=[f"{path}: {why}" for path, why in comparison.left_out.items()] + failure_notes(rows),
        curves=_curves(comparison, measures),
        curve_data=curve_data(comparison, measures) if measures else None,
        dots=_dots(comparison, rows),
        labels=_labels(comparison, reference_of, by_weight(comparison), similarities_of),
        errors=errors,
        sentences=sentences,
        cost=cost_table(costs, reference_row, _by_name(comparison, series)) if costs else None,
        reproduction=describe_reproduction(comparison),
        tuning=tuning_rows(comparison),
        variants=[variant.name for variant in comparison.variants],
    )


def _silence(comparison: Comparison, errors: object, sentences: object) -> list[str]:
    """Returns why parts are not in the page that a reader may look for."""
    if not any(variant.runs for variant in comparison.variants):
        return []
    absent = ["errors"] if errors is None else []
    absent += ["translations"] if sentences is None and comparison.headline == "bleu" else []
    if not absent:
        return []
    return [
        f"No {' and no '.join(absent)} to look into: the runs left no evidence of them, as those of older versions."
    ]


def _by_name(comparison: Comparison, series: dict[int, int]) -> dict[str, int]:
    return {variant.name: series[position] for position, variant in enumerate(comparison.variants)}


def _subtitle(comparison: Comparison) -> str:
    if comparison.baseline is None:
        return f"One run, seed {comparison.seeds[0]}, folder {comparison.recipe}"
    variants = counted(len(comparison.variants), "variant")
    return f"{variants}, {counted(len(comparison.seeds), 'seed')}, compared with {comparison.baseline}"


def _curves(comparison: Comparison, measures: Sequence[CurveMeasure]) -> list[Sketch]:
    found = [curve_sketch(comparison, measure) for measure in measures]
    return [sketch for sketch in found if sketch is not None]


def _dots(comparison: Comparison, rows: Sequence[Row]) -> Sketch | None:
    # The dot of a single run would say no more than the table does.
    return seed_dots(comparison, rows, "seeds") if comparison.baseline is not None else None


def _labels(
    comparison: Comparison,
    reference_of: Callable[[Sequence[str]], Reference],
    order: Sequence[VariantRuns],
    similarities_of: SimilaritiesOf,
) -> dict[str, Any] | None:
    sections, reference = label_sections(comparison, reference_of, order, similarities_of)
    if not sections:
        return None
    search, notes = search_data(sections)
    heat = [{"variant": one.variant, "kind": one.similarities.kind} | one.heat for one in sections if one.heat]
    return {
        "sections": [
            {
                "variant": one.variant,
                "figures": one.figures,
                "count": len(one.similarities.names),
                "drawn": len(one.similarities.drawn),
                "runs": one.similarities.runs,
                "kind": one.similarities.kind,
                "listed": listed_neighbours(one.similarities, LISTED_LABELS if place == 0 else LISTED_OF_OTHERS)
                if one.figures
                else [],
                "left_out": left_out_note(one),
            }
            for place, one in enumerate(sections)
        ],
        "search": search,
        "heat": heat,
        "colours": colour_table() if heat else "",
        "notes": notes,
        "kendall": kendall_table(kendall_rows(comparison, sections, reference)),
        "sources": sources_note(reference),
    }
