"""How long a checkpoint blocks the run: copying, writing, flushing and hashing the weights and Adam's two moments."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from labelembed.lab.training.checkpoints import Checkpoint, save_checkpoint

MILLIONS = (1, 10, 50)
REPEATS = 5


def run() -> None:
    """Prints the seconds of a save."""
    for millions in MILLIONS:
        weights, first, second = (torch.randn(millions * 1_000_000) for _ in range(3))
        tensors = {"network": {"weights": weights}, "optimizer": {"0.exp_avg": first, "0.exp_avg_sq": second}}
        seconds = []
        with tempfile.TemporaryDirectory() as folder:
            for step in range(REPEATS):
                began = time.perf_counter()
                save_checkpoint(Path(folder) / "checkpoints", Checkpoint(step, tensors))
                seconds.append(time.perf_counter() - began)
        middle = statistics.median(seconds)
        print(
            f"{millions:3d} million weights: {middle:.2f} s a save (of {REPEATS}: {min(seconds):.2f} to "
            f"{max(seconds):.2f})"
        )
