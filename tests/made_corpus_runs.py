"""Small runs on a made corpus, for the tests of training on sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.objectives import OBJECTIVES
from tests.made_corpus import write_corpus

# Those that a recipe may name with a corpus.
OVER_TOKENS = sorted(set(OBJECTIVES) - {"distillation", "static_labels"})


def sequence_recipe(folder: Path, **changes: Any) -> Recipe:
    """Returns a recipe of 3 epochs of 8 steps over 60 pairs of a made corpus; the corpus is made if it is not there."""
    if not (folder / "corpus").exists():
        write_corpus(folder)
    values: dict[str, Any] = {
        "data": {"name": "corpus", "path": str(folder / "corpus")},
        "model": {"name": "attention_lstm", "width": 12, "embedding_size": 8, "dropout": 0.3},
        "objective": {"name": "label_embedding", "embedding": "compressed", "rank": 4},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "epochs": 3,
        "batch_size": 8,
        "max_gradient_norm": 5,
        "checkpoints": {"minimum_seconds": 0.0, "time_share": 1.0},
    }
    return parse_recipe(values | changes, source="made recipe")


def over_tokens(name: str) -> dict[str, Any]:
    """Returns an objective's block for these runs; retrospection reads what it stores from the second epoch on."""
    return {"name": name} | ({"store_every": 1} if name == "retrospection" else {})
