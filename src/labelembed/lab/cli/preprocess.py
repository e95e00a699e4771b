"""The subcommand preprocess: from parallel text to a corpus folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.options import out_option
from labelembed.lab.cli.recipes import PREPARE

if TYPE_CHECKING:
    from labelembed.lab.data import CorpusSettings

_FILES = "a file of source lines, then one of target lines (give the option twice)."


@subcommand(
    PREPARE,
    "labelembed preprocess --train train.en.gz --train train.de.gz --validation val.en.gz --validation val.de.gz "
    "--out corpus",
    "labelembed preprocess --train train.en.gz --train train.de.gz --set level=character --set lowercase=true "
    "--out letters",
)
def preprocess(
    train: Annotated[list[Path], typer.Option("--train", metavar="FILE", help=f"Training set: {_FILES}")],
    out: Annotated[Path, out_option("FOLDER", "The corpus folder to make.")],
    validation: Annotated[
        list[Path] | None, typer.Option("--validation", metavar="FILE", help="Validation set, the same.")
    ] = None,
    test: Annotated[list[Path] | None, typer.Option("--test", metavar="FILE", help="Test set, the same.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Settings: level=word, subword or character; vocabulary_size=N (the 4 special tokens too; 8,000 of "
            "subwords), min_count=2, max_length=80 (tokens of a training pair), lowercase=true, "
            "shared_vocabulary=true.",
        ),
    ] = None,
) -> None:
    """Make a corpus folder of parallel text, to train networks that write sentences."""
    from labelembed.errors import LabelEmbedError
    from labelembed.lab.data import PairFiles
    from labelembed.lab.data import preprocess as make_corpus
    from labelembed.lab.runs.display import Shown
    from labelembed.lab.special_tokens import UNKNOWN

    pairs: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    for name, files in pairs.items():
        if files and len(files) != 2:
            raise LabelEmbedError(f"--{name}: must be {_FILES} Got {len(files)}: {', '.join(map(str, files))}")
        pairs[name] = PairFiles(*files) if files else None
    chosen = parse_settings(settings or [])
    with Shown().watching() as shown:
        corpus = make_corpus(**pairs, out=out, settings=chosen, progress=lambda step: shown.show(step, 0))
    for note in corpus.notes:
        typer.echo(f"note: {note}", err=True)
    for side, tokenizer in (("source", corpus.source_tokenizer), ("target", corpus.target_tokenizer)):
        typer.echo(f"{side:<12} {len(tokenizer.vocabulary):>9,} tokens in the vocabulary, {tokenizer.level} level")
    for name, split in corpus.splits.items():
        unknown = [f"{(side.tokens == UNKNOWN).mean():.2%}" for side in (split.source, split.target)]
        typer.echo(f"{name:<12} {len(split):>9,} pairs, {' and '.join(unknown)} of their tokens unknown")


def parse_settings(settings: Sequence[str]) -> CorpusSettings:
    """Returns the settings that were typed."""
    import dataclasses

    from pydantic import TypeAdapter, ValidationError

    from labelembed.errors import LabelEmbedError, unknown_name
    from labelembed.lab.data import CorpusSettings
    from labelembed.lab.recipes.loading import put_settings

    typed: dict[str, Any] = {}
    errors = put_settings(typed, settings)
    known = [field.name for field in dataclasses.fields(CorpusSettings)]
    errors += [unknown_name("setting", key, known) for key in typed if key not in known]
    try:
        if not errors:
            return TypeAdapter(CorpusSettings).validate_python(typed)
    except ValidationError as error:
        errors = [": ".join([*map(str, one["loc"]), one["msg"].replace("Value error, ", "")]) for one in error.errors()]
    raise LabelEmbedError("\n".join(f"--set {error}" for error in errors))
