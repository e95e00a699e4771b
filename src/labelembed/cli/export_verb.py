"""The verb `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelembed.cli.options import JsonOption, RunArgument


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed export runs/first --format onnx --output first.onnx")(export)


def export(
    run: RunArgument,
    format: Annotated[
        Literal["onnx", "torch"], typer.Option("--format", help="`torch`: a .pt2 file for torch.export.load.")
    ] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default model.onnx or model.pt2 in the run folder."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Calibrated probabilities, as `predict` gives; by default logits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a run's classifier as one file for other programs: raw inputs in, scores out, label names inside."""
    from labelembed.integrations.export import export_run

    made = export_run(run, output, format=format, probabilities=probabilities)
    if as_json:
        about = {"path": str(made.path), "format": made.format, "output": made.output}
        typer.echo(json.dumps(about | {"bytes": made.bytes, "difference": made.difference}))
        return
    typer.echo(
        f"{made.path}: {made.bytes:,} bytes, {made.output}; differs from the run by {made.difference:.1e} at most"
    )
