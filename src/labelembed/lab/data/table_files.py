"""One file of examples, of CSV, TSV, JSON lines or parquet, as a table."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
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
    """How files are read.

    Attributes:
        delimiter: Between the cells of CSV files; None: found.
        encoding: Of text files; None: UTF-8, or what a byte order mark says.
        columns: Names of the columns of CSV files without a heading; None: they have one.
    """

    delimiter: str | None = None
    encoding: str | None = None
    columns: Sequence[str] | None = None

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with it."""
        errors = ArgumentErrors()
        known = self.delimiter is None or (len(self.delimiter.encode()) == 1 and self.delimiter not in '\r\n"')
        errors.require(known, "delimiter", self.delimiter, 'must be one ASCII character (a tab: "\\t")')
        try:
            known = not "".encode(self.encoding or "utf-8") or self.encoding is not None
        except (LookupError, ValueError):  # ValueError: a name with a zero byte
            known = False
        errors.require(known, "encoding", self.encoding, "must be a text encoding, for instance cp1252 or utf-16")
        named = self.columns is None or bool(self.columns)
        errors.require(named, "columns", self.columns, "must name one column or more")
        return errors


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Examples of one or more files.

    Attributes:
        source: File or folder they come from, for messages.
        frame: The values, a pandas DataFrame; its index says which examples of the files these are.
        origin: File of each example of the files, and its number in that file.
        word: What the file calls an example: `row`, `line` or `entry`.
        typed: Whether the values have types; those of CSV are all texts.
        label_names: Names of the labels 0, 1, ... of columns for which the file knows them.
        left_aside: Columns that were not read, and what they hold.
    """

    source: Path
    frame: Any
    origin: Sequence[tuple[Path, int]]
    word: str = "row"
    typed: bool = True
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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
        return [self.origin[row] for row in self.frame.index]

    def values(self, name: str) -> list[Any]:
        """Returns the values of a column [N]."""
        values: list[Any] = self.frame[name].tolist()
        return values

    def select(self, rows: Sequence[int] | Tensor | npt.NDArray[Any]) -> Table:
        """Returns a table of the examples at these positions, or of those that a mask has."""
        return replace(self, frame=self.frame.iloc[np.asarray(rows, dtype=None if len(rows) else np.int64)])

    def without(self, names: Collection[str]) -> Table:
        """Returns a table without some of its columns."""
        return replace(self, frame=self.frame[[name for name in self.names if name not in names]])

    def lines(self, *, without: Collection[str] = ()) -> list[str]:
        """Returns the examples as a person reads them, without some columns: ``age=39, sex=male``."""
        cells = [[f"{name}={value}" for value in self.values(name)] for name in self.names if name not in without]
        return list(map(", ".join, zip(*cells, strict=True))) if cells else [""] * len(self)

    def place(self, row: int) -> str:
        """Returns where an example stands: ``row 17``, or ``train-00001.parquet row 17`` of several files."""
        file, number = self.origin[self.frame.index[row]]
        several = self.origin[0][0] != self.origin[-1][0]
        return f"{printable(file.name)} {self.word} {number:,}" if several else f"{self.word} {number:,}"

    def places_of(self, rows: Sequence[int]) -> str:
        """Returns the first of several places: ``row 3, row 8 and 12 more``."""
        return few([self.place(row) if place < 5 else "" for place, row in enumerate(rows)], 5)

    def listed(self) -> str:
        """Returns the columns' names for a message."""
        return few([*self.names, *self.left_aside], most=12)

    def missing_column(self, key: str, name: str) -> str:
        """Returns the message for a column that was named by the setting `key` and is not there."""
        if name in self.left_aside:
            return f"{self.source}: `{key}`: column {name!r} holds {self.left_aside[name]}; texts or numbers are read"
        same = [column for column in self.names if column.strip().casefold() == name.strip().casefold()]
        hint = f" (did you mean {same[0]!r}?)" if same else nearest(name, self.names)
        return f"{self.source}: `{key}`: no column {name!r}{hint}; there are: {self.listed()}"


