"""The verb `preprocess`: from parallel text to a corpus folder."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from labelembed.cli.options import JsonOption, QuietOption

if TYPE_CHECKING:
    from labelembed.data import TextCorpus

LevelChoice = Literal["word", "subword", "character"]
_PAIR_OPTIONS = ("--train", "--dev", "--test")
# Where there is only one file the place of the second is taken by a word that no file is called.
_NO_SECOND = ""
_SHOWN_AFTER_SECONDS = 2.0
_PLAIN_LINE_SECONDS = 10.0


class PairOptionsCommand(TyperCommand):
    """A command whose `--train`, `--dev` and `--test` take two files, or one file of pairs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives an option with one file an empty second one, since options have a fixed number of values.

        Raises:
            typer.BadParameter: An option has no file.
        """
        filled: list[str] = []
        for place, word in enumerate(args):
            filled.append(word)
            following = args[place + 1] if place + 1 < len(args) else "-"
            if not following.startswith("-"):
                continue
            if word in _PAIR_OPTIONS:
                raise typer.BadParameter(
                    f"{word} needs a file of source lines and one of target lines, or one file of pairs", ctx=ctx
                )
            if place and args[place - 1] in _PAIR_OPTIONS:
                filled.append(_NO_SECOND)
        return super().parse_args(ctx, filled)


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        cls=PairOptionsCommand,
        epilog="Example: labelembed preprocess --train train.en.gz train.de.gz --dev val.en.gz val.de.gz --out corpus",
    )(preprocess)


def _pairs_option(name: str, what: str) -> Any:
    return typer.Option(
        name, metavar="SOURCE TARGET", help=f"{what}: two line-aligned files, or one of pairs (.tsv, .csv, .jsonl)."
    )


def preprocess(
    train: Annotated[tuple[str, str], _pairs_option("--train", "Training text")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The corpus folder to make.")],
    dev: Annotated[tuple[str, str] | None, _pairs_option("--dev", "Validation text")] = None,
    test: Annotated[tuple[str, str] | None, _pairs_option("--test", "Test text")] = None,
    level: Annotated[LevelChoice, typer.Option("--level", help="What a token is.")] = "word",
    source_level: Annotated[
        LevelChoice | None, typer.Option("--source-level", help="The same for the source alone.")
    ] = None,
    target_level: Annotated[
        LevelChoice | None, typer.Option("--target-level", help="The same for the target alone.")
    ] = None,
    vocabulary_size: Annotated[
        int | None,
        typer.Option(
            "--vocabulary-size", metavar="N", help="Most tokens, 4 special ones included; subwords: 8,000 if not given."
        ),
    ] = None,
    min_count: Annotated[
        int, typer.Option("--min-count", metavar="N", help="How often a word or character must occur.")
    ] = 1,
    shared_vocabulary: Annotated[
        bool, typer.Option("--shared-vocabulary", help="One vocabulary for both sides.")
    ] = False,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Make the text lower-case.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", metavar="N", help="Leave out training pairs with more tokens on a side."),
    ] = None,
    subword_kind: Annotated[
        Literal["bpe", "unigram"], typer.Option("--subword-kind", help="How sentencepiece finds its pieces.")
    ] = "bpe",
    source_column: Annotated[
        str | None, typer.Option("--source-column", metavar="NAME", help="In files of pairs, the source's column.")
    ] = None,
    target_column: Annotated[
        str | None, typer.Option("--target-column", metavar="NAME", help="In files of pairs, the target's column.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another corpus that is there.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a corpus folder of parallel text, for training a network that writes sentences."""
    from labelembed.data import CorpusSettings, PairFiles
    from labelembed.data import preprocess as make_corpus
    from labelembed.errors import LabelEmbedError
    from labelembed.runs.progress_text import duration

    try:
        settings = CorpusSettings(
            level=level,
            source_level=source_level,
            target_level=target_level,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
            shared_vocabulary=shared_vocabulary,
            lowercase=lowercase,
            max_length=max_length,
            subword_kind=subword_kind,
        )
    except ValueError as error:
        raise LabelEmbedError(str(error)) from None

    def files(given: tuple[str, str]) -> PairFiles:
        second = Path(given[1]) if given[1] != _NO_SECOND else None
        return PairFiles(Path(given[0]), second, source_column, target_column)

    began = time.perf_counter()
    with text_progress(quiet=quiet) as progress:
        corpus = make_corpus(
            train=files(train),
            validation=files(dev) if dev else None,
            test=files(test) if test else None,
            out=out,
            settings=settings,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    for note in corpus.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps(_as_json(corpus), ensure_ascii=False))
        return
    for line in _summary(corpus):
        typer.echo(line)
    if not quiet:
        typer.echo(f"{out} made in {duration(seconds)}", err=True)


def _as_json(corpus: TextCorpus) -> dict[str, Any]:
    return {
        "corpus": corpus.source,
        "fingerprint": corpus.fingerprint(),
        "vocabularies": {
            side: {"level": tokenizer.level, "size": len(tokenizer.vocabulary)}
            for side, tokenizer in (("source", corpus.source_tokenizer), ("target", corpus.target_tokenizer))
        },
        "splits": dict(corpus.counts),
        "notes": list(corpus.notes),
    }


def _summary(corpus: TextCorpus) -> Iterator[str]:
    """Yields a line for each side's vocabulary and for each split."""
    for side, tokenizer in (("source", corpus.source_tokenizer), ("target", corpus.target_tokenizer)):
        yield f"{side:<12} {len(tokenizer.vocabulary):>9,} tokens in the vocabulary, {tokenizer.level} level"
    for split, about in corpus.counts.items():
        sides = ", ".join(
            f"{about[side]['tokens']:,} {side} tokens ({about[side]['unknown'] / about[side]['tokens']:.2%} unknown)"
            for side in ("source", "target")
        )
        yield f"{split:<12} {about['pairs']:>9,} pairs, {sides}"


@contextmanager
def text_progress(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a callback that shows on standard error how far a text is read, from the third second on.

    On a terminal a bar; elsewhere a line every ten seconds.

    Args:
        quiet: Show nothing.
    """
    began = said_at = time.monotonic()
    bars: Any = None
    task: Any = None

    def show(what: str, done: int, total: int) -> None:
        nonlocal said_at, bars, task
        now = time.monotonic()
        if quiet or now - began < _SHOWN_AFTER_SECONDS:
            return
        if not sys.stderr.isatty():
            if now - said_at >= _PLAIN_LINE_SECONDS:
                said_at = now
                print(f"{what}: {done / max(total, 1):.0%}", file=sys.stderr, flush=True)
            return
        if bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            bars = Progress(*columns, console=Console(stderr=True))
            bars.start()
            task = bars.add_task(what, total=total)
        bars.update(task, description=what, completed=done)

    try:
        yield show
    finally:
        if bars is not None:
            bars.stop()
