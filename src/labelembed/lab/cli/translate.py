"""The subcommand translate: lines in, lines out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.evaluate import USE
from labelembed.lab.cli.options import (
    BestRunArgument,
    DeviceOption,
    load_run,
    open_output,
    out_option,
    use_device,
)

if TYPE_CHECKING:
    from labelembed.lab.runs.saved_run import SavedRun, TranslatedLine
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
    out: Annotated[Path | None, out_option("FILE", "Write here instead of standard output.")] = None,
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
        with open_output(out) as target, Shown(quiet=out is None).watching() as shown:
            texts = (text.rstrip("\r\n") for text in lines)
            for number, line in enumerate(saved.translate(texts, decoding, n_best=n_best)):
                _write(target, number, line, n_best=n_best)
                done += 1
                unknown_lines += bool(line.translations) and not line.known
                shown.show("", 0.0, f"translated {done:,} lines")
    except ValueError as error:
        raise LabelEmbedError(f"after {done:,} lines: {error}") from error
    except Stopped as stopped:
        where = f"in {out}" if out is not None else "written"
        message = f"stopped; the first {done:,} lines are {where}"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None
    if done == 0:
        raise LabelEmbedError(f"{'standard input' if file == '-' else file}: holds no line")
    if out is not None:
        typer.echo(f"{out}: {done:,} lines written")
    if unknown_lines:
        typer.echo(f"note: {unknown_lines:,} of {done:,} lines have no word that the run knows", err=True)


def _decoding(saved: SavedRun, settings: Sequence[str], *, n_best: int) -> Decoding:
    """Returns how sentences are found: as the recipe says, with what was typed."""
    from labelembed.errors import LabelEmbedError
    from labelembed.lab.runs.build import changed_recipe

    others = [setting for setting in settings if not setting.strip().startswith("decoding.")]
    if others:
        example = "e.g. decoding.length_penalty=1.5"
        raise LabelEmbedError(f"--set {others[0]}: only keys of decoding can be changed, {example}")
    typed = any(setting.strip().startswith("decoding.beam=") for setting in settings)
    if not typed and saved.decoding.beam < n_best:
        settings = [*settings, f"decoding.beam={n_best}"]
    return changed_recipe(saved.folder, settings).decoding or saved.decoding


def _write(out: IO[str], number: int, line: TranslatedLine, *, n_best: int) -> None:
    if n_best == 1:
        out.write((line.translations[0].text if line.translations else "") + "\n")
    else:
        for one in line.translations:
            out.write(f"{number} ||| {one.text} ||| {one.score:.4f}\n")
    out.flush()
