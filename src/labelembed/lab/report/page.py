"""The report: one HTML file that needs nothing but a browser, its figures and tables for a paper, and the terminal."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import unknown_name
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, VariantRuns, load_comparison
from labelembed.lab.report.drawing import Figure
from labelembed.lab.report.error_analysis import (
    ErrorAnalysis,
    HighLossExample,
    confused_rows,
    error_analysis,
    error_lines,
    sentence_pairs,
)
from labelembed.lab.report.figures import calibration_figure, curve_figure, forest_figure
from labelembed.lab.report.formatting import counted, seeds_text, shortened, templates
from labelembed.lab.report.label_figures import Panel, groups_for, label_figure, make_folder
from labelembed.lab.report.labels import LabelSimilarities, label_similarities
from labelembed.lab.report.ranking import best_method, by_weight
from labelembed.lab.report.settings import describe_settings
from labelembed.lab.report.several import load_several
from labelembed.lab.report.table import comparison_rows, runs_table, shared_machine, timed_against, write_csv, write_text
from labelembed.lab.report.tables import Table, metric_text, metrics_table, report_tables
from labelembed.lab.report.verdict import Verdict, full_verdict
from labelembed.lab.special_tokens import SPECIAL_TOKENS

if TYPE_CHECKING:
    from pandas import DataFrame

_ENDINGS = {"html": ".html", "csv": ".csv", "markdown": ".md", "latex": ".tex"}
# Of more variants what they learned about labels is not read, and in the terminal they are not printed.
_MOST_VARIANTS, _MOST_PRINTED = 12, 6
_LONGEST_REASON = 500


@dataclass(frozen=True)
class LabelSection:
    """What the page says of labels: those of the first variant that learned any, drawn and listed."""

    variant: str
    learned: LabelSimilarities
    figure: Figure
    left_out: list[str]


@dataclass(frozen=True)
class ErrorSection:
    """What a variant gets wrong: sentences, the most frequent confusions, and the examples with the highest loss."""

    variant: str
    seed: int
    lines: list[str]
    confused: Table
    names: list[str]
    examples: list[HighLossExample]


@dataclass(frozen=True)
class Page:
    """All that the page shows, in its order; the templates have the sentences.

    `forest` is there twice, the second time for a phone; `about` are the facts that say how the numbers were made.
    """

    title: str
    subtitle: str
    verdict: Verdict
    cost: str
    forest: list[Figure]
    failures: list[str]
    tables: dict[str, Table]
    about: dict[str, Any]
    calibration: Figure | None
    labels: LabelSection | None
    errors: list[ErrorSection]
    sentences: dict[str, Any] | None
    curves: Figure | None
    settings: dict[str, Any]

    @property
    def figures(self) -> list[Figure]:
        """The figures that are written as files."""
        shown = [*self.forest[:1], self.calibration, self.labels.figure if self.labels else None, self.curves]
        return [figure for figure in shown if figure is not None]


def write_report(
    *paths: str | Path,
    out: str | Path | None = None,
    format: str = "html",
    figures: str | Path | None = None,
    baseline: str | None = None,
    groups: str | Path | None = None,
) -> Path:
    """Writes one page of a comparison, of a run, or of several of both; or its tables alone.

    The page loads nothing from anywhere, can be read with scripts off, and is the same to the byte when it is made
    again from the same runs.

    Args:
        paths: Run and comparison folders; see `several.load_several` for several.
        out: The file; None: ``report.html`` in the folder, of several in the current one; with another `format`
            ``report.csv``, ``report.md`` or ``report.tex``.
        format: `html`; `markdown` or `latex`: the tables with the numbers of the page; `csv`: a line a variant with
            every number in full precision.
        figures: A folder that gets each figure of the page as SVG and PDF; None: they are not written.
        baseline: The variant the others are compared with; None: as the comparison says.
        groups: A hierarchy that colours labels, as `geometry.read_hierarchy` takes it; None: the one that ships.

    Returns:
        The file.

    Raises:
        RunFolderError: When a folder is neither, nothing can be shown, runs are of different data, the format is
            unknown, or a file cannot be written.
        DataError: When `groups` cannot be read.
        ValueError: Without a path.
    """
    if not paths:
        raise ValueError("give one run or comparison folder or more")
    if format not in _ENDINGS:
        raise RunFolderError(f"--format: {unknown_name('format', format, list(_ENDINGS))}")
    comparison = load_several(paths, baseline=baseline)
    folder = Path(paths[0]) if len(paths) == 1 else Path()
    file = Path(out) if out is not None else folder / f"report{_ENDINGS[format]}"
    if file.is_dir():
        raise RunFolderError(f"{file}: is a folder; name a file with --out")
    page = make_page(comparison, groups) if format == "html" or figures is not None else None
    if figures is not None and page is not None:
        make_folder(Path(figures))
        for figure in page.figures:
            figure.save(Path(figures))
    if format == "html" and page is not None:
        return write_text(file, _html(page))
    rows = comparison_rows(comparison)
    if format == "csv":
        return write_csv(rows, file)
    tables = report_tables(comparison, rows)
    texts = [table.latex() if format == "latex" else table.markdown() for table in tables]
    return write_text(file, "\n\n".join(texts) + "\n")


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
    write_csv(runs_table(comparison), out / "runs.csv")
    if redraw or not page.exists() or table.read_bytes() != before:
        write_report(out)
    return comparison


def print_comparison(comparison: Comparison) -> None:
    """Prints the verdict, one table, and where the page is; plain text where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    # A file or a pipe has no width of its own, and 80 columns would break every number in two.
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=120)
    found = full_verdict(comparison)
    step = " ".join([f"{found.answer}." if found.answer else "", found.next_step, found.command]).strip()
    for line in [found.headline, *found.details[:1], *([found.worse] if found.worse else []), step]:
        console.print(Text(line), soft_wrap=True)
    frame = metrics_table(comparison, comparison_rows(comparison)).frame
    frame.columns = [column.replace(" after temperature scaling", "") for column in frame]
    order = [one.name for one in by_weight(comparison)][:_MOST_PRINTED]
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(frame):
        table.add_column(Text(column), justify="right" if index else "left", overflow="fold")
    for variant, cells in zip(comparison.variants, frame.itertuples(index=False), strict=True):
        if variant.name in order:
            table.add_row(*map(Text, cells))  # as text, not as markup: a name may hold brackets
    console.print(table)
    more = len(comparison.variants) - len(order)
    page = f"{f'{more} more variants, ' if more > 0 else ''}figures, labels and errors: {comparison.path / 'report.html'}"
    console.print(Text(page), soft_wrap=True)


