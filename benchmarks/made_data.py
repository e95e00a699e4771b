"""Made-up data of MNIST's size, so that the benchmarks need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def mnist_sized(folder: str | Path) -> Path:
    """Writes 60,000 training and 10,000 test images of noise around ten patterns; returns the file's path."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (10, 28, 28))
    arrays = {}
    for split, rows in (("train", 60_000), ("test", 10_000)):
        labels = random.integers(0, 10, rows)
        noise = random.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        arrays[f"{split}_inputs"] = (noise // 2 + (patterns[labels] // 2).astype(np.uint8)).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    path = Path(folder) / "mnist-sized.npz"
    np.savez(path, **arrays)
    return path
