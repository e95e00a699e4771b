"""What pydantic finds wrong with a value, in the words of this project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from labelembed.errors import nearest

_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list of {min_length} values",
    "too_long": "a list of {max_length} values",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge:,}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le:,}",
    "literal_error": "{expected}",
}
_LONGEST = 60


def shown(value: Any) -> str:
    """Returns a value of a recipe as a message has room for."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of very many digits
        text = "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def refusal(findings: Sequence[ErrorDetails], value: Any) -> str:
    """Returns ``must be a whole number, got 'x'`` for what pydantic found wrong with one value.

    Args:
        findings: Of a type with alternatives one for each; of any other, the first is told.
        value: The value.
    """
    for finding in findings:
        if finding["type"] == "value_error":  # one of our own validators has said it all
            return finding["msg"].removeprefix("Value error, ")
    wanted: dict[str, None] = {}
    for finding in findings:
        words = _WANTED.get(finding["type"])
        words = words.format(**finding.get("ctx", {})) if words else finding["msg"].removeprefix("Input should be ")
        wanted[words] = None
    choices = " or ".join(wanted)
    hint = nearest(value, re.findall(r"'([^']+)'", choices)) if isinstance(value, str) else ""
    return f"must be {choices}, got {shown(value)}{hint}"


def errors_of(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], *, prefix: str = "", of: str = ""
) -> list[str]:
    """Returns pydantic's findings as `key: what is wrong` lines; one for each key.

    Args:
        error: What it raised.
        model: The model that it checked.
        prefix: Stands before each key.
        of: Whose keys the model's own are, for unknown ones: ``of 'one_hot'``.
    """
    found: dict[str, list[ErrorDetails]] = {}
    lines: dict[str, str] = {}
    for finding in error.errors(include_url=False):
        keys, allowed = _place(model, finding["loc"])
        key = prefix + ".".join(keys)
        if finding["type"] in ("extra_forbidden", "invalid_key"):
            whose, listed = (of, "its keys") if len(keys) == 1 and of else ("", "there are")
            hint = nearest(keys[-1], allowed) or (f"; {listed}: {', '.join(allowed)}" if allowed else "")
            lines[key] = f"{key}: unknown key{whose}{hint}"
        elif finding["type"] == "missing":
            lines[key] = f"{key}: missing"
        else:
            found.setdefault(key, []).append(finding)
            # pydantic tries the alternatives of a text or a list of texts in turn; a list shows by its entry
            entries = [one for one in found[key] if len(one["loc"]) > len(keys) and isinstance(one["loc"][-1], int)]
            what = refusal(entries[:1] or found[key], (entries or found[key])[0]["input"])
            lines[key] = f"{key}: entry {int(entries[0]['loc'][-1]) + 1} {what}" if entries else f"{key}: {what}"
    return list(lines.values())


def _place(model: type[pydantic.BaseModel], place: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Returns the keys that lead to a finding, and those there are beside the last of them."""
    keys: list[str] = []
    for part in place:
        keys.append(str(part))
        field = model.model_fields.get(keys[-1])
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]
        if not inner or len(keys) == len(place):
            break
        model = inner[0]
    rest = place[len(keys) :]  # an entry of a list, or pydantic's names of the alternatives of a type
    if isinstance(rest[0] if rest else "", int) and len(rest) > 1:
        keys += map(str, rest)
    return keys, list(model.model_fields)
