"""The chunked loss against the naive one-hot layer and loss: time of forward and backward, and work memory.

Times are of one process in which the variants take turns, on a CPU with a malloc that keeps its pages: the default one
hands large blocks back to the system, which makes the naive forms slower than their arithmetic is. Memory is that of a
process for each variant, with the default malloc: the highest resident set (on a GPU: the most that was allocated)
above what stood before the step, less the gradients.

`python -m benchmarks.losses EXAMPLES,HIDDEN,LABELS [ROUNDS [DEVICE]]` measures other sizes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import highest_memory
from labelembed.objectives import LabelEmbedding, OneHot

# Of glibc's malloc: large blocks stay with the process, as a library's own pool would keep them.
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(2**34),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
ONE_HOT = "one-hot, naive"
COMPRESSED, SHARED = "label embedding, compressed", "no second head, compressed"
# The most that each may take of the naive one-hot's time, by labels; and how much less memory than the naive form.
GOALS = {COMPRESSED: {8_000: 1.80, 32_000: 1.83}, SHARED: {8_000: 1.08, 32_000: 1.10}}
MEMORY_GOALS = {COMPRESSED: {32_000: 25}}


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured: hidden states [examples, hidden], so many labels, A and B of that rank."""

    examples: int
    hidden: int
    labels: int
    rank: int = 64
    device: str = "cpu"


SIZES = (Size(2_048, 512, 8_000), Size(4_096, 512, 32_000))


