"""The training, validation and test examples of a data set: one file, or a folder of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.checks import few
from labelembed.lab.data.splits import PARTS
from labelembed.lab.data.table_files import Reading, Table, is_readable, is_saved, read_file, read_saved

#: Tables by what they are for: `train`, `validation`, `test`.
Parts = dict[str, Table]
_SPLIT_WORDS = ("split", "set", "subset", "partition")


def read_parts(path: Path, reading: Reading, *, split: str | None = None, to_evaluate: bool = False) -> Parts:
    """Returns the tables of a data set: `train`, and `validation` and `test` where there are such.

    Args:
        path: A file; a folder with files that have ``train``, ``test`` and ``dev`` in their names (parquet may be in
            several, ``train-00000-of-00002.parquet``), or with one file alone; a data set that `datasets` saved, of
            which splits of other names (``unsupervised``) are not read.
        reading: How files are read.
        split: Column that says what each example is for; None: one named `split` or the like.
        to_evaluate: A file without such a column, or without training examples in it, is one split.
    """
    if is_saved(path):
        saved = read_saved(path)
        tables = {PARTS[name]: table for name, table in saved.items() if name in PARTS}
        if "train" not in tables:
            raise DataError(f"{path}: has no split 'train' but {few(list(saved))}")
    else:
        files = _files_by_split(path) if path.is_dir() else {"train": [path]}
        tables = {part: read_file(*of_part, reading=reading) for part, of_part in files.items()}
    if split is not None and len(tables) > 1:
        raise DataError(f"{path}: has its parts in files of their own; leave out data.split_column={split}")
    return _by_column(tables["train"], split, to_evaluate) if list(tables) == ["train"] else tables


def part_of(name: str) -> str | None:
    """Returns the part that the name of a file or folder has a word of, as `training_set`; None: it has none."""
    return next((PARTS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS), None)


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    readable = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_readable(entry)]
    files: dict[str, list[Path]] = {}
    for entry in readable:
        if part := part_of(entry.name):
            files.setdefault(part, []).append(entry)
    if "train" not in files:
        if len(readable) == 1:
            return {"train": readable}
        there = few([entry.name for entry in folder.iterdir()]) or "nothing"
        raise DataError(f"{folder}: has no training set (train.csv, .tsv, .jsonl, .parquet) but {there}")
    for part, of_part in files.items():
        if len(of_part) > 1 and any(file.suffix != ".parquet" for file in of_part):
            two = f"{of_part[0].name} and {of_part[1].name} are for the same split"
            raise DataError(f"{folder}: {two}; join them into one file, or keep one")
        count = re.search(r"-of-(\d+)", of_part[0].name)
        if count and len(of_part) != int(count[1]):
            raise DataError(f"{folder}: {len(of_part)} of the {int(count[1])} files of the {part} set are there")
    return files


def _by_column(table: Table, column: str | None, to_evaluate: bool) -> Parts:
    """Cuts one table into splits where a column says what each example is for."""

    def splits_of(name: str) -> Any:
        return table.frame[name].astype(str).str.strip().str.lower().map(PARTS)

    likely = [name for name in table.names if name.strip().lower() in _SPLIT_WORDS and "train" in set(splits_of(name))]
    column = column or next(iter(likely), None)
    if column is None or (to_evaluate and column not in table.names):
        return {"train": table}
    if column not in table.names:
        raise DataError(table.missing_column("split_column", column))
    splits = splits_of(column)
    if splits.isna().any():
        row = int(splits.isna().argmax())
        value = f"{table.place(row)} has {table.values(column)[row]!r:.60}"
        raise DataError(f"{table.source}: {value} in column {column!r}; expected {', '.join(PARTS)}")
    parts = [part for part in ("train", "validation", "test") if (splits == part).any()]
    if "train" not in parts:
        if to_evaluate:
            return {"train": table}
        raise DataError(f"{table.source}: has no training example in column {column!r}")
    rest = table.without((column,))  # it says what an example is for, and is nothing to learn from
    return {part: rest.select((splits == part).to_numpy()) for part in parts}
