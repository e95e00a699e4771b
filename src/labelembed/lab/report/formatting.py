"""Numbers, counts and names as people read them, typeset and escaped for the page, or packed for its scripts."""

from __future__ import annotations

import base64
import json
import math
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from labelembed.lab.report.decision import FEWEST_SEEDS
from labelembed.metrics import PairedComparison, Summary

NOTHING = "-"
_OPTIONS = re.compile(r"--[\w-]+")
_BREAKS = re.compile(r"(?<=[=_/])(?=\w)")


def number(value: float, decimals: int) -> str:
    """Returns a number with fixed digits after the point; what rounds to zero has no sign."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def summary_text(summary: Summary | None, decimals: int, *, scale: float = 1.0) -> str:
    """Returns ``mean ± sd``, the mean alone for one run, or a dash."""
    if summary is None:
        return NOTHING
    spread = f" ± {number(scale * summary.standard_deviation, decimals)}" if summary.n > 1 else ""
    return f"{number(scale * summary.mean, decimals)}{spread}"


def points(*fractions: float) -> list[str]:
    """Returns differences of fractions in percentage points, all with the digits that tell them from 0."""
    decimals = 2
    for fraction in fractions:
        while decimals < 4 and fraction and float(f"{100 * fraction:.{decimals}f}") == 0:
            decimals += 1
    return [number(100 * fraction, decimals) for fraction in fractions]


def p_text(p_value: float | None) -> str:
    """Returns a p value with two significant digits, or a dash."""
    if p_value is None:
        return NOTHING
    return f"{p_value:.2f}" if p_value >= 0.0995 else f"{p_value:.2g}"


def interval_text(ends: Sequence[float] | None, *, scale: float, decimals: int) -> str:
    """Returns an interval, ``low to high``, or a dash where there is none."""
    if ends is None or math.isnan(ends[0]):
        return NOTHING
    return " to ".join(number(scale * end, decimals) for end in ends)


def detectable_text(comparison: PairedComparison, scale: float = 100, decimals: int = 2) -> str:
    """Returns the minimum detectable difference of these seeds, by default in points; a dash where it says nothing."""
    if math.isnan(comparison.detectable) or comparison.n < FEWEST_SEEDS:
        return NOTHING
    return points(comparison.detectable)[0] if scale == 100 else number(scale * comparison.detectable, decimals)


def seeds_text(seeds: Iterable[int]) -> str:
    """Returns ``"seed 3"`` or ``"seeds 3, 5"``."""
    chosen = sorted(seeds)
    return f"seed{'' if len(chosen) == 1 else 's'} {', '.join(str(seed) for seed in chosen)}"


def counted(count: int, noun: str) -> str:
    """Returns ``"1 seed"`` or ``"8 seeds"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str], *, most: int = 12) -> str:
    """Returns ``"a"``, ``"a and b"`` or ``"a, b and c"``; of more than `most` the first, and how many others."""
    if len(parts) > most:
        parts = [*parts[: most - 1], f"{len(parts) - most + 1} others"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def shortened(text: str, limit: int) -> str:
    """Returns text in one line of at most `limit` characters, without characters that cannot be shown."""
    line = " ".join(text.split())[: limit + 1]
    # Control characters and halves of surrogate pairs are no text, in XML not even allowed.
    shown = "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def wrapped(name: str, width: int) -> str:
    """Returns a name in lines of at most `width` letters; longer words break behind a sign: embedding=, compressed."""
    lines: list[str] = []
    for word in shortened(name, 90).split():
        pieces = [word] if len(word) <= width else re.findall(rf"[^=_/.-]{{1,{width - 1}}}[=_/.-]?|[=_/.-]", word)
        for place, piece in enumerate(pieces):
            joined = f"{lines[-1]}{'' if place else ' '}{piece}" if lines else piece
            if lines and len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(piece)
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- in the page


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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
