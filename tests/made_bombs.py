"""Parquet files and arrow streams of a few hundred kilobytes whose columns unpack to gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def _parquet(file: Path, table, *, groups: int, **settings) -> Path:
    import pyarrow.parquet as parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    with parquet.ParquetWriter(file, table.schema, compression="zstd", **settings) as writer:
        for _ in range(groups):
            writer.write_table(table, row_group_size=len(table))
    return file


def _labels(count: int):
    return np.arange(count) % 2


def many_rows(file: Path, millions: int) -> Path:
    import pyarrow as arrow

    zeros = np.zeros(2_000_000)
    table = arrow.table({"text": arrow.nulls(2_000_000, arrow.string()), "x": zeros, "label": zeros.astype(int)})
    return _parquet(file, table, groups=millions // 2)


def one_long_text(file: Path, millions: int) -> Path:
    """A million bytes that each row names, as entry of a dictionary."""
    import pyarrow as arrow

    rows = 20_000
    text = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int8), arrow.array(["x" * 1_000_000]))
    table = arrow.table({"text": text, "x": np.zeros(rows), "label": _labels(rows)})
    return _parquet(file, table, groups=millions // 20, store_schema=False)  # which would say that it is a category


def continued_texts(file: Path, millions: int) -> Path:
    """Each text says that it begins as the one before it."""
    import pyarrow as arrow

    rows = 320
    table = arrow.table({"text": arrow.array(["x" * 1_000_000] * rows), "x": np.zeros(rows), "label": _labels(rows)})
    return _parquet(
        file, table, groups=millions // 40, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}
    )


def plain_texts(file: Path, millions: int) -> Path:
    import pyarrow as arrow

    rows = 50
    table = arrow.table({"text": arrow.array(["x" * 1_000_000] * rows), "x": np.zeros(rows), "label": _labels(rows)})
    return _parquet(file, table, groups=millions, use_dictionary=False)


def categories(file: Path, millions: int) -> Path:
    """Categories, as pandas writes them: each value is a number in memory, until it becomes a text."""
    import pyarrow as arrow

    rows = 1_000_000
    text = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int8), arrow.array(["x" * 10_000]))
    table = arrow.table({"text": text, "x": np.zeros(rows), "label": _labels(rows)})
    return _parquet(file, table, groups=max(1, millions // 50))


def long_vectors(file: Path, millions: int) -> Path:
    import pyarrow as arrow

    vectors = arrow.FixedSizeListArray.from_arrays(np.zeros(20_000_000, np.float32), 10_000_000)
    return _parquet(file, arrow.table({"v": vectors, "label": _labels(2)}), groups=millions // 10)


def one_picture(file: Path, millions: int) -> Path:
    import pyarrow as arrow

    rows = 320
    picture = arrow.StructArray.from_arrays([arrow.array([bytes(1_000_000)] * rows)], ["bytes"])
    return _parquet(file, arrow.table({"img": picture, "label": _labels(rows)}), groups=millions // 40)


def _number(value: int, length: int | None = None) -> bytes:
    """A number as a footer has it, or a longer form of a smaller one."""
    value *= 2
    found = bytearray()
    while value > 127 or (length is not None and len(found) < length - 1):
        found.append(128 | value & 127)
        value >>= 7
    return bytes([*found, value])


def lying(write: Callable[[Path, int], Path]) -> Callable[[Path, int], Path]:
    """The same file, whose footer says that each column has a thousand values and bytes."""

    def written(file: Path, millions: int) -> Path:
        import pyarrow.parquet as parquet

        write(file, millions)
        about = parquet.ParquetFile(file).metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
        sizes = {group.total_byte_size for group in groups} | {column.total_uncompressed_size for column in columns}
        sizes |= {column.num_values for column in columns}
        content = file.read_bytes()
        begin = len(content) - 8 - about.serialized_size
        footer = content[begin:]
        for size in sorted(size for size in sizes if size > 10_000):
            footer = footer.replace(_number(size), _number(1000, len(_number(size))))
        file.write_bytes(content[:begin] + footer)
        about = parquet.ParquetFile(file).metadata
        assert max(about.row_group(number).total_byte_size for number in range(about.num_row_groups)) < 30_000
        return file

    return written


def saved_categories(folder: Path, millions: int) -> Path:
    """A saved data set of categories: its rows are numbers of a dictionary's one long text."""
    import pyarrow as arrow

    rows = millions * 1000
    text = arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int8), arrow.array(["x" * 100_000]))
    return _saved(folder, arrow.table({"text": text, "label": _labels(rows).astype(np.int8)}), None)


def saved_compressed(folder: Path, millions: int) -> Path:
    import pyarrow as arrow

    rows = millions // 4
    return _saved(folder, arrow.table({"text": ["x" * 1_000_000] * rows, "label": _labels(rows)}), "zstd")


def _saved(folder: Path, table, compression: str | None) -> Path:
    import pyarrow as arrow

    folder.mkdir(parents=True)
    options = arrow.ipc.IpcWriteOptions(compression=compression)
    file = str(folder / "data.arrow")
    with arrow.OSFile(file, "wb") as sink, arrow.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    return folder
