"""The report: one HTML file that needs nothing but a browser, and its tables for a paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from labelembed.errors import unknown_name
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.columns import COST_METRICS
from labelembed.lab.report.comparison import Comparison, VariantRuns, load_comparison
from labelembed.lab.report.curves import curve_data, curve_metrics, curve_sketch
from labelembed.lab.report.drawing import series_number
from labelembed.lab.report.error_analysis import error_analysis, error_section
from labelembed.lab.report.forest import forest_sketch
from labelembed.lab.report.formatting import breakable, counted, packed_json, script_json, typeset, unbroken
from labelembed.lab.report.gathering import load_several
from labelembed.lab.report.label_section import label_section
from labelembed.lab.report.notes import failure_notes, reading_notes
from labelembed.lab.report.ranking import best_method, by_weight, series_positions
from labelembed.lab.report.reliability import reliability_figure
from labelembed.lab.report.reproduction import describe_reproduction
from labelembed.lab.report.sentences import sentence_section
from labelembed.lab.report.similarities import label_similarities
from labelembed.lab.report.table import Row, comparison_rows
from labelembed.lab.report.table_files import write_csv, write_runs_csv
from labelembed.lab.report.table_texts import tables_as_latex, tables_as_markdown
from labelembed.lab.report.tables import report_tables
from labelembed.lab.report.verdict import full_verdict
from labelembed.lab.report.writing import write_text

_ENDINGS = {"html": ".html", "csv": ".csv", "markdown": ".md", "latex": ".tex"}
# uPlot is not ours; its licence stands beside it.
_SCRIPTS = ("uPlot.iife.min.js", "page.js", "figures.js", "curves.js", "labels.js")
_STYLES = ("uPlot.min.css", "style.css")
# Of more variants what they learned about labels is not read.
_MOST_VARIANTS = 12


def write_report(
    *paths: str | Path,
    out: str | Path | None = None,
    format: str = "html",
    baseline: str | None = None,
    groups: str | Path | None = None,
) -> Path:
    """Writes one page of a comparison, of a run, or of several of both; or its tables alone.

    The page loads nothing from anywhere, can be read with scripts off, and is the same to the byte when it is made
    again from the same runs.

    Args:
        paths: Run and comparison folders; see `gathering.load_several` for several.
        out: The file; None: ``report.html`` in the folder, of several in the current one; with another `format`
            ``report.csv``, ``report.md`` or ``report.tex``.
        format: `html`; `markdown` or `latex`: the tables with the numbers of the page; `csv`: a line a variant with
            every number in full precision.
        baseline: The variant the others are compared with; None: as the comparison says.
        groups: A hierarchy that colours labels, as `geometry.read_hierarchy` takes it; None: the one that ships.

    Returns:
        The file.

    Raises:
        RunFolderError: When a folder is neither, nothing can be shown, runs are of different data, the format is
            unknown, or the file cannot be written.
        DataError: When `groups` cannot be read.
        ValueError: Without a path.
    """
    if not paths:
        raise ValueError("give one run or comparison folder or more")
    if format not in _ENDINGS:
        raise RunFolderError(f"--format: {unknown_name('format', format, list(_ENDINGS))}")
    comparison = load_several(paths, baseline=baseline)
    folder = Path(paths[0]) if len(paths) == 1 else Path()
    place = Path(out) if out is not None else folder / f"report{_ENDINGS[format]}"
    if place.is_dir():
        raise RunFolderError(f"{place}: is a folder; name a file with --out")
    if format == "html":
        return write_text(place, _page(comparison, groups))
    rows = comparison_rows(comparison)
    if format == "csv":
        return write_csv(rows, place)
    tables = report_tables(comparison, rows)
    return write_text(place, tables_as_latex(tables) if format == "latex" else tables_as_markdown(tables))


def write_comparison(out: Path, *, redraw: bool) -> Comparison:
    """Writes the tables and the page of a comparison beside its runs, and returns it.

    Args:
        out: The comparison folder.
        redraw: Write the page even where the tables have not changed: drawing takes seconds.
    """
    comparison = load_comparison(out)
    table, page = out / "comparison.csv", out / "report.html"
    before = table.read_bytes() if table.exists() else b""
    write_csv(comparison_rows(comparison), table)
    write_runs_csv(comparison, out / "runs.csv")
    if redraw or not page.exists() or table.read_bytes() != before:
        write_report(out)
    return comparison


def _page(comparison: Comparison, groups: str | Path | None) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    room = files("labelembed.lab.report")
    templates = FunctionLoader(lambda name: room.joinpath("templates", name).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=templates
    )
    environment.filters.update(typeset=typeset, unbroken=unbroken, breakable=breakable, script_json=script_json)
    environment.filters.update(packed=packed_json, colour=series_number)
    script = "\n".join(room.joinpath("scripts", name).read_text(encoding="utf-8").strip() for name in _SCRIPTS)
    style = "\n".join(room.joinpath("styles", name).read_text(encoding="utf-8").strip() for name in _STYLES)
    return environment.get_template("page.html").render(
        style=style,
        script=script,
        # No other script runs in the page, whatever a label is called.
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode("ascii"),
        **_content(comparison, groups),
    )


def _content(comparison: Comparison, groups: str | Path | None) -> dict[str, Any]:
    """Returns what the templates show."""
    rows = comparison_rows(comparison)
    method, order = best_method(comparison), by_weight(comparison)
    errors = {one.name: found for one in comparison.variants if (found := error_analysis(one)) is not None}
    similarities = {one.name: alike for one in order[:_MOST_VARIANTS] if (alike := label_similarities(one))}
    learned = [(one, similarities[one.name]) for one in order if one.name in similarities]
    labels = label_section(learned, errors.get(learned[0][0].name) if learned else None, groups)
    metrics = curve_metrics(comparison)
    sentences = sentence_section(comparison, method) if method is not None else None
    forest = forest_sketch(comparison, rows)
    narrow = forest_sketch(comparison, rows, narrow=True)
    reliability = reliability_figure(comparison, errors)
    drawn = labels["figures"] if labels else {}
    figures = {
        "forest": forest,
        "curves": bool(metrics),
        "heatmap": drawn.get("heatmap"),
        "dendrogram": labels and drawn and labels["tree"],
        "map": drawn.get("map"),
        "reliability": reliability,
        "attention": sentences and sentences["maps"],
    }
    return {
        "title": comparison.recipe if comparison.baseline is not None else comparison.variants[0].name,
        "subtitle": _subtitle(comparison),
        "verdict": full_verdict(comparison, rows),
        "baseline": comparison.baseline,
        "series": series_positions(comparison),
        "cost_line": _cost_line(method, rows),
        "forest": forest,
        "narrow": narrow,
        "tables": {table.key: table for table in report_tables(comparison, rows)},
        "notes": [
            *reading_notes(rows),
            *_teacher_notes(comparison),
            *_silence(comparison, bool(errors), sentences is not None),
        ],
        "failures": [f"{path}: {why}" for path, why in comparison.left_out.items()] + failure_notes(rows),
        "headline_curve": curve_sketch(comparison, metrics[0]) if metrics else None,
        "curve_data": curve_data(comparison, metrics) if metrics else None,
        "reliability": reliability,
        "labels": labels,
        "errors": error_section(comparison, method, errors, similarities),
        "sentences": sentences,
        "reproduction": describe_reproduction(comparison, [name for name, there in figures.items() if there]),
        "variants": [variant.name for variant in comparison.variants],
    }


def _silence(comparison: Comparison, errors: bool, sentences: bool) -> list[str]:
    """Returns why parts are not in the page that a reader may look for."""
    absent = [] if errors else ["errors"]
    absent += ["translations"] if not sentences and comparison.headline == "bleu" else []
    if not absent or not comparison.runs:
        return []
    return [f"No {' and no '.join(absent)} to look into: the runs left none, as those of older versions."]


def _teacher_notes(comparison: Comparison) -> list[str]:
    """Returns what the teachers cost of students that learned from another variant's runs (`labelembed distill`)."""
    notes = []
    for student in comparison.variants:
        table = Path(str(student.objective.get("teacher", ""))).name
        for variant in comparison.variants:
            folders = {run.folder.parent.name for run in variant.runs.values()}
            if any(table.startswith(f"teachers-{folder}-") for folder in folders):
                seconds = sum(run.seconds or 0.0 for run in variant.runs.values())
                runs = counted(len(variant.runs), "run")
                notes.append(
                    f"{student.name}: the {runs} of {variant.name} that taught it took {seconds:,.1f} s to train."
                )
    return notes


def _subtitle(comparison: Comparison) -> str:
    if comparison.baseline is None:
        return f"One run, seed {comparison.seeds[0]}, folder {comparison.recipe}"
    variants = counted(len(comparison.variants), "variant")
    seeds = counted(len(comparison.seeds), "seed")
    return f"{variants}, {seeds}, {comparison.split} examples, compared with {comparison.baseline}"


def _cost_line(method: VariantRuns | None, rows: Sequence[Row]) -> str:
    """Returns in a sentence what the method costs; empty where nothing was measured."""
    row = next((one for one in rows if method is not None and one.name == method.name), None)
    if row is None or "epoch_seconds" not in row.metrics:
        return ""
    known = {one.attribute: one.text(row).split(" \u00b1 ")[0] for one in COST_METRICS if one.attribute in row.metrics}
    parts = [f"{row.name}: {known['epoch_seconds']} s an epoch"]
    parts += [f"{known['time_ratio']} times {row.timed_against}"] if "time_ratio" in known else []
    parts += [f"{known[name]} MiB at most" for name in ("gpu_memory", "process_memory") if name in known][:1]
    parts += [f"{known['parameters']} trainable parameters"] if "parameters" in known else []
    return f"{', '.join(parts)}."
