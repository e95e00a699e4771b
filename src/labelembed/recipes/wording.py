"""What pydantic finds wrong with a value, in the words of this project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

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
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
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
    message = findings[0]["msg"]
    if findings[0]["type"] == "value_error":  # one of our own validators has said it all
        return message.removeprefix("Value error, ")
    wanted = []
    for finding in findings:
        words = _WANTED.get(finding["type"])
        words = words.format(**finding.get("ctx", {})) if words else finding["msg"].removeprefix("Input should be ")
        if words not in wanted:
            wanted.append(words)
    choices = " or ".join(wanted)
    hint = nearest(value, re.findall(r"'([^']+)'", choices)) if isinstance(value, str) else ""
    return f"must be {choices}, got {shown(value)}{hint}"
