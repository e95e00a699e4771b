"""`python -m benchmarks.evidence.fine_tuned FOLDER`: the fourth plan's table; needs WordNet's files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean, stdev

from labelembed.geometry import LabelGeometry, WordNet, kendall_agreement, senses_for
from labelembed.lab.report import Comparison, load_comparison
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import area_under_accuracy_curve, epochs_saved, paired_comparison

HEADING = [
    "objective", "best accuracy", "last", "best, over cross entropy", "best, over tuned smoothing", "AUAC",
    "epochs saved, paper's measure", "epochs saved, ours", "tau-b, labels", "tau-b, class means",
]  # fmt: skip


def _spread(values: Sequence[float | None], digits: int = 1) -> str:
    """Returns mean ± standard deviation; where values are None also of how many."""
    there = [value for value in values if value is not None]
    mean, deviation = (fmean(there), stdev(there) if len(there) > 1 else 0) if there else (0, 0)
    of = "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    spread = f" ± {deviation:.{digits}f}" if len(there) > 1 else ""
    return f"{mean:.{digits}f}{spread}{of}" if there else "never"


def _over(values: Sequence[float], others: Sequence[float]) -> str:
    if values == others:
        return ""
    found = paired_comparison(values, others)
    interval = f" [{found.interval_low:.1f}, {found.interval_high:.1f}]" if found.n > 1 else ""
    return f"{found.difference:+.1f}{interval}"


def _tau(geometry: LabelGeometry) -> float:
    known = WordNet().distances(geometry.names, senses_for(geometry.names), missing="drop")
    return kendall_agreement(geometry.distances(), known, geometry.names).mean


def table(read: Comparison) -> str:
    """Returns the table in Markdown: accuracies in per cent, the mean and the standard deviation over seeds."""
    runs = {one.name: [RunFolder(one.runs[seed].folder) for seed in read.seeds] for one in read.variants}
    test, validation = (
        {name: [[line[part]["error"] for line in folder.history()] for folder in of] for name, of in runs.items()}
        for part in ("test", "validation")
    )
    best = {name: [100 * (1 - min(curve)) for curve in curves] for name, curves in test.items()}
    smoothed = [name for name in runs if name.startswith("label_smoothing")]
    tuned = min(smoothed, key=lambda name: sum(map(min, validation[name])))
    rows = [HEADING, ["---"] * len(HEADING)]
    for name, folders in runs.items():
        papers = [epochs_saved(*pair, of_all=True) for pair in zip(test[name], test["one_hot"], strict=True)]
        ours = [epochs_saved(*pair) for pair in zip(validation[name], validation["one_hot"], strict=True)]
        rows.append([
            name + (" (tuned)" if name == tuned else ""),
            _spread(best[name]),
            _spread([100 * (1 - curve[-1]) for curve in test[name]]),
            _over(best[name], best["one_hot"]),
            _over(best[name], best[tuned]),
            _spread([100 * area_under_accuracy_curve(curve) for curve in test[name]]),
            *(_spread([saved and 100 * saved for saved in part], 0) for part in (papers, ours)),
            _spread([_tau(folder.label_geometry()) for folder in folders], 2),
            _spread([_tau(folder.class_means()) for folder in folders], 2),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table(load_comparison(sys.argv[1])))
