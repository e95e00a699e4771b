"""What the readers of files with a column of labels share: their arguments, and the way from files to examples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from labelembed.errors import ArgumentErrors
from labelembed.lab.data.batch import Examples
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, ReadingProgress
from labelembed.lab.data.encoders.table_columns import kind_of
from labelembed.lab.data.files.labels import LabelReading, labelled
from labelembed.lab.data.files.parts import Parts, Reading, read_parts
from labelembed.lab.data.files.table import Table, is_missing
from labelembed.lab.data.splits import assigned, fraction_errors

_LOOKED_AT = 2_000


@dataclass(frozen=True, kw_only=True)
class LabelledFiles:
    """Examples with labels of CSV, TSV, JSON lines or parquet, or of a saved data set.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        label_column: Column of the labels; null: found by its name, then by what stands in it.
        split_column: Column that says which examples are train, dev and test; null: one named `split` or the like.
        columns: Names of the columns of a CSV file without a heading.
        delimiter: Between the cells of a CSV file; null: found.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        merge_labels: Make labels that differ by case or spaces only one (true) or keep them apart (false); null: refuse
            such labels.
        minimum_label_examples: Leave out labels with fewer training examples.
        skip_incomplete: Leave out examples without a label (or a text), with a note, instead of refusing the file.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
    """

    what: ClassVar[str]
    path: str
    label_column: str | None = None
    split_column: str | None = None
    columns: list[str] | None = None
    delimiter: str | None = None
    encoding: str | None = None
    merge_labels: bool | None = None
    minimum_label_examples: int = 1
    skip_incomplete: bool = False
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        self.errors().raise_if_any()

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = self.reading.errors()
        errors.require(
            self.minimum_label_examples >= 1, "minimum_label_examples", self.minimum_label_examples, "must be >= 1"
        )
        errors.errors += fraction_errors(self.test_fraction).errors
        return errors

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(delimiter=self.delimiter, encoding=self.encoding, columns=self.columns)

    @property
    def source(self) -> Path:
        """The file or folder."""
        return Path(self.path).expanduser()

    @abstractmethod
    def new_encoder(self) -> Encoder:
        """Returns what will learn how examples become inputs."""

    @abstractmethod
    def label_of(self, tables: Parts, notes: list[str], *, to_evaluate: bool) -> str:
        """Returns the column of the labels; changes `tables` to the examples that are used, and adds to the notes.

        Raises:
            DataError: A column cannot be told, or examples cannot be used; names the setting that goes on.
        """

    @abstractmethod
    def inputs_of(self, table: Table) -> Any:
        """Returns what the encoder takes of a table without its labels."""

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; what is refused names file and row, and the setting that goes on."""
        tables = read_parts(self.source, self.reading, split=self.split_column, to_evaluate=to_evaluate)
        notes: list[str] = []
        label = self.label_of(tables, notes, to_evaluate=to_evaluate)
        how = LabelReading(
            merge=self.merge_labels,
            skip_incomplete=self.skip_incomplete,
            to_evaluate=to_evaluate,
        )
        found, names, of_labels = labelled(tables, label, how, self.source)
        parts, of_parts = assigned(found, self.test_fraction, source=str(self.source), to_evaluate=to_evaluate)
        if self.label_column is None:
            of_labels.insert(0, label_column_note(label, parts["train"].labels, names))
        return RawData(
            parts={part: Examples(self.inputs_of(rows.inputs), rows.labels) for part, rows in parts.items()},
            names=names,
            source=f"{self.what} {self.source}",
            notes=(*notes, *of_labels, *of_parts),
            label_column=label,
            minimum_label_examples=None if to_evaluate else self.minimum_label_examples,
            new_encoder=self.new_encoder,
        )


def usable_columns(table: Table, *, without: Collection[str | None]) -> list[str]:
    """Returns the columns of numbers and categories."""
    names = [name for name in table.names if name not in without]
    return [name for name in names if kind_of(name, table.values(name)[:_LOOKED_AT]).kind is not None]


def label_names(table: Table, label: str) -> tuple[str, ...]:
    """Returns the different values of a column of labels."""
    return tuple({str(value).strip() for value in table.values(label) if not is_missing(value)})
