"""The training, validation and test examples of a data set: one file, a folder of files, or a saved data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.checks import few, require_file
from labelembed.lab.data.files.csv import read_csv
from labelembed.lab.data.files.jsonl import read_json
from labelembed.lab.data.files.parquet import ARROW_SUFFIX, read_arrow_table, saved_splits
from labelembed.lab.data.files.table import Table, missing_column
from labelembed.lab.data.files.text import is_encoding, read_text
from labelembed.lab.data.splits import PARTS

ACCEPTED = "a .csv, .tsv, .jsonl, .json or .parquet file (or .gz of it), a folder of them, or a saved data set"
_KINDS = {
    ".csv": "csv", ".txt": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet",
}  # fmt: skip
# `train`, `imdb-train`, `train-00000-of-00002` or `train-00000-of-00002-0123456789abcdef`
_FILE_NAME = re.compile(
    rf"(?:.*[-_.])?(?P<part>{'|'.join(PARTS)})(?:[-_.](?P<number>\d+)(?:[-_.]of[-_.](?P<count>\d+))?)?"
    r"(?:-[0-9a-f]{16})?",
    re.IGNORECASE,
)
_SPLIT_WORDS = ("split", "set", "subset", "partition")

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

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with it."""
        errors = ArgumentErrors()
        one = self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter not in '\r\n"')
        errors.require(one, "delimiter", self.delimiter, 'must be one character (a tab: "\\t")')
        known = self.encoding is None or is_encoding(self.encoding)
        errors.require(known, "encoding", self.encoding, "must be a text encoding, for instance cp1252 or utf-16")
        named = self.columns is None or bool(self.columns)
        errors.require(named, "columns", self.columns, "must name one column or more")
        return errors


def read_parts(path: Path, reading: Reading, *, split: str | None = None, to_evaluate: bool = False) -> Parts:
    """Returns the tables of a data set: `train`, and `validation` and `test` where there are such.

    Args:
        path: A file; a folder with ``train``, ``test`` and ``dev`` files of any kind (parquet may be in several,
            ``train-00000-of-00002.parquet``, or in folders ``train`` and ``test``) or with one file alone; or a data
            set that the `datasets` library saved (`save_to_disk`).
        reading: How files are read.
        split: Column that says what each example is for, of data without files for each part; None: the one named
            `split` or the like with `train` among its values, if any.
        to_evaluate: A file without the column `split`, or without training examples in it, is one part.

    Raises:
        DataError: Nothing there can be read; names file and row.
    """
    try:
        files = _files_by_part(path) if path.is_dir() else {"train": [path]}
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise DataError(f"{path}: cannot be read ({error})") from None
    if "train" not in files:
        raise DataError(f"{path}: has no training set; found {', '.join(sorted(files))}")
    tables = {part: _read_files(found, reading) for part, found in files.items()}
    train = tables["train"]
    if list(tables) == ["train"]:
        return _by_column(train, path, split, to_evaluate)
    if split is not None:
        raise DataError(f"{path}: has a file for each part already; leave `split_column` out")
    for name, table in tables.items():
        missing = [column for column in train.names if column not in table.names]
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
    if kind == "parquet" or file.suffix == ARROW_SUFFIX:
        return read_arrow_table([file])
    if kind is None:
        raise DataError(f"{file}: unknown kind of file {''.join(file.suffixes[-2:])!r:.40}; expected {ACCEPTED}")
    text = read_text(file, encoding=reading.encoding)
    if kind in ("jsonl", "json"):
        return read_json(text, file, lines=kind == "jsonl")
    return read_csv(text, file, delimiter=reading.delimiter, tabs=kind == "tsv", columns=reading.columns)


def is_readable(file: Path) -> bool:
    """Tells whether a file is of a kind that is read, by its name."""
    return _kind_of(file) is not None


def _kind_of(file: Path) -> str | None:
    return _KINDS.get(_unzipped(file).suffix.lower())


