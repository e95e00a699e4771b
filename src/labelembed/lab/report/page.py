"""The report: one HTML file that needs nothing but a browser, its figures and tables for a paper, and the terminal."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import unknown_name
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, VariantRuns, load_comparison
from labelembed.lab.report.decision import best_method, by_weight
from labelembed.lab.report.error_analysis import ErrorAnalysis, error_analysis, sentence_pairs
from labelembed.lab.report.figures import Figure, calibration_figure, curve_figure, forest_figure
from labelembed.lab.report.formatting import NOTHING, TEMPLATES, counted, shortened, templates
from labelembed.lab.report.labels import LabelSimilarities, groups_for, label_figure, label_similarities
from labelembed.lab.report.tables import (
    Table,
    comparison_rows,
    cost_line,
    differences_table,
    make_table,
    metrics_table,
    report_tables,
    runs_table,
    write_csv,
    write_text,
)
from labelembed.lab.report.verdict import Verdict, full_verdict
from labelembed.lab.special_tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from pandas import DataFrame

_ENDINGS = {"html": ".html", "csv": ".csv", "markdown": ".md", "latex": ".tex"}
# Of more variants what they learned about labels is not read, and in the terminal they are not printed.
_MOST_VARIANTS, _MOST_PRINTED = 12, 6
# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp")


@dataclass(frozen=True)
class Page:
    """All that the page shows; the templates have the sentences. The forest plot is there twice, once for a phone."""

    comparison: Comparison
    rows: DataFrame
    verdict: Verdict
    cost: str
    forest: list[Figure]
    failures: list[str]
    tables: dict[str, Table]
    calibration: Figure | None
    labels: LabelSimilarities | None
    tree: Figure | None
    errors: dict[str, ErrorAnalysis]
    names: list[str]
    sentences: dict[str, Any] | None
    curves: Figure | None
    settings: Table
    recipe: str
    command: str
    environment: dict[str, str]

    def html(self) -> str:
        """Returns the page."""
        script, style = ((TEMPLATES / name).read_text(encoding="utf-8").strip() for name in ("page.js", "style.css"))
        # No other script runs in the page, whatever a label is called.
        digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode("ascii")
        page = templates().get_template("page.html")
        return page.render(vars(self), style=style, script=script, script_hash=digest)

    def save_figures(self, folder: Path) -> None:
        """Writes each figure into a folder, which is made, as SVG and PDF."""
        for figure in (*self.forest[:1], self.calibration, self.tree, self.curves):
            if figure is not None:
                figure.save(folder)


def write_report(
    path: str | Path,
    *,
    out: str | Path | None = None,
    format: str = "html",
    figures: str | Path | None = None,
    baseline: str | None = None,
) -> Path:
    """Writes one page of a comparison or of a run, or its tables alone; returns the file.

    The page loads nothing from anywhere and is the same to the byte when it is made again from the same runs.

    Args:
        path: The run or comparison folder.
        out: The file; None: ``report.html`` (or .csv, .md, .tex) in the folder.
        format: `html`; `markdown` or `latex` for the tables of the page; `csv` for every number in full precision.
        figures: A folder that gets each figure of the page as SVG and PDF.
        baseline: The variant the others are compared with; None: as the comparison says.

    Raises:
        RunFolderError: As `load_comparison`; and when the format is unknown or a file cannot be written.
    """
    if format not in _ENDINGS:
        raise RunFolderError(f"--format: {unknown_name('format', format, list(_ENDINGS))}")
    comparison = load_comparison(path, baseline=baseline)
    file = Path(out) if out is not None else Path(path) / f"report{_ENDINGS[format]}"
    if file.is_dir():
        raise RunFolderError(f"{file}: is a folder; name a file with --out")
    page = make_page(comparison)
    if figures is not None:
        page.save_figures(Path(figures))
    if format == "html":
        return write_text(file, page.html())
    if format == "csv":
        return write_csv(page.rows, file)
    texts = [table.latex() if format == "latex" else table.markdown() for table in page.tables.values()]
    return write_text(file, "\n\n".join(texts) + "\n")


def write_comparison(out: Path, *, redraw: bool) -> Comparison:
    """Writes the tables of a comparison beside its runs, and the page where they have changed or with `redraw`."""
    comparison = load_comparison(out)
    table, page = out / "comparison.csv", out / "report.html"
    before = table.read_bytes() if table.exists() else b""
    write_csv(comparison_rows(comparison), table)
    write_csv(runs_table(comparison), out / "runs.csv")
    if redraw or not page.exists() or table.read_bytes() != before:
        write_report(out)
    return comparison


def print_comparison(comparison: Comparison) -> None:
    """Prints the verdict, one table, and where the page is, in twelve lines; plain text where it is no terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    # A file or a pipe has no width of its own, and 80 columns would break every number in two.
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    verdict = full_verdict(comparison)
    for line in filter(None, (verdict.headline, verdict.worse, verdict.step)):
        console.print(Text(line), soft_wrap=True)
    frame = metrics_table(comparison, comparison_rows(comparison)).frame
    shown = [one.name for one in by_weight(comparison)][:_MOST_PRINTED]
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in frame:
        side: Any = "right" if len(table.columns) else "left"
        table.add_column(Text(column.replace(" after temperature scaling", "")), justify=side, overflow="fold")
    for variant, cells in zip(comparison.variants, frame.itertuples(index=False), strict=True):
        if variant.name in shown:
            table.add_row(*map(Text, cells))  # as text, not as markup: a name may hold brackets
    console.print(table)
    scaled = "NLL and ECE after temperature scaling. " if any("temperature" in column for column in frame) else ""
    more = f"{counted(hidden, 'more variant')}, figures" if (hidden := len(frame) - len(shown)) else "Figures"
    console.print(Text(f"{scaled}{more}, labels and errors: {comparison.path / 'report.html'}"), soft_wrap=True)


