"""Parquet files, and data sets that the `datasets` library saved to the disk, through pyarrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.data.checks import printable, require_file
from labelembed.data.files.table import Table, table_of
from labelembed.data.splits import PARTS
from labelembed.errors import DataError

#: Columns that hold more bytes, and ten times as many as their files, are refused: they would not fit into memory.
MOST_BYTES = 8 * 2**30
_FILE_NAME = re.compile(
    rf"(?:.*[-_.])?(?P<split>{'|'.join(PARTS)})(?:[-_.](?P<number>\d+)(?:[-_.]of[-_.](?P<count>\d+))?)?"
    r"(?:-[0-9a-f]{16})?\.parquet",
    re.IGNORECASE,
)
_STATE = "state.json"
_SPLITS = "dataset_dict.json"
_NO_PARQUET = "is no parquet file, cut off or damaged"


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


def pyarrow_parquet() -> Any:
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


@contextmanager
def _damage_named(file: Path, what: str) -> Iterator[None]:
    """Turns whatever pyarrow raises into a DataError: a damaged file makes it raise nearly anything."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{file}: {what} ({reason})") from None


def columns_of(file: Path) -> list[Column]:
    """Returns the columns of a parquet file.

    Raises:
        DataError: It is no parquet file, or damaged.
    """
    schema = _schema(file)
    noted = _features(schema)
    return [Column(field.name, field.type, noted.get(field.name, {})) for field in schema]


def require_column(files: Sequence[Path], column: Column) -> None:
    """Raises DataError where a file is damaged, lacks a column, has it with another type, or they hold too much."""
    for file in files:
        schema = _schema(file)
        if column.name not in schema.names:
            raise DataError(
                f"{file}: has no column {column.name!r}, which the training set has; it has {', '.join(schema.names)}"
            )
        held = schema.field(column.name).type
        if held != column.type:
            raise DataError(f"{file}: column {column.name!r} holds {held}; the training set has {column.type}")
    _require_room(files, [column.name])


def read_column(files: Sequence[Path], column: Column) -> list[Any]:
    """Returns a column as one ``pyarrow.ChunkedArray`` a file.

    Raises:
        DataError: As `require_column`.
    """
    require_column(files, column)
    return [_columns(file, [column.name]).column(0) for file in files]


def read_parquet_table(files: Sequence[Path], source: Path) -> Table:
    """Returns the rows of parquet files, all with the columns of the first.

    Raises:
        DataError: pyarrow is missing, or a file is damaged or lacks a column.
    """
    return _table(files, source, _schema, _columns, room=_require_room)


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Returns the folders of a saved data set's splits by name; None: the folder holds no saved data set.

    Raises:
        DataError: What the folder says of itself is damaged, or a split is missing.
    """
    if (folder / _STATE).is_file():
        return {"train": folder}
    if not (folder / _SPLITS).is_file():
        return None
    names = _json(folder / _SPLITS).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{folder / _SPLITS}: damaged, it does not list the splits")
    missing = [name for name in names if not (folder / name / _STATE).is_file()]
    if missing:
        raise DataError(f"{folder / _SPLITS}: lists the split {missing[0]!r}, but {missing[0]}/{_STATE} is missing")
    return {name: folder / name for name in names}


def read_saved_table(folder: Path) -> Table:
    """Returns the rows of one split of a saved data set: a folder with ``state.json`` and arrow files.

    Raises:
        DataError: pyarrow is missing, or a file is missing or damaged.
    """
    listed: Any = _json(folder / _STATE).get("_data_files")
    try:
        names = [entry["filename"] for entry in listed]
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise DataError(f"{folder / _STATE}: damaged, it does not list the arrow files") from None
    files = [folder / name for name in names]
    for file in files:
        require_file(file, f"an arrow file, which {_STATE} lists")
    pyarrow_parquet()  # says what to install where pyarrow is missing
    return _table(files, folder, lambda file: _stream(file).schema, lambda file, names: _stream(file).select(names))


def _stream(file: Path) -> Any:
    """Returns the ``pyarrow.Table`` of an arrow file."""
    import pyarrow

    with (
        _damage_named(file, "is no arrow stream, cut off or damaged"),
        pyarrow.OSFile(str(file)) as source,
        pyarrow.ipc.open_stream(source) as stream,
    ):
        return stream.read_all()


def _schema(file: Path) -> Any:
    with _damage_named(file, _NO_PARQUET):
        return pyarrow_parquet().read_schema(file)


def _columns(file: Path, names: Sequence[str]) -> Any:
    with _damage_named(file, "is cut off or damaged"):
        return pyarrow_parquet().read_table(file, columns=list(names), partitioning=None).select(list(names))


def _require_room(files: Sequence[Path], names: Sequence[str]) -> None:
    """Raises DataError where the columns are by the files' footers larger than memory is likely to be."""
    held = 0
    for file in files:
        with _damage_named(file, _NO_PARQUET):
            about = pyarrow_parquet().read_metadata(file)
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            columns = [group.column(place) for group in groups for place in range(group.num_columns)]
            held += sum(
                column.total_uncompressed_size
                for column in columns
                if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in names)
            )
    packed = sum(file.stat().st_size for file in files)
    most = max(MOST_BYTES, 10 * packed)
    if held > most:
        raise DataError(
            f"{files[0]}: the columns {', '.join(map(printable, names[:8]))} hold {held:,} bytes, {packed:,} packed; "
            f"the limit is {most:,}; take fewer rows"
        )


