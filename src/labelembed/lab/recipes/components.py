"""A component of a recipe: its keys are its own keyword-only arguments, and its own constructor checks their values.

So a new objective, network, reader, optimiser or schedule needs no line here: the annotations are the types, the
defaults the defaults, and the docstring's `Args:` the comments of a recipe that `labelembed init` writes.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
import torch
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from torch import Tensor

from labelembed.errors import DataError, InvalidArguments, nearest, unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.lab.training.optimizers import check_arguments
from labelembed.lab.training.settings import Block, Number, arguments_of
from labelembed.objectives import OBJECTIVES, Objective
from labelembed.objectives.base import CommonArguments

#: What is wrong with a recipe, by key: ``{"objective.temperature": "must be > 0, got -1.0"}``.
Errors = dict[str, str]

#: No key counts further; a longer number is a slip, and no tensor could have that size.
LARGEST_NUMBER = 2**31 - 1
_Whole = Annotated[int, Field(strict=True, ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
#: Arguments that building a run supplies, and a recipe therefore does not say.
SUPPLIED = {
    "hidden_size", "num_labels", "num_examples", "input_shape", "source_vocabulary_size", "target_vocabulary_size",
    "vocabulary_size", "texts_with_feature", "encoder_folder", "encoder_filled", "output_std", "ignore_index",
    "network",
}  # fmt: skip
#: Arguments that hold what a recipe points to under another name: the teacher's logits by the folder of its run.
POINTED_TO = {"teacher_logits": "teacher"}
_HOW_TO_GIVE = {
    "data.path": "give it with --data PATH",
    "objective.teacher": "name the folder of a finished run",
    "objective.embedding": "name a saved geometry, or 'text' for the labels' names through a text encoder",
}
# Sizes that a network is built with to check its arguments, of these what it takes.
_SIZES = {"input_shape": (3, 32, 32), "vocabulary_size": 8, "source_vocabulary_size": 8, "target_vocabulary_size": 8}
#: What constructors raise: `InvalidArguments`, or torch for sizes that no memory holds.
BUILD_ERRORS = (ValueError, RuntimeError, TypeError, OverflowError, MemoryError)
# What pydantic wants, by its type of error or the first word of it.
_RULES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "too_short": "a list of {min_length} or more values",
    "too_long": "a list of {max_length} values at most",
    "dict": "a mapping of keys",
    "model": "a mapping of keys",
    "literal": "{expected}",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge:,}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le:,}",
}


@functools.cache
def model_of(component: Callable[..., Any], common: type[Block] | None = None) -> type[Block]:
    """Returns the model of a class or function: a field for each key, its own ones before those of `common`."""
    hints, descriptions = _types_and_descriptions(component)
    fields: dict[str, Any] = {}
    for name, parameter in _parameters(component).items():
        if name not in SUPPLIED and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            given = parameter.default
            default = ... if given is parameter.empty else list(given) if isinstance(given, tuple) else given
            key, annotation = POINTED_TO.get(name, name), str if name in POINTED_TO else _of_yaml(hints[name])
            fields[key] = (annotation, Field(default, description=descriptions.get(name, "")))
    fields |= {name: (field.annotation, field) for name, field in (common.model_fields if common else {}).items()}
    return pydantic.create_model(component.__name__, __base__=Block, **fields)


def keys_of(component: Callable[..., Any]) -> dict[str, FieldInfo]:
    """Returns the keys of a class or function by name: type, default and description of each."""
    return model_of(component).model_fields


def takes(component: Callable[..., Any], argument: str) -> bool:
    """Tells whether a class or function has an argument of that name."""
    return argument in _parameters(component)


def summary(component: Callable[..., Any]) -> str:
    """Returns the first line of a component's docstring."""
    return (inspect.getdoc(component) or "").split("\n", 1)[0]


