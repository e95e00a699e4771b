"""The text of a file: unpacked where it is gzipped, in the encoding found or given."""

from __future__ import annotations

import codecs
from pathlib import Path

from labelembed.errors import DataError
from labelembed.lab.data.checks import content_of

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def is_encoding(name: str) -> bool:
    """Tells whether Python knows a text encoding of that name."""
    try:
        "".encode(name)
    except (LookupError, ValueError, TypeError):  # ValueError: a name with a zero byte
        return False
    return True


def read_text(file: Path, *, encoding: str | None) -> str:
    """Returns the text of a file.

    Args:
        file: A text file, plain or gzipped.
        encoding: Of the file; None: UTF-8, or what a byte order mark says.

    Raises:
        DataError: The file cannot be read, is empty, or has another encoding; names the line.
    """
    return decoded(content_of(file), file, encoding=encoding)


def decoded(content: bytes, source: Path | str, *, encoding: str | None) -> str:
    """Returns bytes as text; see `read_text`.

    Args:
        content: The bytes.
        source: Where they come from, for messages.
        encoding: See `read_text`.
    """
    if not content.strip():
        raise DataError(f"{source}: is empty")
    found = encoding or next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(found).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: {_refusal(content, error, found, given=encoding is not None)}") from None
    except UnicodeError as error:  # utf-16 without a mark where one is needed
        raise DataError(f"{source}: is not written in {found!r} ({error})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{source}: {_utf16_hint(content) or f'line {line:,} has a zero byte, which no text has'}")
    return text


def _refusal(content: bytes, error: UnicodeDecodeError, encoding: str, *, given: bool) -> str:
    line = content.count(b"\n", 0, error.start) + 1
    byte = f"byte 0x{content[error.start]:02x}"
    if given or encoding != "utf-8":
        return f"line {line:,} is not written in {encoding!r} ({byte}); name the file's own: --set data.encoding=..."
    if hint := _utf16_hint(content):
        return hint
    good: list[int] = []
    bad: list[int] = []
    for number, row in enumerate(content.split(b"\n"), start=1):
        if not row.isascii():
            try:
                row.decode()
            except UnicodeDecodeError:
                bad.append(number)
            else:
                good.append(number)
    way = "--set data.encoding=cp1252 reads it as Windows writes western European"
    if not good:
        others = f", and so are {len(bad) - 1:,} more lines" if len(bad) > 1 else ""
        return f"line {line:,} is not UTF-8 ({byte}){others}; name the file's encoding: {way}"
    return (
        f"mixes encodings: {_lines(bad)} not UTF-8 (line {bad[0]:,}: {byte}), {_lines(good)} "
        f"(line {good[0]:,}); bring the file to one encoding first; {way}, with wrong letters in line {good[0]:,}"
    )


def _utf16_hint(content: bytes) -> str:
    """Returns what to say of a file that looks like UTF-16 without a byte order mark; nothing where it does not."""
    beginning = content[:4096]
    if beginning.count(0) <= len(beginning) // 4:
        return ""
    side = "le" if beginning[1::2].count(0) >= beginning[::2].count(0) else "be"
    return f"looks like UTF-16; say so with --set data.encoding=utf-16-{side}"


def _lines(numbers: list[int]) -> str:
    return "1 line is" if len(numbers) == 1 else f"{len(numbers):,} lines are"
