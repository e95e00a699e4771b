"""What the heads cost on this machine: time of forward and backward side by side, and work memory.

Every number of time is from one process in which the variants take turns, on a CPU with a malloc that keeps its pages
(by its variables, set before the process starts): the default one hands large blocks back to the system, which makes
the naive forms, with their large tensors, slower than their arithmetic is. Memory is that of a process for each
variant, with the default malloc: the highest resident set (on a GPU: the most that was allocated) above what stood
before the step, less the gradients.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.heads import IMPLEMENTATIONS, HeadSettings, label_embedding_cross_entropy, linear_cross_entropy

# Of glibc's malloc: large blocks stay with the process, as a library's own pool would keep them.
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
# With more labels a full E, [C, C], is left out.
FULL_LABELS = 10_000
LOW_MEMORY_ROWS = 128
ONE_HOT, CHUNKED_ONE_HOT = "one-hot, naive", "one-hot, chunked"
COMPRESSED, FULL, SHARED = "label embedding, compressed", "label embedding, full", "no second head, compressed"
# Tensors [N, C] that the naive forms hold at a time, as was measured.
_NAIVE_TENSORS = {ONE_HOT: 3, f"{COMPRESSED}, naive": 12, f"{FULL}, naive": 12}


@dataclasses.dataclass(frozen=True)
class HeadSize:
    """What is measured: hidden rows [rows, hidden], so many labels, A and B of that rank."""

    rows: int
    hidden: int
    labels: int
    rank: int = 64
    device: str = "cpu"
    threads: int | None = 1
    """Of torch; None: as many as it takes by itself."""

    def bytes_needed(self, name: str) -> int:
        """Returns about how much memory a variant's step takes, with parameters and gradients; in float32."""
        layers = 2 * self.labels * (self.hidden + self.rank) + self.rows * self.hidden
        tables = self.labels**2 if ", full" in name else 0
        held = _NAIVE_TENSORS.get(name, 0) * self.rows * self.labels or 6 * min(self.rows, 640) * self.labels
        return 4 * (2 * layers + 2 * tables + held)