def _json(file: Path) -> Mapping[str, Any]:
    with _damage_named(file, "cannot be read"):
        content = json.loads(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _table(
    files: Sequence[Path],
    source: Path,
    schema_of: Callable[[Path], Any],
    read: Callable[[Path, Sequence[str]], Any],
    *,
    room: Callable[[Sequence[Path], Sequence[str]], None] = lambda files, names: None,
) -> Table:
    import pandas

    schema = schema_of(files[0])
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{files[0]}: has the column {twice!r} more than once; give each a name of its own")
    kinds = {name: _kind(schema.field(name).type) for name in schema.names}
    left_aside = {name: kind for name, kind in kinds.items() if kind is not None}
    used = [name for name in schema.names if name not in left_aside]
    if not used:
        raise DataError(f"{files[0]}: has no column of texts or numbers; it has {', '.join(schema.names) or 'none'}")
    for file in files[1:]:
        missing = [name for name in schema.names if name not in schema_of(file).names]
        if missing:
            raise DataError(f"{file}: has no column {missing[0]!r}, which {files[0].name} has")
    room(files, used)
    columns: dict[str, list[Any]] = {name: [] for name in used}
    places: list[Any] = []
    for file in files:
        content = read(file, used)
        places += [number if len(files) == 1 else (file.name, number) for number in range(content.num_rows)]
        for name in used:
            with _damage_named(file, f"column {name!r} cannot be read"):
                columns[name] += _values(content.column(name))
    if not places:
        raise DataError(f"{source}: has no row")
    return table_of(
        source,
        columns,
        pandas.Index(places),
        word="row",
        typed=True,
        label_names=_label_names(schema),
        left_aside=left_aside,
    )


def _kind(type_: Any) -> str | None:
    """Returns what a column holds that is not read; None where it is."""
    import pyarrow.types as types

    if types.is_dictionary(type_):
        type_ = type_.value_type
    if types.is_nested(type_):
        return "lists or structures"
    if types.is_run_end_encoded(type_):
        return "runs of equal values"
    bytes_ = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return "bytes" if any(is_kind(type_) for is_kind in bytes_) else None


def _values(column: Any) -> list[Any]:
    import pyarrow.types as types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_decimal(column.type):
        column = column.cast("float64")
    elif types.is_date(column.type) or types.is_timestamp(column.type) or types.is_time(column.type):
        column = column.cast("string")
    values: list[Any] = column.to_pylist()
    return values


def _features(schema: Any) -> Mapping[str, Any]:
    """Returns what the schema's `huggingface` metadata say of each column; nothing where there are none."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): feature for name, feature in noted.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _label_names(schema: Any) -> dict[str, tuple[str, ...]]:
    found = {}
    for column, feature in _features(schema).items():
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            found[column] = tuple(map(str, names))
    return found