def is_missing(value: Any) -> bool:
    """Tells whether a value is none: None, not a number, or a text of spaces."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value != value


def kind_of_file(file: Path) -> str | None:
    """Returns `csv`, `tsv`, `jsonl`, `json` or `parquet` by the name of a file, gzipped or not; None: none of these."""
    return _KINDS.get(file.with_suffix("").suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower())


def is_readable(file: Path) -> bool:
    """Tells whether a file is of a kind that is read, by its name."""
    return kind_of_file(file) is not None


def read_file(*files: Path, reading: Reading) -> Table:
    """Returns the examples of a file, or of several of parquet.

    Raises:
        DataError: It cannot be read; names the row.
    """
    file, kind = files[0], kind_of_file(files[0])
    require_file(file, ACCEPTED)
    if kind is None:
        raise DataError(f"{file}: unknown kind of file {''.join(file.suffixes[-2:])!r:.40}; expected {ACCEPTED}")
    if kind == "parquet":
        return _read_parquet(files)
    text = decoded(content_of(file), file, encoding=reading.encoding)
    return _read_json(text, file, kind) if kind.startswith("json") else _read_csv(text, file, kind, reading)


def decoded(content: bytes, source: Path | str, *, encoding: str | None) -> str:
    """Returns bytes as text, in the encoding named or in UTF-8, or what a byte order mark says.

    Raises:
        DataError: They are empty, or not written so; names the line.
    """
    if not content.strip():
        raise DataError(f"{source}: is empty")
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    name = encoding or ("utf-16" if is_wide else "utf-8")
    try:
        text = content.decode(name).removeprefix("\ufeff")
        line = text.count("\n", 0, text.find("\0")) + 1 if "\0" in text else None
    except UnicodeError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
    if line is not None:
        way = "name the file's own encoding, for instance --set data.encoding=cp1252"
        raise DataError(f"{source}: line {line:,} is not written in {name}; {way}")
    return text


def found_delimiter(text: str) -> str:
    """Returns the delimiter that cuts the first rows into equally many cells, the most where several do."""
    beginning = text[: 2**20]

    def evenness(delimiter: str) -> tuple[bool, int]:
        try:
            rows = csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter)
            widths = [len(cells) for cells in islice(filter(None, rows), 100)]
        except csv.Error:
            return False, 0
        if len(beginning) < len(text) and 1 < len(widths) < 100:
            del widths[-1]  # of a row that is cut off
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(",;\t|", key=evenness)


def _read_csv(text: str, file: Path, kind: str, reading: Reading) -> Table:
    import pandas as pd

    delimiter = reading.delimiter or ("\t" if kind == "tsv" else found_delimiter(text))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    try:
        first, numbers = _checked_rows(text, file, delimiter, quoting, reading.columns)
    except DataError:
        if delimiter != "\t":
            raise
        quoting = csv.QUOTE_NONE  # about half of these are written with quotation marks as plain characters
        first, numbers = _checked_rows(text, file, delimiter, quoting, reading.columns)
    names = [name.strip() for name in reading.columns or first]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}: has more than one column named {twice!r}; give each a name of its own")
    if reading.columns is None:
        del numbers[0]
    if not numbers:
        raise DataError(f"{file}: has a heading and no row: {few(names, most=12)}")
    frame = pd.read_csv(
        io.StringIO(text), sep=delimiter, quoting=quoting, header=None, names=range(len(names)), dtype=str,
        na_filter=False, skip_blank_lines=False,
    )  # fmt: skip
    frame = frame.iloc[np.array(numbers) - 1].set_axis(names, axis=1).reset_index(drop=True)
    return Table(source=file, frame=frame, origin=[(file, number) for number in numbers], typed=False)


def _checked_rows(
    text: str, file: Path, delimiter: str, quoting: Literal[0, 3], columns: Sequence[str] | None
) -> tuple[list[str], list[int]]:
    """Returns the first row and the numbers of those that are not empty; pandas would fill up a short one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    first: list[str] = []
    numbers: list[int] = []
    number, line = 0, 1
    try:
        for number, cells in enumerate(reader, start=1):
            width = len(columns or first or cells)
            if cells and len(cells) != width:
                raise DataError(
                    f"{file}: row {number:,}, line {line:,}, has {len(cells)} cells when cut at {delimiter!r}, not "
                    f"{width}; put texts that hold a {delimiter!r} in quotation marks, or name another delimiter with "
                    "--set data.delimiter=..."
                )
            first = first or cells
            numbers += [number] if cells else []
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file}: row {number + 1:,}, which begins in line {line:,}, cannot be read ({error}); is a quotation mark "
            "never closed? One inside a text is written twice"
        ) from None
    return first, numbers


