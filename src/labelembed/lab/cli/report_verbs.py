"""Verbs that write what finished runs show: a report, a figure, a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelembed.lab.cli.options import BaselineOption, GroupsOption, JsonOption, RunArgument, out_option
from labelembed.lab.cli.program import verb

_FIGURES = "forest, curves, heatmap, dendrogram, map, reliability, confusion, attention"


@verb("Use what was trained", "labelembed report runs/digits", "labelembed report runs/digits runs/smoothing")
def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Run and comparison folders of the same data.")
    ],
    out: Annotated[
        Path | None, out_option("FILE", "The file; by default report.html in the folder, of several folders here.")
    ] = None,
    format: Annotated[
        Literal["html", "csv", "markdown", "latex"],
        typer.Option("--format", help="`html`: the page; the others: its tables for a paper or another program."),
    ] = "html",
    baseline: BaselineOption = None,
    groups: GroupsOption = None,
) -> None:
    """Write one offline page about a run, a comparison, or several of both."""
    from labelembed.lab.report import write_report

    typer.echo(str(write_report(*paths, out=out, format=format, baseline=baseline, groups=groups)))


@verb("Use what was trained", "labelembed figure curves runs/digits -o curves.pdf --metric train-total:log")
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {_FIGURES}.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run or comparison folder.")],
    out: Annotated[Path | None, out_option("FILE", "Ends in .pdf, .svg or .png; by default NAME.pdf here.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="For curves: test-error, validation-nll, train-total:log, ...")
    ] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="For labels and errors: the objective; by default the best method.")
    ] = None,
    width: Annotated[
        float | None,
        typer.Option("--width", min=1, max=40, metavar="INCHES", help="Letters keep their 9 points; 3.3 is a column."),
    ] = None,
    groups: GroupsOption = None,
) -> None:
    """Write one figure for a paper, as PDF, SVG or PNG."""
    from labelembed.lab.report.catalogue import draw_figure

    path = out if out is not None else Path(f"{name}.pdf")
    written = draw_figure(
        name,
        run,
        path,
        metric=metric and metric.removesuffix(":log"),
        log=metric is not None and metric.endswith(":log"),
        variant=variant,
        width=width,
        groups=groups,
    )
    typer.echo(str(written))


@verb(
    "Use what was trained",
    "labelembed export runs/digits --format onnx -o digits.onnx",
    "labelembed export runs/digits --format card -o README.md",
)
def export(
    run: RunArgument,
    format: Annotated[
        Literal["onnx", "card"],
        typer.Option("--format", help="`onnx`: for onnxruntime and others; `card`: a model card in Markdown."),
    ] = "onnx",
    out: Annotated[Path | None, out_option("FILE", "By default model.onnx or README.md in the run folder.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Calibrated probabilities, as of `predict`, instead of logits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a run's classifier as one file that takes raw inputs, or the run's model card."""
    if format == "card":
        from labelembed.lab.report import write_card

        card = write_card(run, out)
        typer.echo(json.dumps({"path": str(card), "format": "card"}) if as_json else str(card))
        return
    from labelembed.lab.runs.export import export_run

    path, difference = export_run(run, out, probabilities=probabilities)
    size, output = path.stat().st_size, "probabilities" if probabilities else "logits"
    if as_json:
        about = {"path": str(path), "format": format, "output": output, "bytes": size, "difference": difference}
        typer.echo(json.dumps(about))
        return
    typer.echo(f"{path}: {size:,} bytes, {output}; differs from the run by {difference:.1e} at most")
