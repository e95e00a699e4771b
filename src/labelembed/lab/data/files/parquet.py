"""Parquet files, and data sets that the `datasets` library saved to the disk, through pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelembed.errors import DataError
from labelembed.lab.data.checks import require_file
from labelembed.lab.data.files.table import Table

#: Files that unpack to more bytes, and to ten times as many as they have, are refused: they would not fit into memory.
MOST_BYTES = 8 * 2**30
#: What a saved data set calls its files.
ARROW_SUFFIX = ".arrow"
_STATE = "state.json"
_SPLITS = "dataset_dict.json"
# Columns of pictures and of vectors are read by the readers of these, others of their kind by nobody.
_LEFT_ASIDE = ("bytes", "vectors", "lists or structures")


@contextmanager
def damage_named(file: Path, what: str) -> Iterator[None]:
    """Turns whatever pyarrow raises into a DataError: a damaged file makes it raise nearly anything."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{file}: {what} ({reason})") from None


def schema_of(file: Path) -> Any:
    """Returns the ``pyarrow.Schema`` of a parquet or arrow file.

    Raises:
        DataError: It is none, damaged, or pyarrow is not installed.
    """
    parquet = _pyarrow_parquet()
    if file.suffix == ARROW_SUFFIX:
        return _read_stream(file, None)
    with damage_named(file, "is no parquet file, cut off or damaged"):
        return parquet.read_schema(file)


def read_columns(file: Path, names: Sequence[str]) -> Any:
    """Returns a ``pyarrow.Table`` of some columns of a parquet or arrow file.

    Raises:
        DataError: The file is damaged.
    """
    if file.suffix == ARROW_SUFFIX:
        return _read_stream(file, names)
    with damage_named(file, "is cut off or damaged"):
        return _pyarrow_parquet().read_table(file, columns=list(names), partitioning=None).select(list(names))


def read_arrow_table(files: Sequence[Path]) -> Table:
    """Returns the examples of parquet or arrow files, all with the columns of the first.

    Columns of pictures and vectors are left aside; `Table.files` says where to read them.

    Raises:
        DataError: pyarrow is missing, or a file is damaged, lacks a column or would not fit into memory.
    """
    schema = schema_of(files[0])
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{files[0]}: has the column {twice!r} more than once; give each a name of its own")
    kinds = _kinds(schema)
    for file in files[1:]:
        held = _kinds(schema_of(file))
        for name, kind in kinds.items():
            if held.get(name) != kind:
                found = f"column {name!r} holds {held[name]}" if name in held else f"has no column {name!r}"
                raise DataError(f"{file}: {found}; in {files[0].name} it holds {kind}")
        if _class_names(schema_of(file)) != _class_names(schema):
            raise DataError(f"{file}: names its labels otherwise than {files[0].name}, or in another order")
    _require_room([file for file in files if file.suffix != ARROW_SUFFIX])
    columns: dict[str, list[Any]] = {name: [] for name, kind in kinds.items() if kind not in _LEFT_ASIDE}
    places: list[Any] = []
    for file in files:
        content = read_columns(file, list(columns) or schema.names[:1])
        places += [number if len(files) == 1 else (file, number) for number in range(content.num_rows)]
        for name, values in columns.items():
            with damage_named(file, f"column {name!r} cannot be read"):
                values += _values(content.column(name))
    source = files[0] if len(files) == 1 and files[0].suffix != ARROW_SUFFIX else files[0].parent
    if not places:
        raise DataError(f"{source}: has no row")
    return Table(
        source=source,
        columns=columns,
        places=places,
        typed=True,
        label_names=_class_names(schema),
        left_aside={name: kind for name, kind in kinds.items() if kind in _LEFT_ASIDE},
        files=tuple(files),
    )


def saved_splits(folder: Path) -> dict[str, list[Path]] | None:
    """Returns the arrow files of a saved data set by the name of its split; None: the folder holds no saved data set.

    Raises:
        DataError: What the folder says of itself is damaged, or a file is missing.
    """
    if (folder / _STATE).is_file():
        return {"train": _listed_files(folder)}
    if not (folder / _SPLITS).is_file():
        return None
    with damage_named(folder / _SPLITS, "damaged, it does not list the splits"):
        names = list(json.loads((folder / _SPLITS).read_text(encoding="utf-8"))["splits"])
        return {name: _listed_files(folder / name) for name in names}


def _listed_files(folder: Path) -> list[Path]:
    state = folder / _STATE
    require_file(state, f"the {_STATE} of a saved data set")
    with damage_named(state, "damaged, it does not list the arrow files"):
        listed = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
        files = [folder / listed[place]["filename"] for place in range(max(1, len(listed)))]
    for file in files:
        require_file(file, f"an arrow file, which {_STATE} lists")
    return files


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f'parquet files need pyarrow: pip install "labelembed[hub]" ({type(error).__name__}: {error})'
        ) from None
    return pyarrow.parquet


def _read_stream(file: Path, names: Sequence[str] | None) -> Any:
    """Returns columns of an arrow file, or, without names, its schema."""
    import pyarrow

    with (
        damage_named(file, "is no arrow stream, cut off or damaged"),
        pyarrow.OSFile(str(file)) as source,
        pyarrow.ipc.open_stream(source) as stream,
    ):
        if names is None:
            return stream.schema
        table = stream.read_all().select(list(names))
        table.validate(full=True)  # Arrow believes the offsets of a damaged stream, and would read beyond its memory
        return table


def _require_room(files: Sequence[Path]) -> None:
    """Raises DataError where parquet files are by their footers larger than memory is likely to be."""
    held = 0
    for file in files:
        with damage_named(file, "is no parquet file, cut off or damaged"):
            about = _pyarrow_parquet().read_metadata(file)
            held += sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    packed = sum(file.stat().st_size for file in files)
    most = max(MOST_BYTES, 10 * packed)
    if held > most:
        raise DataError(
            f"{files[0]}: unpacks to {held:,} bytes of {packed:,}; the limit is {most:,}; take fewer examples"
        )


def _kinds(schema: Any) -> dict[str, str]:
    return {name: kind_of(schema.field(name).type) for name in schema.names}


def kind_of(type_: Any) -> str:
    """Returns what a column of a type holds: `bytes` (or {bytes, path}), `vectors`, `lists or structures`, `values`."""
    import pyarrow.types as types

    if types.is_struct(type_) and any(field.name == "bytes" and kind_of(field.type) == "bytes" for field in type_):
        return "bytes"
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        of_numbers = types.is_floating(type_.value_type) or types.is_integer(type_.value_type)
        return "vectors" if of_numbers else "lists or structures"
    if types.is_nested(type_):
        return "lists or structures"
    is_bytes = types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)
    return "bytes" if is_bytes else "values"


def _values(column: Any) -> list[Any]:
    import pyarrow.types as types

    if types.is_decimal(column.type):
        column = column.cast("float64")
    elif types.is_temporal(column.type):
        column = column.cast("string")
    values: list[Any] = column.to_pylist()
    return values


def _class_names(schema: Any) -> Mapping[str, tuple[str, ...]]:
    """Returns the names of the labels 0, 1, ... of the columns for which the `huggingface` metadata have them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {name: about for name, about in features.items() if about.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, about["names"])) for name, about in labels.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
