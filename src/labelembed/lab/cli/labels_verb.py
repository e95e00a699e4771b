"""The verb `labels`: which labels a run learned to be alike, how well that agrees with what is known, and drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.lab.cli.options import GroupsOption, JsonOption, WordnetOption, out_option
from labelembed.lab.cli.program import verb

if TYPE_CHECKING:
    from torch import Tensor

    from labelembed.geometry import AgreementResult, Hierarchy, LabelGeometry

_LEARNED, _MEANS = "learned labels", "class means of the outputs"
# Nobody reads a longer list, and of tens of thousands of words it takes minutes.
_MOST_LISTED = 200


@verb(
    "Use what was trained",
    "labelembed labels runs/digits",
    "labelembed labels runs/digits 4 7 --count 3",
    "labelembed labels runs/digits --out labels",
)
def labels(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a saved geometry (.safetensors).")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL...", help="Show these labels only; by default all of them.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, metavar="N", help="Nearest labels to show.")] = 5,
    first: Annotated[
        int | None, typer.Option("--first", min=1, metavar="N", help="List, score and draw the first N labels.")
    ] = None,
    wordnet: WordnetOption = False,
    senses: Annotated[
        Path | None,
        typer.Option("--senses", metavar="FILE", help='Synsets in WordNet, as JSON: {"otter": "otter.n.02"}.'),
    ] = None,
    groups: GroupsOption = None,
    out: Annotated[
        Path | None, out_option("FOLDER", "Write the tree, a map, a heat map and all distances into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the labels nearest to each label as the run learned them, score them, and draw them."""
    from labelembed.errors import LabelEmbedError
    from labelembed.geometry import read_hierarchy
    from labelembed.lab.training.run_folder import RunFolder

    found = _geometries(run)
    learned = next(iter(found.values()))
    listed = list(names or learned.names[: first or _MOST_LISTED])
    try:
        near = learned.neighbours_of(listed, k=count)
    except KeyError as error:
        place = RunFolder(run).geometry_file if run.is_dir() else run
        raise LabelEmbedError(f"{place}: {error.args[0]}") from error
    reference = tree = None
    scored: dict[str, LabelGeometry] = {}
    if not names or wordnet or senses or groups or out:
        scored = _with_distances(found, first, run, asked=bool(wordnet or senses or groups or out or first))
    if scored and (wordnet or senses):
        reference = _wordnet_distances(learned.names[:first], senses)
    if scored and groups:
        tree = read_hierarchy(groups, learned.names[:first])
    try:
        scores = {name: _scores(one, reference, tree) for name, one in scored.items()}
        written = _export(scored, out, groups) if out else []
    except ValueError as error:
        raise LabelEmbedError(f"{run}: {error}") from error
    if len(listed) < len(learned) and not names:
        more = "--first N lists more of them, or name those you want"
        typer.echo(f"note: the first {len(listed):,} of {len(learned):,} labels; {more}", err=True)
    if as_json:
        about: dict[str, Any] = {"run": str(run), "labels": len(learned), "unit": learned.score_unit}
        about["nearest"] = {label: [one._asdict() for one in others] for label, others in near.items()}
        about["scores"] = [{"geometry": name, "source": found[name].source} | one for name, one in scores.items()]
        about["written"] = [str(path) for path in written]
        typer.echo(json.dumps(about, ensure_ascii=False))
        return
    typer.echo(f"(in brackets: {learned.score_unit})")
    for label, others in near.items():
        typer.echo(f"{label}: " + ", ".join(f"{one.name} ({one.score:.3g})" for one in others))
    if scores:
        _print(scores, len(learned.names[:first]), tree)
        if reference is None and tree is None:
            typer.echo("(--wordnet and --groups FILE say how well this agrees with what is known)", err=True)
    if written:
        folders = sorted({path.parent for path in written}, key=lambda folder: len(folder.parts))
        typer.echo(f"written: {', '.join(path.name for path in written if path.parent == folders[0])}")
        typer.echo(f"into:    {', '.join(map(str, folders))}")


def _geometries(run: Path) -> dict[str, LabelGeometry]:
    """Returns the geometries of a run or a file by what they are called, the learned one, if there is one, first."""
    from labelembed.errors import DataError
    from labelembed.geometry import LabelGeometry
    from labelembed.lab.training.run_folder import RunFolder

    if run.suffix == ".safetensors" or run.is_file():
        RunFolder(run.parent).require_unchanged(run)
        found = LabelGeometry.load(run)
        return {_MEANS if found.is_class_means else _LEARNED: found}
    folder = RunFolder(run)
    folder.require_finished()
    found = folder.label_geometry()
    geometries = {_MEANS if found.is_class_means else _LEARNED: found}
    if folder.class_means_file.exists():
        means = geometries[_MEANS] = folder.class_means()
        if means.names != found.names:
            what = f"its {len(means)} labels are not the {len(found)} of the run"
            raise DataError(f"{folder.class_means_file}: {what}; the file is of another run")
    return geometries


