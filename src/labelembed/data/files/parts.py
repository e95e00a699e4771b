"""The training, validation and test examples of a data set: one file, a folder of files, or a saved data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelembed.data.checks import printable, require_file
from labelembed.data.files.csv import read_csv
from labelembed.data.files.jsonl import read_json
from labelembed.data.files.parquet import find_shards, read_parquet_table, read_saved_table, saved_splits
from labelembed.data.files.table import Table, missing_column
from labelembed.data.files.text import is_encoding, read_text
from labelembed.data.splits import PARTS
from labelembed.errors import ArgumentFaults, DataError

ACCEPTED = "a .csv, .tsv, .jsonl, .json or .parquet file (or .gz of it), a folder of them, or a saved data set"
_KINDS = {
    ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet",
}  # fmt: skip
_FILE_NAME = re.compile(rf"(?:.*[-_.])?(?P<part>{'|'.join(PARTS)})", re.IGNORECASE)
#: How a column of parts is called.
SPLIT_WORDS = ("split", "set", "subset", "partition")

#: Tables by what they are for: `train`, `validation`, `test`.
Parts = dict[str, Table]


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

    def faults(self) -> ArgumentFaults:
        """Returns what is wrong with it."""
        faults = ArgumentFaults()
        one = self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter not in '\r\n"')
        faults.require(one, "delimiter", self.delimiter, 'must be one character (a tab: "\\t")')
        known = self.encoding is None or is_encoding(self.encoding)
        faults.require(known, "encoding", self.encoding, "must be a text encoding, for instance cp1252 or utf-16")
        named = self.columns is None or bool(self.columns)
        faults.require(named, "columns", self.columns, "must name one column or more")
        return faults


def read_parts(path: Path, reading: Reading, *, split: str | None = None, to_measure: bool = False) -> Parts:
    """Returns the tables of a data set: `train`, and `validation` and `test` where there are such.

    Args:
        path: A file; a folder with ``train``, ``test`` and ``dev`` files of any kind, or with one file; or a data set
            that the `datasets` library saved (`save_to_disk`).
        reading: How files are read.
        split: Column that says what each example is for, of one file; None: the one named `split` or the like in which
            every value is the name of a part, if any.
        to_measure: A file without the column `split`, or without training examples in it, is one part.

    Raises:
        DataError: Nothing there can be read; names file and row.
    """
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not is_folder:
        return by_column(read_file(path, reading), path, split, to_measure)
    tables = _of_saved(path) or _of_folder(path, reading)
    if "train" not in tables:
        raise DataError(f"{path}: has no training set; found {', '.join(sorted(tables))}")
    if list(tables) == ["train"]:
        return by_column(tables["train"], path, split, to_measure)
    if split is not None:
        raise DataError(f"{path}: has a file for each part already; leave `split_column` out")
    for name, table in tables.items():
        missing = [column for column in tables["train"].names if column not in table.names]
        if missing and name != "test":  # a test set may come without labels, which is seen to later
            raise DataError(
                f"{table.source}: has no column {missing[0]!r}, which the training set has; it has {table.listed()}"
            )
    return tables


def read_file(file: Path, reading: Reading) -> Table:
    """Returns the examples of one file.

    Raises:
        DataError: It cannot be read; names the row.
    """
    require_file(file, ACCEPTED)
    kind = _kind_of(file)
    if kind == "parquet":
        return read_parquet_table([file], file)
    if kind is None:
        raise DataError(f"{file}: unknown kind of file {''.join(file.suffixes[-2:])!r:.40}; expected {ACCEPTED}")
    text = read_text(file, encoding=reading.encoding)
    if kind in ("jsonl", "json"):
        return read_json(text, file, lines=kind == "jsonl")
    return read_csv(text, file, delimiter=reading.delimiter, tabs=kind == "tsv", columns=reading.columns)


def by_column(table: Table, source: Path, split: str | None, to_measure: bool) -> Parts:
    """Cuts one table into parts where a column says what each example is for.

    Args:
        table: The examples.
        source: Where they come from, for messages.
        split: See `read_parts`.
        to_measure: See `read_parts`.

    Raises:
        DataError: A value names no part, or there is no training example.
    """
    if to_measure and split not in table.names:
        split = None
    if split is None:
        split = next((name for name in table.names if _says_parts(name, table)), None)
        if split is None:
            return {"train": table}
    elif split not in table.names:
        raise DataError(missing_column(table, "split_column", split))
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(table.values(split)):
        part = PARTS.get(value.strip().lower()) if isinstance(value, str) else None
        if part is None:
            raise DataError(
                f"{source}: {table.place(row)} has {value!r:.60} in column {split!r}; expected {', '.join(PARTS)}"
            )
        rows.setdefault(part, []).append(row)
    if "train" not in rows and to_measure:
        return {"train": table}
    if "train" not in rows:
        raise DataError(f"{source}: has no training example in column {split!r}; found {', '.join(sorted(rows))}")
    return {part: table.select(places) for part, places in rows.items()}


def is_readable(file: Path) -> bool:
    """Tells whether a file is of a kind that is read, by its name."""
    return _kind_of(file) is not None


def _kind_of(file: Path) -> str | None:
    name = file.with_suffix("") if file.suffix.lower() == ".gz" else file
    return _KINDS.get(name.suffix.lower())


def _of_saved(folder: Path) -> Parts | None:
    splits = saved_splits(folder)
    if splits is None:
        return None
    found = {PARTS[name.lower()]: place for name, place in splits.items() if name.lower() in PARTS}
    if not found and len(splits) == 1:
        found = {"train": next(iter(splits.values()))}
    if "train" not in found:
        raise DataError(f"{folder}: has no split 'train'; it has {', '.join(sorted(splits))}")
    return {name: read_saved_table(place) for name, place in found.items()}


def _of_folder(folder: Path, reading: Reading) -> Parts:
    try:
        entries = sorted(folder.iterdir())
        files = [entry for entry in entries if entry.is_file() and is_readable(entry)]
        parquet = any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    if parquet and not (len(files) == 1 and files[0].suffix.lower() == ".parquet"):
        return {name: read_parquet_table(shards, shards[0].parent) for name, shards in find_shards(folder).items()}
    by_part: dict[str, list[Path]] = {}
    for file in files:
        match = _FILE_NAME.fullmatch(file.name.split(".")[0])
        if match is not None:
            by_part.setdefault(PARTS[match["part"].lower()], []).append(file)
    several = next((found for found in by_part.values() if len(found) > 1), None)
    if several is not None:
        raise DataError(f"{folder}: {several[0].name} and {several[1].name} are for the same part; keep one of them")
    if "train" in by_part:
        return {name: read_file(found[0], reading) for name, found in by_part.items()}
    if len(files) == 1:
        return {"train": read_file(files[0], reading)}
    seen = ", ".join(printable(entry.name) for entry in entries[:8]) or "nothing"
    raise DataError(
        f"{folder}: has no training set; expected train.csv (.tsv, .jsonl, .parquet) with test.csv and dev.csv if "
        f"there are such, one file alone, or a saved data set; found {seen}"
    )


def _says_parts(name: str, table: Table) -> bool:
    """Tells whether a column is called as one of parts, and every value is the name of one, `train` among them."""
    if name.strip().lower() not in SPLIT_WORDS:
        return False
    parts = {PARTS.get(str(value).strip().lower()) for value in set(table.values(name))}
    return "train" in parts and None not in parts
