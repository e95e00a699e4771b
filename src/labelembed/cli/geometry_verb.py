"""The verb `geometry`: what a run learned about its labels, in scores, figures and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labelembed.cli.options import JsonOption

if TYPE_CHECKING:
    from torch import Tensor

    from labelembed.geometry import AgreementResult, Hierarchy, LabelGeometry
    from labelembed.geometry.agreement import GeometryScores

_LEARNED, _MEANS = "learned labels", "class means of the outputs"


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed geometry runs/first --export labels")(geometry)


def geometry(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a saved geometry (.safetensors).")],
    wordnet: Annotated[bool, typer.Option("--wordnet", help="Score by Kendall's tau-b to WordNet.")] = False,
    wordnet_path: Annotated[
        Path | None,
        typer.Option("--wordnet-path", metavar="PATH", help="The folder with index.noun and data.noun; implies it."),
    ] = None,
    senses: Annotated[
        Path | None,
        typer.Option("--senses", metavar="FILE", help="YAML `label: otter.n.02`; by default those that ship."),
    ] = None,
    hierarchy: Annotated[
        str | None,
        typer.Option("--hierarchy", metavar="FILE", help="Groups (YAML, JSON, CSV), or `cifar100`."),
    ] = None,
    method: Annotated[
        Literal["average", "complete", "single", "ward"], typer.Option("--method", help="How groups of labels join.")
    ] = "average",
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FOLDER", help="Write tree, map, heat map and distances there.")
    ] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Score without the labels that WordNet lacks.")
    ] = False,
    first: Annotated[
        int | None, typer.Option("--first", min=1, metavar="N", help="Take the first N labels only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score what a run learned about its labels, and draw it."""
    from labelembed.errors import LabelEmbedError
    from labelembed.geometry import WordNet, read_hierarchy, read_senses, senses_for
    from labelembed.geometry.agreement import geometry_scores, published_scores

    found = _geometries(run, first)
    names = next(iter(found.values())).names
    if (senses or drop_missing) and not (wordnet or wordnet_path):
        raise LabelEmbedError("--senses and --drop-missing are about WordNet: add --wordnet")
    reference = tree = None
    if wordnet or wordnet_path:
        meant = read_senses(senses, names) if senses else senses_for(names)
        try:
            reference = WordNet(wordnet_path).distances(names, meant, missing="drop" if drop_missing else "raise")
        except LabelEmbedError as error:
            raise LabelEmbedError(_in_words_of_the_command(str(error))) from error
    if hierarchy:
        tree = read_hierarchy(hierarchy, names)
    try:
        scores = {name: geometry_scores(one, wordnet=reference, hierarchy=tree) for name, one in found.items()}
        written = _export(found, export, method, reference) if export else []
    except ValueError as error:
        raise LabelEmbedError(f"{run}: {error}") from error
    published = published_scores(names) if reference is not None else {}
    if as_json:
        rows = [{"geometry": name, "source": found[name].source} | one.as_json() for name, one in scores.items()]
        about = {"run": str(run), "labels": len(names), "rows": rows, "published_tau_b": published}
        typer.echo(json.dumps(about | {"written": [str(path) for path in written]}, ensure_ascii=False))
        return
    units = {name: one.distance_unit for name, one in found.items()}
    _print(scores, units, len(names), published, tree)
    if reference is None and tree is None:
        typer.echo("(--wordnet and --hierarchy FILE say how well this agrees with what is known)", err=True)
    if written:
        folders = sorted({path.parent for path in written}, key=lambda folder: len(folder.parts))
        typer.echo(f"written: {', '.join(path.name for path in written if path.parent == folders[0])}")
        typer.echo(f"into:    {', '.join(map(str, folders))}")


