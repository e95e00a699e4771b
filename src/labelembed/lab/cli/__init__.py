"""The command line: verbs of a few lines each over the rooms below."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import typer

from labelembed import __version__
from labelembed.errors import LabelEmbedError
from labelembed.lab.cli import (  # noqa: F401 - each adds its verbs to the program
    compare_verb,
    labels_verb,
    preprocess_verb,
    reading_verbs,
    recipe_verbs,
    report_verbs,
    training_verbs,
    translate_verb,
    tune_verb,
)
from labelembed.lab.cli.launched import refuse_several
from labelembed.lab.cli.options import without_set
from labelembed.lab.cli.program import app
from labelembed.lab.cli.steady_stream import steady
from labelembed.lab.training.device import SIGNALS, Stopped, process_count, process_index, stop_at_once


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labelembed {__version__}")
        raise typer.Exit


@app.callback()
def _everything(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Train networks with learned label similarities, and measure whether they help."""
    refuse_several(context.invoked_subcommand)
    group: Any = context.command
    verb = group.get_command(context, context.invoked_subcommand or "")
    if context.obj is not None and verb is not None:
        context.obj["has_set"] = any("--set" in parameter.opts for parameter in verb.params)


def main() -> None:
    """Runs the command line; exits with 0, 2 (something to correct), 1 (a run failed), 129, 130 or 143 (stopped)."""
    if sys.stderr is not None:
        sys.stderr = steady(sys.stderr)
    code = _called()
    gc.freeze()  # once torch is imported, Python's last collections would take a second
    sys.exit(code)


def _called() -> int:
    """Calls the verb; returns the exit code, once what is wrong has been said."""
    verb = {"has_set": True}
    try:
        with stop_at_once():
            app(obj=verb, prog_name="labelembed")
        return 0
    except Stopped as stopped:
        return complain("stopped; to go on, give the same command again", 128 + stopped.signal_number)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except LabelEmbedError as error:
        message = str(error)
        if not verb["has_set"] and "--set " in message:
            message = f"{without_set(message)}\n(a key of the recipe: change the file, or train with that key)"
        return complain(_of_this_process(message), error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RecursionError:
        return complain("a file is nested too deeply to be read", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return complain(f"{where}{error.strerror or error}", 2)


def _of_this_process(message: str) -> str:
    """Returns a message with the process it is of, where there are several; the first one's stands as it is."""
    number = process_index()
    return message if number == 0 else f"(process {number} of {process_count()}) {message}"


def complain(message: str, code: int) -> int:
    """Prints one message, at most ten lines of it, to standard error; returns `code`."""
    lines = [line if len(line) <= 1000 else f"{line[:1000]}..." for line in message.splitlines()] or ["failed"]
    if len(lines) > 10:
        lines = [*lines[:9], f"... and {len(lines) - 9} lines more"]
    print("\n".join(["error: " + lines[0], *lines[1:]] if code - 128 not in SIGNALS else lines), file=sys.stderr)
    return code
