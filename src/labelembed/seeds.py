"""Randomness from (seed, purpose): the only place that touches global random state.

Every random choice of a run is drawn from a stream named by the run's seed and its purpose, so that two
objectives with the same seed start from the same encoder and see the same order of rows, whatever else
they draw.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def derived_seed(seed: int, *purpose: object) -> int:
    """Returns a 63-bit seed for one purpose of a run, for instance ``derived_seed(3, "order", epoch)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Returns a CPU generator for one purpose of a run; global state is not touched."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def row_order(rows: int, seed: int, epoch: int) -> Tensor:
    """Returns the order [rows] in which an epoch visits the training rows; depends on nothing else."""
    return torch.randperm(rows, generator=generator(seed, "order", epoch))


@contextmanager
def seeded(seed: int, *purpose: object) -> Iterator[None]:
    """Runs a block with torch's global generators set for one purpose and restores them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, *purpose))
        yield


def seed_everything(seed: int, *purpose: object) -> None:
    """Sets torch's, NumPy's and Python's global generators for one purpose of a run."""
    value = derived_seed(seed, *purpose)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def capture() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns all global random states as (tensors, JSON values); see `restore`."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    values = {
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }
    return tensors, values


def restore(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Restores what `capture` returned."""
    torch.set_rng_state(tensors["torch"].cpu())
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(devices):
        if f"cuda.{index}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{index}"].cpu(), index)
    kind, keys, position, has_gauss, cached = values["numpy"]
    if not 0 <= position <= len(keys) == 624:  # NumPy would read beyond the end of its own memory
        raise ValueError(f"NumPy's random state is at {position} of {len(keys)} words")
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