def _with_distances(
    found: dict[str, LabelGeometry], first: int | None, run: Path, *, asked: bool
) -> dict[str, LabelGeometry]:
    """Returns the geometries of the labels that are scored; none if there are too many and scores are optional."""
    from labelembed.errors import DataError
    from labelembed.geometry.projection import MOST_LABELS

    count = len(next(iter(found.values())))
    if min(count, first or count) > MOST_LABELS:
        if not asked:
            return {}
        what = f"{count:,} labels, at most {MOST_LABELS:,} can be compared and drawn"
        raise DataError(f"{run}: {what}; --first {MOST_LABELS} takes the first of them")
    if min(count, first or count) < 2:
        raise DataError(f"{run}: a single label has no distances")
    if first is None or first >= count:
        return found
    return {name: one.select(one.names[:first]) for name, one in found.items()}


def _wordnet_distances(names: tuple[str, ...], senses: Path | None) -> Tensor:
    """Returns the distances in WordNet; notes which labels it lacks, and scores without them."""
    from labelembed.errors import DataError
    from labelembed.geometry import WordNet, senses_for
    from labelembed.json_files import read_mapping

    meant = read_mapping(senses) if senses else senses_for(names)
    try:
        return WordNet().distances(names, meant)
    except DataError as error:
        distances = WordNet().distances(names, meant, missing="drop")
        if distances.isnan().all():
            raise
        typer.echo(f"note: {error}", err=True)
        return distances


def _scores(geometry: LabelGeometry, reference: Tensor | None, hierarchy: Hierarchy | None) -> dict[str, Any]:
    """Returns the scores of a geometry, as they stand in the JSON; None where there is no number."""
    import numpy as np

    from labelembed.geometry import group_agreement, kendall_agreement, label_plane

    names, distances = geometry.names, geometry.distances().numpy()
    pairs = np.column_stack(np.triu_indices(len(names), k=1))
    smallest = pairs[np.argsort(distances[tuple(pairs.T)], kind="stable")[:5]].tolist()
    scores: dict[str, Any] = {
        "nearest": [{"labels": [names[i], names[j]], "distance": float(distances[i, j])} for i, j in smallest],
        "wordnet": None,
        "hierarchy": None,
    }
    if reference is not None:
        disparity = label_plane(distances, reference).disparity
        scores["wordnet"] = _tau_b(kendall_agreement(distances, reference, names)) | {"procrustes_disparity": disparity}
    if hierarchy is not None:
        groups = group_agreement(distances, hierarchy)
        scores["hierarchy"] = _tau_b(groups.kendall) | {
            "same_group": groups.same_group if groups.labels else None,
            "same_group_by_chance": groups.by_chance if groups.labels else None,
            "same_group_labels": groups.labels,
        }
    return scores


def _tau_b(result: AgreementResult) -> dict[str, Any]:
    tau = result.mean if result.per_label else None
    found = {"tau_b": tau, "labels": len(result.per_label)}
    return found | {"left_out": result.left_out, "per_label": result.per_label}


def _export(found: dict[str, LabelGeometry], folder: Path, groups: str | None) -> list[Path]:
    from labelembed.lab.report.label_figures import export_geometry, groups_for

    first, *others = found.values()
    coloured = groups_for(first.names, groups)
    written = export_geometry(first, folder, groups=coloured)
    for means in others:
        written += export_geometry(means, folder / "class-means", groups=coloured)
    return written


def _print(scores: dict[str, dict[str, Any]], count: int, hierarchy: Hierarchy | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"{count:,} labels", no_wrap=True)
    first = next(iter(scores.values()))
    headings = ["tau-b to WordNet", "disparity"] if first["wordnet"] else []
    for heading in [*headings, *(["tau-b to hierarchy", "nearest in same group"] if first["hierarchy"] else [])]:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, one in scores.items():
        cells = [_cell(one["wordnet"][key], ".3f") for key in ("tau_b", "procrustes_disparity") if one["wordnet"]]
        if one["hierarchy"]:
            cells += [_cell(one["hierarchy"]["tau_b"], ".3f"), _cell(one["hierarchy"]["same_group"], ".1%")]
        table.add_row(name, *cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    if len(table.columns) > 1:
        console.print(table)
    for name, one in scores.items():
        near = ", ".join(f"{' - '.join(pair['labels'])} ({pair['distance']:.3g})" for pair in one["nearest"])
        console.print(f"{name}, nearest pairs (in brackets: distance): {near}", markup=False, highlight=False)
    for name in ("wordnet", "hierarchy"):
        if first[name] and first[name]["left_out"]:
            typer.echo(f"note: the score of {name} is without {_reasons(first[name]['left_out'])}", err=True)
    if first["wordnet"] and first["wordnet"]["procrustes_disparity"] is not None:
        typer.echo("note: disparity is that of the map and WordNet's (Procrustes), from 0 (equal) to 1", err=True)
    if hierarchy is not None and first["hierarchy"]["same_group_labels"]:
        groups = first["hierarchy"]
        over = f"over {groups['same_group_labels']} labels, {groups['same_group_by_chance']:.1%} by chance"
        typer.echo(f"note: nearest in same group is {over}; hierarchy: {hierarchy.source}", err=True)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _reasons(left_out: dict[str, str]) -> str:
    parts = [f"{label} ({why})" for label, why in list(left_out.items())[:10]]
    more = len(left_out) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
