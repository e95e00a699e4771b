"""The chunked heads against the naive one-hot head: time of forward and backward, and work memory.

How it is measured: `labelembed.heads.measuring`. `python -m benchmarks.heads ROWS,HIDDEN,LABELS [ROUNDS]` measures
other sizes; `labelembed bench head` prints the same for your own.
"""

from __future__ import annotations

import sys

from labelembed.heads.measured_forms import COMPRESSED, FULL, LOW_MEMORY_ROWS, SHARED, HeadSize, names_that_fit
from labelembed.heads.measuring import measured

SIZES = (HeadSize(2048, 512, 8_000), HeadSize(4096, 512, 32_000))
LOW_MEMORY = f"{COMPRESSED}, {LOW_MEMORY_ROWS} rows at a time"
# The most that each may take of the naive one-hot head's time, by labels.
GOALS = {
    FULL: {8_000: 1.75},
    COMPRESSED: {8_000: 1.78, 32_000: 1.80},
    SHARED: {8_000: 1.08, 32_000: 1.08},
    f"{COMPRESSED}, 1/4 of the rows": {8_000: 1.25, 32_000: 1.28},
    f"{COMPRESSED}, 1/4 in bfloat16": {8_000: 1.13, 32_000: 1.15},
}
# How much less work memory than the naive label-embedding head each must take at 32,000 labels, at the least.
MEMORY_GOALS = {COMPRESSED: 25, LOW_MEMORY: 80}
# The most of the default's time that the mode of little memory may take.
LOW_MEMORY_TIME = 1.10


def print_table(size: HeadSize, rounds: int) -> None:
    """Prints each variant's time and memory, and its ratio to the naive one-hot head."""
    names, left_out = names_that_fit(size, None)
    costs = {cost.name: cost for cost in measured(size, names, rounds=rounds)}
    print(f" N, H, C = {size.rows}, {size.hidden}, {size.labels}; processor time, {size.threads} thread")
    naive = costs[f"{COMPRESSED}, naive"].work_bytes
    for name, cost in costs.items():
        limit = GOALS.get(name, {}).get(size.labels)
        goal = f"  (goal at most {limit})" if limit else ""
        memory = ""
        if cost.work_bytes:
            memory = f"; {cost.work_bytes / 2**20:7.1f} MiB"
            if naive and name not in ("one-hot, naive", "one-hot, chunked"):
                least = MEMORY_GOALS.get(name) if size.labels == 32_000 else None
                memory += f", 1/{naive / cost.work_bytes:.1f} of naive label embedding"
                memory += f" (goal 1/{least} or less)" if least else ""
        print(
            f"  {name:<46} {min(cost.seconds) * 1e3:8.1f} ms  ratio of minima {cost.ratio_of_minima:.3f}, "
            f"of rounds {cost.ratio:.3f} ± {cost.spread:.3f}, n = {len(cost.ratios)}{goal}{memory}"
        )
    slower = min(costs[LOW_MEMORY].seconds) / min(costs[COMPRESSED].seconds)
    print(f"  {LOW_MEMORY_ROWS} rows at a time against the default: {slower:.3f} (goal at most {LOW_MEMORY_TIME})")
    for name, count in left_out.items():
        print(f"  {name}: left out, it takes {count / 1e9:.1f} GB")


def run() -> None:
    for size in SIZES:
        print_table(size, 7 if size.labels < 10_000 else 5)


if __name__ == "__main__":
    rows, hidden, labels = (int(number) for number in sys.argv[1].split(","))
    print_table(HeadSize(rows, hidden, labels), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
