"""Columns of parquet files, none of which may unpack to very many times its file."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.parquet_pages import Chunk, read_chunk
from labelembed.data.streams import UNPACKED_BYTES, UNPACKED_RATIO, most_unpacked
from labelembed.errors import DataError

#: Files so large that `most_unpacked` allows no hundredfold may unpack to so many times their size, as data do.
PLAIN_RATIO = 10
# A value is counted with the pointer that a list has to it, and a text with its length besides.
_VALUE_BYTES = 8
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
_MOST_ROWS = 2**16


class Unpacking:
    """How much several files may unpack to together, and how much of it is taken.

    Args:
        files: Those that will be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            self.packed = sum(file.stat().st_size for file in files)
        except OSError as error:
            raise DataError(f"{files[0]}: cannot be read ({error})") from None
        self.limit = max(most_unpacked(self.packed), PLAIN_RATIO * self.packed)
        self.taken = 0

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return self.limit - self.taken

    def take(self, count: int, file: Path) -> None:
        """Takes so many bytes.

        Raises:
            DataError: They are more than are left.
        """
        self.taken += count
        if self.taken > self.limit:
            raise DataError(
                f"{file}: its columns unpack to {self.taken:,} bytes or more, the limit for {self.packed:,} bytes of "
                f"parquet is {self.limit:,} ({UNPACKED_BYTES // 2**20} MiB, or {UNPACKED_RATIO} times the size); if "
                "they are right, write the file without compression and dictionaries "
                "(pyarrow.parquet.write_table(..., compression='none', use_dictionary=False))"
            )


def read_columns(file: Path, names: Sequence[str], unpacking: Unpacking) -> Any:
    """Returns columns of a parquet file, a ``pyarrow.Table``.

    What the pages hold is added up before any is unpacked. Texts that share bytes of the file, as entries of a
    dictionary do, have their length only when they are read: they are read a few rows at a time where that matters.

    Args:
        file: The file.
        names: The columns.
        unpacking: Counts what they unpack to.

    Raises:
        DataError: They unpack to too much.
        Exception: Anything, where the file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as opened:
        known, most, longest = _measured(opened, file, names)
        if known > unpacking.left:
            unpacking.take(known, file)
        if most <= unpacking.left:
            table = pyarrow.parquet.read_table(file, columns=list(names), partitioning=None)
            unpacking.take(sum(map(unpacked_bytes, table.columns)), file)
            return table
        rows = max(1, min(_MOST_ROWS, unpacking.limit // 4 // max(longest, 1)))
        batches = []
        for batch in opened.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
            unpacking.take(batch_bytes(batch), file)
            batches.append(batch)
        schema = pyarrow.schema([opened.schema_arrow.field(name) for name in names])
        return pyarrow.Table.from_batches([batch.select(list(names)) for batch in batches], schema)


def _measured(opened: Any, file: Path, names: Sequence[str]) -> tuple[int, int, int]:
    """Returns the bytes that columns unpack to: those known, those at most, and those of one row's longest texts."""
    about = opened.metadata
    wanted = set(names)
    known = most = 0
    longest: dict[int, int] = {}
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for group in (about.row_group(number) for number in range(about.num_row_groups)):
            for place in range(group.num_columns):
                column = group.column(place)
                path = column.path_in_schema.split(".")
                if not any(".".join(path[:end]) in wanted for end in range(1, len(path) + 1)):
                    continue
                chunk = read_chunk(content, column)
                leaf = about.schema.column(place)
                values = max(chunk.values, group.num_rows)  # memory is taken for as many rows as the footer says
                least, all_shared = _bytes(chunk, leaf, values)
                known, most = known + least, most + all_shared
                if all_shared > least:
                    longest[place] = max(longest.get(place, 0), chunk.longest)
    return known, most, sum(longest.values())


def _bytes(chunk: Chunk, leaf: Any, values: int) -> tuple[int, int]:
    """Returns what a column of a group unpacks to at least and at most."""
    if leaf.physical_type == "BYTE_ARRAY":
        least = max(values * _VALUE_BYTES, chunk.bytes)
        return least, values * _VALUE_BYTES + chunk.bytes + chunk.shared * chunk.longest
    width = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(leaf.physical_type, 8)
    if not leaf.max_repetition_level:
        width = max(width, _VALUE_BYTES)
    exact = max(values * width, chunk.bytes)
    return exact, exact


def batch_bytes(batch: Any) -> int:
    """Returns how many bytes the values of a ``pyarrow.RecordBatch`` have, each by itself."""
    import pyarrow

    return sum(unpacked_bytes(pyarrow.chunked_array([column])) for column in batch.columns)


def unpacked_bytes(column: Any) -> int:
    """Returns how many bytes the values of a ``pyarrow.ChunkedArray`` have, each by itself."""
    import pyarrow.compute as compute
    import pyarrow.types as types

    least, held = len(column) * _VALUE_BYTES, int(column.nbytes)
    if types.is_string_view(column.type) or types.is_binary_view(column.type):
        plain = "large_string" if types.is_string_view(column.type) else "large_binary"
        rows = max(1, min(_MOST_ROWS, UNPACKED_BYTES // max(held, 1)))  # no text is longer than all of them
        return sum(int(column.slice(row, rows).cast(plain).nbytes) for row in range(0, len(column), rows))
    if not types.is_dictionary(column.type):
        return max(least, held)
    kind = column.type.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)):
        return least
    total = 0
    for part in column.chunks:
        lengths = compute.binary_length(part.dictionary).cast("int64")
        total += compute.sum(lengths.take(part.indices)).as_py() or 0
    return least + total
