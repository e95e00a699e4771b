"""The subcommand translate: lines in, lines out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.evaluate import USE
from labelembed.lab.cli.options import LINES, BestRunArgument, DeviceOption, is_file, load_run, use_device

if TYPE_CHECKING:
    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.training.decoding import Decoding


@subcommand(
    USE,
    "labelembed translate runs/en-de input.txt --set decoding.beam=10 --out translated.txt",
    "labelembed translate runs/en-de input.txt --set decoding.length_penalty=1.5",
)
def translate(
    run: BestRunArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Text with a sentence a line, plain or gzipped; - is standard input.")
    ] = "-",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change how sentences are found: decoding.beam=10, decoding.length_penalty=1.5, "
            "decoding.maximum_length=80, decoding.replace_unknown=true.",
        ),
    ] = None,
    out: typer.FileTextWrite = LINES,
    device: DeviceOption = None,
) -> None:
    """Translate the lines of a text with a finished run; Ctrl-C keeps what is done."""
    from labelembed.errors import LabelEmbedError
    from labelembed.lab.data.corpus.pair_files import read_lines
    from labelembed.lab.errors import InterruptedTraining
    from labelembed.lab.runs.display import Shown
    from labelembed.lab.training.device import Stopped

    to_file = is_file(out, [file])
    saved = load_run(run, use_device(device))
    decoding = _decoding(saved, settings or [])
    lines = sys.stdin if file == "-" else read_lines(Path(file))
    done = 0
    try:
        with Shown(quiet=not to_file).watching() as shown:
            texts = (text.rstrip("\r\n") for text in lines)
            for translation in saved.translate(texts, decoding):
                print(translation, file=out, flush=True)
                done += 1
                shown.show("", 0.0, f"translated {done:,} lines")
    except ValueError as error:
        raise LabelEmbedError(f"after {done:,} lines: {error}") from error
    except Stopped as stopped:
        message = f"stopped; the first {done:,} lines are written"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None
    if done == 0:
        raise LabelEmbedError(f"{'standard input' if file == '-' else file}: holds no line")
    if to_file:
        typer.echo(f"{out.name}: {done:,} lines written")


def _decoding(saved: SavedRun, settings: Sequence[str]) -> Decoding:
    """Returns how sentences are found: as the recipe says, with what was typed."""
    from labelembed.errors import LabelEmbedError
    from labelembed.lab.runs.build import changed_recipe

    if other := next((setting for setting in settings if not setting.strip().startswith("decoding.")), None):
        raise LabelEmbedError(f"--set {other}: only keys of decoding can be changed, e.g. decoding.length_penalty=1.5")
    return changed_recipe(saved.folder, settings).decoding or saved.sentences.decoding
