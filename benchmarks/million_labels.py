"""A step with a million labels: all labels in one process, and split over two.

Each variant is a process of its own (the split one two of them, one thread each), so that the highest resident set is
that of the variant: parameters, gradients, two moments of Adam, and what a step takes beside them. Labels are frequent
as words are. The first step, in which the moments come into being, is left out of the time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from labelembed.objectives import LabelEmbedding, LabelSmoothing, Objective, OneHot

LABELS, WIDTH, RANK, ROWS, STEPS = 1_000_000, 64, 64, 256, 3
LIMIT_GIBIBYTES = 8.0
OBJECTIVES = {
    "one-hot": lambda labels, split: OneHot(WIDTH, labels, vocabulary_parallel=split),
    "label smoothing": lambda labels, split: LabelSmoothing(WIDTH, labels, vocabulary_parallel=split),
    "label embedding": lambda labels, split: LabelEmbedding(
        WIDTH, labels, embedding="compressed", rank=RANK, initial_scale="log", vocabulary_parallel=split
    ),
}


def made_rows(num_labels: int, process: int, processes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns this process' hidden rows [n, H] and labels [n] of a step's."""
    source = torch.Generator().manual_seed(0)
    # The inverse of the harmonic numbers, for `multinomial` takes no more than 2 ** 24 labels.
    labels = (num_labels ** torch.rand(ROWS, generator=source)).long().clamp_max(num_labels - 1)
    hidden = torch.randn(ROWS, WIDTH, generator=source)
    return hidden[process::processes], labels[process::processes]


def measure(name: str, num_labels: int, folder: str, process: int, processes: int) -> None:
    """Makes the steps of one process; the first one prints what they took."""
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=process, world_size=processes)
    torch.manual_seed(0)
    began = time.perf_counter()
    objective: Objective = OBJECTIVES[name](num_labels, processes > 1)
    built = time.perf_counter() - began
    optimizer = torch.optim.Adam(objective.parameters(), fused=True)
    hidden, labels = made_rows(num_labels, process, processes)
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        optimizer.zero_grad()
        terms = objective(hidden, labels)
        terms.total.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    peak = torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30)
    weights = torch.tensor(sum(value.numel() for value in objective.parameters()) * 4 / 2**30)
    all_peaks = peak.clone()
    if processes > 1:
        dist.all_reduce(all_peaks)
        dist.destroy_process_group()
    if process == 0:
        said = {"peak": float(peak), "together": float(all_peaks), "weights": float(weights), "built": built}
        print(json.dumps(said | {"times": times[1:], "total": float(terms.total.detach())}))


def measured(name: str, num_labels: int, processes: int) -> dict[str, object]:
    """Returns what `measure` printed, of new processes."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.million_labels", name, str(num_labels), folder]
        started = [
            subprocess.Popen([*words, str(process), str(processes)], stdout=subprocess.PIPE, text=True)
            for process in range(processes)
        ]
        outputs = [command.communicate()[0] for command in started]
        if any(command.returncode for command in started):
            raise RuntimeError(f"{name}, {processes} processes: ended with {[each.returncode for each in started]}")
    found: dict[str, object] = json.loads(outputs[0])
    return found


def run() -> None:
    num_labels = int(os.environ.get("LABELEMBED_BENCHMARK_LABELS", LABELS))
    print(
        f" {num_labels:,} labels, H = {WIDTH}, K = {RANK}, {ROWS} rows a step, Adam (fused), one thread a process, "
        f"median of {STEPS} steps"
    )
    for name in OBJECTIVES:
        for processes in (1, 2):
            found = measured(name, num_labels, processes)
            times, peak, together = found["times"], found["peak"], found["together"]
            over = "" if together <= LIMIT_GIBIBYTES else f"  (goal: at most {LIMIT_GIBIBYTES:g})"
            print(
                f"  {name:<16} {processes} process{'es' if processes > 1 else '  '}  "
                f"{statistics.median(times):7.2f} s a step ({min(times):.2f} .. {max(times):.2f})  "
                f"peak {peak:5.2f} GiB a process, {together:5.2f} GiB together{over}  "
                f"(weights {found['weights']:.2f}), built in {found['built']:.1f} s, loss {found['total']:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    name, num_labels, folder, process, processes = sys.argv[1:]
    assert Path(folder).is_dir()
    measure(name, int(num_labels), folder, int(process), int(processes))
