"""Parquet files, and data sets that the `datasets` library saved to the disk, through pyarrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelembed.data.checks import printable, require_file
from labelembed.data.files.table import Table
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

# Kinds of columns that hold no texts, numbers or dates.
_NOT_READ = ("bytes", "vectors", "lists or structures", "runs of equal values")

#: Files in order, by part: `train` and, where there are such, `validation` and `test`.
Shards = dict[str, list[Path]]


def find_shards(path: Path) -> Shards:
    """Returns the parquet files of a folder, or of one file, which then is the training set.

    Files are ``train.parquet``, ``train-00000-of-00002.parquet`` and the like, in the folder itself or in ``data``
    within it, or ``0000.parquet`` and the like in folders ``train`` and ``test``.

    Raises:
        DataError: There is no such path, no training file, or a shard of several is missing.
    """
    try:
        if path.is_file():
            return {"train": [path]}
        if not path.is_dir():
            raise DataError(f"{path}: does not exist; expected a folder of parquet files (train-*.parquet, ...)")
        for folder in (path, path / "data"):
            files = _shards_in(folder) if folder.is_dir() else {}
            if "train" in files:
                return files
        seen = ", ".join(sorted(printable(entry.name) for entry in path.iterdir())[:8]) or "nothing"
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    raise DataError(
        f"{path}: has no training set; expected train.parquet or train-00000-of-00002.parquet and the like, "
        f"found {seen}"
    )


def _shards_in(folder: Path) -> Shards:
    files: Shards = {}
    announced: dict[str, tuple[int, set[int]]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name.lower() in PARTS:
            inside = sorted(child for child in entry.iterdir() if child.suffix.lower() == ".parquet")
            if inside:
                files.setdefault(PARTS[entry.name.lower()], []).extend(inside)
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None or not entry.is_file():
            continue
        part = PARTS[match["split"].lower()]
        files.setdefault(part, []).append(entry)
        if match["count"]:
            announced.setdefault(part, (int(match["count"]), set()))[1].add(int(match["number"]))
    for part, (count, numbers) in announced.items():
        missing = [number for number in range(min(count, 100_000)) if number not in numbers]
        if missing:
            raise DataError(
                f"{folder}: the {part} set has {count} files, of which {len(missing)} are missing, the first "
                f"with the number {missing[0]:05d}; fetch them"
            )
        if len(files[part]) != count:
            found = ", ".join(printable(file.name) for file in files[part][:4])
            raise DataError(
                f"{folder}: the {part} set has {count} files by their names, but there are {len(files[part])} "
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


def schema_of(file: Path) -> Any:
    """Returns the ``pyarrow.Schema`` of a parquet file.

    Raises:
        DataError: It is no parquet file, or damaged.
    """
    with _damage_named(file, "is no parquet file, cut off or damaged"):
        return pyarrow_parquet().read_schema(file)


def read_columns(file: Path, names: Sequence[str]) -> Any:
    """Returns a ``pyarrow.Table`` of some columns of a parquet file.

    Raises:
        DataError: The file is damaged.
    """
    with _damage_named(file, "is cut off or damaged"):
        return pyarrow_parquet().read_table(file, columns=list(names), partitioning=None).select(list(names))


def require_column(files: Sequence[Path], field: Any) -> None:
    """Raises DataError where a file lacks a column (a ``pyarrow.Field``), has another type, or they hold too much."""
    for file in files:
        schema = schema_of(file)
        if field.name not in schema.names:
            raise DataError(
                f"{file}: has no column {field.name!r}, which the training set has; it has {', '.join(schema.names)}"
            )
        held = schema.field(field.name).type
        if held != field.type:
            raise DataError(f"{file}: column {field.name!r} holds {held}; the training set has {field.type}")
    _require_room(files, [field.name])


def read_parquet_table(files: Sequence[Path], source: Path, names: Sequence[str] | None = None) -> Table:
    """Returns the examples of parquet files, all with the columns of the first.

    Args:
        files: In order.
        source: Folder or file, for messages.
        names: Columns to read; None: all that hold texts or numbers.

    Raises:
        DataError: pyarrow is missing, or a file is damaged or lacks a column.
    """
    return _table(files, source, schema_of, read_columns, room=_require_room, names=names)


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
    """Returns the examples of one split of a saved data set: a folder with ``state.json`` and arrow files.

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


