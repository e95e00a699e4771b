"""The verb `preprocess`: from parallel text to a corpus folder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.lab.cli.options import JsonOption, OverwriteOption, QuietOption, out_option
from labelembed.lab.cli.program import Verb, verb

if TYPE_CHECKING:
    from labelembed.lab.data import CorpusSettings, TextCorpus

_PAIR_OPTIONS = ("--train", "--validation", "--test")
# Where there is only one file the place of the second is taken by a word that no file is called.
_NO_SECOND = ""
_PAIRS = "two line-aligned files, or one of pairs (.jsonl)."


class PairsVerb(Verb):
    """A verb whose `--train`, `--validation` and `--test` take two files, or one file of pairs."""

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


@verb(
    "Look up and prepare",
    "labelembed preprocess --train train.en.gz train.de.gz --validation val.en.gz val.de.gz --out corpus",
    "labelembed preprocess --train pairs.jsonl --level character --lowercase --out letters",
    cls=PairsVerb,
)
def preprocess(
    train: Annotated[tuple[str, str], typer.Option("--train", metavar="SOURCE TARGET", help=f"Training set: {_PAIRS}")],
    out: Annotated[Path, out_option("FOLDER", "The corpus folder to make.")],
    validation: Annotated[
        tuple[str, str] | None, typer.Option("--validation", metavar="SOURCE TARGET", help=f"Validation set: {_PAIRS}")
    ] = None,
    test: Annotated[
        tuple[str, str] | None, typer.Option("--test", metavar="SOURCE TARGET", help=f"Test set: {_PAIRS}")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Settings: level=word, subword or character; vocabulary_size=N (the 4 special tokens too; 8,000 of "
            "subwords), min_count=2, max_length=80 (tokens of a training pair), lowercase=true, "
            "shared_vocabulary=true, source_column, target_column. --level subword is short for --set level=subword, "
            "and so on.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus folder of parallel text, to train networks that write sentences."""
    from labelembed.lab.data import PairFiles
    from labelembed.lab.data import preprocess as make_corpus
    from labelembed.lab.runs.display import Shown
    from labelembed.lab.runs.progress_text import duration

    chosen, columns = _settings(settings or [])

    def files(given: tuple[str, str]) -> PairFiles:
        return PairFiles(Path(given[0]), Path(given[1]) if given[1] != _NO_SECOND else None, *columns)

    def show(what: str, done: int, total: int) -> None:
        share = done / max(total, 1)
        shown.show(what, share, "", line=f"{what}: {share:.0%}")

    began = time.perf_counter()
    with Shown(quiet=quiet).watching() as shown:
        corpus = make_corpus(
            train=files(train),
            validation=files(validation) if validation else None,
            test=files(test) if test else None,
            out=out,
            settings=chosen,
            overwrite=overwrite,
            progress=show,
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


def _settings(settings: Sequence[str]) -> tuple[CorpusSettings, tuple[str | None, str | None]]:
    """Returns the settings that were typed, and the columns of source and target in files of pairs.

    Raises:
        LabelEmbedError: There is no such setting, or it is out of its range.
    """
    import dataclasses

    from pydantic import TypeAdapter, ValidationError

    from labelembed.errors import LabelEmbedError, unknown_name
    from labelembed.lab.data import CorpusSettings
    from labelembed.lab.recipes.components import refusal
    from labelembed.lab.recipes.loading import put_settings

    typed: dict[str, Any] = {}
    errors = put_settings(typed, settings)
    columns = (typed.pop("source_column", None), typed.pop("target_column", None))
    known = [field.name for field in dataclasses.fields(CorpusSettings)]
    listed = [*known, "source_column", "target_column"]
    errors += [unknown_name("setting", key, listed) for key in typed if key not in known]
    if errors:
        raise LabelEmbedError("\n".join(f"--set {error}" for error in errors))
    try:
        return TypeAdapter(CorpusSettings).validate_python(typed), columns
    except ValidationError as error:
        errors = [": ".join([*map(str, one["loc"]), refusal([one], one["input"])]) for one in error.errors()]
        raise LabelEmbedError("\n".join(errors)) from None


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
