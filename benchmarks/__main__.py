"""`python -m benchmarks [NAME ...]`: prints every ratio with n and spread; keep everything else quiet."""

from __future__ import annotations

import argparse
import os
import platform

import torch

from benchmarks import (
    import_time,
    integrations,
    losses,
    million_labels,
    parallel_runs,
    step_time,
    trainer,
)

BENCHMARKS = {
    "step_time": step_time.run,
    "import_time": import_time.run,
    "trainer": trainer.run,
    "parallel_runs": parallel_runs.run,
    "losses": losses.run,
    "integrations": integrations.run,
    "million_labels": million_labels.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}")
    for name in names:
        print(f"\n{name}")
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