def described_arguments(docstring: str) -> dict[str, str]:
    """Returns the text of each argument in a docstring's `Args:` section."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, flags=re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _types_and_descriptions(component: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns both by argument; base classes annotate and document what several classes take."""
    hints: dict[str, Any] = {}
    descriptions: dict[str, str] = {}
    for base in inspect.getmro(component)[::-1] if inspect.isclass(component) else [component]:
        is_plain = inspect.isclass(base) and not dataclasses.is_dataclass(base)  # not annotated where its fields stand
        hints |= typing.get_type_hints(base.__init__ if is_plain else base)
        descriptions |= described_arguments(inspect.cleandoc(base.__doc__ or ""))
    return hints, descriptions


def _parameters(component: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class or function, `**common` of an objective written out."""
    parameters = dict(inspect.signature(component).parameters)
    if parameters.pop("common", None) is not None:
        base = inspect.signature(Objective).parameters
        parameters |= {name: base[name] for name in CommonArguments.__annotations__}
    return parameters


def _of_yaml(annotation: Any) -> Any:
    """Returns a type as YAML can hold it: a saved geometry by its path, numbers in a list, none of them `true`."""
    parts, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, [_of_yaml(part) for part in parts if part is not Tensor])
    if origin in (None, Literal, dict):
        return {LabelGeometry: str, float: Number, int: _Whole}.get(annotation, annotation)
    length = len(parts) if origin is tuple and ... not in parts else None
    entries: Any = types.GenericAlias(list, (_of_yaml(parts[0]),))
    return Annotated[entries, Field(min_length=length, max_length=length)]


def resolve(
    kind: str, table: Mapping[str, Callable[..., Any]], block: Mapping[str, Any], *, common: type[Block] | None = None
) -> tuple[dict[str, Any], Errors]:
    """Checks a `{name: ..., key: ...}` block against the keys, types and values of its component.

    `kind` is the block's key in the recipe, `common` has the keys of all blocks of that kind. Returns the block with
    every default and without wrong keys ({} for an unknown name), and all errors by key.
    """
    if "name" not in block:
        return {}, {f"{kind}.name": f"missing; there are: {', '.join(sorted(table))}"}
    name = block["name"]
    if not isinstance(name, str) or name not in table:
        return {}, {f"{kind}.name": unknown_name(kind, name, table)}
    model = model_of(table[name], common)
    given = arguments_of(block)
    errors: Errors = {}
    try:
        values = model.model_validate(given)
    except pydantic.ValidationError as error:
        errors = model_errors(error, model, prefix=f"{kind}.")
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        right = {key: value for key, value in given.items() if key in model.model_fields and key not in wrong}
        missing = {key for key in wrong & model.model_fields.keys() if model.model_fields[key].is_required()}
        values = model.model_validate(right | dict.fromkeys(missing, ""))
    resolved = {"name": name, **values.model_dump()}
    return resolved, _value_errors(kind, table[name], resolved) | errors


def _value_errors(kind: str, component: Callable[..., Any], block: Mapping[str, Any]) -> Errors:
    """Returns the errors that a component finds in the values of a block, before any data are read.

    Readers and schedules are constructed, networks on the device `meta`, objectives for a few labels.
    """
    arguments = arguments_of(block)
    if kind == "data":
        if not inspect.isclass(component):  # a corpus is opened by nothing but the run
            return {}
        arguments = {key: block[key] for key in keys_of(component)}
    elif kind == "objective":
        component, arguments = small_objective, {"block": block}
    elif kind == "optimizer":
        component, arguments = check_arguments, {"arguments": arguments}
    elif kind == "model":
        component = getattr(component, "check_arguments", component)
        arguments |= {name: size for name, size in _SIZES.items() if takes(component, name)}
    try:
        with torch.device("meta" if kind == "model" else "cpu"):
            component(**arguments)
    except DataError:  # the package of a network is missing, which is said where the network is built
        pass
    except BUILD_ERRORS as error:
        return argument_errors(kind, error)
    return {}


def small_objective(block: Mapping[str, Any]) -> Objective:
    """Returns the objective of a block for a few labels, with made things in the place of what the recipe points to."""
    kind, labels = OBJECTIVES[block["name"]], len(block.get("weight") or (0, 1))
    keys = keys_of(kind)
    arguments = {key: value for key, value in block.items() if key not in ("name", *POINTED_TO.values())}
    arguments |= {name: None for name, key in POINTED_TO.items() if key in keys}
    if "embedding" in keys and keys["embedding"].is_required():
        arguments["embedding"] = LabelGeometry(tuple(map(str, range(labels))), vectors=torch.eye(labels))
    elif block.get("embedding") not in (None, "full", "compressed"):
        arguments["embedding"] = "full"
    with torch.random.fork_rng(devices=[]):
        return kind(2, labels, **arguments)


def argument_errors(kind: str, error: Exception) -> Errors:
    """Returns a constructor's exception as errors of a recipe's block, such as `objective`."""
    if isinstance(error, InvalidArguments):
        return {f"{kind}.{name}": message for name, message in error.errors}
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return {kind: f"cannot be built, is it too large for the memory? ({reason})"}


def as_lines(errors: Errors) -> list[str]:
    """Returns errors as `RecipeError` takes them."""
    return [f"{key}: {message}" for key, message in errors.items()]


def shown(value: Any) -> str:
    """Returns a value as a message has room for."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of very many digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def refusal(details: Sequence[ErrorDetails], value: Any, choices: Sequence[str] = ()) -> str:
    """Returns ``must be a whole number, got 'x'`` for what pydantic finds wrong with a value, by each alternative."""
    rules: dict[str, None] = {}
    for detail in details:
        if detail["type"] == "value_error":  # our own validators say it all
            return str(detail["ctx"]["error"])
        rule = _RULES.get(detail["type"]) or _RULES.get(detail["type"].partition("_")[0])
        rules[rule.format(**detail.get("ctx", {})) if rule else detail["msg"]] = None
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return f"must be {' or '.join(rules)}, got {shown(value)}{hint}"


def model_errors(error: pydantic.ValidationError, model: type[pydantic.BaseModel], *, prefix: str = "") -> Errors:
    """Returns pydantic's errors by key, each key behind a prefix."""
    errors: Errors = {}
    wrong: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        keys, owner, leaves = _locate(model, detail["loc"])
        key = prefix + ".".join(keys)
        if detail["type"] in ("extra_forbidden", "invalid_key"):
            known = list(owner.model_fields)
            hint = nearest(keys[-1], known) or f"; there are: {', '.join(known)}"
            errors[key] = f"unknown key{hint}"
        elif detail["type"] == "missing":
            errors[key] = f"missing; {_HOW_TO_GIVE[key]}" if key in _HOW_TO_GIVE else "missing"
        else:
            wrong.setdefault(key, []).append(detail)
            errors[key] = refusal(wrong[key], detail["input"], [leaf for leaf in leaves if isinstance(leaf, str)])
            if detail["type"] == "string_type" and isinstance(detail["input"], bool):
                errors[key] += "; in YAML no, yes, on and off need quotation marks"
    return {key: text for key, text in errors.items() if not any(other.startswith(f"{key}.") for other in errors)}


def _locate(model: Any, place: tuple[int | str, ...]) -> tuple[list[str], type[pydantic.BaseModel], list[Any]]:
    """Returns the keys that lead to a finding, the model that has the last of them, and what that may hold."""
    keys: list[str] = []
    owner, inner, leaves = model, model, []
    for part in place:
        if isinstance(part, int):  # an entry of a list
            keys.append(str(part))
        elif inner is not None:  # else pydantic's name of an alternative
            keys.append(part)
            owner, field = inner, inner.model_fields.get(part)
            leaves = _leaves(field.annotation) if field else []
            inner = next((leaf for leaf in leaves if hasattr(leaf, "model_fields")), None)
    return keys, owner, leaves


def _leaves(annotation: Any) -> list[Any]:
    """Returns the models, the texts and the other types that a type allows."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal or not parts:
        return list(parts) or [annotation]
    return [leaf for part in parts for leaf in _leaves(part)]
