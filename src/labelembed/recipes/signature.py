"""The keys a named component takes, read off its own signature and docstring.

So a new objective, network, reader or schedule needs no line here: its keyword-only arguments are its keys,
their annotations the types, their defaults the defaults, and the docstring's `Args:` the comments of a
recipe that `labelembed init` writes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pydantic
from torch import Tensor

from labelembed.errors import nearest, unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.objectives.base import CommonArguments, Objective
from labelembed.recipes.wording import refusal, shown

# No key counts further; a longer number is a slip, and no tensor could have that size.
LARGEST_NUMBER = 2**31 - 1
# What building a run supplies, and a recipe therefore does not say.
SUPPLIED = frozenset(
    {
        "hidden_size",
        "num_labels",
        "num_examples",
        "input_shape",
        "source_vocabulary_size",
        "target_vocabulary_size",
        "vocabulary_size",
        "texts_with_feature",
        "encoder_folder",
        "encoder_filled",
        "output_std",
        "ignore_index",
        "network",
    }
)
# Arguments that hold what a recipe points to under another name: the teacher's logits by the folder of its run.
POINTED_TO = {"teacher_logits": "teacher"}


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
    hints, words = _hints(component), _described(component)
    found = {}
    for name, parameter in _parameters(component).items():
        if name not in SUPPLIED and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            called = POINTED_TO.get(name, name)
            annotation = str if name in POINTED_TO else _recipe_type(hints.get(name, Any))
            found[called] = Key(called, annotation, _recipe_default(parameter.default), words.get(name, ""))
    return found


def takes(component: Callable[..., Any], argument: str) -> bool:
    """Tells whether a class or function has an argument of that name."""
    return argument in _parameters(component)


def _is_objective(component: Callable[..., Any]) -> bool:
    return inspect.isclass(component) and issubclass(component, Objective)


def _hints(component: Callable[..., Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(component):  # whose fields are annotated where they stand
        return typing.get_type_hints(component)
    hints = typing.get_type_hints(component.__init__ if inspect.isclass(component) else component)
    return _hints(Objective) | hints if _is_objective(component) and component is not Objective else hints


def _described(component: Callable[..., Any]) -> dict[str, str]:
    """Returns the text of each argument; what several classes take is documented once, by their base class."""
    bases = inspect.getmro(component) if inspect.isclass(component) else (component,)
    return {
        name: text
        for base in reversed(bases)
        if base.__doc__ is not None
        for name, text in described_arguments(inspect.cleandoc(base.__doc__)).items()
    }


def _parameters(component: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class or function, `**common` of an objective written out."""
    found = dict(inspect.signature(component).parameters)
    if _is_objective(component) and "common" in found:
        base = inspect.signature(Objective).parameters
        found = {name: value for name, value in found.items() if name != "common"}
        found |= {name: base[name] for name in CommonArguments.__annotations__}
    return found


def _recipe_type(annotation: Any) -> Any:
    """Returns the type as YAML can hold it: a saved geometry is given by its path, a tuple or sequence as a list."""
    if annotation is LabelGeometry:
        return str
    if annotation == Sequence[float] | Tensor | None:  # numbers, which Python callers may give as a tensor
        return list[float] | None
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
    kind: str, table: Mapping[str, Callable[..., Any]], block: Mapping[str, Any], *, common: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Checks one `{name: ..., key: ...}` block against what the component takes.

    Args:
        kind: The block's key in the recipe, which begins every fault: `objective`.
        table: The components there are.
        block: What the recipe says.
        common: Keys that a block of this kind may have as well, to name the nearest right key.

    Returns:
        The block with every default filled in, and the faults found; all of them.
    """
    if "name" not in block:
        return dict(block), [f"{kind}.name: missing; there are: {', '.join(sorted(table))}"]
    name = block["name"]
    if not isinstance(name, str):
        return dict(block), [f"{kind}.name: must be one of {', '.join(sorted(table))}, got {shown(name)}"]
    if name not in table:
        return dict(block), [f"{kind}.name: {unknown_name(kind, name, table)}"]
    keys = keys_of(table[name])
    allowed = [*keys, *common]
    faults = [
        f"{kind}.{key}: unknown key of {name!r}{nearest(str(key), allowed)}"
        + (f"; its keys: {', '.join(allowed)}" if allowed and not nearest(str(key), allowed) else "")
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
        value, fault = _checked(key.annotation, block[key.name])
        if fault:
            faults.append(f"{kind}.{key.name}: {fault}")
        else:
            resolved[key.name] = value
    return resolved, faults


def _how_to_give(kind: str, key: str) -> str:
    ways = {
        ("data", "path"): "give it with --data PATH",
        ("objective", "teacher"): "name the folder of a finished run",
        ("objective", "embedding"): "name a saved geometry, or 'text' for the labels' names through a text encoder",
    }
    return f"; {ways[kind, key]}" if (kind, key) in ways else ""


def _checked(annotation: Any, value: Any) -> tuple[Any, str]:
    """Returns the value as its type has it, and what is wrong with it."""
    if typing.get_origin(annotation) is tuple and isinstance(value, list):
        length = len(typing.get_args(annotation))
        if len(value) != length:
            return None, f"must be a list of {length} values, got {shown(value)}"
    try:
        found = _adapter(annotation).validate_python(value if _takes_truth_value(annotation) else _untrue(value))
    except pydantic.ValidationError as error:
        findings = error.errors(include_url=False)
        # of a text or a list of texts the alternatives are tried in turn, and a list is told by its entry
        for finding in findings if isinstance(value, list) else []:
            place = next((part for part in finding["loc"] if isinstance(part, int)), None)
            if place is not None and place < len(value):
                return None, f"entry {place + 1} {refusal([finding], value[place])}"
        return None, refusal(findings, value)
    found = list(found) if isinstance(found, tuple) else found
    for number in found if isinstance(found, list) else [found]:
        if isinstance(number, int) and abs(number) > LARGEST_NUMBER:
            return None, f"must be a number up to {LARGEST_NUMBER:,}, got {shown(value)}"
    return found, ""


def _untrue(value: Any) -> Any:
    """Returns a value with no `true` in it, which pydantic would take for the number 1."""
    if isinstance(value, list):
        return [_untrue(part) for part in value]
    return object() if isinstance(value, bool) else value


def _takes_truth_value(annotation: Any) -> bool:
    return annotation is bool or any(map(_takes_truth_value, typing.get_args(annotation)))


@cache
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(allow_inf_nan=False))


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
    except (RuntimeError, TypeError, OverflowError) as error:  # torch, of sizes that no memory could hold
        return [f"{kind}: cannot be built: {str(error).splitlines()[0][:120]}"]
    return []