def _html(page: Page) -> str:
    folder = files("labelembed.lab.report") / "templates"
    script = (folder / "page.js").read_text(encoding="utf-8").strip()
    return templates().get_template("page.html").render(
        page=page,
        style=(folder / "style.css").read_text(encoding="utf-8").strip(),
        script=script,
        # No other script runs in the page, whatever a label is called.
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode("ascii"),
    )


def make_page(comparison: Comparison, groups: str | Path | None = None) -> Page:
    """Returns all that the page shows of a comparison."""
    rows, found, method = comparison_rows(comparison), full_verdict(comparison), best_method(comparison)
    reference = found.contrast.reference if found.contrast else None
    errors = {one.name: analysis for one in comparison.variants if (analysis := error_analysis(one)) is not None}
    forest = [forest_figure(comparison, reference, narrow=narrow) for narrow in (False, True)]
    labels = _labels(comparison, errors, groups)
    detailed = [one for one in (method, reference) if one is not None and one.name in errors]
    learned = labels.learned if labels and method and labels.variant == method.title else None
    failures = [f"{path}: {why}" for path, why in comparison.left_out.items()]
    for one in comparison.variants:
        failures += [
            f"Failed: {one.title}, seed {seed}: {shortened(why, _LONGEST_REASON)}"
            for seed, why in sorted(one.failed.items())
        ]
        if one.missing:
            failures.append(f"Not finished: {one.title}, {seeds_text(one.missing)}; run the comparison again.")
    return Page(
        title=comparison.data_name,
        subtitle=_subtitle(comparison),
        verdict=found,
        cost=_cost(method, comparison, rows),
        forest=[figure for figure in forest if figure is not None],
        failures=failures,
        tables={table.key: table for table in report_tables(comparison, rows)},
        about=_about(comparison, rows, found),
        calibration=calibration_figure(comparison, errors),
        labels=labels,
        errors=[_errors(one, errors[one.name], learned if one is method else None) for one in detailed],
        sentences=_sentences(method, reference) if method is not None else None,
        curves=curve_figure(comparison),
        settings=describe_settings(comparison),
    )


def _subtitle(comparison: Comparison) -> str:
    sizes = next((run.data.get("examples") for run in comparison.runs), None)
    size = sizes.get(comparison.split) if isinstance(sizes, dict) else None
    examples = f"{size:,} {comparison.split} examples" if isinstance(size, int) else f"{comparison.split} examples"
    if comparison.baseline is None:
        return f"One run of {comparison.variants[0].title}, seed {comparison.seeds[0]}, {examples}"
    return f"{counted(len(comparison.variants), 'variant')}, {counted(len(comparison.seeds), 'seed')}, {examples}"


