"""Whether each test example was right, and its NLL: what an interval over test examples is computed from.

One small safetensors file a run: a bit an example for right or wrong, two bytes for each NLL.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.json_files import parse_json
from labelembed.tensor_files import require_header

_FORMAT = 1
_ABOUT = "examples"
_HEADER_BYTES = 10_000
_MOST_BYTES = 500_000_000  # of a hundred million examples
_SPLITS = ("test", "validation")


class ExampleOutcomes(NamedTuple):
    """What a network says of each example of a split.

    Attributes:
        split: `test`, or `validation` where there is no test set.
        right: Whether the predicted class is the true class, bool ``[N]``.
        nll: Negative log-likelihood in nats, float16 ``[N]``.
        nll_calibrated: The same with the logits divided by the fitted temperature; None where none was fitted.
    """

    split: str
    right: NDArray[np.bool_]
    nll: NDArray[np.float16]
    nll_calibrated: NDArray[np.float16] | None


def half_precision(nll: NDArray[np.floating]) -> NDArray[np.float16]:
    """Returns float16 values; what is above its range becomes its largest number, not infinity."""
    kept: NDArray[np.float16] = np.minimum(nll, np.finfo(np.float16).max).astype(np.float16)
    return kept


def outcome_bytes(outcomes: ExampleOutcomes) -> bytes:
    """Returns the content of the file; the same outcomes give the same bytes."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {"right": np.packbits(outcomes.right), "nll": outcomes.nll}
    if outcomes.nll_calibrated is not None:
        tensors["nll_calibrated"] = outcomes.nll_calibrated
    about = {"format": _FORMAT, "split": outcomes.split, "examples": len(outcomes.right)}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    return save(tensors, metadata={_ABOUT: json.dumps(about)})


def read_outcomes(path: Path) -> ExampleOutcomes:
    """Reads the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, or something else; one line.
    """
    from safetensors import SafetensorError, safe_open

    require_header(path, most=_HEADER_BYTES)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES:,} bytes, which no such file is")
    try:
        with safe_open(path, framework="numpy") as file:
            about = parse_json((file.metadata() or {}).get(_ABOUT, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    about = about if isinstance(about, dict) else {}
    if about.get("format") != _FORMAT or about.get("split") not in _SPLITS:
        raise ValueError(f"does not say that it holds outcomes of examples in format {_FORMAT}, and of which split")
    right, nlls = tensors.pop("right", np.empty(0)), list(tensors.values())
    examples = len(tensors.get("nll", ()))
    fits = [(one.dtype, one.shape) for one in (right, *nlls)] == [
        (np.uint8, ((examples + 7) // 8,)),
        *((np.float16, (examples,)) for _ in nlls),
    ]
    if not fits or examples != about.get("examples") or not tensors.keys() <= {"nll", "nll_calibrated"}:
        raise ValueError(f"does not hold the outcomes of {about.get('examples')!r:.40} examples")
    if not all(np.isfinite(values).all() for values in nlls):
        raise ValueError("holds a value that is not finite")
    found = np.unpackbits(right, count=examples).astype(bool)
    return ExampleOutcomes(about["split"], found, tensors["nll"], tensors.get("nll_calibrated"))
