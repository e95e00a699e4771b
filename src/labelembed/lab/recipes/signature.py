"""The keys a named component takes: a pydantic model made from its own signature and docstring.

So a new objective, network, reader or schedule needs no line here: its keyword-only arguments are its keys,
their annotations the types, their defaults the defaults, and the docstring's `Args:` the comments of a
recipe that `labelembed init` writes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo
from torch import Tensor

from labelembed.errors import unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.lab.recipes.wording import errors_of, shown
from labelembed.lab.training.settings import Block, Number
from labelembed.objectives.base import CommonArguments, Objective

# No key counts further; a longer number is a slip, and no tensor could have that size.
LARGEST_NUMBER = 2**31 - 1
_Whole = Annotated[int, Field(strict=True, ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
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
_HOW_TO_GIVE = {
    "data.path": "give it with --data PATH",
    "objective.teacher": "name the folder of a finished run",
    "objective.embedding": "name a saved geometry, or 'text' for the labels' names through a text encoder",
}


@cache
def model_of(component: Callable[..., Any], common: type[Block] | None = None) -> type[Block]:
    """Returns the pydantic model of a class or function: a field for each key, in the order of its signature.

    Args:
        component: What the keys are arguments of.
        common: Keys that come after its own.
    """
    hints, words = _hints(component), _described(component)
    fields: dict[str, Any] = {}
    for name, parameter in _parameters(component).items():
        if name not in SUPPLIED and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            given = parameter.default
            default = ... if given is parameter.empty else list(given) if isinstance(given, tuple) else given
            key, annotation = POINTED_TO.get(name, name), str if name in POINTED_TO else _of_yaml(hints[name])
            fields[key] = (annotation, Field(default, description=words.get(name, "")))
    fields |= {name: (field.annotation, field) for name, field in (common.model_fields if common else {}).items()}
    return pydantic.create_model(component.__name__, __base__=Block, **fields)


def keys_of(component: Callable[..., Any]) -> dict[str, FieldInfo]:
    """Returns the keys of a class or function by name: type, default and description of each."""
    return model_of(component).model_fields


def takes(component: Callable[..., Any], argument: str) -> bool:
    """Tells whether a class or function has an argument of that name."""
    return argument in _parameters(component)


def _is_objective(component: Callable[..., Any]) -> bool:
    return inspect.isclass(component) and issubclass(component, Objective)


def _parameters(component: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class or function, `**common` of an objective written out."""
    found = dict(inspect.signature(component).parameters)
    if _is_objective(component) and "common" in found:
        del found["common"]
        base = inspect.signature(Objective).parameters
        found |= {name: base[name] for name in CommonArguments.__annotations__}
    return found


def _hints(component: Callable[..., Any]) -> dict[str, Any]:
    if not inspect.isclass(component) or dataclasses.is_dataclass(component):  # annotated where its fields stand
        return typing.get_type_hints(component)
    of_base = typing.get_type_hints(Objective.__init__) if _is_objective(component) else {}
    return of_base | typing.get_type_hints(component.__init__)


def _described(component: Callable[..., Any]) -> dict[str, str]:
    """Returns the text of each argument; what several classes take is documented once, by their base class."""
    bases = inspect.getmro(component) if inspect.isclass(component) else (component,)
    found: dict[str, str] = {}
    for base in reversed(bases):
        found |= described_arguments(inspect.cleandoc(base.__doc__ or ""))
    return found


def _of_yaml(annotation: Any) -> Any:
    """Returns a type as YAML can hold it: a saved geometry by its path, numbers in a list, none of them `true`."""
    parts, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_of_yaml(part) for part in parts if part is not Tensor)]  # noqa: UP007 - at run time
    if origin is None or origin is Literal:
        return {LabelGeometry: str, float: Number, int: _Whole}.get(annotation, annotation)
    length = len(parts) if origin is tuple and ... not in parts else None
    entries: Any = list.__class_getitem__(_of_yaml(parts[0]))
    return Annotated[entries, Field(min_length=length, max_length=length)]


def described_arguments(docstring: str) -> dict[str, str]:
    """Returns the text of each argument in a docstring's `Args:` section."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, flags=re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def summary(component: Callable[..., Any]) -> str:
    """Returns the first line of a component's docstring."""
    return (inspect.getdoc(component) or "").split("\n", 1)[0]


def resolve(
    kind: str,
    table: Mapping[str, Callable[..., Any]],
    block: Mapping[str, Any],
    *,
    common: type[Block] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Checks one `{name: ..., key: ...}` block against what the component takes.

    Args:
        kind: The block's key in the recipe, which begins every error: `objective`.
        table: The components there are.
        block: What the recipe says.
        common: Keys that a block of this kind may have as well.

    Returns:
        The block with every default filled in, without the wrong keys, and all errors; {} where the name is one.
    """
    if "name" not in block:
        return {}, [f"{kind}.name: missing; there are: {', '.join(sorted(table))}"]
    name = block["name"]
    if not isinstance(name, str):
        return {}, [f"{kind}.name: must be one of {', '.join(sorted(table))}, got {shown(name)}"]
    if name not in table:
        return {}, [f"{kind}.name: {unknown_name(kind, name, table)}"]
    model = model_of(table[name], common)
    given = {key: value for key, value in block.items() if key != "name"}
    try:
        return {"name": name, **model.model_validate(given).model_dump()}, []
    except pydantic.ValidationError as error:
        errors = errors_of(error, model, prefix=f"{kind}.", of=f" of {name!r}")
        wrong = {str(finding["loc"][0]) for finding in error.errors()}
    right = {key: value for key, value in given.items() if key in model.model_fields and key not in wrong}
    right |= {key: "" for key in wrong & model.model_fields.keys() if model.model_fields[key].is_required()}
    errors = [f"{error}; {_HOW_TO_GIVE[key]}" if (key := error.removesuffix(": missing")) in _HOW_TO_GIVE else error
              for error in errors]  # fmt: skip
    return {"name": name, **model.model_validate(right).model_dump()}, errors


def argument_errors(kind: str, error: ValueError) -> list[str]:
    """Returns the lines of a constructor's ValueError as errors of a recipe's block.

    Example:
        >>> argument_errors("objective", ValueError("`smoothing` must be in [0, 1], got 2"))
        ['objective.smoothing: must be in [0, 1], got 2']
    """
    return [re.sub(r"^`(\w+)` ", rf"{kind}.\1: ", line) for line in str(error).splitlines()]
