"""What can go wrong, as types; each message names the value, what is allowed, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import partial
from numbers import Integral
from typing import Any


class LabelEmbedError(Exception):
    """Base of every error a user can cause or must know of; `exit_code` is the command line's answer."""

    exit_code = 2


class RecipeError(LabelEmbedError):
    """A recipe, a `--set` or a variant that cannot be run. Carries *all* errors found, one line each.

    Args:
        errors: One line each, beginning with the key it is about.
        source: The file or option the errors are in, for the heading.
    """

    def __init__(self, errors: Iterable[str], *, source: str = "recipe") -> None:
        self.errors = list(errors)
        self.source = source
        super().__init__(self.errors, source)

    def __reduce__(self) -> tuple[Any, ...]:  # `source` must survive the way back from a worker process
        return (partial(type(self), source=self.source), (self.errors,))

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return f"{self.source}: {self.errors[0]}" if self.source else self.errors[0]
        shown = [f"  {error}" for error in self.errors[:8]]
        if len(self.errors) > 8:
            shown.append(f"  ... and {len(self.errors) - 8} more")
        return "\n".join([f"{self.source}: {len(self.errors)} errors", *shown])


class DataError(LabelEmbedError):
    """Data that cannot be used: names the file, the row and what was expected."""


class RunFolderError(LabelEmbedError):
    """A run or comparison folder that is missing, damaged, of another recipe, or cannot be written."""


class ClusterError(LabelEmbedError):
    """A cluster that cannot make runs: not reachable, other versions, a folder that a worker does not see."""


class TrainingError(LabelEmbedError):
    """A run that began and failed, for instance a loss that is not finite."""

    exit_code = 1


class DivergedTraining(TrainingError):  # noqa: N818 - what happened, as with InterruptedTraining
    """A run whose loss, gradient or weights are not finite any more.

    Args:
        message: What is not finite, and where.
        step: The optimiser step at which it was seen, from 1.
    """

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:  # `step` must survive the way back from a worker process
        return (partial(type(self), step=self.step), (str(self),))


class NotEnoughMemory(TrainingError):  # noqa: N818 - what is wrong, in the words of the message
    """A run whose steps take more memory than there is."""

    exit_code = 2


class LostProcess(LabelEmbedError):  # noqa: N818 - said by a process that is there of one that is not
    """One of the processes of a run has died or hangs; the run can be resumed."""

    exit_code = 1


class InterruptedTraining(LabelEmbedError):  # noqa: N818 - being interrupted is no error of anybody's
    """A run stopped by a signal, after it saved where it stood."""

    def __init__(self, message: str, *, signal_number: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number

    def __reduce__(self) -> tuple[Any, ...]:  # exit_code must survive the way back from a worker process
        return (_interrupted, (str(self), self.exit_code - 128))


def _interrupted(message: str, signal_number: int) -> InterruptedTraining:
    return InterruptedTraining(message, signal_number=signal_number)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns ``" (did you mean 'x'?)"`` for the nearest of `allowed`, or an empty string."""
    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Returns the one line that refuses an unknown name and lists what there is."""
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
        ValueError: `temperature` must be > 0, got -1.0
    """

    def __init__(self) -> None:
        self.errors: list[str] = []

    def require(self, holds: bool, name: str, value: object, rule: str) -> None:
        """Notes an error unless `holds`; `rule` reads on from the argument's name."""
        if not holds:
            self.errors.append(f"`{name}` {rule}, got {value!r}")

    def choice(self, name: str, value: object, allowed: Sequence[object]) -> None:
        """Notes an error unless `value` is one of `allowed`."""
        if value not in allowed:
            choices = ", ".join(repr(item) for item in allowed)
            hint = nearest(value, [str(item) for item in allowed]) if isinstance(value, str) else ""
            self.errors.append(f"`{name}` must be one of {choices}, got {value!r}{hint}")

    def whole(self, name: str, value: object, *, least: int, optional: bool = False) -> None:
        """Notes an error unless `value` is a whole number of at least `least`, or with `optional` None."""
        rule = f"must be a whole number >= {least}" + (", or None" if optional else "")
        self.require(
            (optional and value is None) or (isinstance(value, Integral) and int(value) >= least), name, value, rule
        )

    def raise_if_any(self) -> None:
        """Raises ValueError with every error, one a line."""
        if self.errors:
            raise ValueError("\n".join(self.errors))