def _cost(method: VariantRuns | None, comparison: Comparison, rows: DataFrame) -> str:
    """Returns in a sentence what the method costs; empty where nothing was measured."""
    row = next((one for one in rows.to_dict("records") if method and one["variant"] == method.name), None)
    if row is None or not row["epoch_seconds_n"] or method is None:
        return ""
    texts = {name: metric_text(row, name).split(" \u00b1 ")[0] for name in ("epoch_seconds", "time_ratio", "parameters")}
    about, timed = "\u2248" if shared_machine(comparison) else "", timed_against(comparison)
    parts = [f"{about}{texts['epoch_seconds']} s per epoch"]
    if row["time_ratio_n"] and timed is not None:
        parts = [f"{about}{texts['time_ratio']} times the time per epoch of {timed.title} ({parts[0]})"]
    memory = [metric_text(row, f"{of}_memory").split(" \u00b1 ")[0] for of in ("gpu", "process") if row[f"{of}_memory_n"]]
    parts += [f"{memory[0]} MiB of memory"] if memory else []
    parts += [f"{texts['parameters']} trainable parameters"] if row["parameters_n"] else []
    return f"{method.title}: {', '.join(parts)}."


def _about(comparison: Comparison, rows: DataFrame, found: Verdict) -> dict[str, Any]:
    """Returns the facts that say how the numbers were made and what they can show."""
    runs, baseline = comparison.runs, comparison.baseline_runs
    lengths = [len(run.history) for run in runs]
    unpaired = {one.title: one.runs.keys() ^ baseline.runs.keys() for one in comparison.finished} if baseline else {}
    one = found.contrast.differences.get(comparison.headline) if found.contrast else None
    return {
        "split": comparison.split,
        "words": comparison.headline_words,
        "selected_by": sorted({str(run.result.get("selected_by", "unknown")) for run in runs}),
        "n": int(rows["n"].max()),
        "scaled": sum(run.temperature is not None for run in runs),
        "runs": len(runs),
        "unscaled": sorted({str(run.result.get("calibration", "")) for run in runs if run.temperature is None} - {""}),
        "baseline": baseline.title if baseline else "",
        "reference": found.contrast.reference.title if found.contrast else "",
        "speed_split": comparison.speed_split,
        "has_speed": bool(rows["best_accuracy_n"].sum()),
        "epochs": (min(lengths, default=0), max(lengths, default=0)),
        "rough": shared_machine(comparison),
        "examples": one.joint.examples if one is not None and one.joint is not None else 0,
        "unpaired": [f"{name} ({seeds_text(seeds)})" for name, seeds in unpaired.items() if seeds],
    }


def _labels(
    comparison: Comparison, errors: dict[str, ErrorAnalysis], groups: str | Path | None
) -> LabelSection | None:
    for variant in by_weight(comparison)[:_MOST_VARIANTS]:
        learned = label_similarities(variant)
        if learned is None:
            continue
        count, analysis = len(learned.similarity), errors.get(variant.name)
        panels = [Panel(learned.measure, learned.relative, learned.measure)]
        if analysis is not None and len(learned.names) + learned.skipped == analysis.first.labels and analysis.pairs:
            panels.append(Panel("confusion matrix", analysis.table(count, learned.skipped), "confusions"))
        of_labels = groups_for(learned.names, groups)
        drawn = learned.names[:count]
        figure = label_figure(drawn, learned.joined, panels, groups=of_labels[:count] if of_labels else None)
        left_out = [f"Left out: seed {seed}: {why}" for seed, why in learned.left_out.items()]
        return LabelSection(variant.title, learned, figure, left_out)
    return None


def _errors(variant: VariantRuns, errors: ErrorAnalysis, learned: LabelSimilarities | None) -> ErrorSection:
    import pandas as pd

    known = next(iter(variant.runs.values())).data.get("names")
    names = [str(name) for name in known] if isinstance(known, list) else []
    if learned is not None and len(learned.names) + learned.skipped == errors.first.labels:
        names = [*SPECIAL_TOKENS[: learned.skipped], *learned.names]
    if len(names) != errors.first.labels:
        names = [str(label) for label in range(errors.first.labels)]
    names = [shortened(name, 40) for name in names]
    confused = Table("confused", "Most confused", pd.DataFrame(confused_rows(errors, names)))
    examples = errors.first.worst[:_MOST_VARIANTS]
    return ErrorSection(variant.title, errors.seed, error_lines(errors, learned), confused, names, examples)


def _sentences(method: VariantRuns, reference: VariantRuns | None) -> dict[str, Any] | None:
    pairs = sentence_pairs(method, reference)
    writers: Sequence[str] = [one.title for one in (reference, method) if one is not None]
    return None if pairs is None else pairs | {"writers": writers}
