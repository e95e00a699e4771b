"""Finding the parquet files of a data set and reading their columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.data.checks import printable
from labelembed.data.parquet_limits import Unpacking, read_columns
from labelembed.data.part_names import PARTS
from labelembed.errors import DataError

_FILE_NAME = re.compile(
    rf"(?:.*[-_.])?(?P<split>{'|'.join(PARTS)})(?:[-_.](?P<number>\d+)(?:[-_.]of[-_.](?P<count>\d+))?)?"
    r"(?:-[0-9a-f]{16})?\.parquet",
    re.IGNORECASE,
)


class Shards(NamedTuple):
    """The files of a data set, in order, by split: `train` and, where there are such, `test` and `validation`."""

    files: dict[str, list[Path]]
    folder: Path


class Column(NamedTuple):
    """A column of a parquet file: its name, its type, and what the hub's metadata say of it."""

    name: str
    type: Any
    noted: Mapping[str, Any]


def find_shards(path: Path) -> Shards:
    """Returns the parquet files of a folder, or of one file, which then is the training set.

    Files are ``train.parquet``, ``train-00000-of-00002.parquet`` and the like, in the folder itself or in ``data``
    within it, or ``0000.parquet`` and the like in folders ``train`` and ``test``.

    Raises:
        DataError: There is no such path, no training file, or a shard of several is missing.
    """
    try:
        if path.is_file():
            return Shards({"train": [path]}, path.parent)
        if not path.is_dir():
            raise DataError(f"{path}: does not exist; expected a folder of parquet files (train-*.parquet, ...)")
        for folder in (path, path / "data"):
            files = _shards_in(folder) if folder.is_dir() else {}
            if "train" in files:
                return Shards(files, folder)
        seen = ", ".join(sorted(printable(entry.name) for entry in path.iterdir())[:8]) or "nothing"
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    raise DataError(
        f"{path}: has no training set; expected train.parquet or train-00000-of-00002.parquet and the like, "
        f"found {seen}"
    )


def _shards_in(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    announced: dict[str, tuple[int, set[int]]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name.lower() in PARTS:
            inside = sorted(child for child in entry.iterdir() if child.suffix.lower() == ".parquet")
            if inside:
                files.setdefault(PARTS[entry.name.lower()], []).extend(inside)
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None or not entry.is_file():
            continue
        split = PARTS[match["split"].lower()]
        files.setdefault(split, []).append(entry)
        if match["count"]:
            count, numbers = announced.setdefault(split, (int(match["count"]), set()))
            numbers.add(int(match["number"]))
    for split, (count, numbers) in announced.items():
        missing = [number for number in range(min(count, 100_000)) if number not in numbers]
        if missing:
            raise DataError(
                f"{folder}: the {split} set has {count} files, of which {len(missing)} are missing, the first "
                f"with the number {missing[0]:05d}; fetch them"
            )
        if len(files[split]) != count:
            found = ", ".join(printable(file.name) for file in files[split][:4])
            raise DataError(
                f"{folder}: the {split} set has {count} files by their names, but there are {len(files[split])} "
                f"({found}, ...); keep one set of files in the folder"
            )
    return files


def parquet() -> Any:
    """Returns ``pyarrow.parquet``.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f'parquet files need pyarrow: pip install "labelembed[hub]" ({type(error).__name__}: {error})'
        ) from None
    return pyarrow.parquet


def read_schema(file: Path) -> Any:
    """Returns the ``pyarrow.Schema`` of a parquet file.

    Raises:
        DataError: It is no parquet file, or damaged.
    """
    try:
        return parquet().read_schema(file)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise DataError(f"{file}: is no parquet file, cut off or damaged ({_first_line(error)})") from None


def read_column(files: list[Path], name: str, like: Any) -> list[Any]:
    """Returns one ``pyarrow.ChunkedArray`` a file of the column `name`.

    Args:
        files: The files.
        name: The column.
        like: The type the column must have, that of the first training file.

    Raises:
        DataError: A file is damaged, lacks the column, has it with another type, or unpacks to too much.
    """
    columns = []
    unpacking = Unpacking(files)
    for file in files:
        schema = read_schema(file)
        if name not in schema.names:
            raise DataError(
                f"{file}: has no column {name!r}, which the training set has; it has {', '.join(schema.names)}"
            )
        if schema.field(name).type != like:
            raise DataError(f"{file}: column {name!r} holds {schema.field(name).type}; the training set has {like}")
        columns.append(read_table_columns(file, [name], unpacking).column(name))
    return columns


def read_table_columns(file: Path, names: Sequence[str], unpacking: Unpacking | None = None) -> Any:
    """Returns columns of one file, a ``pyarrow.Table``.

    Args:
        file: The file.
        names: The columns.
        unpacking: Counts what several files unpack to; None: of this one alone.

    Raises:
        DataError: The file is damaged, or unpacks to too much.
    """
    try:
        return read_columns(file, names, unpacking or Unpacking([file]))
    except DataError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise DataError(f"{file}: is cut off or damaged ({_first_line(error)})") from None


def columns_of(file: Path) -> list[Column]:
    """Returns the columns of a parquet file.

    Raises:
        DataError: It is no parquet file, or damaged.
    """
    schema = read_schema(file)
    noted = described_features(schema)
    return [Column(field.name, field.type, noted.get(field.name, {})) for field in schema]


def described_features(schema: Any) -> Mapping[str, Any]:
    """Returns what the schema's `huggingface` metadata say of each column; nothing where there are none."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): feature for name, feature in noted.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
