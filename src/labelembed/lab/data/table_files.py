"""One file of examples, of CSV, TSV, JSON lines or parquet, as a table."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError, nearest
from labelembed.lab.data.checks import content_of, few, printable, require_file

ACCEPTED = "a .csv, .tsv, .jsonl, .json or .parquet file (or .gz of it), a folder of them, or a saved data set"
#: A cell of more characters is refused: most often a quotation mark that is never closed.
MAXIMUM_CELL = 2_000_000
#: Parquet files that unpack to more bytes, and to ten times as many as they have, are refused.
MOST_BYTES = 8 * 2**30
_KINDS = {
    ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".arrow": "parquet",
}  # fmt: skip
csv.field_size_limit(MAXIMUM_CELL)  # for the whole process; 131,072 at first, which is less than a long text has


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How text files are read.

    Attributes:
        delimiter: Between the cells of CSV files; None: the one that the first line has most of.
        encoding: None: UTF-8, or what a byte order mark says.
        columns: Names of the columns of CSV files without a heading; None: they have one.
    """

    delimiter: str | None = None
    encoding: str | None = None
    columns: Sequence[str] | None = None

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with it."""
        errors = ArgumentErrors()
        known = len((self.delimiter or ",").encode()) == 1 and self.delimiter not in ("\r", "\n", '"')
        errors.require(known, "delimiter", self.delimiter, 'must be one ASCII character (a tab: "\\t")')
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError):  # ValueError: a name with a zero byte
            errors.require(False, "encoding", self.encoding, "must be a text encoding, such as cp1252 or utf-16")
        errors.require(self.columns != [], "columns", self.columns, "must name one column or more")
        return errors


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Examples of one or more files.

    Attributes:
        source: File or folder they come from, for messages.
        frame: The values, a pandas DataFrame; its index has each example's file and number there.
        typed: Whether the values have types; those of CSV are all texts.
        left_aside: Columns that were not read, and what they hold.
    """

    source: Path
    frame: Any
    typed: bool = True
    left_aside: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.frame.columns)

    @property
    def places(self) -> list[tuple[Path, int]]:
        """File of each example, and its number in that file."""
        return list(self.frame.index)

    def values(self, name: str) -> list[Any]:
        """Returns the values of a column [N]."""
        return list(self.frame[name].tolist())

    def select(self, rows: Sequence[int] | Tensor | npt.NDArray[Any]) -> Table:
        """Returns a table of the examples at these positions, or of those that a mask has."""
        return replace(self, frame=self.frame.iloc[np.asarray(rows, dtype=None if len(rows) else np.int64)])

    def without(self, names: Collection[str]) -> Table:
        """Returns a table without some of its columns."""
        return replace(self, frame=self.frame.drop(columns=list(names), errors="ignore"))

    def complete(self, has: Sequence[bool], what: str, notes: list[str]) -> Table:
        """Returns a table of the examples that have something; adds to the notes which ones are left out."""
        missing = [row for row, has_it in enumerate(has) if not has_it]
        if missing:
            places = f"{len(missing):,} of {len(self):,} examples ({self.place(*missing)})"
            notes.append(f"left out, without a {what}: {places}")
        return self.select(np.array(has, dtype=bool)) if missing else self

    def lines(self, *, without: Collection[str] = ()) -> list[str]:
        """Returns the examples as a person reads them, without some columns: ``age=39, sex=male``."""
        cells = [[f"{name}={value}" for value in self.values(name)] for name in self.names if name not in without]
        return list(map(", ".join, zip(*cells, strict=True))) if cells else [""] * len(self)

    def place(self, *rows: int) -> str:
        """Returns where examples stand: ``row 17, row 18``, with the file's name where the table is of several."""
        several = len(self.frame.index.levels[0]) > 1
        places = [
            (printable(file.name) + " ") * several + f"row {number:,}" for file, number in self.frame.index[[*rows[:5]]]
        ]
        return few([*places, *[""] * len(rows[5:])], 5)

    def listed(self) -> str:
        """Returns the columns' names for a message."""
        return few([*self.names, *self.left_aside], most=12)

    def missing_column(self, key: str, name: str) -> str:
        """Returns the message for a column that was named by the setting `key` and is not there."""
        if name in self.left_aside:
            return f"{self.source}: `{key}`: column {name!r} holds {self.left_aside[name]}; texts or numbers are read"
        hint = nearest(name, self.names) or nearest(name.strip().lower(), self.names)
        return f"{self.source}: `{key}`: no column {name!r}{hint}; there are: {self.listed()}"


