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
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from labelembed.heads.measured_forms import HeadSize, MadeHead

# Of glibc's malloc: large blocks stay with the process, as a library's own pool would keep them.
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(2**34),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}


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

    Once in a process, for not everywhere the highest resident set can begin anew.
    """
    if size.threads is not None:
        torch.set_num_threads(size.threads)
    made = MadeHead(size, full=", full" in name)
    loss = made.variants()[name]
    with torch.no_grad():
        F.linear(made.hidden[:64], made.layers[0])  # what the first product of all takes for itself
    _forget_highest(size.device)
    before = _highest(size.device)
    torch.autograd.backward(loss())
    _wait(size.device)
    found = [value.grad for value in made.tensors() if value.grad is not None]
    grads = sum(4 * (grad._values() if grad.is_sparse else grad).numel() for grad in found)
    return max(_highest(size.device) - before - grads, 0)


def _forget_highest(device: str) -> None:
    """Has the most bytes that this process has held begin anew, where that can be."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):  # of Linux
        Path("/proc/self/clear_refs").write_text("5")


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
