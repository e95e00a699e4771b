"""Numbers, counts and names as people read them, and the templates that they stand in."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

NOTHING = "-"
TEMPLATES = files("labelembed.lab.report") / "templates"
_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_FOLDERS = re.compile(r"(?<![\w/:.~])~?/(?:[^\s/]+/)+")  # an absolute path up to its last part; not an address


def number(value: float | None, decimals: int, *, scale: float = 1.0) -> str:
    """Returns a number with fixed digits after the point, a dash for none; what rounds to zero has no sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{scale * value:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def points(*fractions: float) -> list[str]:
    """Returns differences of fractions in percentage points, all with the digits that tell them from 0."""
    decimals = 2
    for fraction in fractions:
        while decimals < 4 and fraction and float(f"{100 * fraction:.{decimals}f}") == 0:
            decimals += 1
    return [number(fraction, decimals, scale=100) for fraction in fractions]


def interval(ends: Sequence[float] | None, decimals: int, *, scale: float = 1.0) -> str:
    """Returns an interval, ``low to high``, or a dash where there is none."""
    if ends is None or math.isnan(ends[0]):
        return NOTHING
    return f"{number(ends[0], decimals, scale=scale)} to {number(ends[1], decimals, scale=scale)}"


def p_text(p_value: float | None) -> str:
    """Returns a p value with two significant digits, or a dash."""
    return NOTHING if p_value is None else f"{p_value:.2g}"


def counted(count: int, noun: str) -> str:
    """Returns ``"1 seed"`` or ``"8 seeds"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str], *, most: int = 12, word: str = "and") -> str:
    """Returns ``"a"``, ``"a and b"`` or ``"a, b and c"``, or with another word.

    Of more than `most` the first, and how many others.
    """
    if len(parts) > most:
        parts = [*parts[: most - 1], f"{len(parts) - most + 1} others"]
    return f" {word} ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def shortened(text: str, limit: int) -> str:
    """Returns text in one line of at most `limit` characters, without characters that cannot be shown."""
    line = " ".join(text.split())[: limit + 1]
    # Control characters and halves of surrogate pairs are no text, in XML not even allowed.
    shown = "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def markdown_text(value: object) -> str:
    """Returns a text in one line with nothing in it that Markdown or HTML would take for a sign of its own."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", shortened(str(value), 1_000))


def typeset(text: str) -> str:
    """Returns a text with real minus signs, and numbers that stay beside their unit."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)
    return re.sub(r" (?=%|points|nats)", "\u00a0", text)


def without_folders(text: str) -> str:
    """Returns a text with the last part of each absolute path in it."""
    return _FOLDERS.sub("", text)


@functools.cache
def templates() -> Environment:
    """Returns the templates of this package; those of pages escape what they are given."""
    from jinja2 import Environment, FunctionLoader, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
    )
    environment.filters |= {
        "typeset": typeset,
        "counted": counted,
        "number": number,
        "p": p_text,
        "markdown": markdown_text,
        "short": shortened,
        "capital": lambda text: text[:1].upper() + text[1:],
        "points": lambda fraction: points(fraction)[0],
        "interval": lambda ends: " to ".join(points(*ends)),
    }
    return environment
