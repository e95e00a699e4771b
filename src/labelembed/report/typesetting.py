"""Signs as a page sets them."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

from labelembed.report.formatting import NOTHING
from labelembed.report.packing import script_json

_BREAKS = re.compile(r"(?<=[=_/])(?=\w)")


def typeset(text: str) -> str:
    """Returns a number's text with a real minus sign, and an en dash for nothing."""
    return "\u2013" if text == NOTHING else text.replace("-", "\u2212")


def unbroken(sentence: str) -> str:
    """Returns a sentence whose numbers stay beside what they are of."""
    return sentence.replace(" %", "\u00a0%").replace("n = ", "n\u00a0=\u00a0").replace(" points", "\u00a0points")


def breakable(text: str) -> Markup:
    """Returns text that a narrow column may break behind the signs in it: label_embedding, preset=paper."""
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(text))


def numbers_json(rows: list[list[Any]]) -> str:
    """Returns a table for a script element; what is no number there is an empty cell."""
    return script_json([[None if isinstance(cell, float) and cell != cell else cell for cell in row] for row in rows])