def notebook_html(comparison: Comparison) -> str:
    """Returns verdict, forest plot and metrics as a notebook shows them."""
    rows, verdict = comparison_rows(comparison), full_verdict(comparison)
    figure = forest_figure(comparison, rows, verdict.contrast.reference if verdict.contrast else None)
    lines = "<br>".join(escape(line) for line in verdict.lines())
    return f"<p>{lines}</p>{figure.svg() if figure else ''}{metrics_table(comparison, rows).html()}"


def make_page(comparison: Comparison) -> Page:
    """Returns all that the page shows of a comparison."""
    rows, verdict, method = comparison_rows(comparison), full_verdict(comparison), best_method(comparison)
    reference = verdict.contrast.reference if verdict.contrast else None
    errors = {one.name: analysis for one in comparison.variants if (analysis := error_analysis(one)) is not None}
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter([*baseline.runs.values(), *comparison.runs]), None)
    titled = {one.title: errors[one.name] for one in comparison.variants if one.name in errors}
    forest = [forest_figure(comparison, rows, reference, narrow=narrow) for narrow in (False, True)]
    learned = (label_similarities(one) for one in by_weight(comparison)[:_MOST_VARIANTS])
    labels = next((one for one in learned if one is not None), None)
    count = max((one.first.labels for one in errors.values()), default=0)
    known = tuple(map(str, range(count)))
    if labels is not None and count - len(labels.names) in (0, len(SPECIAL_TOKENS)):  # of a vocabulary these are first
        known = (*SPECIAL_TOKENS, *labels.names)[-count:]
    environment, tables = _flat(shown.environment) if shown else {}, report_tables(comparison, rows)
    if reference is not None and reference.name != comparison.baseline:
        against_control = differences_table(comparison, reference)
        tables[against_control.key] = against_control
    return Page(
        comparison=comparison,
        rows=rows,
        verdict=verdict,
        cost=cost_line(method, comparison, rows) if method else "",
        forest=[figure for figure in forest if figure is not None],
        failures=_failures(comparison, reference),
        tables=tables,
        calibration=calibration_figure(comparison, errors),
        labels=labels,
        tree=_tree(labels, titled) if labels else None,
        errors={one.title: titled[one.title] for one in (method, reference) if one is not None and one.title in titled},
        names=[shortened(name, 40) for name in known],
        sentences=sentence_pairs(method, reference) if method is not None else None,
        curves=curve_figure(comparison),
        settings=_settings(comparison),
        recipe=(shown.folder / "recipe.yaml").read_text("utf-8", "replace").rstrip() if shown and shown.recipe else "",
        command=shlex.join(shown.command) if shown else "",
        environment={key: value for key, value in environment.items() if key not in _NOT_SHOWN},
    )


def _failures(comparison: Comparison, reference: VariantRuns | None) -> list[str]:
    """Returns a line for each run and variant without a result."""
    lines = []
    for one in comparison.variants:
        failed = sorted(one.failed.items())
        lines += [f"Failed: {one.title}, seed {seed}: {shortened(why, 500)}" for seed, why in failed]
        if one.missing:
            seeds = ", ".join(map(str, sorted(one.missing)))
            lines.append(f"Not finished: {one.title}, seeds {seeds}; run the comparison again.")
    for one in comparison.variants:
        if reference and (unpaired := sorted(one.runs.keys() ^ reference.runs.keys())):
            seeds = ", ".join(map(str, unpaired))
            lines.append(f"Not in the differences to {reference.title}: {one.title}, seeds {seeds}")
    return lines


def _tree(labels: LabelSimilarities, errors: dict[str, ErrorAnalysis]) -> Figure:
    """Returns the figure of the labels, with the confusions of the variant that learned them."""
    squares, errors_of = {labels.measure: labels.relative}, errors.get(labels.variant)
    if errors_of is not None and len(labels.names) == errors_of.first.labels and errors_of.pairs:
        squares["confusion matrix"] = errors_of.counts(len(labels.distances))
    return label_figure(labels.names, labels.distances, squares, groups=groups_for(labels.names))


def _settings(comparison: Comparison) -> Table:
    """Returns each variant's objective, and other settings that are not the same in all variants."""
    firsts = [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe) if run else {} for run in firsts]
    keys = dict.fromkeys(key for one in recipes for key in one if key != "seed" and not key.startswith("objective."))
    differing = [key for key in keys if len({one.get(key, NOTHING) for one in recipes if one}) > 1]
    lines = []
    for variant, recipe in zip(comparison.variants, recipes, strict=True):
        given = [f"{key}={_text(value)}" for key, value in variant.objective.items() if value is not None]
        line = {"variant": variant.title, "objective": "  ".join(given).removeprefix("name=")}
        lines.append(line | {key: recipe.get(key, NOTHING) for key in differing})
    return make_table("settings", "Settings", lines)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _text(value)}
    return flat


def _text(value: object) -> str:
    values = value[:50] if isinstance(value, list) else [value]
    return shortened(", ".join("none" if one is None else str(one) for one in values), 160)
