"""Numbers, counts and names as people read them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from labelembed.metrics import PairedComparison, Summary

NOTHING = "-"


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
    return " to ".join(number(scale * end, decimals) for end in ends[:2])


def detectable_text(comparison: PairedComparison) -> str:
    """Returns the minimum detectable difference of these seeds, in points, or a dash."""
    return NOTHING if math.isnan(comparison.detectable) else points(comparison.detectable)[0]


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
