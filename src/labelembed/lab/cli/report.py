"""Subcommands that write what finished runs show: report, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from labelembed.errors import LabelEmbedError
from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.evaluate import USE
from labelembed.lab.cli.options import BaselineOption, BestRunArgument, best_run_of, out_option


@subcommand(USE, "labelembed report runs/digits --figures figures", "labelembed report runs/digits --format latex")
def report(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A run folder, or a comparison folder.")],
    format: Annotated[
        Literal["html", "csv", "markdown", "latex"],
        typer.Option("--format", help="`html`: the page; the others: its tables for a paper or another program."),
    ] = "html",
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write each figure as SVG and PDF into this folder.")
    ] = None,
    baseline: BaselineOption = None,
    out: Annotated[Path | None, out_option("FILE", "The file; by default report.html in the folder.")] = None,
) -> None:
    """Write one offline page about a comparison or a run."""
    from labelembed.lab.report import write_report

    typer.echo(str(write_report(path, out=out, format=format, figures=figures, baseline=baseline)))


@subcommand(
    USE,
    "labelembed export runs/digits --format onnx -o digits.onnx",
    "labelembed export runs/digits --format card -o README.md",
)
def export(
    run: BestRunArgument,
    format: Annotated[
        Literal["onnx", "card"],
        typer.Option(
            "--format",
            help="`onnx`: the classifier, from raw inputs to the probabilities of predict; `card`: a model card.",
        ),
    ] = "onnx",
    out: Annotated[Path | None, out_option("FILE", "By default model.onnx or README.md in the run folder.")] = None,
) -> None:
    """Write a run's classifier as one file that takes raw inputs, or the run's model card."""
    run = best_run_of(run)
    if format == "card":
        from labelembed.lab.report.model_card import write_card

        typer.echo(str(write_card(run, out)))
        return
    from labelembed.lab.runs.saved_run import SavedRun

    path = out or run / "model.onnx"
    if path.is_dir():
        raise LabelEmbedError(f"{path}: is a folder; name a file with --out")
    difference = SavedRun.load(run).export(path)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes; differs from the run by {difference:.1e} at most")