def _unzipped(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() == ".gz" else file


def _files_by_part(folder: Path) -> dict[str, list[Path]]:
    """Returns the files of each part of a folder."""
    saved = saved_splits(folder)
    if saved is not None:
        known = {PARTS[name.lower()]: files for name, files in saved.items() if name.lower() in PARTS}
        return known or ({"train": next(iter(saved.values()))} if len(saved) == 1 else saved)
    for place in (folder, folder / "data"):
        found = _named_files(place) if place.is_dir() else {}
        if "train" in found:
            return found
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.is_file() and is_readable(entry)]
    if len(files) == 1:
        return {"train": files}
    seen = few([entry.name for entry in entries]) or "nothing"
    raise DataError(
        f"{folder}: has no training set; expected train.csv (.tsv, .jsonl, .parquet) with test.csv and dev.csv if "
        f"there are such, one file alone, or a saved data set; found {seen}"
    )


def _named_files(folder: Path) -> dict[str, list[Path]]:
    """Returns the files of a folder that are called as a part is, and the parquet files of folders called so."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(_unzipped(entry).stem)
        if entry.is_dir() and entry.name.lower() in PARTS:
            found.setdefault(PARTS[entry.name.lower()], []).extend(sorted(entry.glob("*.parquet")))
        elif match is not None and is_readable(entry):
            found.setdefault(PARTS[match["part"].lower()], []).append(entry)
    for part, files in found.items():
        _require_all_of(folder, part, files)
    return {part: files for part, files in found.items() if files}


def _require_all_of(folder: Path, part: str, files: Sequence[Path]) -> None:
    """Raises DataError where the files of a part are not all there, or more than its own."""
    if len(files) > 1 and any(file.suffix.lower() != ".parquet" for file in files):
        raise DataError(f"{folder}: {files[0].name} and {files[1].name} are for the same part; keep one of them")
    matches = filter(None, (_FILE_NAME.fullmatch(file.stem) for file in files))
    numbers = {int(match["number"]): int(match["count"]) for match in matches if match["count"]}
    if not numbers:
        return
    count = max(numbers.values())
    missing = [number for number in range(count) if number not in numbers]
    if missing:
        raise DataError(
            f"{folder}: the {part} set has {count} files, of which {len(missing)} are missing, the first "
            f"with the number {missing[0]:05d}; fetch them"
        )
    if len(files) != count:
        raise DataError(
            f"{folder}: the {part} set has {count} files by their names, but there are {len(files)}; keep one set of "
            "files in the folder"
        )


def _read_files(files: Sequence[Path], reading: Reading) -> Table:
    return read_file(files[0], reading) if len(files) == 1 else read_arrow_table(files)


def _by_column(table: Table, source: Path, split: str | None, to_evaluate: bool) -> Parts:
    """Cuts one table into parts where a column says what each example is for."""
    if to_evaluate and split not in table.names:
        split = None
    if split is None:
        split = next((name for name in table.names if _says_parts(name, table)), None)
        if split is None:
            return {"train": table}
    elif split not in table.names:
        raise DataError(missing_column(table, "split", split))
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(table.values(split)):
        part = _part(value)
        if part is None:
            raise DataError(
                f"{source}: {table.place(row)} has {value!r:.60} in column {split!r}; expected {', '.join(PARTS)}"
            )
        rows.setdefault(part, []).append(row)
    if "train" not in rows and to_evaluate:
        return {"train": table}
    if "train" not in rows:
        raise DataError(f"{source}: has no training example in column {split!r}; found {', '.join(sorted(rows))}")
    rest = table.without((split,))  # it says what an example is for, and is nothing to learn from
    return {part: rest.select(places) for part, places in rows.items()}


def _says_parts(name: str, table: Table) -> bool:
    """Tells whether a column is called as one of parts is, and has `train` among its values or nothing but parts."""
    if name.strip().lower() not in _SPLIT_WORDS:
        return False
    parts = set(map(_part, table.values(name)))
    return "train" in parts or None not in parts


def _part(value: object) -> str | None:
    return PARTS.get(value.strip().lower()) if isinstance(value, str) else None
