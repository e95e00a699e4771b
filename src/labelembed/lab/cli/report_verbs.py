"""Subcommands that write what finished runs show: a report, a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelembed.lab.cli.options import BaselineOption, GroupsOption, JsonOption, RunArgument, out_option
from labelembed.lab.cli.program import verb


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
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write each figure as SVG and PDF into this folder.")
    ] = None,
    baseline: BaselineOption = None,
    groups: GroupsOption = None,
) -> None:
    """Write one offline page about a run, a comparison, or several of both."""
    from labelembed.lab.report import write_report

    typer.echo(str(write_report(*paths, out=out, format=format, figures=figures, baseline=baseline, groups=groups)))


@verb(
    "Use what was trained",
    "labelembed export runs/digits --format onnx -o digits.onnx",
    "labelembed export runs/digits --format card -o README.md",
)
def export(
    run: RunArgument,
    format: Annotated[
        Literal["onnx", "torch", "card"],
        typer.Option("--format", help="`torch`: a .pt2 file for torch.export.load; `card`: a model card in Markdown."),
    ] = "onnx",
    out: Annotated[
        Path | None, out_option("FILE", "By default model.onnx, model.pt2 or README.md in the run folder.")
    ] = None,
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
    from labelembed.integrations.export import export_run

    made = export_run(run, out, format=format, probabilities=probabilities)
    if as_json:
        about = {"path": str(made.path), "format": made.format, "output": made.output}
        typer.echo(json.dumps(about | {"bytes": made.bytes, "difference": made.difference}))
        return
    typer.echo(
        f"{made.path}: {made.bytes:,} bytes, {made.output}; differs from the run by {made.difference:.1e} at most"
    )