class MadeHead:
    """Hidden rows, layers and embeddings: labels as frequent as words are, three in five rows as o2 says.

    Args:
        size: How large.
        full: Whether there is a full E as well.
    """

    def __init__(self, size: HeadSize, *, full: bool) -> None:
        source = torch.Generator().manual_seed(0)
        count, width, device = size.labels, size.hidden, size.device
        labels = torch.multinomial(1 / torch.arange(1, count + 1.0), size.rows, True, generator=source)
        weight = 0.02 * torch.randn(count, width, generator=source)
        hidden = 0.5 * torch.randn(size.rows, width, generator=source)
        right = torch.rand(size.rows, generator=source) < 0.6
        hidden[right] += weight[labels[right]] * (10 / (width * 0.02**2))
        left, columns = (torch.randn(count, size.rank, generator=source) for _ in range(2))
        given = [weight, torch.zeros(count), weight.clone(), torch.zeros(count), left, columns.T / size.rank**0.5]
        self.labels, self.hidden = labels.to(device), hidden.to(device).requires_grad_()
        *self.layers, rows, columns = (value.contiguous().to(device).requires_grad_() for value in given)
        self.compressed = rows, columns
        self.full = torch.eye(count, device=device, requires_grad=True) if full else None

    def tensors(self) -> list[Tensor]:
        """Returns all that a gradient may go to."""
        every = [self.hidden, *self.layers, *self.compressed, self.full]
        return [value for value in every if value is not None]

    def forget(self) -> None:
        """Drops all gradients."""
        for value in self.tensors():
            value.grad = None

    def variants(self) -> dict[str, Callable[[], Tensor]]:
        """Returns, by name, functions that return a loss."""
        weight, bias = self.layers[:2]

        def one_hot() -> Tensor:
            return F.cross_entropy(F.linear(self.hidden, weight, bias), self.labels)

        def head(impl: Any) -> Callable[[], Tensor]:
            return lambda: linear_cross_entropy(self.hidden, weight, bias, self.labels, impl=impl).total

        def embedding(table: Any, impl: Any, chunk_rows: int | None = None, **more: Any) -> Callable[[], Tensor]:
            settings = SETTINGS._replace(**more)
            second = [None, None] if settings.shared else self.layers[2:]
            given: list[Any] = [self.hidden, weight, bias, *second, table, self.labels, settings]
            how: dict[str, Any] = {"impl": impl, "chunk_rows": chunk_rows}
            return lambda: label_embedding_cross_entropy(*given, **how).total

        table = self.compressed
        low: dict[str, Any] = {"auxiliary_dtype": torch.bfloat16}
        found = {
            ONE_HOT: one_hot,
            CHUNKED_ONE_HOT: head("chunked"),
            f"{COMPRESSED}, naive": embedding(table, "reference"),
            COMPRESSED: embedding(table, "chunked"),
            f"{COMPRESSED}, {LOW_MEMORY_ROWS} rows at a time": embedding(table, "chunked", LOW_MEMORY_ROWS),
            f"{COMPRESSED}, o2 in bfloat16": embedding(table, "chunked", **low),
            f"{COMPRESSED}, 1/4 of the rows": embedding(table, "chunked", auxiliary_fraction=0.25),
            f"{COMPRESSED}, 1/4 in bfloat16": embedding(table, "chunked", auxiliary_fraction=0.25, **low),
            SHARED: embedding(table, "chunked", shared=True),
        }
        if self.full is not None:
            found |= {
                f"{FULL}, naive": embedding(self.full, "reference"),
                FULL: embedding(self.full, "chunked"),
                f"{FULL}, sparse gradient": embedding(self.full, "chunked", sparse_gradients=True),
            }
        if "triton" in IMPLEMENTATIONS and self.hidden.is_cuda and find_spec("triton"):
            found |= {"one-hot, triton": head("triton"), f"{COMPRESSED}, triton": embedding(table, "triton")}
        return found


def names_that_fit(size: HeadSize, memory: int | None) -> tuple[list[str], dict[str, int]]:
    """Returns the variants to measure, and those left out for want of memory with the bytes they would take."""
    tiny = dataclasses.replace(size, rows=2, hidden=1, labels=2, rank=1)
    every = list(MadeHead(tiny, full=size.labels <= FULL_LABELS).variants())
    needed = {name: size.bytes_needed(name) for name in every}
    if memory is None:
        return every, {}
    fit = [name for name in every if needed[name] <= memory]
    # A full E is there for all of them, where there is one.
    if any(", full" in name for name in fit) and max(needed[name] for name in fit) + 8 * size.labels**2 > memory:
        fit = [name for name in fit if ", full" not in name]
    return fit, {name: count for name, count in needed.items() if name not in fit}


def times(size: HeadSize, names: list[str], rounds: int) -> Iterator[tuple[str, int, float, float]]:
    """Measures in this process; gives the variant, its round from 0 (to warm up) on, seconds of processor and clock."""
    if size.threads is not None:
        torch.set_num_threads(size.threads)
    made = MadeHead(size, full=any(", full" in name for name in names))
    variants = made.variants()
    for number in range(rounds + 1):
        for name in names:
            made.forget()
            _wait(size.device)
            began = time.process_time(), time.perf_counter()
            torch.autograd.backward(variants[name]())
            _wait(size.device)
            yield name, number, time.process_time() - began[0], time.perf_counter() - began[1]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def work_bytes(size: HeadSize, name: str) -> int:
    """Returns what one step of a variant takes beside the parameters and their gradients.

    Once in a process: the highest resident set never sinks.
    """
    if size.threads is not None:
        torch.set_num_threads(size.threads)
    made = MadeHead(size, full=", full" in name)
    loss = made.variants()[name]
    # What the first product of all takes for itself.
    torch.autograd.backward(F.linear(made.hidden[:1], made.layers[0]).sum())
    made.forget()
    before = _highest(size.device)
    torch.autograd.backward(loss())
    _wait(size.device)
    found = [value.grad for value in made.tensors() if value.grad is not None]
    grads = sum(4 * (grad._values() if grad.is_sparse else grad).numel() for grad in found)
    return max(_highest(size.device) - before - grads, 0)