class Made:
    """Hidden states and objectives: labels as frequent as words are, three in five examples as o2 says."""

    def __init__(self, size: Size) -> None:
        source = torch.Generator().manual_seed(0)
        count, width = size.labels, size.hidden
        labels = torch.multinomial(1 / torch.arange(1, count + 1.0), size.examples, True, generator=source)
        weight = 0.02 * torch.randn(count, width, generator=source)
        hidden = 0.5 * torch.randn(size.examples, width, generator=source)
        right = torch.rand(size.examples, generator=source) < 0.6
        hidden[right] += weight[labels[right]] * (10 / (width * 0.02**2))
        self.size, self.weight = size, weight
        self.labels, self.hidden = labels.to(size.device), hidden.to(size.device).requires_grad_()

    def objective(self, **arguments: Any) -> LabelEmbedding:
        """Returns an objective with the made output layers."""
        torch.manual_seed(0)
        made = LabelEmbedding(self.size.hidden, self.size.labels, rank=self.size.rank, **arguments)
        for layer in (made.output, made.auxiliary):
            if layer is not None:
                layer.weight.data.copy_(self.weight)
                nn.init.zeros_(layer.bias)
        return made.to(self.size.device)

    def variant(self, name: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """Returns a function that returns the loss, and all that a gradient may go to."""
        if name.startswith("one-hot"):
            layer = nn.Linear(self.size.hidden, self.size.labels, device=self.size.device)
            given = [layer.weight, layer.bias]
            if name == ONE_HOT:
                return lambda: F.cross_entropy(F.linear(self.hidden, *given), self.labels), [self.hidden, *given]
            if "torch" in name:
                how = {"linear_bias": layer.bias, "options": nn.LinearCrossEntropyOptions()}
                loss = F.linear_cross_entropy
                return lambda: loss(self.hidden, layer.weight, self.labels, **how), [self.hidden, *given]
            chunked = OneHot.from_linear(layer, impl="chunked")
            return lambda: chunked(self.hidden, self.labels).total, [self.hidden, *given]
        made = self.objective(
            embedding="compressed",
            auxiliary="shared" if SHARED in name else "separate",
            impl="reference" if "naive" in name else "chunked",
        )
        return lambda: made(self.hidden, self.labels).total, [self.hidden, *made.parameters()]


def names() -> list[str]:
    """Returns the variants."""
    torchs = ["one-hot, torch's chunks"] if hasattr(F, "linear_cross_entropy") else []
    return [ONE_HOT, "one-hot, chunked", *torchs, f"{COMPRESSED}, naive", COMPRESSED, SHARED]


def _step(loss: Callable[[], Tensor], leaves: list[Tensor], device: str) -> None:
    for leaf in leaves:
        leaf.grad = None
    with torch.autocast(device, dtype=torch.bfloat16) if device == "cuda" else nullcontext():
        value = loss()
    value.backward()
    if device == "cuda":
        torch.cuda.synchronize()


def say_times(size: Size, rounds: int) -> None:
    """Prints each variant's seconds of every round but the first, which warms up."""
    torch.set_num_threads(1)
    made = Made(size)
    variants = {name: made.variant(name) for name in names()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    clock = time.process_time if size.device == "cpu" else time.perf_counter
    for _ in range(rounds + 1):
        for name, (loss, leaves) in variants.items():
            began = clock()
            _step(loss, leaves, size.device)
            seconds[name].append(clock() - began)
            for leaf in leaves:
                leaf.grad = None
    print(json.dumps({name: values[1:] for name, values in seconds.items()}))


def say_memory(size: Size, name: str) -> None:
    """Prints what one step takes beside parameters and gradients, in bytes."""
    torch.set_num_threads(1)
    made = Made(size)
    loss, leaves = made.variant(name)
    with torch.no_grad():
        F.linear(made.hidden[:64], leaves[1])  # what the first product of all takes for itself
    if size.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        highest = torch.cuda.max_memory_allocated
    else:
        highest = highest_memory
        with suppress(OSError):  # of Linux: the highest resident set begins anew
            Path("/proc/self/clear_refs").write_text("5")
    before = highest()
    _step(loss, leaves, size.device)
    print(max(0, highest() - before - sum(leaf.grad.nbytes for leaf in leaves if leaf.grad is not None)))


def _asked(size: Size, *words: str, keep_pages: bool) -> Any:
    """Returns what a process of its own printed."""
    command = [sys.executable, "-m", "benchmarks.losses", json.dumps(dataclasses.asdict(size)), *words]
    environment = os.environ | (KEEP_PAGES if keep_pages else {})
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def print_table(size: Size, rounds: int) -> None:
    """Prints each variant's time and memory, and its ratio to the naive one-hot layer and loss."""
    print(f" N, H, C = {size.examples}, {size.hidden}, {size.labels}; {size.device}, processor time, 1 thread")
    seconds = _asked(size, "times", str(rounds), keep_pages=True)
    held = {name: _asked(size, "memory", name, keep_pages=False) for name in seconds}
    for name, values in seconds.items():
        ratios = [one / other for one, other in zip(values, seconds[ONE_HOT], strict=True)]
        spread = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
        limit = GOALS.get(name, {}).get(size.labels)
        goal = f" (goal at most {limit})" if limit else ""
        less = held[f"{COMPRESSED}, naive"] / max(held[name], 1)
        least = MEMORY_GOALS.get(name, {}).get(size.labels)
        print(
            f"  {name:<36} {min(values) * 1e3:8.1f} ms  ratio of minima {min(values) / min(seconds[ONE_HOT]):.3f}, of "
            f"rounds {statistics.median(ratios):.3f} ± {spread:.3f}, n = {len(ratios)}{goal}; "
            f"{held[name] / 2**20:7.1f} MiB, 1/{less:.1f} of naive label embedding"
            + (f" (goal 1/{least} or less)" if least else "")
        )


def run() -> None:
    for size in SIZES:
        print_table(size, 7 if size.labels < 10_000 else 5)


if __name__ == "__main__":
    if sys.argv[1].startswith("{"):
        asked = Size(**json.loads(sys.argv[1]))
        say_times(asked, int(sys.argv[3])) if sys.argv[2] == "times" else say_memory(asked, sys.argv[3])
    else:
        examples, hidden, labels = (int(number) for number in sys.argv[1].split(","))
        device = sys.argv[3] if len(sys.argv) > 3 else "cpu"
        print_table(Size(examples, hidden, labels, device=device), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