def is_missing(value: Any) -> bool:
    """Tells whether a value is none: None, not a number, or a text of spaces."""
    return not value.strip() if isinstance(value, str) else value is None or value != value


def is_readable(file: Path) -> bool:
    """Tells whether a file is of a kind that is read, by its name."""
    return _kind_of(file) is not None


def _kind_of(file: Path) -> str | None:
    return _KINDS.get(file.with_suffix("").suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower())


def read_file(*files: Path, reading: Reading) -> Table:
    """Returns the examples of a file, or of several of parquet; raises DataError where it cannot be read."""
    file, kind = files[0], _kind_of(files[0])
    require_file(file, ACCEPTED)
    if kind is None:
        raise DataError(f"{file}: unknown kind of file {''.join(file.suffixes[-2:])!r:.40}; expected {ACCEPTED}")
    if kind == "parquet":
        return _read_arrow(files)
    text = decoded(content_of(file), file, encoding=reading.encoding)
    return _read_json(text, file, kind) if kind.startswith("json") else _read_csv(text, file, kind, reading)


def decoded(content: bytes, source: Path | str, *, encoding: str | None) -> str:
    """Returns bytes as text, in the encoding named or in UTF-8, or what a byte order mark says; raises DataError."""
    if not content.strip():
        raise DataError(f"{source}: is empty")
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    name = encoding or ("utf-16" if is_wide else "utf-8")
    try:
        text = content.decode(name).removeprefix("\ufeff")
        before, zero, _ = text.partition("\0")  # of UTF-16 without a mark
        if not zero:
            return text
        line = before.count("\n") + 1
    except UnicodeError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
    way = "name the file's own encoding, for instance --set data.encoding=cp1252"
    raise DataError(f"{source}: line {line:,} is not written in {name}; {way}")


def _read_csv(text: str, file: Path, kind: str, reading: Reading) -> Table:
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = reading.delimiter or ("\t" if kind == "tsv" else max(",;\t|", key=heading.count))
    try:
        rows = _rows(text, file, delimiter, csv.QUOTE_MINIMAL, reading.columns)
    except DataError:
        if delimiter != "\t":
            raise
        # about half of these are written with quotation marks as plain characters
        rows = _rows(text, file, delimiter, csv.QUOTE_NONE, reading.columns)
    names = [name.strip() for name in reading.columns or rows.pop(min(rows))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}: has more than one column named {twice!r}; give each a name of its own")
    if not rows:
        raise DataError(f"{file}: has a heading and no row: {few(names, most=12)}")
    return Table(source=file, frame=_frame(file, rows, columns=names), typed=False)


def _rows(
    text: str, file: Path, delimiter: str, quoting: Literal[0, 3], columns: Sequence[str] | None
) -> dict[int, list[str]]:
    """Returns the rows that are not empty by their numbers, all of as many cells; pandas would fill up short ones."""
    rows: dict[int, list[str]] = {}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    width, number, line = len(columns or ()), 0, 1
    try:
        for number, cells in enumerate(reader, start=1):
            width = width or len(cells)
            if cells and len(cells) != width:
                raise DataError(
                    f"{file}: row {number:,}, line {line:,}, has {len(cells)} cells when cut at {delimiter!r}, not "
                    f"{width}; put texts that hold a {delimiter!r} in quotation marks, or name another delimiter with "
                    "--set data.delimiter=..."
                )
            if cells:
                rows[number] = cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file}: row {number + 1:,}, which begins in line {line:,}, cannot be read ({error}); is a quotation mark "
            "never closed? One inside a text is written twice"
        ) from None
    return rows


