"""One file of examples, of CSV, TSV, JSON lines or parquet, as a table; and the data sets that `datasets` saves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import content_of, few, require_file

ACCEPTED = "a .csv, .tsv, .jsonl, .json or .parquet file (or .gz of it), or a folder of them"
#: A cell of more characters is refused: most often a quotation mark that is never closed.
MAXIMUM_CELL = 2_000_000
#: Parquet files that unpack to more bytes, and to ten times as many as they have, are refused.
MOST_BYTES = 8 * 2**30
_KINDS = {
    ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".parquet": "parquet",
}  # fmt: skip
csv.field_size_limit(MAXIMUM_CELL)  # for the whole process; 131,072 at first, which is less than a long text has


class Reading(NamedTuple):
    """The delimiter of CSV files (None: the one that the first line has most of) and their encoding (None: UTF-8)."""

    delimiter: str | None = None
    encoding: str | None = None


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
        missing = np.flatnonzero(~np.array(has, dtype=bool))
        if len(missing):
            places = f"{len(missing):,} of {len(self):,} examples ({self.place(*missing)})"
            notes.append(f"left out, without a {what}: {places}")
        return self.select(np.array(has, dtype=bool)) if len(missing) else self

    def lines(self, *, without: Collection[str] = ()) -> list[str]:
        """Returns the examples as a person reads them, without some columns: ``age=39, sex=male``."""
        cells = [[f"{name}={value}" for value in self.values(name)] for name in self.names if name not in without]
        return list(map(", ".join, zip(*cells, strict=True))) if cells else [""] * len(self)

    def place(self, *rows: int) -> str:
        """Returns where examples stand in their file: ``row 17, row 18``."""
        return few([f"row {number:,}" for _, number in self.frame.index[[*rows]]], 5)

    def listed(self) -> str:
        """Returns the columns' names for a message, and what those hold that were not read."""
        return few([*self.names, *(f"{name} ({what})" for name, what in self.left_aside.items())], most=12)

    def missing_column(self, key: str, name: str) -> str:
        """Returns the message for a column of texts or numbers that was named by the setting `key` and is not there."""
        hint = nearest(name, self.names) or nearest(name.strip().lower(), self.names)
        return f"{self.source}: `{key}`: no column {name!r} of texts or numbers{hint}; there are: {self.listed()}"


def is_missing(value: Any) -> bool:
    """Tells whether a value is none: None, not a number, or a text of spaces."""
    return not value.strip() if isinstance(value, str) else value is None or value != value


