"""The keyword arguments of an objective by its name, checked against the constructor before anything is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from labelembed.errors import ArgumentErrors, nearest
from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES
from labelembed.objectives.base import CommonArguments, Objective

_WORDS: dict[Any, str] = {
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
    errors.choice("objective", name, tuple(OBJECTIVES))
    if name not in OBJECTIVES:
        return given
    known = {key: each for key, each in parameters_of(OBJECTIVES[name]).items() if key not in supplied}
    for key, value in given.items():
        if key not in known:
            errors.note(key, f"is no argument of {name!r}{nearest(key, known)}")
        elif not any(_fits(value, member) for member in _members(known[key][0])):
            hint = nearest(value, _choices(known[key][0])) if isinstance(value, str) else ""
            errors.note(key, f"must be {_described(known[key][0])}, got {value!r}{hint}")
    for key, (annotation, default) in known.items():
        if default is inspect.Parameter.empty and key not in given:
            errors.note(key, f"must be given to {name!r}: {_described(annotation)}")
    return given


def _members(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _choices(annotation: Any) -> list[str]:
    literals = [member for member in _members(annotation) if typing.get_origin(member) is Literal]
    return [choice for member in literals for choice in typing.get_args(member)]


def _fits(value: Any, member: Any) -> bool:
    if typing.get_origin(member) is Literal:
        return isinstance(value, str) and value in typing.get_args(member)
    if typing.get_origin(member) is not None:  # numbers in a sequence
        value = value.tolist() if isinstance(value, np.ndarray) else value
        entry = typing.get_args(member)[0]
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(each, entry) for each in value)
    if member in (float, int):
        return isinstance(value, (int, member)) and not isinstance(value, bool)
    return isinstance(value, member)


def _described(annotation: Any) -> str:
    """Returns an annotation in words: ``a number, 'log' or None``."""
    words = [repr(choice) for choice in _choices(annotation)]
    for member in _members(annotation):
        if typing.get_origin(member) is not Literal:
            words.append(_WORDS.get(member, "a sequence of numbers"))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
