"""The chunked heads against the naive one-hot head: time of forward and backward, and work memory.

Every number of time is from one process in which the variants take turns, one thread, with a malloc that keeps its
pages (by its variables, set before the process starts): the default one hands large blocks back to the system, which
makes the naive forms, with their large tensors, slower than their arithmetic is. Memory is that of a process for each
variant, with the default malloc: the highest resident set above what stood before the step, less the gradients.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.heads import HeadSettings, label_embedding_cross_entropy, linear_cross_entropy

SIZES = ((2048, 512, 8_000), (4096, 512, 32_000))
RANK = 64
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(2**34),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
SETTINGS = HeadSettings(
    temperature=2.0,
    confidence_limit=0.9,
    hinge_norm=1,
    hinge_reduction="mean",
    output_weight=1.0,
    target_weight=1.0,
    uniform_weight=0.0,
)
# The most that each may take of the naive one-hot head's time, by labels.
GOALS = {
    "label embedding, full": {8_000: 1.75},
    "label embedding, compressed": {8_000: 1.78, 32_000: 1.80},
    "no second head, compressed": {8_000: 1.08, 32_000: 1.08},
}
FULL_LABELS = 10_000


class MadeHead:
    """Hidden rows, layers and embeddings: labels as frequent as words are, three in five rows as o2 says."""

    def __init__(self, rows: int, width: int, num_labels: int, *, full: bool) -> None:
        source = torch.Generator().manual_seed(0)
        self.labels = torch.multinomial(1 / torch.arange(1, num_labels + 1.0), rows, True, generator=source)
        weight = 0.02 * torch.randn(num_labels, width, generator=source)
        hidden = 0.5 * torch.randn(rows, width, generator=source)
        right = torch.rand(rows, generator=source) < 0.6
        hidden[right] += weight[self.labels[right]] * (10 / (width * 0.02**2))
        self.hidden = hidden.requires_grad_()
        self.layers = [weight, torch.zeros(num_labels), weight.clone(), torch.zeros(num_labels)]
        self.compressed = torch.randn(num_labels, RANK, generator=source), torch.randn(RANK, num_labels) / RANK**0.5
        for value in (*self.layers, *self.compressed):
            value.requires_grad_()
        self.full = torch.eye(num_labels, requires_grad=True) if full else None

    def tensors(self) -> list[Tensor]:
        """Returns all that a gradient may go to."""
        every = [self.hidden, *self.layers, *self.compressed, self.full]
        return [value for value in every if value is not None]

    def variants(self) -> dict[str, Callable[[], Tensor]]:
        """Returns, by name, functions that return a loss."""
        weight, bias = self.layers[:2]

        def one_hot() -> Tensor:
            return F.cross_entropy(F.linear(self.hidden, weight, bias), self.labels)

        def chunked_one_hot() -> Tensor:
            return linear_cross_entropy(self.hidden, weight, bias, self.labels, impl="chunked").total

        def embedding(table: Tensor | tuple[Tensor, Tensor], impl: str, **how: int) -> Callable[[], Tensor]:
            def loss() -> Tensor:
                given = (self.hidden, *self.layers, table, self.labels, SETTINGS)
                return label_embedding_cross_entropy(*given, impl=impl, **how).total

            return loss

        def shared() -> Tensor:
            given = (self.hidden, weight, bias, None, None, self.compressed, self.labels)
            return label_embedding_cross_entropy(*given, SETTINGS._replace(shared=True), impl="chunked").total

        found = {
            "one-hot, naive": one_hot,
            "one-hot, chunked": chunked_one_hot,
            "label embedding, compressed, naive": embedding(self.compressed, "reference"),
            "label embedding, compressed": embedding(self.compressed, "chunked"),
            "the same, 128 rows at a time": embedding(self.compressed, "chunked", chunk_rows=128),
            "no second head, compressed": shared,
        }
        if self.full is not None:
            found["label embedding, full, naive"] = embedding(self.full, "reference")
            found["label embedding, full"] = embedding(self.full, "chunked")
        return found


def print_times(size: tuple[int, int, int], rounds: int) -> None:
    """Prints each variant's time and its ratio to the naive one-hot head."""
    made = MadeHead(*size, full=size[2] <= FULL_LABELS)
    variants = made.variants()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, loss in variants.items():
            for value in made.tensors():
                value.grad = None
            began = time.process_time(), time.perf_counter()
            loss().backward()
            if number:
                times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    print(f" N, H, C = {size}, processor time (of the wall clock in brackets: other work on the machine counts there)")
    base = times["one-hot, naive"]
    for name, values in times.items():
        least, wall = (min(pair[kind] for pair in values) for kind in (0, 1))
        ratios = [value[0] / other[0] for value, other in zip(values, base, strict=True)]
        at_wall = wall / min(pair[1] for pair in base)
        limit = GOALS.get(name, {}).get(size[2])
        goal = f"  (goal at most {limit})" if limit else ""
        print(
            f"  {name:<36} {least * 1e3:8.1f} ms  ratio of minima {least / min(pair[0] for pair in base):.3f} "
            f"({at_wall:.3f}), of rounds {statistics.median(ratios):.3f} ± {statistics.stdev(ratios):.3f}, "
            f"n = {rounds}{goal}"
        )


def work_memory(size: tuple[int, int, int], name: str) -> float:
    """Returns the MiB that one step of a variant takes beside the parameters and their gradients."""
    made = MadeHead(*size, full="full" in name)
    loss = made.variants()[name]
    F.linear(made.hidden[:1], made.layers[0]).sum().backward()  # what the first product of all takes for itself
    for value in made.tensors():
        value.grad = None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss().backward()
    grads = sum(value.grad.numel() * 4 for value in made.tensors() if value.grad is not None)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 - grads / 2**20


def print_memory(size: tuple[int, int, int]) -> None:
    """Prints each variant's work memory, of a process for each."""
    names = ["one-hot, naive", "one-hot, chunked", "label embedding, compressed, naive"]
    names += ["label embedding, compressed", "the same, 128 rows at a time", "no second head, compressed"]
    naive = 0.0
    print(f" N, H, C = {size}, work memory")
    for name in names:
        task = json.dumps({"size": size, "memory": name})
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.heads", task], check=True, capture_output=True, text=True
        )
        mebibytes = float(ran.stdout)
        naive = mebibytes if name.endswith("compressed, naive") else naive
        less = f", 1/{naive / mebibytes:.1f} of naive label embedding" if naive and mebibytes > 0 else ""
        print(f"  {name:<36} {mebibytes:8.1f} MiB{less}")


def run() -> None:
    sys.stdout.flush()
    for size in SIZES:
        task = json.dumps({"size": size, "rounds": 7 if size[2] < FULL_LABELS else 5})
        subprocess.run([sys.executable, "-m", "benchmarks.heads", task], env=os.environ | KEEP_PAGES, check=True)
        print_memory(size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    if "memory" in asked:
        print(work_memory(tuple(asked["size"]), asked["memory"]))
    else:
        print_times(tuple(asked["size"]), asked["rounds"])
