"""Which columns of parquet files hold the inputs and the labels, and the values of labels and vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.data.checks import require_finite
from labelembed.data.files.parquet import Column, read_column
from labelembed.errors import DataError, nearest

# Which of several plain columns holds the labels, where no class names say so.
_LABEL_WORDS = ("label", "labels", "fine_label", "class", "target")

Array = npt.NDArray[Any]


def _chosen(columns: Sequence[Column], name: str, key: str, file: Path) -> Column:
    for column in columns:
        if column.name == name:
            return column
    names = [column.name for column in columns]
    raise DataError(f"{file}: `{key}`: no column {name!r}{nearest(name, names)}; there are: {', '.join(names)}")


def input_column(columns: Sequence[Column], name: str | None, file: Path) -> Column:
    """Returns the column of the inputs: the one named, or the only one of pictures or vectors.

    Raises:
        DataError: It is not there, or it is not clear which one it is.
    """
    usable = [column for column in columns if is_picture(column.type) or is_vector(column.type)]
    if name is not None:
        column = _chosen(columns, name, "inputs", file)
        if column not in usable:
            raise DataError(
                f"{file}: column {name!r} holds {column.type}; expected pictures ({{bytes, path}}) or lists of numbers"
            )
        return column
    if not usable:
        found = ", ".join(f"{column.name} ({column.type})" for column in columns[:8])
        raise DataError(f"{file}: no column holds pictures ({{bytes, path}}) or lists of numbers; there are: {found}")
    if len(usable) > 1:
        raise DataError(
            f"{file}: several columns can be the inputs; choose one by `inputs`: "
            + ", ".join(column.name for column in usable)
        )
    return usable[0]


def label_column(columns: Sequence[Column], name: str | None, inputs: Column, file: Path) -> tuple[Column, bool]:
    """Returns the column of the labels, and whether it was chosen of several that could be.

    Raises:
        DataError: It is not there, or it is not clear which one it is.
    """
    usable = [column for column in columns if column != inputs and _is_label(column.type)]
    if name is not None:
        column = _chosen(columns, name, "labels", file)
        if column not in usable:
            raise DataError(f"{file}: column {name!r} holds {column.type}; labels are whole numbers or texts")
        return column, False
    with_names = [column for column in usable if isinstance(column.noted.get("names"), list)]
    with_words = [column for word in _LABEL_WORDS for column in usable if column.name.lower() == word]
    found = with_names[:1] or with_words[:1] or usable
    if len(found) == 1:
        return found[0], len(usable) > 1
    which = "none" if not usable else "one of " + ", ".join(column.name for column in usable)
    raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({which})")


def is_picture(kind: Any) -> bool:
    """Tells whether a column of this type holds encoded pictures."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def is_vector(kind: Any) -> bool:
    """Tells whether a column of this type holds lists of numbers."""
    import pyarrow.types as types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def _is_label(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or is_text(kind) or types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Tells whether a column of this type holds texts."""
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def read_labels(
    shards: Mapping[str, list[Path]], column: Column, *, every_part: bool = False
) -> tuple[dict[str, list[Array]], list[str]]:
    """Returns the labels [N] of each file by part, int64 from 0, and their names: of the training set, or of all.

    Raises:
        DataError: A row has no label, or one that is unknown.
    """
    values: dict[str, list[Array]] = {}
    for part, files in shards.items():
        values[part] = [np.array(chunks.to_pylist(), dtype=object) for chunks in read_column(files, column)]
        for file, found in zip(files, values[part], strict=True):
            missing = [row for row, value in enumerate(found) if value is None]
            if missing:
                raise DataError(f"{file}: row {missing[0]} has no label in column {column.name!r}")
    noted = column.noted.get("names")
    if isinstance(noted, list) and noted and all(isinstance(name, str) for name in noted):
        known: dict[Any, int] = {number: number for number in range(len(noted))}
        names, why = noted, f"0 to {len(noted) - 1}, for there are {len(noted)} class names"
    else:
        of = [found for part in (values if every_part else ["train"]) for found in values[part]]
        seen = sorted({value for found in of for value in found})
        if len(seen) == 0:
            raise DataError(f"{shards['train'][0]}: has no rows")
        known = {value: number for number, value in enumerate(seen)}
        names, why = [str(value) for value in seen], f"one of the {len(seen)} labels of the training set"
    for part, files in shards.items():
        for file, found in zip(files, values[part], strict=True):
            wrong = [row for row, value in enumerate(found) if value not in known]
            if wrong:
                raise DataError(
                    f"{file}: row {wrong[0]} has the label {found[wrong[0]]!r:.80} in column {column.name!r}; "
                    f"expected {why}"
                )
    numbered = {
        part: [np.array([known[value] for value in found], dtype=np.int64) for found in of_part]
        for part, of_part in values.items()
    }
    return numbered, names


def read_vectors(files: list[Path], column: Column) -> Array:
    """Returns the rows [N, F] of a column of lists of numbers, float32.

    Raises:
        DataError: A file or a row cannot be used.
    """
    import pyarrow.compute as compute

    parts: list[Array] = []
    width: int | None = None
    for file, chunks in zip(files, read_column(files, column), strict=True):
        lengths = compute.list_value_length(chunks).to_numpy()
        if len(lengths) == 0:
            continue
        width = int(lengths[0]) if width is None and lengths[0] == lengths[0] else width
        wrong = np.asarray(lengths != (width or 0)) | (lengths == 0)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{file}: row {row} of column {column.name!r} has {lengths[row]} numbers; expected {width or 'some'}, "
                "as the first row has"
            )
        flat = compute.list_flatten(chunks)
        where = f"{file}: column {column.name!r}"
        if flat.null_count:
            row = int(np.asarray(flat.is_null()).argmax()) // (width or 1)
            raise DataError(f"{where}: row {row} has a number missing")
        values = flat.to_numpy().reshape(len(lengths), width or 0)
        require_finite(values, where)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        require_finite(values, f"{where} as float32")
        parts.append(values)
    if not parts:
        raise DataError(f"{files[0]}: has no rows")
    return np.concatenate(parts)


def require_same_sizes(arrays: Mapping[str, Array], folder: Path) -> None:
    """Raises DataError where a part has vectors of another length than the training set."""
    for split, array in arrays.items():
        if array.shape[1] != arrays["train"].shape[1]:
            raise DataError(
                f"{folder}: the {split} set has vectors of {array.shape[1]:,} numbers, the training set of "
                f"{arrays['train'].shape[1]:,}"
            )
