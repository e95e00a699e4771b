"""Eight seeds times nine settings of a small network: trained as one stack, and as runs in processes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.evidence.stacked import Examples, Stack, Weights
from labelembed.lab.runs.comparison import compare

SEEDS, EPOCHS, BATCH = 8, 40, 50
TRAIN, TEST, FEATURES, LABELS = 2_000, 500, 64, 10
SETTINGS = [Weights(similarity, uniform) for similarity in (0.2, 0.4, 0.6) for uniform in (0.1, 0.2, 0.3)]


def run() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, LABELS, TRAIN + TEST)
    centers = random.standard_normal((LABELS, FEATURES))
    inputs = (centers[labels] + 2 * random.standard_normal((TRAIN + TEST, FEATURES))).astype(np.float32)

    began = time.perf_counter()
    examples = Examples(
        torch.from_numpy(inputs), torch.from_numpy(labels), torch.arange(TRAIN).repeat(SEEDS, 1), LABELS
    )
    stack = Stack((FEATURES, 128, 128, LABELS), range(SEEDS), SETTINGS, kind="class_means")
    steps = EPOCHS * TRAIN // BATCH
    stack.train(examples, steps=steps, batch_size=BATCH, learning_rate=1e-3, weight_decay=1e-4)
    stacked = time.perf_counter() - began

    variants = [
        f"online_label_smoothing:similarity_weight={one.similarity}:uniform_weight={one.uniform}" for one in SETTINGS
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        parts = {"train": slice(0, TRAIN), "test": slice(TRAIN, None)}
        arrays = {f"{name}_{what}": some[part] for name, part in parts.items() for what, some in
                  (("inputs", inputs), ("labels", labels))}  # fmt: skip
        np.savez(path, **arrays)
        settings = {"epochs": EPOCHS, "batch_size": BATCH, "model.hidden_sizes": [128, 128]}
        asked = {"objectives": variants, "seeds": SEEDS, "settings": settings, "out": Path(folder) / "out", "jobs": 2}
        began = time.perf_counter()
        failed = compare("vectors-mlp", data=path, **asked, quiet=True).failed
        if failed:
            raise RuntimeError(f"runs failed: {failed}")
        processes = time.perf_counter() - began
    print(
        f"  {SEEDS} seeds x {len(SETTINGS)} settings, {steps} steps   stack {stacked:.1f} s on "
        f"{torch.get_num_threads()} threads, two processes {processes:.1f} s, n = 1  (goal at most 60 s)"
    )