def _read_json(text: str, file: Path, kind: str) -> Table:
    """Returns the examples of JSON lines, or of a JSON file that holds a list of objects."""
    rows: dict[int, Any] = {}
    number = 1
    try:
        if kind == "json" and text.lstrip().startswith("["):
            rows = dict(enumerate(json.loads(text), start=1))
        else:
            for number, line in enumerate(text.split("\n"), start=1):
                rows |= {number: json.loads(line)} if line.strip() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: line {number:,} is no JSON ({str(error)[:120]})") from None
    wrong = next((number for number, row in rows.items() if not isinstance(row, dict)), None)
    if wrong is not None or not rows:
        what = "has no row" if wrong is None else f"row {wrong:,} is no object"
        raise DataError(f"{file}: {what}; expected {{column: value, ...}}")
    frame = _frame(file, rows)
    nested = [name for name in frame if any(isinstance(value, dict | list) for value in frame[name])]
    left_aside = dict.fromkeys(nested, "lists or objects")
    return Table(source=file, frame=frame.drop(columns=nested), left_aside=left_aside)


def _frame(file: Path, rows: Mapping[int, Any], columns: Sequence[str] | None = None) -> Any:
    import pandas as pd

    index = pd.MultiIndex.from_product([[file], rows])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns, dtype=object)


@contextmanager
def damage_named(file: Path) -> Iterator[None]:
    """Turns whatever pyarrow raises into a DataError: a damaged file makes it raise nearly anything."""
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f'parquet files and saved data sets need pip install "labelembed[hub]" ({error})') from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{file}: is cut off or damaged ({reason})") from None


def read_columns(file: Path, names: Sequence[str] | None) -> Any:
    """Returns a ``pyarrow.Table`` of some columns of a parquet or arrow file; None: of all, without examples."""
    with damage_named(file):
        import pyarrow
        import pyarrow.parquet as parquet

        if file.suffix == ".arrow":
            with pyarrow.OSFile(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
                table = stream.schema.empty_table() if names is None else stream.read_all().select(list(names))
            table.validate(full=True)  # Arrow believes the offsets of a damaged stream, and reads beyond its memory
            return table
        about = parquet.read_metadata(file)
        if names is None:
            return about.schema.to_arrow_schema().empty_table()
        held = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        most = max(MOST_BYTES, 10 * file.stat().st_size)
        if held > most:
            raise DataError(f"{file}: unpacks to {held:,} bytes; the limit is {most:,}; take fewer examples")
        table = parquet.read_table(file, columns=list(names), partitioning=None).select(list(names))
        table.validate(full=True)  # texts of a damaged file need not be UTF-8
        return table


def _read_arrow(files: Sequence[Path]) -> Table:
    """Returns the examples of parquet or arrow files; columns of pictures and of lists are left aside."""
    import pandas as pd

    schemas = {file: read_columns(file, None).schema for file in files}
    schema = schemas[files[0]]
    holds = {field.name: _holds(field.type) for field in schema if not field.name.startswith("__index_level_")}
    used = [name for name, what in holds.items() if what == "values"]
    frames = {}
    for file in files:
        if not schemas[file].equals(schema):
            raise DataError(f"{file}: has other columns than {files[0].name}")
        table = read_columns(file, used or schema.names[:1])
        with damage_named(file):
            frames[file] = table.to_pandas(ignore_metadata=True)[used]
        for name, names in _class_names(schemas[file]).items():
            if name in used:
                frames[file][name] = frames[file][name].map(dict(enumerate(names)))  # another file may number otherwise
    source = files[0] if len(files) == 1 and files[0].suffix != ".arrow" else files[0].parent
    frame = pd.concat(frames)
    if not len(frame):
        raise DataError(f"{source}: has no row")
    left_aside = {name: what for name, what in holds.items() if what != "values"}
    return Table(source=source, frame=frame, left_aside=left_aside)


def _holds(type_: Any) -> str:
    """Returns what a column of a type holds: `bytes` (or {bytes, path}), `lists or objects`, `values`."""
    import pyarrow.types as types

    if types.is_struct(type_) and any(field.name == "bytes" and _holds(field.type) == "bytes" for field in type_):
        return "bytes"
    is_bytes = types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    return "bytes" if is_bytes else "lists or objects" if types.is_nested(type_) else "values"


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Returns the names of the labels 0, 1, ... of the columns for which the `huggingface` metadata have them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {name: about for name, about in features.items() if about.get("_type") == "ClassLabel"}
        return {name: list(map(str, about["names"])) for name, about in labels.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
