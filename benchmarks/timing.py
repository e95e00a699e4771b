"""Interleaved timing: the variants take turns, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Gives torch so many threads for the time of the block, or of a function that it decorates."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(variants: Mapping[str, Callable[[], object]], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Returns, for each variant, the seconds of one call in each round; one round before them is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, call in variants.items():
            began = time.perf_counter()
            for _ in range(calls):
                call()
            if number:
                times[name].append((time.perf_counter() - began) / calls)
    return times


def highest_memory() -> int:
    """Returns the most memory that this process has held, in bytes."""
    if sys.platform == "linux":  # where `ru_maxrss` of a new process begins at its parent's
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_ratios(times: Mapping[str, list[float]], *, baseline: str, goals: Mapping[str, float]) -> None:
    """Prints the time of each variant and its ratio to the baseline, by minimum and by median of the rounds."""
    base = times[baseline]
    for name, values in times.items():
        pairs = [value / other for value, other in zip(values, base, strict=True)]
        spread = statistics.stdev(pairs) if len(pairs) > 1 else 0.0
        goal = f"  (goal at most {goals[name]:.2f})" if name in goals else ""
        print(
            f"  {name:<34} {min(values) * 1e3:8.3f} ms   ratio of minima {min(values) / min(base):.3f}, "
            f"of rounds {statistics.median(pairs):.3f} ± {spread:.3f}, n = {len(values)}{goal}"
        )
