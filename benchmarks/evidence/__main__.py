"""`python -m benchmarks.evidence --data FOLDER [NAME ...]`: trains what the plan asks for and is not there yet."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.evidence.data_sets import DATA_SETS
from benchmarks.evidence.runs import run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(some.name for some in DATA_SETS)}")
    parser.add_argument("--data", type=Path, required=True, help="the folder that has mnist, cifar10 and cifar100")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the rows are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for data_set in DATA_SETS:
        if not arguments.names or data_set.name in arguments.names:
            began = time.monotonic()
            run(data_set, arguments.data, arguments.results)
            print(f"{data_set.name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
