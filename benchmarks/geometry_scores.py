"""What a geometry of 1,000 labels costs on one thread: distances, Kendall's agreement, tree and map."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits

from labelembed.geometry import LabelGeometry, kendall_agreement, linkage, multidimensional_scaling

LABELS, DIMENSIONS, GROUPS, ROUNDS = 1_000, 100, 50, 3


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):  # numpy's and scipy's
        _metric()
    torch.set_num_threads(threads)


def _metric() -> None:
    random = torch.Generator().manual_seed(0)
    group = torch.arange(LABELS) % GROUPS
    vectors = torch.randn(GROUPS, DIMENSIONS, generator=random)[group] + torch.randn(
        LABELS, DIMENSIONS, generator=random
    )
    names = [str(label) for label in range(LABELS)]
    geometry = LabelGeometry(names, vectors=vectors)
    embedding = LabelGeometry(names, similarities=vectors @ vectors.T)
    distances = geometry.distances()
    reference = 2.0 + 2.0 * (group[:, None] != group[None])
    work: dict[str, Callable[[], object]] = {
        "distances of vectors": geometry.distances,
        "distances of similarities": embedding.distances,
        "Kendall's tau-b": lambda: kendall_agreement(distances, reference),
        "average linkage": lambda: linkage(geometry),
        "multidimensional scaling": lambda: multidimensional_scaling(distances),
    }
    total = 0.0
    for name, call in work.items():
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        total += max(seconds)
        print(f"  {name:<28} {min(seconds):6.2f} to {max(seconds):.2f} s, n = {ROUNDS}")
    print(f"  together, {LABELS:,} labels       {total:6.2f} s  (goal below 20)")
