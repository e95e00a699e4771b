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
    "labelembed translate runs/en-de input.txt --n-best 3 --set decoding.length_penalty=1.5",
)
def translate(
    run: BestRunArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Text with a sentence a line, plain or gzipped; - is standard input.")
    ] = "-",
    n_best: Annotated[
        int, typer.Option("--n-best", min=1, metavar="N", help="Translations of a sentence: number ||| text ||| score.")
    ] = 1,
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

    saved = load_run(run, use_device(device))
    decoding = _decoding(saved, settings or [], n_best=n_best)
    lines = sys.stdin if file == "-" else read_lines(Path(file))
    done, unknown_lines = 0, 0
    try:
        with Shown(quiet=not is_file(out)).watching() as shown:
            texts = (text.rstrip("\r\n") for text in lines)
            for number, line in enumerate(saved.translate(texts, decoding, n_best=n_best)):
                if n_best == 1:
                    print(line.texts[0] if line.texts else "", file=out, flush=True)
                for text, score in zip(line.texts, line.scores, strict=True) if n_best > 1 else ():
                    print(f"{number} ||| {text} ||| {score:.4f}", file=out, flush=True)
                done += 1
                unknown_lines += bool(line.texts) and not line.known
                shown.show("", 0.0, text := f"translated {done:,} lines", line=text)
    except ValueError as error:
        raise LabelEmbedError(f"after {done:,} lines: {error}") from error
    except Stopped as stopped:
        message = f"stopped; the first {done:,} lines are written"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None
    if done == 0:
        raise LabelEmbedError(f"{'standard input' if file == '-' else file}: holds no line")
    if is_file(out):
        typer.echo(f"{out.name}: {done:,} lines written")
    if unknown_lines:
        typer.echo(f"note: {unknown_lines:,} of {done:,} lines have no word that the run knows", err=True)


def _decoding(saved: SavedRun, settings: Sequence[str], *, n_best: int) -> Decoding:
    """Returns how sentences are found: as the recipe says, with what was typed."""
    from labelembed.errors import LabelEmbedError
    from labelembed.lab.runs.build import changed_recipe

    if other := next((setting for setting in settings if not setting.strip().startswith("decoding.")), None):
        raise LabelEmbedError(f"--set {other}: only keys of decoding can be changed, e.g. decoding.length_penalty=1.5")
    beam = max(saved.sentences.decoding.beam, n_best)
    return changed_recipe(saved.folder, [f"decoding.beam={beam}", *settings]).decoding or saved.sentences.decoding
