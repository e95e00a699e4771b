"""Tables of numbers as short text that a browser opens by itself: deflated, in base64."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(values: NDArray[Any]) -> str:
    """Returns the bytes of an array, little-endian, deflated (zlib) and in base64."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(plain.tobytes(), 9)).decode("ascii")


def packed_text(value: Any) -> str:
    """Returns a JSON value in the same way."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", errors="replace"), 9)).decode("ascii")


def script_json(value: Any) -> str:
    """Returns JSON that can stand inside a script element: no letter of it can end or open an element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    # Half a surrogate pair is no text, and a file cannot hold it.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def packed_neighbours(places: NDArray[np.int64], scores: NDArray[np.float64], num_labels: int) -> dict[str, Any]:
    """Returns the neighbours of all labels, about two bytes a neighbour.

    Args:
        places: [C, k], the numbers of the most similar labels, most similar first.
        scores: [C, k], how similar; falling in every row.
        num_labels: C.

    Returns:
        `k`; `places`, 16 or 32 bits each, rank by rank; `ends`, first and last score of each label as half-precision
        floats [2, C]; `steps` [k, C], a byte each, by how many hundredths of that range a score lies below the one
        before it.
    """
    first, last = scores[:, :1], scores[:, -1:]
    # Half-precision numbers end at 65,504; what is larger is a distance that nobody compares by its digits.
    ends = np.clip(np.concatenate([first, last], axis=1).T, -60_000, 60_000).astype(np.float16)
    span = np.where(first > last, first - last, 1.0)
    levels = np.rint(100 * (first - scores) / span).clip(0, 100).astype(np.int16)
    steps = np.diff(levels, axis=1, prepend=np.int16(0)).clip(0, 100).astype(np.uint8)
    return {
        "k": int(places.shape[1]),
        "wide": num_labels > 65_536,
        "places": packed(places.T.astype(np.uint32 if num_labels > 65_536 else np.uint16)),
        "ends": packed(ends),
        "steps": packed(steps.T),
    }
