"""The command line: each subcommand is a few lines over the packages below; `main` prints errors."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any

import typer

from labelembed.errors import LabelEmbedError
from labelembed.lab.cli.app import OLD, app
from labelembed.lab.training.device import SIGNALS, Stopped, process_count, process_index, stop_at_once

# Each adds its subcommands, in the order of the help.
for _module in ("train", "evaluate", "predict", "translate", "labels", "report", "recipes", "preprocess"):
    import_module(f"labelembed.lab.cli.{_module}")
# Typer has no public names for them.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
_FileError: type[Any] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Runs the command line; exits with 0, 2 (something to correct), 1 (a run failed), 129, 130 or 143 (stopped)."""
    code = _exit_code()
    gc.freeze()  # once torch is imported, Python's last collections would take a second
    sys.exit(code)


def _exit_code() -> int:
    """Calls the subcommand, prints its error if there is one, and returns the exit code."""
    if (name := "".join(sys.argv[1:2])) in OLD:
        return _complain(f"labelembed {name} is gone; instead: {OLD[name]}", 2)
    try:
        with stop_at_once():
            return int(app(prog_name="labelembed", standalone_mode=False) or 0)
    except Stopped as stopped:
        return _complain(
            "stopped; what is finished is kept. To go on, give the same command again", 128 + stopped.signal_number
        )
    except LabelEmbedError as error:
        which = f"(process {process_index()} of {process_count()}) " if process_index() else ""
        return _complain(f"{which}{error}", error.exit_code)
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "labelembed"
        text = " ".join(error.format_message().replace("Value error, ", "").split())
        return _complain(f"{text}{'' if text.endswith(('.', '?', ')')) else '.'} See {where} --help", 2)
    except _FileError as error:  # what --out names cannot be written
        return _complain(error.format_message(), 2)
    except SystemExit:  # of typer or rich, when the reader of a pipe has left, as `head` does
        return 0
    except UnicodeDecodeError as error:
        return _complain(f"standard input is no {error.encoding} text ({error.reason})", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)


def _complain(message: str, code: Any) -> int:
    """Prints one message, at most ten lines of it, to standard error; returns the exit code."""
    if "--overwrite" in sys.argv:
        message = message.replace("the same command", "the same command without --overwrite")
    lines = [line if len(line) <= 1000 else f"{line[:1000]}..." for line in message.splitlines()] or ["failed"]
    if len(lines) > 10:
        lines = [*lines[:9], f"... and {len(lines) - 9} lines more"]
    heading = "" if code - 128 in SIGNALS else "error: "
    print(heading + "\n".join(lines), file=sys.stderr)
    return int(code)
