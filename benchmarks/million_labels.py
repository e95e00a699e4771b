"""A step with a million labels.

Each variant is a process of its own with one thread, so that the highest resident set is
that of the variant: parameters, gradients, two moments of Adam, and what a step takes beside them. Labels are frequent
as words are. The first step, in which the moments come into being, is left out of the time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.timing import highest_memory
from labelembed.objectives import LabelEmbedding, LabelSmoothing, Objective, OneHot

LABELS, WIDTH, RANK, ROWS, STEPS = 1_000_000, 64, 64, 256, 3
LIMIT_GIBIBYTES = 8.0
OBJECTIVES = {
    "one-hot": lambda labels: OneHot(WIDTH, labels),
    "label smoothing": lambda labels: LabelSmoothing(WIDTH, labels),
    "label embedding": lambda labels: LabelEmbedding(
        WIDTH, labels, embedding="compressed", rank=RANK, initial_scale="log"
    ),
    "no second head": lambda labels: LabelEmbedding(
        WIDTH, labels, embedding="compressed", rank=RANK, initial_scale="log", auxiliary="shared"
    ),
}


def made_examples(num_labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns hidden states [n, H] and labels [n] of a step."""
    source = torch.Generator().manual_seed(0)
    # The inverse of the harmonic numbers, for `multinomial` takes no more than 2 ** 24 labels.
    labels = (num_labels ** torch.rand(ROWS, generator=source)).long().clamp_max(num_labels - 1)
    return torch.randn(ROWS, WIDTH, generator=source), labels


def measure(name: str, num_labels: int) -> None:
    """Makes the steps and prints what they took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    began = time.perf_counter()
    objective: Objective = OBJECTIVES[name](num_labels)
    built = time.perf_counter() - began
    optimizer = torch.optim.Adam(objective.parameters(), fused=True)
    hidden, labels = made_examples(num_labels)
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        terms = objective(hidden, labels)
        terms.total.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    peak = highest_memory() / 2**30
    weights = sum(value.numel() for value in objective.parameters()) * 4 / 2**30
    said = {"peak": peak, "weights": weights, "built": built, "times": times[1:], "total": float(terms.total.detach())}
    print(json.dumps(said))


def run() -> None:
    num_labels = int(os.environ.get("LABELEMBED_BENCHMARK_LABELS", LABELS))
    print(
        f" {num_labels:,} labels, H = {WIDTH}, K = {RANK}, {ROWS} examples a step, Adam (fused), one thread, "
        f"median of {STEPS} steps"
    )
    for name in OBJECTIVES:
        words = [sys.executable, "-m", "benchmarks.million_labels", name, str(num_labels)]
        found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
        times, peak = found["times"], found["peak"]
        over = "" if peak <= LIMIT_GIBIBYTES else f"  (goal: at most {LIMIT_GIBIBYTES:g})"
        print(
            f"  {name:<16} {statistics.median(times):7.2f} s a step ({min(times):.2f} .. {max(times):.2f})  "
            f"peak {peak:5.2f} GiB{over}  (weights {found['weights']:.2f}), built in {found['built']:.1f} s, "
            f"loss {found['total']:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    measure(sys.argv[1], int(sys.argv[2]))
