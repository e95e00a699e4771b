"""Arrow streams, as the `datasets` library saves its data: never compressed, so no larger in memory than the file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.parquet_limits import Unpacking, batch_bytes
from labelembed.errors import DataError

# Where the fields stand in the tables that Arrow's format describes a message by.
_KIND, _HEADER = 1, 2
_DICTIONARY, _RECORDS = 2, 3
_DICTIONARY_RECORDS = 1
_COMPRESSION = 3


def stream_schema(file: Path) -> Any:
    """Returns the ``pyarrow.Schema`` of a stream.

    Raises:
        DataError: It is no arrow stream, or damaged.
    """
    import pyarrow

    try:
        with pyarrow.OSFile(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            return stream.schema
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from None


def read_stream(file: Path, names: Sequence[str], unpacking: Unpacking) -> Any:
    """Returns columns of a stream, a ``pyarrow.Table``.

    Args:
        file: The file.
        names: The columns.
        unpacking: Counts what they unpack to: many rows may name one text of a dictionary.

    Raises:
        DataError: It is no arrow stream, damaged, compressed, or unpacks to too much.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source:
            if any(_is_compressed(message) for message in pyarrow.ipc.MessageReader.open_stream(source)):
                raise DataError(
                    f"{file}: is a compressed arrow stream, which `save_to_disk` never writes; write it anew without "
                    "compression, or as parquet"
                )
        with pyarrow.OSFile(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            batches = []
            for whole in stream:
                batch = whole.select(list(names))
                unpacking.take(batch_bytes(batch), file)
                batches.append(batch)
            schema = pyarrow.schema([stream.schema.field(name) for name in names])
            return pyarrow.Table.from_batches(batches, schema)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return DataError(f"{file}: is no arrow stream, cut off or damaged ({reason})")


def _is_compressed(message: Any) -> bool:
    """Tells whether a message's rows, or those of the dictionary in it, are compressed."""
    content = bytes(message.metadata)
    root = struct.unpack_from("<I", content)[0]
    kind, header = _field(content, root, _KIND), _field(content, root, _HEADER)
    kind_value = content[kind] if kind is not None else 0
    if header is None or kind_value not in (_DICTIONARY, _RECORDS):
        return False
    records: int | None = _pointed(content, header)
    if kind_value == _DICTIONARY:
        inner = _field(content, _pointed(content, header), _DICTIONARY_RECORDS)
        records = None if inner is None else _pointed(content, inner)
    return records is not None and _field(content, records, _COMPRESSION) is not None


def _pointed(content: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", content, place)[0])


def _field(content: bytes, table: int, number: int) -> int | None:
    """Returns where a field of a table stands; None: the table lacks it."""
    fields = table - struct.unpack_from("<i", content, table)[0]
    place = 4 + 2 * number
    if fields < 0 or place + 2 > struct.unpack_from("<H", content, fields)[0]:
        return None
    offset = struct.unpack_from("<H", content, fields + place)[0]
    return table + offset if offset else None
