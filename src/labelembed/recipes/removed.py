"""Options of the first edition that are gone, and what to use in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Removed(NamedTuple):
    """An option that is gone."""

    default: Any
    """What it was where nobody set it. Saved recipes hold every default, so this value is dropped in silence."""
    instead: str


_ONE_PROCESS = "each process holds all labels now; use embedding: compressed and impl: chunked"
REMOVED: dict[str, Removed] = {
    "one_hot.vocabulary_parallel": Removed(False, _ONE_PROCESS.replace("embedding: compressed and ", "")),
    "label_smoothing.vocabulary_parallel": Removed(False, _ONE_PROCESS.replace("embedding: compressed and ", "")),
    "label_embedding.vocabulary_parallel": Removed(False, _ONE_PROCESS),
    "label_embedding.auxiliary_fraction": Removed(1.0, "use auxiliary: shared, which needs no second layer"),
    "label_embedding.auxiliary_dtype": Removed(None, "use precision: bf16, or auxiliary: shared"),
    "label_embedding.sparse_gradients": Removed(False, "use embedding: compressed"),
    "label_embedding.hinge_norm": Removed(1, "the hinge is the paper's: its norm is 1"),
    "label_embedding.decay_embedding": Removed(False, "weight decay no longer reaches E"),
    "retrospection.storage": Removed(
        "memory", "soft labels are kept in memory; use a small top_k where that is too little"
    ),
}


def without_removed(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns an objective's block without removed options, and a fault for each that does not hold its default."""
    kept: dict[str, Any] = {}
    faults = []
    for key, value in block.items():
        gone = REMOVED.get(f"{block.get('name')}.{key}")
        if gone is None:
            kept[key] = value
        elif value != gone.default:
            faults.append(f"objective.{key}: was removed; {gone.instead}")
    return kept, faults
