"""The subcommand labels: which labels a run learned to be alike, how well that agrees with what is known, drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.evaluate import USE
from labelembed.lab.cli.options import BestRunArgument, JsonOption, best_run_of, out_option

if TYPE_CHECKING:
    from torch import Tensor

    from labelembed.geometry import AgreementResult, Hierarchy, LabelGeometry

_LEARNED, _MEANS = "learned labels", "class means of the outputs"
# Nobody reads a longer list, and of tens of thousands of words it takes minutes.
_MOST_LISTED = 200


@subcommand(
    USE,
    "labelembed labels runs/digits 4 7 --count 3",
    "labelembed labels runs/digits --out labels",
)
def labels(
    run: BestRunArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL...", help="Show these labels only; by default all of them.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, metavar="N", help="Nearest labels to show.")] = 5,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            metavar="FILE|cifar100|wordnet",
            help="Score the labels by the groups of a JSON file (each name with a list of labels), or by WordNet.",
        ),
    ] = None,
    out: Annotated[
        Path | None, out_option("FOLDER", "Write the tree, the matrix and all distances into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the labels nearest to each label as the run learned them, score them, and draw them.

    RUN may be a saved geometry (.safetensors), too.
    """
    from labelembed.errors import DataError, LabelEmbedError
    from labelembed.geometry import read_hierarchy
    from labelembed.geometry.projection import MOST_LABELS

    geometries = _geometries(run)
    learned = next(iter(geometries.values()))
    listed = list(names or learned.names[:_MOST_LISTED])
    try:
        near = learned.neighbours_of(listed, k=count)
    except KeyError as error:
        raise LabelEmbedError(f"{run}: {error.args[0]}") from error
    reference = tree = None
    is_asked = bool(groups or out)
    is_scored = is_asked or (not names and 2 <= len(learned) <= MOST_LABELS)
    if is_asked and not 2 <= len(learned) <= MOST_LABELS:
        raise DataError(f"{run}: {len(learned):,} labels; 2 to {MOST_LABELS:,} can be compared and drawn")
    scored = geometries if is_scored else {}
    if groups == "wordnet":
        reference, groups = _wordnet_distances(learned.names), None
    elif groups:
        tree = read_hierarchy(groups, learned.names)
    try:
        scores = {name: _scores(one, reference, tree) for name, one in scored.items()}
        written = _export(geometries, out, groups) if out else []
    except ValueError as error:
        raise LabelEmbedError(f"{run}: {error}") from error
    if len(listed) < len(learned) and not names:
        typer.echo(f"note: the first {len(listed):,} of {len(learned):,} labels; name those you want", err=True)
    if as_json:
        about: dict[str, Any] = {"run": str(run), "labels": len(learned), "unit": learned.score_unit}
        about["nearest"] = {label: [one._asdict() for one in others] for label, others in near.items()}
        about["scores"] = [{"geometry": name, "source": geometries[name].source} | one for name, one in scores.items()]
        about["written"] = [str(path) for path in written]
        typer.echo(json.dumps(about, ensure_ascii=False))
        return
    typer.echo(f"(in brackets: {learned.score_unit})")
    for label, others in near.items():
        typer.echo(f"{label}: " + ", ".join(f"{one.name} ({one.score:.3g})" for one in others))
    for name, one in scores.items():
        for line in _score_lines(name, one):
            typer.echo(line)
    if written:
        typer.echo(f"written into {out}: {', '.join(str(path.relative_to(str(out))) for path in written)}")


def _geometries(run: Path) -> dict[str, LabelGeometry]:
    """Returns the geometries of a run or a file by what they are called, the learned one, if there is one, first."""
    from labelembed.errors import DataError
    from labelembed.geometry import LabelGeometry
    from labelembed.lab.training.run_folder import RunFolder

    if run.suffix == ".safetensors" or run.is_file():
        RunFolder(run.parent).require_unchanged(run)
        geometry = LabelGeometry.load(run)
        return {_MEANS if geometry.is_class_means else _LEARNED: geometry}
    folder = RunFolder(best_run_of(run))
    folder.require_finished()
    geometry = folder.label_geometry()
    geometries = {_MEANS if geometry.is_class_means else _LEARNED: geometry}
    if folder.class_means_file.exists():
        means = geometries[_MEANS] = folder.class_means()
        if means.names != geometry.names:
            what = f"its {len(means)} labels are not the {len(geometry)} of the run"
            raise DataError(f"{folder.class_means_file}: {what}; the file is of another run")
    return geometries


def _wordnet_distances(names: tuple[str, ...]) -> Tensor:
    """Returns the distances in WordNet; notes which labels it lacks, and scores without them."""
    from labelembed.errors import DataError
    from labelembed.geometry import WordNet, senses_for

    try:
        return WordNet().distances(names, senses_for(names))
    except DataError as error:
        distances = WordNet().distances(names, senses_for(names), missing="drop")
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
    near = [{"labels": [names[i], names[j]], "distance": float(distances[i, j])} for i, j in smallest]
    scores: dict[str, Any] = {"nearest": near, "wordnet": None, "hierarchy": None}
    if reference is not None:
        disparity = label_plane(distances, reference).disparity
        scores["wordnet"] = _tau_b(kendall_agreement(distances, reference, names)) | {"procrustes_disparity": disparity}
    if hierarchy is not None:
        groups = group_agreement(distances, hierarchy)
        shares = (groups.same_group, groups.by_chance) if groups.labels else (None, None)
        scores["hierarchy"] = _tau_b(groups.kendall) | {"same_group_labels": groups.labels}
        scores["hierarchy"] |= dict(zip(("same_group", "same_group_by_chance"), shares, strict=True))
    return scores


def _tau_b(result: AgreementResult) -> dict[str, Any]:
    about = {"tau_b": result.mean if result.per_label else None, "labels": len(result.per_label)}
    return about | {"left_out": result.left_out, "per_label": result.per_label}


def _export(geometries: dict[str, LabelGeometry], folder: Path, groups: str | None) -> list[Path]:
    from labelembed.lab.report.labels import export_geometry, groups_for

    first, *others = geometries.values()
    coloured = groups_for(first.names, groups)
    written = export_geometry(first, folder, groups=coloured)
    for means in others:
        written += export_geometry(means, folder / "class-means", groups=coloured)
    return written


def _score_lines(name: str, scores: dict[str, Any]) -> list[str]:
    """Returns the scores of a geometry in words."""
    near = ", ".join(f"{' - '.join(pair['labels'])} ({pair['distance']:.3g})" for pair in scores["nearest"])
    lines = [f"{name}, nearest pairs (in brackets: distance): {near}"]

    def shown(value: float | None, form: str = ".3f") -> str:
        return "-" if value is None else format(value, form)

    for against, score in (("WordNet", scores["wordnet"]), ("the groups", scores["hierarchy"])):
        if score is None:
            continue
        if against == "WordNet":
            more = f"disparity of the maps {shown(score['procrustes_disparity'])} (Procrustes, 0 is equal)"
        else:
            chance = shown(score["same_group_by_chance"], ".1%")
            more = f"nearest label in the same group {shown(score['same_group'], '.1%')} ({chance} by chance)"
        left_out = ", ".join(f"{label} ({why})" for label, why in list(score["left_out"].items())[:10])
        without = f"; without {left_out}" if left_out else ""
        lines.append(f"{name}, agreement with {against}: tau-b {shown(score['tau_b'])}, {more}{without}")
    return lines
