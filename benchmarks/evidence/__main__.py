"""`python -m benchmarks.evidence --data FOLDER [NAME ...]`: trains what the plan asks for and is not there yet.

`--plan pretrained` and `--plan noise` are the second and the third plan; their `--data` is the folder with what
`benchmarks.pretrained_features` wrote, `cifar10.npz` and `cifar100.npz`, and with `cifar10h-confusion.csv`. That of
`--plan captions`, the seventh, has `multi30k`.
`--summary` prints what is there. `make pictures` draws the forest plot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.evidence.data_sets import PLANS
from benchmarks.evidence.methods import KINDS, MORE_KINDS
from benchmarks.evidence.runs import REGIMES, run
from benchmarks.evidence.summary import more_summary, summary

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ", ".join(some.name for plan in PLANS.values() for some in plan)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}")
    parser.add_argument("--data", type=Path, help="the folder that has mnist, cifar10 and cifar100, or the features")
    parser.add_argument("--plan", choices=PLANS, default="first")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the rows are kept")
    parser.add_argument("--summary", action="store_true", help="train nothing; print the tables")
    arguments = parser.parse_args()
    is_first = arguments.plan == "first"
    results = arguments.results if is_first else arguments.results / arguments.plan
    if arguments.summary:
        print(summary(results) if is_first else more_summary(results, PLANS[arguments.plan]))
        return
    if arguments.data is None:
        parser.error("--data is needed to train")
    torch.set_num_threads(1)
    for data_set in PLANS[arguments.plan]:
        if not arguments.names or data_set.name in arguments.names:
            began = time.monotonic()
            kinds, regimes = (KINDS, list(REGIMES)) if is_first else (MORE_KINDS, ["long"])
            run(data_set, arguments.data, results, kinds=kinds, regimes=regimes)
            print(f"{data_set.name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
