"""The training, validation and test examples of a data set: one file, a folder of files, or a saved data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.checks import few
from labelembed.lab.data.splits import PARTS
from labelembed.lab.data.table_files import Reading, Table, damage_named, is_readable, read_file

#: Tables by what they are for: `train`, `validation`, `test`.
Parts = dict[str, Table]
# `train`, `imdb-train`, `train-00000-of-00002` or `train-00000-of-00002-0123456789abcdef`
_FILE_NAME = re.compile(
    rf"(?:.*[-_.])?(?P<split>{'|'.join(PARTS)})(?:[-_.]\d+(?:[-_.]of[-_.](?P<count>\d+))?)?(?:-[0-9a-f]{{16}})?",
    re.IGNORECASE,
)
_SPLIT_WORDS = ("split", "set", "subset", "partition")


def read_parts(path: Path, reading: Reading, *, split: str | None = None, to_evaluate: bool = False) -> Parts:
    """Returns the tables of a data set: `train`, and `validation` and `test` where there are such.

    Args:
        path: A file; a folder with ``train``, ``test`` and ``dev`` files of any kind (parquet may be in several,
            ``train-00000-of-00002.parquet``, or in folders ``train`` and ``test``) or with one file alone; or a data
            set that the `datasets` library saved.
        reading: How files are read.
        split: Column that says what each example is for; None: one named `split` or the like.
        to_evaluate: A file without such a column, or without training examples in it, is one split.
    """
    try:
        files = _files_by_split(path) if path.is_dir() else {"train": [path]}
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise DataError(f"{path}: cannot be read ({error})") from None
    if "train" not in files:
        raise DataError(f"{path}: has no training set; found {', '.join(sorted(files))}")
    tables = {part: read_file(*found, reading=reading) for part, found in files.items()}
    return _by_column(tables["train"], split, to_evaluate) if list(tables) == ["train"] else tables


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    """Returns the files of each split of a folder."""
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        with damage_named(folder):
            import datasets

            saved: Any = datasets.load_from_disk(str(folder))
            splits = saved if isinstance(saved, dict) else {"train": saved}
            of_saved = {name: [Path(file["filename"]) for file in split.cache_files] for name, split in splits.items()}
        known = {PARTS[name.lower()]: files for name, files in of_saved.items() if name.lower() in PARTS}
        return known or ({"train": next(iter(of_saved.values()))} if len(of_saved) == 1 else of_saved)
    for place in (folder, folder / "data"):
        named = _named_files(place) if place.is_dir() else {}
        if "train" in named:
            return named
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
    """Returns the files of a folder that are called as a split is, and the parquet files of folders called so."""
    files: dict[str, list[Path]] = {}
    counts: dict[str, int] = {}
    for entry in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(entry.name.removesuffix(".gz").rpartition(".")[0])
        if entry.is_dir() and entry.name.lower() in PARTS:
            files.setdefault(PARTS[entry.name.lower()], []).extend(sorted(entry.glob("*.parquet")))
        elif match is not None and is_readable(entry):
            part = PARTS[match["split"].lower()]
            files.setdefault(part, []).append(entry)
            counts[part] = int(match["count"] or 0)
    for part, found in files.items():
        if len(found) > 1 and any(file.suffix.lower() != ".parquet" for file in found):
            raise DataError(f"{folder}: {found[0].name} and {found[1].name} are for the same split; keep one of them")
        if counts.get(part) and len(found) != counts[part]:
            raise DataError(
                f"{folder}: the {part} set has {counts[part]} files by their names, but there are {len(found)}; fetch "
                "the others, or keep one set of files in the folder"
            )
    return {part: found for part, found in files.items() if found}


def _by_column(table: Table, column: str | None, to_evaluate: bool) -> Parts:
    """Cuts one table into splits where a column says what each example is for."""

    def splits_of(name: str) -> list[str | None]:
        return [PARTS.get(str(value).strip().lower()) for value in table.values(name)]

    likely = [name for name in table.names if name.strip().lower() in _SPLIT_WORDS and "train" in splits_of(name)]
    column = next(iter(likely), None) if column is None else column
    if column is None or (to_evaluate and column not in table.names):
        return {"train": table}
    if column not in table.names:
        raise DataError(table.missing_column("split", column))
    splits = splits_of(column)
    if None in splits:
        value = f"{table.place(splits.index(None))} has {table.values(column)[splits.index(None)]!r:.60}"
        raise DataError(f"{table.source}: {value} in column {column!r}; expected {', '.join(PARTS)}")
    if "train" not in splits:
        if to_evaluate:
            return {"train": table}
        raise DataError(f"{table.source}: has no training example in column {column!r}")
    rest = table.without((column,))  # it says what an example is for, and is nothing to learn from
    found = dict.fromkeys(split for split in ("train", "validation", "test") if split in splits)
    return {part: rest.select([row for row, split in enumerate(splits) if split == part]) for part in found}