def _require_room(files: Sequence[Path], names: Sequence[str]) -> None:
    """Raises DataError where the columns are by the files' footers larger than memory is likely to be."""
    held = 0
    for file in files:
        with _damage_named(file, "is no parquet file, cut off or damaged"):
            about = pyarrow_parquet().read_metadata(file)
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            columns = [group.column(place) for group in groups for place in range(group.num_columns)]
            prefixes = tuple(f"{name}." for name in names)
            held += sum(c.total_uncompressed_size for c in columns if f"{c.path_in_schema}.".startswith(prefixes))
    packed = sum(file.stat().st_size for file in files)
    most = max(MOST_BYTES, 10 * packed)
    if held > most:
        raise DataError(
            f"{files[0]}: the columns {', '.join(map(printable, names[:8]))} hold {held:,} bytes, {packed:,} packed; "
            f"the limit is {most:,}; take fewer examples"
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
    names: Sequence[str] | None = None,
) -> Table:
    schema = schema_of(files[0])
    wanted = schema.names if names is None else names
    twice = next((name for name in wanted if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{files[0]}: has the column {twice!r} more than once; give each a name of its own")
    for file in files:
        missing = [name for name in wanted if name not in schema_of(file).names]
        if missing:
            raise DataError(f"{file}: has no column {missing[0]!r}, which the training set has")
    kinds = {name: kind_of(schema.field(name).type) for name in wanted}
    left_aside = {name: kind for name, kind in kinds.items() if kind in _NOT_READ}
    used = [name for name in wanted if name not in left_aside]
    if not used:
        raise DataError(f"{files[0]}: has no column of texts or numbers; it has {', '.join(schema.names) or 'none'}")
    room(files, used)
    columns: dict[str, list[Any]] = {name: [] for name in used}
    places: list[Any] = []
    for file in files:
        content = read(file, used)
        places += [number if len(files) == 1 else (file, number) for number in range(content.num_rows)]
        for name in used:
            with _damage_named(file, f"column {name!r} cannot be read"):
                columns[name] += _values(content.column(name))
    if not places:
        raise DataError(f"{source}: has no row")
    features = features_of(schema)
    return Table(
        source=source,
        columns=columns,
        places=places,
        word="row",
        typed=True,
        label_names={name: found for name in features if (found := _class_names(features[name]))},
        left_aside=left_aside,
    )


def kind_of(type_: Any) -> str:
    """Returns what a column of a type holds: `bytes` (or {bytes, path}), `vectors`, `texts`, `whole numbers`..."""
    import pyarrow.types as types

    if types.is_dictionary(type_):
        type_ = type_.value_type
    if types.is_struct(type_) and any(field.name == "bytes" and kind_of(field.type) == "bytes" for field in type_):
        return "bytes"
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        of_numbers = types.is_floating(type_.value_type) or types.is_integer(type_.value_type)
        return "vectors" if of_numbers else "lists or structures"
    kinds = {
        "lists or structures": (types.is_nested,),
        "runs of equal values": (types.is_run_end_encoded,),
        "bytes": (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view),
        "texts": (types.is_string, types.is_large_string),
        "whole numbers": (types.is_integer, types.is_boolean),
    }
    return next((kind for kind, tests in kinds.items() if any(is_one(type_) for is_one in tests)), "values")


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


def features_of(schema: Any) -> Mapping[str, Any]:
    """Returns what the schema's `huggingface` metadata say of each column; nothing where there are none."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): feature for name, feature in noted.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _class_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    names = feature.get("names")
    return tuple(map(str, names)) if feature.get("_type") == "ClassLabel" and isinstance(names, list) else ()
