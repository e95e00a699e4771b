"""`python -m benchmarks.evidence --data FOLDER [NAME ...]`: trains what the plan asks for and is not there yet.

`--plan pretrained` and `--plan noise` are the second and the third plan; their `--data` is the folder with what
`benchmarks.pretrained_features` wrote, `cifar10.npz` and `cifar100.npz`, and with `cifar10h-confusion.csv`.
`--summary` prints what is there; `--rule` tries to foretell the gain, and writes what `labelembed check` says.
`make pictures` draws the forest plot.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.evidence import distillation, rule
from benchmarks.evidence.data_sets import DATA_SETS, NOISY, PRETRAINED
from benchmarks.evidence.methods import MORE_KINDS
from benchmarks.evidence.runs import REGIMES, run
from benchmarks.evidence.summary import summary

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(some.name for some in DATA_SETS)}")
    parser.add_argument("--data", type=Path, help="the folder that has mnist, cifar10 and cifar100")
    parser.add_argument("--plan", choices=("first", "pretrained", "noise"), default="first")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the rows are kept")
    parser.add_argument("--distil", action="store_true", help="train the students of several networks instead")
    parser.add_argument("--summary", action="store_true", help="train nothing; print the tables")
    parser.add_argument(
        "--rule", action="store_true", help="train nothing; try to foretell the gain; write what `check` says"
    )
    arguments = parser.parse_args()
    if arguments.summary:
        print(summary(arguments.results))
        for regime in REGIMES:
            print(f"\n{distillation.table(arguments.results, regime)}")
        return
    if arguments.rule:
        print(rule.write(arguments.results))
        return
    if arguments.data is None:
        parser.error("--data is needed to train")
    torch.set_num_threads(1)
    if arguments.plan != "first":
        results = arguments.results / arguments.plan
        for data_set in {"pretrained": PRETRAINED, "noise": NOISY}[arguments.plan]:
            if not arguments.names or data_set.name in arguments.names:
                began = time.monotonic()
                run(data_set, arguments.data, results, kinds=MORE_KINDS, regimes=["long"])
                print(f"{data_set.name}: {time.monotonic() - began:.0f} s", flush=True)
        return
    for data_set in DATA_SETS:
        if not arguments.names or data_set.name in arguments.names:
            began = time.monotonic()
            if arguments.distil:
                distillation.run(data_set, arguments.data, arguments.results)
            else:
                run(data_set, arguments.data, arguments.results)
                rule.collect(data_set, arguments.data, arguments.results)
            print(f"{data_set.name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