def _highest(device: str) -> int:
    """Returns the most bytes that this process has held."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource  # not on every system

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one variant costs: seconds of each round, ratios to the first variant, and bytes of work memory."""

    name: str
    seconds: list[float]
    ratios: list[float]
    ratio_of_minima: float
    work_bytes: int | None

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> float:
        """The standard deviation of the rounds' ratios; 0 of one round."""
        return statistics.stdev(self.ratios) if len(self.ratios) > 1 else 0.0


def measured(
    size: HeadSize,
    names: list[str],
    *,
    rounds: int,
    memory: bool = True,
    said: Callable[[str], None] = lambda text: None,
) -> list[Cost]:
    """Measures variants in processes of their own; the first is what the others' ratios are to.

    With one thread on a CPU seconds are the processor's, which other work on the machine moves least; else the clock's.

    Args:
        size: What is measured.
        names: Of `MadeHead.variants`.
        rounds: How often each is timed, after one round to warm up.
        memory: Whether work memory is measured as well, where the system tells.
        said: Called with what is being done now.

    Raises:
        RuntimeError: A process ended without a number, for want of memory most likely.
    """
    by_processor = size.device == "cpu" and size.threads == 1
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for line in _asked(size, {"times": names, "rounds": rounds}, keep_pages=True):
        name, number, *both = json.loads(line)
        said(f"round {number} of {rounds}: {name}" if number else f"warming up: {name}")
        if number:
            seconds[name].append(both[0 if by_processor else 1])
    held: dict[str, int | None] = dict.fromkeys(names)
    if memory and hasattr(os, "fork"):
        for line in _asked(size, {"memory": names}, keep_pages=False):
            name, count = json.loads(line)
            said(f"memory: {name}")
            held[name] = count
    base = seconds[names[0]]
    return [
        Cost(
            name,
            values,
            [value / other for value, other in zip(values, base, strict=True)],
            min(values) / min(base),
            held[name],
        )
        for name, values in seconds.items()
    ]


def _asked(size: HeadSize, task: dict[str, Any], *, keep_pages: bool) -> Iterator[str]:
    """Gives the lines of a process that measures."""
    command = [sys.executable, "-m", "labelembed.heads.measuring", json.dumps(dataclasses.asdict(size) | task)]
    environment = os.environ | (KEEP_PAGES if keep_pages else {})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        try:
            lines = 0
            for line in ran.stdout:
                lines += 1
                yield line
            reason = ran.stderr.read().strip().splitlines()
        except BaseException:
            ran.kill()
            raise
    if ran.returncode or not lines:
        why = reason[-1] if reason else f"it ended with {ran.returncode}, as for want of memory"
        raise RuntimeError(f"the process that measures the heads failed: {why}")


def _say_memory(size: HeadSize, name: str) -> None:
    print(json.dumps((name, work_bytes(size, name))), flush=True)


def _in_a_child(act: Callable[[], None]) -> None:
    """Acts in a copy of this process, which has read torch and computed nothing yet.

    Raises:
        RuntimeError: It failed, for want of memory most likely.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("measuring memory failed, as for want of it")


def _main(text: str) -> None:
    task = json.loads(text)
    size = HeadSize(**{field.name: task[field.name] for field in dataclasses.fields(HeadSize)})
    for name in task.get("memory", ()):
        _in_a_child(partial(_say_memory, size, name))
    if "memory" in task:
        return
    for found in times(size, task["times"], task["rounds"]):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
