"""What the pages of a parquet file say of themselves; the file's footer, which may lie, is not asked."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

# How the format's enumerations number what is told apart here.
_DATA, _INDEX, _DICTIONARY, _DATA_SECOND = range(4)
_PLAIN, _DELTA_LENGTHS = 0, 6
_DEEPEST = 16


@dataclass(frozen=True)
class Chunk:
    """One column of one group of rows, by the headers of its pages.

    Attributes:
        values: Values in it, missing ones with them.
        bytes: Of its pages, uncompressed.
        longest: Bytes that one value may have where many values can share the bytes of the file, as entries of a
            dictionary or continued beginnings; 0: nowhere.
        shared: Values of which the last is true.
    """

    values: int
    bytes: int
    longest: int
    shared: int


def read_chunk(content: mmap.mmap, column: Any) -> Chunk:
    """Returns what the pages of a column hold.

    Args:
        content: The whole file.
        column: Its ``pyarrow.parquet.ColumnChunkMetaData``.

    Raises:
        ValueError: A header is damaged.
    """
    place = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < place:
        place = column.dictionary_page_offset
    end = place + column.total_compressed_size
    if not 0 < place <= end <= len(content):
        raise ValueError("a column lies outside of the file")
    values = size = longest = shared = dictionary = 0
    while place < end:
        header = _Header(content, place, end)
        try:
            page = header.structure()
            kind, unpacked, packed = (int(page[number]) for number in (1, 2, 3))
            about = page.get({_DATA: 5, _DICTIONARY: 7, _DATA_SECOND: 8}.get(kind, 0), {})
            held = int(about[1]) if about else 0
            if unpacked < 0 or packed < 0 or held < 0 or (kind in (_DATA, _DATA_SECOND) and not about):
                raise ValueError("a page of a size that none has")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            if values >= column.num_values:
                break  # old writers leave some bytes after the last page, which nobody reads
            raise ValueError(f"the header of a page is damaged ({error})") from None
        place = header.place + packed
        size += unpacked
        if kind == _DICTIONARY:
            dictionary = max(dictionary, unpacked)
        elif kind in (_DATA, _DATA_SECOND):
            values += held
            encoding = about.get(2 if kind == _DATA else 4)
            if encoding not in (_PLAIN, _DELTA_LENGTHS):
                shared += held
                longest = max(longest, unpacked, dictionary)
    return Chunk(values, size, longest, shared)


class _Header:
    """Reads one structure of Thrift's compact protocol; texts in it are stepped over."""

    def __init__(self, content: mmap.mmap, place: int, end: int) -> None:
        self.content, self.place, self.end = content, place, end

    def byte(self) -> int:
        if self.place >= self.end:
            raise ValueError("cut off")
        self.place += 1
        return self.content[self.place - 1]

    def number(self) -> int:
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number too long")

    def signed(self) -> int:
        found = self.number()
        return (found >> 1) ^ -(found & 1)

    def step_over(self, count: int) -> None:
        self.place += count  # whoever reads on finds whether there are as many

    def structure(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while byte := self.byte():
            field = field + (byte >> 4) if byte >> 4 else self.signed()
            kind = byte & 15
            found[field] = kind == 1 if kind in (1, 2) else self.value(kind, depth)
        return found

    def value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self.byte()
            case 4 | 5 | 6:
                return self.signed()
            case 7:
                self.step_over(8)
            case 8:
                self.step_over(self.number())
            case 9 | 10:
                byte = self.byte()
                for _ in range(byte >> 4 if byte >> 4 < 15 else self.number()):
                    self.value(byte & 15, depth + 1)
            case 11:
                count = self.number()
                kinds = self.byte() if count else 0
                for _ in range(count):
                    self.value(kinds >> 4, depth + 1)
                    self.value(kinds & 15, depth + 1)
            case 12:
                return self.structure(depth + 1)
            case _:
                raise ValueError(f"a value of kind {kind}")
        return None
