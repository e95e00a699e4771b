"""`labelembed translate`: lines in, lines out."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from labelembed.cli.options import JsonOption, QuietOption, RunArgument

if TYPE_CHECKING:
    from labelembed.runs.saved_translator import TranslatedLine


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed translate runs/en-de input.txt --beam 10 --output out.txt")(translate)


def translate(
    run: RunArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Text with a sentence a line, plain or gzipped; - is standard input.")
    ] = "-",
    beam: Annotated[
        int | None, typer.Option("--beam", min=1, max=1000, help="Hypotheses kept a sentence; by default the recipe's.")
    ] = None,
    n_best: Annotated[
        int, typer.Option("--n-best", min=1, help="Translations a sentence: number ||| text ||| score.")
    ] = 1,
    length_penalty: Annotated[
        float | None, typer.Option("--length-penalty", help="The larger, the longer; by default the recipe's.")
    ] = None,
    maximum_length: Annotated[
        int | None, typer.Option("--maximum-length", min=1, help="Tokens of a translation at most.")
    ] = None,
    replace_unknown: Annotated[
        bool, typer.Option("--replace-unknown", help="Put the source word looked at in the place of an unknown word.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here; by default standard output.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Translate the lines of a text with a finished run; after Ctrl-C what is done is kept."""
    import torch

    from labelembed.data.corpus.lines import line_blocks
    from labelembed.errors import InterruptedTraining, LabelEmbedError
    from labelembed.runs.display import counting_shown
    from labelembed.runs.saved_translator import SavedTranslator
    from labelembed.training.signals import Stopped

    if threads is not None:
        torch.set_num_threads(threads)
    saved = SavedTranslator.load(run)
    asked: dict[str, Any] = {
        "beam": max(n_best, 1) if beam is None and saved.decoding.beam < n_best else beam,
        "length_penalty": length_penalty,
        "maximum_length": maximum_length,
        "replace_unknown": replace_unknown or None,
    }
    decoding = saved.decoding.model_copy(update={key: value for key, value in asked.items() if value is not None})
    lines = sys.stdin if file == "-" else (line for block in line_blocks(Path(file)) for line in block)
    done, strangers = 0, 0
    try:
        with _written(output) as out, counting_shown("translated {:,} lines", quiet=quiet) as show:
            texts = (text.rstrip("\r\n") for text in lines)
            for number, line in enumerate(saved.translate(texts, decoding, n_best=n_best)):
                _write(out, number, line, n_best=n_best, as_json=as_json)
                done += 1
                strangers += bool(line.translations) and not line.known
                show(done)
    except ValueError as error:
        raise LabelEmbedError(f"after {done:,} lines: {error}") from error
    except Stopped as stopped:
        where = f"in {output}" if output is not None else "written"
        message = f"stopped; the first {done:,} lines are {where}"
        raise InterruptedTraining(message, signal_number=stopped.signal_number) from None
    if done == 0:
        raise LabelEmbedError(f"{'standard input' if file == '-' else file}: holds no line")
    if output is not None:
        typer.echo(f"{output}: {done:,} lines written")
    if strangers:
        typer.echo(f"note: {strangers:,} of {done:,} lines have no word that the run knows", err=True)


@contextlib.contextmanager
def _written(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", encoding="utf-8") as file:
        yield file


def _write(out: IO[str], number: int, line: TranslatedLine, *, n_best: int, as_json: bool) -> None:
    if as_json:
        found = {"source": line.source, "translations": [one._asdict() for one in line.translations]}
        out.write(json.dumps(found, ensure_ascii=False) + "\n")
    elif n_best == 1:
        out.write((line.translations[0].text if line.translations else "") + "\n")
    else:
        for one in line.translations:
            out.write(f"{number} ||| {one.text} ||| {one.score:.4f}\n")
    out.flush()
