"""Rows of parquet files, and of data sets that the `datasets` library saved to the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelembed.data.columns.arrow_streams import read_stream, stream_schema
from labelembed.data.columns.column_table import ColumnTable, Section
from labelembed.data.parquet_limits import Unpacking
from labelembed.data.parquet_shards import described_features, parquet, read_schema, read_table_columns
from labelembed.data.streams import require_file
from labelembed.errors import DataError

_STATE = "state.json"
_DICT = "dataset_dict.json"


def parquet_table(files: Sequence[Path], source: Path) -> ColumnTable:
    """Returns the rows of parquet files, all with the columns of the first.

    Raises:
        DataError: pyarrow is missing, a file is damaged, or lacks a column.
    """
    unpacking = Unpacking(files)
    return _table(files, source, read_schema, lambda file, names: read_table_columns(file, names, unpacking))


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Returns the folders of a saved data set's splits by name; None: the folder holds no saved data set.

    Raises:
        DataError: What the folder says of itself is damaged, or a split is missing.
    """
    if (folder / _STATE).is_file():
        return {"train": folder}
    if not (folder / _DICT).is_file():
        return None
    names = _json(folder / _DICT).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise DataError(f"{folder / _DICT}: damaged, it does not list the splits")
    missing = [name for name in names if not (folder / name / _STATE).is_file()]
    if missing:
        raise DataError(f"{folder / _DICT}: lists the split {missing[0]!r}, but {missing[0]}/{_STATE} is missing")
    return {name: folder / name for name in names}


def saved_table(folder: Path) -> ColumnTable:
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
    parquet()  # says what to install where pyarrow is missing
    unpacking = Unpacking(files)
    return _table(files, folder, stream_schema, lambda file, names: read_stream(file, names, unpacking))


def _json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read ({_first_line(error)})") from None
    return content if isinstance(content, dict) else {}


def _table(
    files: Sequence[Path],
    source: Path,
    schema_of: Callable[[Path], Any],
    read: Callable[[Path, Sequence[str]], Any],
) -> ColumnTable:
    schema = schema_of(files[0])
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{files[0]}: has the column {twice!r} more than once; give each a name of its own")
    columns: dict[str, list[Any]] = {}
    sections = []
    kinds = {name: _kind(schema.field(name).type) for name in schema.names}
    left_aside = {name: kind for name, kind in kinds.items() if kind is not None}
    used = [name for name in schema.names if name not in left_aside]
    if not used:
        raise DataError(f"{files[0]}: has no column of texts or numbers; it has {', '.join(schema.names) or 'none'}")
    for file in files:
        held = schema if file == files[0] else schema_of(file)
        missing = [name for name in schema.names if name not in held.names]
        if missing:
            raise DataError(f"{file}: has no column {missing[0]!r}, which {files[0].name} has")
        content = read(file, used)
        sections.append(Section(file, "row", range(content.num_rows)))
        for name in used:
            try:
                columns.setdefault(name, []).extend(_values(content.column(name)))
            except Exception as error:
                raise DataError(f"{file}: column {name!r} cannot be read ({_first_line(error)})") from None
    if not sum(len(section.numbers) for section in sections):
        raise DataError(f"{source}: has no row")
    return ColumnTable(
        source=source,
        columns=columns,
        sections=tuple(sections),
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
    if any(is_kind(type_) for is_kind in bytes_):
        return "bytes"
    return None


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


def _label_names(schema: Any) -> dict[str, tuple[str, ...]]:
    found = {}
    for column, feature in described_features(schema).items():
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            found[column] = tuple(map(str, names))
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
