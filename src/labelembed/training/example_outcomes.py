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
from labelembed.training.old_names import with_new_words

_FORMAT = 1
_ABOUT = "examples"
_HEADER_BYTES = 10_000
# A file of more is refused before it is read: 5 bytes an example are 500 MB.
_MOST_EXAMPLES = 100_000_000
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
    """Reads the file; shapes are checked before anything of their size is made.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, or something else; one line.
    """
    from safetensors import SafetensorError, safe_open

    require_header(path, most=_HEADER_BYTES)
    try:
        with safe_open(path, framework="numpy") as file:
            split, examples = _about(file.metadata())
            wanted = {"right": ("U8", [(examples + 7) // 8]), "nll": ("F16", [examples])}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if "nll_calibrated" in slices:
                wanted["nll_calibrated"] = wanted["nll"]
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
            if found != wanted:
                raise ValueError(f"holds {found!r:.200} where {examples} examples need {wanted!r}")
            tensors = {name: file.get_tensor(name) for name in wanted}
    except SafetensorError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    for name in wanted.keys() - {"right"}:
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} holds a value that is not finite")
    right = np.unpackbits(tensors["right"], count=examples).astype(bool)
    return ExampleOutcomes(split, right, tensors["nll"], tensors.get("nll_calibrated"))


def _about(metadata: dict[str, str] | None) -> tuple[str, int]:
    about = parse_json((metadata or {}).get(_ABOUT, "null"))
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise ValueError(f"does not say that it holds outcomes of examples in format {_FORMAT}")
    split, examples = with_new_words(about.get("split")), about.get("examples")
    if split not in _SPLITS or type(examples) is not int or not 1 <= examples <= _MOST_EXAMPLES:
        raise ValueError(f"does not say of which split and how many examples, got {split!r:.40} and {examples!r:.40}")
    return str(split), examples
