"""The program: its name, its subcommands, and the old ones that say what took their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

from labelembed import __version__
from labelembed.errors import LabelEmbedError
from labelembed.lab.training.device import process_count

Function = TypeVar("Function", bound=Callable[..., None])

#: Subcommands that several processes can do together.
_TOGETHER = ("train", "resume")
#: Old subcommands, and what to use instead.
OLD = {
    "tune": "labelembed compare --tuned",
    "distill": "labelembed train --objective distillation:teacher=FOLDER",
    "figure": "labelembed report --figures DIR",
    "objectives": "labelembed list objectives",
    "recipes": "labelembed list recipes",
    "neighbours": "labelembed labels",
}
_INTRODUCTION = """labelembed trains networks with learned label representations, and measures whether they help.

  labelembed compare digits-mlp           compare the objectives on the digits: a minute, no download
  labelembed compare --data reviews.csv   the same on your own texts, tables or pictures
  labelembed --help                       all subcommands"""

app = typer.Typer(
    name="labelembed",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: labelembed compare digits-mlp",
)


def subcommand(panel: str, *examples: str) -> Callable[[Function], Function]:
    """Adds a function to the program as the subcommand of its name, below a heading of the program's help.

    The examples are commands that work, for the end of the subcommand's help.
    """

    def add(function: Function) -> Function:
        epilog = "\n\n".join(["[bold]Examples[/bold]", *examples])
        return app.command(function.__name__.rstrip("_"), epilog=epilog, rich_help_panel=panel)(function)

    return add


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labelembed {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _everything(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Train networks with learned label representations, and measure whether they help."""
    name = context.invoked_subcommand
    if name is None:
        typer.echo(_INTRODUCTION)
    elif process_count() > 1 and name not in _TOGETHER:
        launched = f"{process_count()} were started (torchrun is for {' and '.join(_TOGETHER)})"
        raise LabelEmbedError(f"labelembed {name} works in one process, and {launched}; give the command alone")
