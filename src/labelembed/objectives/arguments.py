"""The keyword arguments of an objective by its name, checked against the constructor before anything is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from labelembed.errors import ArgumentErrors, nearest, unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES
from labelembed.objectives.base import CommonArguments, Objective

_DESCRIPTIONS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    type(None): "None",
    LabelGeometry: "a LabelGeometry",
    Tensor: "a tensor",
}


def parameters_of(objective: type[Objective]) -> dict[str, tuple[Any, Any]]:
    """Returns the keyword arguments of an objective, those common to all last: type and default of each.

    A required argument has the default `inspect.Parameter.empty`.
    """
    parameters = dict(inspect.signature(objective).parameters)
    hints = typing.get_type_hints(Objective.__init__) | typing.get_type_hints(objective.__init__)
    if parameters.pop("common", None) is not None:
        base = inspect.signature(Objective).parameters
        parameters |= {name: base[name] for name in CommonArguments.__annotations__}
    keywords = {name: each for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return {name: (hints[name], each.default) for name, each in keywords.items()}


def checked_arguments(
    name: str, arguments: Mapping[str, Any] | None, errors: ArgumentErrors, *, supplied: Collection[str] = ()
) -> dict[str, Any]:
    """Returns an objective's keyword arguments, NumPy's scalars as Python's, and notes all that is wrong with them.

    The name must be known, every argument exist and have its type, and none be missing. The constructor checks ranges.

    Args:
        name: A key of `OBJECTIVES`.
        arguments: Those that a user gave; None: none.
        errors: Where the errors go; the caller raises them with its own.
        supplied: Arguments that the caller fills in, which a user cannot give.
    """
    given = {key: value.item() if isinstance(value, np.generic) else value for key, value in (arguments or {}).items()}
    if name not in OBJECTIVES:
        errors.errors.append(f"`objective`: {unknown_name('objective', name, OBJECTIVES)}")
        return given
    known = {key: each for key, each in parameters_of(OBJECTIVES[name]).items() if key not in supplied}
    for key, value in given.items():
        if key not in known:
            errors.errors.append(f"`{key}`: {name!r} has no such argument{nearest(key, known)}")
        elif not _fits(value, known[key][0]):
            hint = nearest(value, _choices(known[key][0])) if isinstance(value, str) else ""
            errors.errors.append(f"`{key}` must be {_described(known[key][0])}, got {value!r}{hint}")
    for key, (annotation, default) in known.items():
        if default is inspect.Parameter.empty and key not in given:
            errors.errors.append(f"`{key}`: {name!r} needs it, {_described(annotation)}")
    return given


def _members(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _choices(annotation: Any) -> list[str]:
    literals = [member for member in _members(annotation) if typing.get_origin(member) is Literal]
    return [choice for member in literals for choice in typing.get_args(member)]


def _fits(value: Any, annotation: Any) -> bool:
    for member in _members(annotation):
        origin = typing.get_origin(member)
        if origin is Literal:
            fits = isinstance(value, str) and value in typing.get_args(member)
        elif origin is not None:  # numbers in a sequence
            numbers = value.tolist() if isinstance(value, np.ndarray) else value
            entry = typing.get_args(member)[0]
            is_sequence = isinstance(numbers, Sequence) and not isinstance(numbers, str)
            fits = is_sequence and all(_fits(each, entry) for each in numbers)
        elif member in (float, int):
            fits = isinstance(value, (int, float) if member is float else int) and not isinstance(value, bool)
        else:
            fits = isinstance(value, member)
        if fits:
            return True
    return False


def _described(annotation: Any) -> str:
    """Returns an annotation in words: ``a number, 'log' or None``."""
    words: list[str] = []
    for member in _members(annotation):
        if typing.get_origin(member) is Literal:
            words += [repr(choice) for choice in typing.get_args(member)]
        elif typing.get_origin(member) is not None:
            words.append("a sequence of numbers")
        else:
            words.append(_DESCRIPTIONS.get(member, f"a {getattr(member, '__name__', member)}"))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
