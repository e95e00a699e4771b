"""Texts and numbers as they stand in the page: typeset, escaped, or packed for a script."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from labelembed.report.formatting import NOTHING

_OPTIONS = re.compile(r"--[\w-]+")
_BREAKS = re.compile(r"(?<=[=_/])(?=\w)")


def typeset(text: str) -> str:
    """Returns a number's text with a real minus sign, and an en dash for nothing."""
    return "\u2013" if text == NOTHING else re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def unbroken(sentence: str) -> Markup:
    """Returns a sentence whose numbers stay beside what they are of, and whose options stay whole."""
    text = sentence.replace(" %", "\u00a0%").replace(" points", "\u00a0points")
    return Markup(_OPTIONS.sub(r'<span class="option">\g<0></span>', str(escape(text))))


def breakable(text: str) -> Markup:
    """Returns text that a narrow column may break behind the signs in it: label_embedding, preset=paper."""
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(text))


def script_json(value: Any) -> str:
    """Returns JSON that can stand inside a script element: no letter of it can end or open an element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    # Half a surrogate pair is no text, and a file cannot hold it.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def packed(values: NDArray[Any]) -> str:
    """Returns the bytes of an array, little-endian, deflated (zlib) and in base64, which a browser opens by itself."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(plain.tobytes(), 9)).decode("ascii")


def packed_json(value: Any) -> str:
    """Returns a JSON value in the same way; numbers that are not finite become null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", errors="replace"), 9)).decode("ascii")


def six_digits(value: float | None) -> float | None:
    """Returns a number with six digits that count; None for none and for one that is not finite."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
