"""Reading the pickles of CIFAR's Python version without unpickling: nothing in them is ever called.

A pickle is a program that may call anything. Here each of its instructions is looked at before any is carried out, and
the few names that an array needs stand for functions of this file, which take bytes and give an array of bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from labelembed.errors import DataError

# What builds numbers, texts, bytes, lists, dictionaries and arrays. Not among them: classes to be made an instance of,
# persistent identities, extension codes, sets (whose members are hashed to any depth).
_ALLOWED = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST EMPTY_DICT DICT SETITEM SETITEMS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD
    PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE
""".split()  # noqa: SIM905 - fifty quotation marks say nothing
# An array needs four or five, texts in Python 3's protocol 2 one each; a hundred thousand within one another would
# overflow the stack where they are hashed.
_MOST_TUPLES = 25_000


def restricted_load(content: bytes, where: str) -> Any:
    """Returns what a pickle of CIFAR holds: dictionaries, lists, bytes, texts, numbers and uint8 arrays.

    Texts of Python 2 become bytes.

    Args:
        content: The pickle.
        where: Name of the file, for messages.

    Raises:
        DataError: It asks for anything else, by name, or is cut off or damaged; nothing of it has been called then.
    """
    _check_instructions(content, where)
    try:
        return _Restricted(content, where).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle makes Python raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{where}: is damaged, or no CIFAR pickle ({reason})") from None


def _check_instructions(content: bytes, where: str) -> None:
    count = tuples = 0
    try:
        for instruction, argument, place in pickletools.genops(content):
            count += 1
            name = instruction.name
            if name not in _ALLOWED:
                raise DataError(
                    f"{where}: the pickle has the instruction {name} at byte {place}, which no CIFAR file needs"
                )
            if name == "GLOBAL":
                _named(str(argument).replace(" ", "."), where)
            tuples += name.startswith("TUPLE")
            # memory is taken for the highest place in the memo
            if name.endswith("PUT") and int(argument) > count:  # type: ignore[arg-type]
                raise DataError(f"{where}: is damaged (place {argument} of a memo with {count} entries)")
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{where}: is cut off, damaged, or no pickle ({reason})") from None
    if tuples > _MOST_TUPLES:
        raise DataError(f"{where}: is damaged, or no CIFAR pickle ({tuples:,} tuples)")


class _Array:
    """Stands for an array until its state comes."""

    def __init__(self, *_: object) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if isinstance(content, str):  # as protocol 2 has it before Python 2's texts are told from bytes
            content = content.encode("latin-1")
        self.array = _bytes_as_array(content, kind, shape, by_columns=bool(by_columns))


class _Kind:
    """Stands for a dtype; only that of bytes is known."""

    def __init__(self, code: Any, *_: object) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else str(code)
        if text not in ("u1", "|u1", "B", "uint8"):
            raise ValueError(f"an array of {text[:20]!r}; expected u1")

    def __setstate__(self, state: Any) -> None:
        """Takes what says nothing of bytes: the order of the bytes of a number."""


def _bytes_as_array(content: Any, kind: Any, shape: Any, *, by_columns: bool) -> Any:
    if not isinstance(content, bytes | bytearray) or not isinstance(kind, _Kind) or not isinstance(shape, tuple):
        raise ValueError("an array that is not made of bytes")
    if len(shape) > 4 or not all(type(size) is int and 0 <= size <= len(content) for size in shape):
        raise ValueError(f"an array of shape {str(shape)[:60]}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if by_columns else "C")


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Any:
    found = _Array()
    found.array = _bytes_as_array(content, kind, shape, by_columns=order == "F")
    return found


def _latin(text: Any, encoding: Any) -> bytes:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise ValueError(f"bytes encoded as {str(encoding)[:20]!r}")
    return text.encode("latin-1")


_MAKERS: dict[str, Any] = {
    "_reconstruct": _Array,
    "_frombuffer": _from_buffer,
    "ndarray": lambda *_: None,
    "dtype": _Kind,
    "encode": _latin,
}
_NAMES = {
    "numpy.core.multiarray._reconstruct": "_reconstruct",
    "numpy._core.multiarray._reconstruct": "_reconstruct",
    "numpy.core.numeric._frombuffer": "_frombuffer",
    "numpy._core.numeric._frombuffer": "_frombuffer",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
}


def _named(name: str, where: str) -> str:
    if name not in _NAMES:
        shown = name if name.isprintable() and len(name) < 80 else repr(name)[:80]
        raise DataError(
            f"{where}: the pickle asks for {shown}, which no CIFAR file needs; it is refused and nothing of it was run"
        )
    return _NAMES[name]


class _Callable:
    """What a name in a pickle stands for; a new one each time, and nothing can be set on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a state for a function")


class _Restricted(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        """Returns this file's own stand-in; overrides what would import the module."""
        return _Callable(_MAKERS[_named(f"{module}.{name}", self._where)])

    def persistent_load(self, identity: Any) -> Any:
        raise DataError(f"{self._where}: the pickle asks for something outside of it; refused")


def arrays_of(value: Any) -> Any:
    """Returns the array that a value of a loaded pickle stands for, or the value itself."""
    return value.array if isinstance(value, _Array) else value
