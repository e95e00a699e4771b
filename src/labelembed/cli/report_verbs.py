"""Verbs that show finished runs: the report, one page to open, and single figures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelembed.cli.options import RunArgument

_FIGURES = "curves (--measure), seeds, heatmap, dendrogram, map, reliability, confusion, confused-ranks, attention"

BaselineOption = Annotated[
    str | None,
    typer.Option("--baseline", metavar="VARIANT", help="What the others are compared with; by default as before."),
]
GroupsOption = Annotated[
    str | None,
    typer.Option("--groups", metavar="FILE", help="Groups that colour labels: YAML, JSON, CSV, or `cifar100`."),
]
WordnetOption = Annotated[
    bool, typer.Option("--wordnet", help="Hold the labels against WordNet by their names, if no senses for them ship.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(epilog="Example: labelembed report runs/first")(report)
    app.command(epilog="Example: labelembed card runs/first --output README.md")(card)
    app.command(epilog="Example: labelembed figure curves runs/first -o curves.pdf")(figure)


def report(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Run and comparison folders.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The page; by default report.html in the folder, of several here."
        ),
    ] = None,
    baseline: BaselineOption = None,
    groups: GroupsOption = None,
    wordnet: WordnetOption = False,
) -> None:
    """Write one page that opens offline: of a run, a comparison, or several of the same data together."""
    from labelembed.report import write_report

    typer.echo(str(write_report(*paths, out=out, baseline=baseline, groups=groups, wordnet=wordnet)))


def card(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default README.md in the run folder."),
    ] = None,
) -> None:
    """Write a run's model card: data, measures, calibration, labels, recipe, cost and limits as Markdown."""
    from labelembed.report import write_card

    typer.echo(str(write_card(run, output)))


def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {_FIGURES}.")],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run or comparison folder.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Ends in .pdf, .svg or .png; by default NAME.pdf here."),
    ] = None,
    measure: Annotated[
        str | None, typer.Option("--measure", help="Of curves: test-error, validation-nll, train-target, ...")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Of curves: a logarithmic axis.")] = False,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Of labels and errors: whose; by default the best method's.")
    ] = None,
    width: Annotated[
        float | None,
        typer.Option("--width", min=1, max=40, metavar="INCHES", help="Letters keep their 9 points; 3.3 is a column."),
    ] = None,
    baseline: BaselineOption = None,
    groups: GroupsOption = None,
    wordnet: WordnetOption = False,
) -> None:
    """Write one of the papers' figures as PDF, SVG or PNG."""
    from labelembed.report.catalogue import draw_figure

    path = out if out is not None else Path(f"{name}.pdf")
    written = draw_figure(
        name,
        run,
        path,
        measure=measure,
        log=log,
        variant=variant,
        width=width,
        baseline=baseline,
        groups=groups,
        wordnet=wordnet,
    )
    typer.echo(str(written))
