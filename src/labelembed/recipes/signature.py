"""The keys a named component takes, read off its own signature and docstring.

So a new objective, network, reader or schedule needs no line here: its keyword-only arguments are its keys,
their annotations the types, their defaults the defaults, and the docstring's `Args:` the comments of a
recipe that `labelembed init` writes.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pydantic

from labelembed.errors import nearest, unknown_name
from labelembed.geometry import LabelGeometry

# What building a run supplies, and a recipe therefore does not say.
SUPPLIED = frozenset({"hidden_size", "num_labels", "input_shape", "output_std", "ignore_index", "network"})


class Key(NamedTuple):
    """One key of a component: its type, its default (`inspect.Parameter.empty`: it must be given), its words."""

    name: str
    annotation: Any
    default: Any
    description: str

    @property
    def required(self) -> bool:
        """Tells whether the recipe must give it."""
        return self.default is inspect.Parameter.empty


@cache
def keys_of(component: Callable[..., Any]) -> dict[str, Key]:
    """Returns the keys of a class or function, in the order of its signature."""
    function = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(function)
    words = described_arguments(inspect.getdoc(component) or "")
    return {
        name: Key(name, _recipe_type(hints.get(name, Any)), _recipe_default(parameter.default), words.get(name, ""))
        for name, parameter in inspect.signature(component).parameters.items()
        if name not in SUPPLIED and parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _recipe_type(annotation: Any) -> Any:
    """Returns the type as YAML can hold it: a saved geometry is given by its path, a tuple or sequence as a list."""
    if annotation is LabelGeometry:
        return str
    parts = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if parts and LabelGeometry in parts:
        return typing.Union[tuple(_recipe_type(part) for part in parts)]  # noqa: UP007 - made at run time
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence) and origin is not tuple:
        return list[_recipe_type(parts[0])]  # type: ignore[misc]
    return annotation


def _recipe_default(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def described_arguments(docstring: str) -> dict[str, str]:
    """Returns the text of each argument in a docstring's `Args:` section."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, flags=re.MULTILINE | re.DOTALL)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section.group(1), flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def summary(component: Callable[..., Any]) -> str:
    """Returns the first line of a component's docstring."""
    return (inspect.getdoc(component) or "").split("\n", 1)[0]


def resolve(
    kind: str, table: Mapping[str, Callable[..., Any]], block: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Checks one `{name: ..., key: ...}` block against what the component takes.

    Args:
        kind: The block's key in the recipe, which begins every fault: `objective`.
        table: The components there are.
        block: What the recipe says.

    Returns:
        The block with every default filled in, and the faults found; all of them.
    """
    if "name" not in block:
        return dict(block), [f"{kind}.name: missing; there are: {', '.join(sorted(table))}"]
    name = block["name"]
    if name not in table:
        return dict(block), [f"{kind}.name: {unknown_name(kind, name, table)}"]
    keys = keys_of(table[name])
    faults = [
        f"{kind}.{key}: unknown key of {name!r}{nearest(str(key), keys)}"
        + (f"; its keys: {', '.join(keys)}" if keys and not nearest(str(key), keys) else "")
        for key in block
        if key != "name" and key not in keys
    ]
    resolved: dict[str, Any] = {"name": name}
    for key in keys.values():
        if key.name not in block:
            if key.required:
                faults.append(f"{kind}.{key.name}: missing{_how_to_give(kind, key.name)}")
            else:
                resolved[key.name] = key.default
            continue
        try:
            value = _adapter(key.annotation).validate_python(block[key.name])
            resolved[key.name] = list(value) if isinstance(value, tuple) else value
        except pydantic.ValidationError as error:
            faults.append(f"{kind}.{key.name}: {_plain(error, block[key.name])}")
    return resolved, faults


def _how_to_give(kind: str, key: str) -> str:
    return "; give it with --data PATH" if (kind, key) == ("data", "path") else ""


@cache
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation)


def _plain(error: pydantic.ValidationError, value: Any) -> str:
    """Returns pydantic's first finding in our words."""
    messages = []
    for finding in error.errors(include_url=False):
        message = finding["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        message = message.split(", unable to parse")[0]
        if message not in messages:
            messages.append(message)
    return f"must be {' or '.join(messages)}, got {value!r}"


def argument_faults(kind: str, error: ValueError) -> list[str]:
    """Returns the lines of a constructor's ValueError as faults of a recipe's block.

    Example:
        >>> argument_faults("objective", ValueError("`smoothing` must be in [0, 1], got 2"))
        ['objective.smoothing: must be in [0, 1], got 2']
    """
    return [re.sub(r"^`(\w+)` ", rf"{kind}.\1: ", line) for line in str(error).splitlines()]


def construction_faults(kind: str, component: Callable[..., Any], **arguments: Any) -> list[str]:
    """Calls a component and returns what it says about its arguments; nothing when it is content."""
    try:
        component(**arguments)
    except ValueError as error:
        return argument_faults(kind, error)
    return []