def _read_json(text: str, file: Path, kind: str) -> Table:
    """Returns the examples of JSON lines, or of a JSON file that holds a list of objects."""
    import pandas as pd

    word, place = "line", 0
    try:
        if kind == "json" and text.lstrip().startswith("["):
            word, rows = "entry", dict(enumerate(json.loads(text)))
        else:
            rows = {}
            for place, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    rows[place] = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: line {place:,} is no JSON ({str(error)[:120]})") from None
    wrong = next((place for place, row in rows.items() if not isinstance(row, dict)), None)
    if wrong is not None or not rows:
        what = f"has no {word}" if wrong is None else f"{word} {wrong:,} is no object"
        raise DataError(f"{file}: {what}; expected {{column: value, ...}}")
    frame = pd.DataFrame(list(rows.values()), dtype=object)
    nested = {
        name: "lists or objects" for name in frame if any(isinstance(value, dict | list) for value in frame[name])
    }
    origin = [(file, place) for place in rows]
    return Table(source=file, frame=frame.drop(columns=list(nested)), origin=origin, word=word, left_aside=nested)


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
    """Returns a ``pyarrow.Table`` of some columns of a parquet or arrow file; None: of all of them, without examples.

    Raises:
        DataError: The file is damaged, or pyarrow is missing.
    """
    with damage_named(file):
        import pyarrow
        import pyarrow.parquet as parquet

        if file.suffix != ".arrow":
            if names is None:
                return parquet.read_schema(file).empty_table()
            return parquet.read_table(file, columns=list(names), partitioning=None).select(list(names))
        with pyarrow.OSFile(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            if names is None:
                return stream.schema.empty_table()
            table = stream.read_all().select(list(names))
            table.validate(full=True)  # Arrow believes the offsets of a damaged stream, and reads beyond its memory
            return table


def _read_parquet(files: Sequence[Path]) -> Table:
    """Returns the examples of parquet or arrow files; columns of pictures and of lists are left aside."""
    import pandas as pd

    schemas = [read_columns(file, None).schema for file in files]
    columns = [{name: _kind_of(schema.field(name).type) for name in schema.names} for schema in schemas]
    used = [name for name, kind in columns[0].items() if kind == "values"]
    frames = []
    for place, file in enumerate(files):
        if (columns[place], _class_names(schemas[place])) != (columns[0], _class_names(schemas[0])):
            raise DataError(f"{file}: has other columns, or names its labels otherwise, than {files[0].name}")
        _require_room(file)
        table = read_columns(file, used or list(columns[0])[:1])
        with damage_named(file):
            frames.append(table.to_pandas(date_as_object=True).reset_index(drop=True)[used])
    frame = pd.concat(frames, ignore_index=True)
    categories = [name for name in used if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    source = files[0] if len(files) == 1 and files[0].suffix != ".arrow" else files[0].parent
    if not len(frame):
        raise DataError(f"{source}: has no row")
    return Table(
        source=source,
        frame=frame.astype(dict.fromkeys(categories, object)),
        origin=[(file, number) for file, part in zip(files, frames, strict=True) for number in range(len(part))],
        label_names=_class_names(schemas[0]),
        left_aside={name: kind for name, kind in columns[0].items() if kind != "values"},
    )


def _kind_of(type_: Any) -> str:
    """Returns what a column of a type holds: `bytes` (or {bytes, path}), `lists or objects`, `values`."""
    import pyarrow.types as types

    if types.is_struct(type_) and any(field.name == "bytes" and _kind_of(field.type) == "bytes" for field in type_):
        return "bytes"
    is_bytes = types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    return "bytes" if is_bytes else "lists or objects" if types.is_nested(type_) else "values"


def _require_room(file: Path) -> None:
    """Raises DataError where a parquet file says that it is larger than memory is likely to be."""
    if file.suffix == ".arrow":
        return
    with damage_named(file):
        import pyarrow.parquet as parquet

        about = parquet.read_metadata(file)
        held = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    most = max(MOST_BYTES, 10 * file.stat().st_size)
    if held > most:
        raise DataError(f"{file}: unpacks to {held:,} bytes; the limit is {most:,}; take fewer examples")


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Returns the names of the labels 0, 1, ... of the columns for which the `huggingface` metadata have them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {name: about for name, about in features.items() if about.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, about["names"])) for name, about in labels.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