def _geometries(run: Path, first: int | None) -> dict[str, LabelGeometry]:
    """Returns the geometries of a run or a file by what they are called."""
    from labelembed.errors import DataError
    from labelembed.geometry import LabelGeometry
    from labelembed.geometry.clustering import MOST_LABELS
    from labelembed.training.run_folder import RunFolder

    if run.suffix == ".safetensors" or run.is_file():
        RunFolder(run.parent).require_unchanged(run)
        found = {_LEARNED: LabelGeometry.load(run)}
    else:
        folder = RunFolder(run)
        folder.require_finished()
        found = {_LEARNED: folder.label_geometry()}
        if folder.class_means_file.exists():
            found[_MEANS] = folder.class_means()
            if found[_MEANS].names != found[_LEARNED].names:
                what = f"its {len(found[_MEANS])} labels are not the {len(found[_LEARNED])} that the run has learned"
                raise DataError(f"{folder.class_means_file}: {what}; the file is of another run")
    count = len(found[_LEARNED])
    if min(count, first or count) > MOST_LABELS:
        what = f"{count:,} labels, at most {MOST_LABELS:,} can be compared and drawn"
        raise DataError(f"{run}: {what}; --first {MOST_LABELS} takes the first of them")
    if first is not None and first < count:
        found = {name: one.select(one.names[:first]) for name, one in found.items()}
    if len(next(iter(found.values()))) < 2:
        raise DataError(f"{run}: a single label has no distances")
    return found


def _in_words_of_the_command(message: str) -> str:
    ways = "--senses FILE gives their senses, --drop-missing scores without them"
    return message.replace("give their senses, or ask to score without them", ways)


def _export(found: dict[str, LabelGeometry], folder: Path, method: Any, reference: Tensor | None) -> list[Path]:
    from labelembed.report.label_files import export_geometry

    written = export_geometry(found[_LEARNED], folder, method=method, reference=reference)
    if _MEANS in found:
        written += export_geometry(found[_MEANS], folder / "class-means", method=method, reference=reference)
    return written


def _print(
    scores: dict[str, GeometryScores],
    units: dict[str, str],
    count: int,
    published: dict[str, float],
    hierarchy: Hierarchy | None,
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"{count:,} labels", no_wrap=True)
    first = next(iter(scores.values()))
    if first.wordnet is not None:
        table.add_column("tau-b to WordNet", justify="right", no_wrap=True)
        table.add_column("disparity", justify="right", no_wrap=True)
    if first.hierarchy is not None:
        table.add_column("tau-b to hierarchy", justify="right", no_wrap=True)
        table.add_column("nearest in same group", justify="right", no_wrap=True)
    for name, one in scores.items():
        cells = [name]
        if one.wordnet is not None:
            cells += [_tau(one.wordnet), "-" if one.disparity is None else f"{one.disparity:.3f}"]
        if one.hierarchy is not None:
            cells += [_tau(one.hierarchy.kendall), f"{one.hierarchy.same_group:.1%}"]
        table.add_row(*cells)
    for name, value in published.items():
        table.add_row(f"{name} (published)", f"{value:.3f}", *([""] * (len(table.columns) - 2)), style="dim")
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    if len(table.columns) > 1:
        console.print(table)
    for name, one in scores.items():
        near = ", ".join(f"{a} - {b} ({distance:.3g})" for a, b, distance in one.nearest)
        console.print(f"{name}, nearest pairs (in brackets: {units[name]}): {near}", markup=False, highlight=False)
    _print_notes(first, count, published, hierarchy)


def _print_notes(scores: GeometryScores, count: int, published: dict[str, float], hierarchy: Hierarchy | None) -> None:
    """Says what the numbers are over, on standard error."""
    if scores.disparity is not None:
        typer.echo("note: disparity is that of the map and WordNet's (Procrustes), from 0 (alike) to 1", err=True)
    if scores.wordnet is not None and scores.wordnet.left_out:
        typer.echo(f"note: WordNet's score is without {_reasons(scores.wordnet)}", err=True)
    if scores.hierarchy is not None and hierarchy is not None:
        if scores.hierarchy.kendall.left_out:
            typer.echo(f"note: the hierarchy's score is without {_reasons(scores.hierarchy.kendall)}", err=True)
        over = f"over {scores.hierarchy.labels} labels, {scores.hierarchy.by_chance:.1%} by chance"
        typer.echo(f"note: nearest in same group is {over}; hierarchy: {hierarchy.source}", err=True)
    if published:
        over_fewer = ", over 23 of the 50 labels" if count == 50 else ""  # AwA2
        typer.echo(f"note: published by Yu, Verma 2022, table 2{over_fewer}", err=True)


def _tau(result: AgreementResult) -> str:
    return f"{result.mean:.3f}" if result.per_label else "-"


def _reasons(result: AgreementResult) -> str:
    parts = [f"{label} ({why})" for label, why in list(result.left_out.items())[:10]]
    more = len(result.left_out) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
