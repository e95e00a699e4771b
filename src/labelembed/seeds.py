"""Randomness from (seed, purpose), which leaves torch's global state as it was.

Every random choice of a run is drawn from a stream named by the run's seed and its purpose, so that two
objectives with the same seed start from the same encoder and see the same order of examples, whatever else
they draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derived_seed(seed: int, *purpose: object) -> int:
    """Returns a 63-bit seed for one purpose of a run, for instance ``derived_seed(3, "order", epoch)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Returns a CPU generator for one purpose of a run; global state is not touched."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def example_order(examples: int, seed: int, epoch: int) -> Tensor:
    """Returns the order [N] in which an epoch visits the training examples; depends on nothing else."""
    return torch.randperm(examples, generator=generator(seed, "order", epoch))


@contextmanager
def seeded(seed: int, *purpose: object) -> Iterator[None]:
    """Runs a block with torch's global generators set for one purpose and restores them afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derived_seed(seed, *purpose))
        yield
