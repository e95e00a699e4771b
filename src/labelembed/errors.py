"""Errors as types, and arguments checked together; each message names the value, what is allowed, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any


class LabelEmbedError(Exception):
    """Base of every error a user can cause or must know of; `exit_code` is the command line's answer."""

    exit_code = 2


class DataError(LabelEmbedError):
    """Data that cannot be used: names the file, the row and what was expected."""


class InvalidArguments(ValueError):  # noqa: N818 - several errors at once
    """Arguments of a constructor that are out of their range, one line each.

    Attributes:
        errors: (name, message) of each, for instance ``("temperature", "must be > 0, got -1.0")``.
    """

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(f"`{name}` {message}" for name, message in self.errors))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.errors,))


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns ``" (did you mean 'x'?)"`` for the nearest of `allowed`, or an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Returns the line that refuses an unknown name and lists the known ones."""
    choices = sorted(allowed)
    return f"unknown {kind} {name!r}{nearest(str(name), choices)}; there are: {', '.join(choices)}"


class ArgumentErrors:
    """Collects what is wrong with the arguments of one constructor, then raises once.

    Example:
        >>> errors = ArgumentErrors()
        >>> errors.require(-1.0 > 0, "temperature", -1.0, "must be > 0")
        >>> errors.raise_if_any()
        Traceback (most recent call last):
        ...
        labelembed.errors.InvalidArguments: `temperature` must be > 0, got -1.0
    """

    def __init__(self) -> None:
        self.errors: list[tuple[str, str]] = []

    def require(self, holds: bool, name: str, value: object, rule: str) -> None:
        """Notes an error unless `holds`; `rule` reads on from the argument's name."""
        if not holds:
            self.errors.append((name, f"{rule}, got {value!r}"))

    def choice(self, name: str, value: object, allowed: Sequence[object]) -> None:
        """Notes an error unless `value` is one of `allowed`."""
        if value not in allowed:
            choices = ", ".join(repr(item) for item in allowed)
            hint = nearest(value, [str(item) for item in allowed]) if isinstance(value, str) else ""
            self.errors.append((name, f"must be one of {choices}, got {value!r}{hint}"))

    def whole(self, name: str, value: object, *, least: int, optional: bool = False) -> None:
        """Notes an error unless `value` is a whole number of at least `least`, or with `optional` None."""
        rule = f"must be a whole number >= {least}" + (", or None" if optional else "")
        self.require(
            (optional and value is None) or (isinstance(value, Integral) and int(value) >= least), name, value, rule
        )

    def raise_if_any(self) -> None:
        """Raises InvalidArguments, a ValueError, with every error, one a line."""
        if self.errors:
            raise InvalidArguments(self.errors)
