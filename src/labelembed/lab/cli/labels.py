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

    from labelembed.geometry import Hierarchy, LabelGeometry

_LEARNED, _MEANS = "learned labels", "class means of the outputs"
# A list of tens of thousands of words would take minutes.
_MOST_LISTED = 200


@subcommand(USE, "labelembed labels runs/digits 4 7 --count 3", "labelembed labels runs/digits --out labels")
def labels(
    run: BestRunArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL", help="Show these labels only; by default all of them.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, metavar="N", help="Nearest labels to show.")] = 5,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="FILE|cifar100|wordnet",
            help="Score the labels against groups (JSON: each name with a list of labels), a matrix of similarities or "
            "confusions (CSV with the labels as rows and columns), or WordNet.",
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
    from labelembed.geometry.projection import MOST_LABELS

    geometries = _geometries(run)
    learned = next(iter(geometries.values()))
    listed = list(names or learned.names[:_MOST_LISTED])
    try:
        near = learned.neighbours_of(listed, k=count)
    except KeyError as error:
        raise LabelEmbedError(f"{run}: {error.args[0]}") from error
    if (reference or out) and not 2 <= len(learned) <= MOST_LABELS:
        raise DataError(f"{run}: {len(learned):,} labels; 2 to {MOST_LABELS:,} can be compared and drawn")
    try:
        known = _reference(reference, learned.names) if reference else None
        scores = [] if known is None else [{"geometry": name} | _score(one, known) for name, one in geometries.items()]
        written = _export(geometries, out, known) if out else []
    except ValueError as error:
        raise LabelEmbedError(f"{run}: {error}") from error
    if len(listed) < len(learned) and not names:
        typer.echo(f"note: the first {len(listed):,} of {len(learned):,} labels; name those you want", err=True)
    if as_json:
        about: dict[str, Any] = {"run": str(run), "labels": len(learned), "unit": learned.score_unit}
        about["nearest"] = {label: [one._asdict() for one in others] for label, others in near.items()}
        typer.echo(json.dumps(about | {"scores": scores, "written": list(map(str, written))}, ensure_ascii=False))
        return
    typer.echo(f"(in brackets: {learned.score_unit})")
    for label, others in near.items():
        typer.echo(f"{label}: " + ", ".join(f"{one.name} ({one.score:.3g})" for one in others))
    for score in scores:
        typer.echo(_score_line(score))
    if written:
        typer.echo(f"written into {out}: {', '.join(str(path.relative_to(str(out))) for path in written)}")


def _geometries(run: Path) -> dict[str, LabelGeometry]:
    """Returns the geometries of a run or a file by what they are called, the learned one, if there is one, first."""
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
        geometries[_MEANS] = folder.class_means()
    return geometries


def _score(geometry: LabelGeometry, known: Tensor | Hierarchy) -> dict[str, Any]:
    """Returns how well a geometry agrees with the reference; None where there is no number."""
    from labelembed.geometry import Hierarchy, group_agreement, kendall_agreement

    shares = {}
    if isinstance(known, Hierarchy):
        groups = group_agreement(geometry.distances(), known)
        kendall = groups.kendall
        if groups.labels:
            shares = {"same_group": groups.same_group, "same_group_by_chance": groups.by_chance}
    else:
        kendall = kendall_agreement(geometry.distances(), known, geometry.names)
    tau_b = kendall.mean if kendall.per_label else None
    return {
        "source": geometry.source,
        "tau_b": tau_b,
        "per_label": kendall.per_label,
        "left_out": kendall.left_out,
    } | shares


def _reference(reference: str, names: tuple[str, ...]) -> Tensor | Hierarchy:
    """Returns groups, or distances: of a CSV matrix, which must have all labels, or in WordNet, which may lack some."""
    import pandas
    import torch

    from labelembed.errors import DataError
    from labelembed.geometry import WordNet, read_hierarchy, senses_for

    if reference == "wordnet":
        return WordNet().distances(names, senses_for(names), missing="drop")
    if not reference.lower().endswith(".csv"):
        return read_hierarchy(reference, names)
    try:
        table = pandas.read_csv(reference, index_col=0, converters={0: str})  # a label may be "NA"
        table.index = table.index.astype(str)
        matrix = torch.tensor(table.loc[list(names), list(names)].to_numpy(float))
    except (KeyError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{reference}: needs a row and a column of numbers for each label ({reason:.200})") from error
    return -(matrix + matrix.T)  # more alike is nearer


def _export(geometries: dict[str, LabelGeometry], folder: Path, known: Tensor | Hierarchy | None) -> list[Path]:
    from labelembed.geometry import Hierarchy
    from labelembed.lab.report.labels import export_geometry, groups_for

    first, *others = geometries.values()
    groups = tuple(path[-1] for path in known.paths) if isinstance(known, Hierarchy) else groups_for(first.names)
    written = export_geometry(first, folder, groups=groups)
    for means in others:
        written += export_geometry(means, folder / "class-means", groups=groups)
    return written


def _score_line(score: dict[str, Any]) -> str:
    tau = "no tau-b" if score["tau_b"] is None else f"tau-b {score['tau_b']:.3f} over {len(score['per_label'])} labels"
    line = f"{score['geometry']}: {tau}"
    if "same_group" in score:
        by_chance = f"{score['same_group_by_chance']:.1%} by chance"
        line += f", nearest label in the same group {score['same_group']:.1%} ({by_chance})"
    left_out = ", ".join(f"{label} ({why})" for label, why in list(score["left_out"].items())[:10])
    return f"{line}; without {left_out}" if left_out else line
