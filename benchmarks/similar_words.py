"""The five words most like ten words, and like every word, among 50,000 with vectors of 512 numbers."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch

from labelembed.geometry import LabelGeometry

LABELS, SIZE, ASKED, ROUNDS = 50_000, 512, 10, 5
FEWER = 8_000


def run() -> None:
    table = torch.randn(LABELS, SIZE, generator=torch.Generator().manual_seed(0))
    names = [f"word {number}" for number in range(LABELS)]
    geometry = LabelGeometry(names, vectors=table, metric="cosine")
    few = LabelGeometry(names[:FEWER], vectors=table[:FEWER], metric="cosine")
    before = _peak()
    asked = range(0, LABELS, LABELS // ASKED)
    _print("one word", lambda: geometry.neighbours("word 7"), ROUNDS, "goal: well below 1 s")
    _print(f"{ASKED} words", lambda: geometry.neighbours_of(asked), ROUNDS, "goal: below 1 s")
    _print(f"every word of {FEWER:,}", lambda: few.neighbours_of(few.names), 2, "no goal")
    grown = _peak() - before
    print(f"  memory grew by {grown / 2**20:,.0f} MiB; {LABELS:,} x {LABELS:,} scores are {LABELS**2 * 4 / 2**20:,.0f}")


def _print(what: str, call: Callable[[], object], rounds: int, goal: str) -> None:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    found = sorted(seconds)
    median = found[len(found) // 2]
    print(f"  {what:<22} median {median:.3f} s, {found[0]:.3f} to {found[-1]:.3f}, n = {rounds} ({goal})")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