def as_text(value: Any) -> str:
    """Returns a value as a text without spaces around it: ``3`` for 3.0, as it is where one is missing, ``True``."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def is_readable(file: Path) -> bool:
    """Tells whether a file is of a kind that is read, by its name."""
    return _kind_of(file) is not None


def holds_lines(file: Path) -> bool:
    """Tells whether each line of a file is an example, to a reader of texts, by its name."""
    return file.name.lower().endswith((".txt", ".txt.gz"))


def _kind_of(file: Path) -> str | None:
    return _KINDS.get(Path(file.name.lower().removesuffix(".gz")).suffix)


def read_file(*files: Path, reading: Reading) -> Table:
    """Returns the examples of a file, or of several of parquet; raises DataError where it cannot be read."""
    file, kind = files[0], _kind_of(files[0])
    require_file(file, ACCEPTED)
    if kind is None:
        raise DataError(f"{file}: unknown kind of file {''.join(file.suffixes[-2:])!r:.40}; expected {ACCEPTED}")
    if kind == "parquet":
        return _read_parquet(files)
    text = decoded(content_of(file), file, encoding=reading.encoding)
    if kind == "json":
        return _read_json(text, file)
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = str(reading.delimiter or ("\t" if kind == "tsv" else max(",;\t|", key=heading.count)))
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise DataError(f"{file}: data.delimiter must be one character, got {delimiter!r}")
    return _read_csv(text, file, delimiter)


def decoded(content: bytes, source: Path | str, *, encoding: str | None) -> str:
    """Returns bytes as text, in the encoding named or in UTF-8, or what a byte order mark says; raises DataError."""
    name = encoding or ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    try:
        text = content.decode(name).removeprefix("\ufeff")
        wrong = "it has zero bytes" if "\0" in text else ""  # UTF-16 without a mark
    except (LookupError, ValueError, TypeError) as error:  # LookupError: there is no such encoding
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        wrong = f"line {line:,}: {error}"
    if wrong:
        way = "save it as UTF-8, or give check, train or compare its own encoding: --set data.encoding=cp1252"
        raise DataError(f"{source}: is not written in {name} ({wrong:.200}); {way}")
    if not text.strip():
        raise DataError(f"{source}: is empty")
    return text


def _read_csv(text: str, file: Path, delimiter: str, quoting: Any = csv.QUOTE_MINIMAL) -> Table:
    # pandas would fill up short rows, and read on where a quotation mark is not closed
    rows: dict[int, list[str]] = {}
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
        rows = {number: cells for number, cells in enumerate(reader, start=1) if cells}
    except csv.Error as error:
        if delimiter == "\t" and quoting == csv.QUOTE_MINIMAL:  # about half of these have them as plain characters
            return _read_csv(text, file, delimiter, csv.QUOTE_NONE)
        way = "is a quotation mark never closed? One inside a text is written twice"
        raise DataError(f"{file}: line {reader.line_num:,} or before: {error}; {way}") from None
    names = [name.strip() for name in rows.pop(min(rows))]
    for number, cells in rows.items():
        if len(cells) != len(names):
            way = f"put texts with a {delimiter!r} in quotation marks, or name the delimiter: --set data.delimiter=..."
            raise DataError(f"{file}: row {number:,} has {len(cells)} cells, not {len(names)}; {way}")
    frame = _frame(file, rows, names)
    is_used = [bool(name or frame.iloc[:, place].str.strip().any()) for place, name in enumerate(names)]
    frame = frame.loc[:, is_used]  # spreadsheets write columns that nobody named or filled
    if not frame.columns.is_unique:
        raise DataError(f"{file}: has two columns of one name ({few(names, 12)}); give each a name of its own")
    if delimiter == ";" and any(frame[name].str.fullmatch(r"\s*[-+]?[\d.]*\d,\d+\s*").any() for name in frame):
        frame = frame.apply(_with_points)
    return Table(source=file, frame=frame, typed=False)


def _with_points(cells: Any) -> Any:
    """Returns the cells of a column with 1234.5 for 1.234,5, as it is written where a comma begins the fraction."""
    grouped = cells.str.fullmatch(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?\s*")
    if not (cells.str.fullmatch(r"\s*[-+]?\d*\.\d+\s*") & ~grouped).any():  # no point begins a fraction, as in 0.5
        cells = cells.mask(grouped, cells.str.replace(".", "", regex=False))
    return cells.str.replace(r"^\s*([-+]?\d+),(\d+)\s*$", r"\1.\2", regex=True)


def _read_json(text: str, file: Path) -> Table:
    """Returns the examples of JSON lines, or of a JSON file that holds a list of objects."""
    rows: dict[int, Any] = {}
    number = 1
    try:
        if text.lstrip().startswith("["):
            rows = dict(enumerate(json.loads(text), start=1))
        else:
            for number, line in enumerate(text.split("\n"), start=1):
                rows |= {number: json.loads(line)} if line.strip() else {}
        if "\\ud" in text or "\\uD" in text:  # perhaps half a character, of an emoji that was cut: no file can hold it
            whole = json.dumps(list(rows.values()), ensure_ascii=False).encode(errors="replace")
            rows = dict(zip(rows, json.loads(whole), strict=True))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: line {number:,} is no JSON ({str(error)[:120]})") from None
    wrong = next((number for number, row in rows.items() if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DataError(f"{file}: row {wrong:,} is no object; expected {{column: value, ...}}")
    frame = _frame(file, rows)
    nested = [name for name in frame if any(isinstance(value, dict | list) for value in frame[name])]
    return Table(source=file, frame=frame.drop(columns=nested), left_aside=dict.fromkeys(nested, "lists or objects"))


def _frame(file: Path, rows: Mapping[int, Any], columns: Sequence[str] | None = None) -> Any:
    import pandas as pd

    if not rows:
        raise DataError(f"{file}: has no row" + " below its heading" * (columns is not None))
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


def read_columns(file: Path, names: Sequence[str]) -> Any:
    """Returns a ``pyarrow.Table`` of some columns of a parquet file."""
    with damage_named(file):
        import pyarrow.parquet as parquet

        about = parquet.read_metadata(file)
        held = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        most = max(MOST_BYTES, 10 * file.stat().st_size)
        if held > most:
            raise DataError(f"{file}: unpacks to {held:,} bytes; the limit is {most:,}; take fewer examples")
        table = parquet.read_table(file, columns=list(names), partitioning=None).select(list(names))
        table.validate(full=True)  # texts of a damaged file need not be UTF-8
        return table


def _read_parquet(files: Sequence[Path]) -> Table:
    """Returns the examples of parquet files; columns of pictures and of lists are left aside."""
    import pandas as pd

    frames, holds = {}, dict[str, str]()
    for file in files:
        with damage_named(file):
            import pyarrow.parquet as parquet

            schema = parquet.read_schema(file)
            its = {field.name: _holds(field.type) for field in schema if not field.name.startswith("__index_level_")}
            holds = holds or its
            if its != holds:
                raise DataError(f"{file}: has other columns than {files[0].name}")
            used = [name for name, what in holds.items() if what == "values"]
            frames[file] = read_columns(file, used or schema.names[:1]).to_pandas(ignore_metadata=True)[used]
            info = json.loads((schema.metadata or {}).get(b"huggingface", "{}")).get("info", {})
            for name, feature in info.get("features", {}).items():
                if name in used and feature.get("_type") == "ClassLabel":  # another file may number them otherwise
                    frames[file][name] = frames[file][name].map(dict(enumerate(feature["names"])))
    frame = pd.concat(frames)
    if not len(frame):
        raise DataError(f"{files[0]}: has no row")
    left_aside = {name: what for name, what in holds.items() if what != "values"}
    return Table(source=files[0] if len(files) == 1 else files[0].parent, frame=frame, left_aside=left_aside)


def is_saved(folder: Path) -> bool:
    """Tells whether a folder is what `save_to_disk` of Hugging Face's `datasets` leaves."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read_saved(folder: Path) -> dict[str, Table]:
    """Returns the splits of a saved data set by their names, or `train`; raises DataError where it cannot be read."""
    import pandas as pd

    tables = {}
    with damage_named(folder):
        import datasets

        saved = datasets.load_from_disk(str(folder))
        for name, split in (saved if isinstance(saved, dict) else {"train": saved}).items():
            holds = {field.name: _holds(field.type) for field in split.features.arrow_schema}
            if "bytes" in holds.values():
                raise DataError(f"{folder}: has pictures; write each split with to_parquet('{name}.parquet')")
            used = [column for column, what in holds.items() if what == "values"]
            frame = split.select_columns(used).to_pandas()
            for column, feature in split.features.items():
                if isinstance(feature, datasets.ClassLabel):
                    frame[column] = frame[column].map(dict(enumerate(feature.names)))
            left_aside = {column: what for column, what in holds.items() if what != "values"}
            tables[name] = Table(source=folder, frame=pd.concat({folder: frame}), left_aside=left_aside)
    return tables


def _holds(type_: Any) -> str:
    """Returns what a column of a type holds: `bytes` (or {bytes, path}), `lists or objects`, `values`."""
    import pyarrow.types as types

    if types.is_struct(type_) and any(field.name == "bytes" and _holds(field.type) == "bytes" for field in type_):
        return "bytes"
    is_bytes = types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    return "bytes" if is_bytes else "lists or objects" if types.is_nested(type_) else "values"
