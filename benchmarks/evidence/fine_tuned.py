"""`python -m benchmarks.evidence.fine_tuned FOLDER`: the table of the fourth plan, of a comparison on pictures.

FOLDER is what `labelembed compare cifar10-lwal` made. WordNet's files must be installed for its columns.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry, WordNet, kendall_agreement, senses_for
from labelembed.lab.runs.results import Comparison
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import area_under_accuracy_curve, epochs_saved, paired_comparison, summarise

BASELINE, CONTROL = "one_hot", "label_smoothing"


def _spread(values: Sequence[float | None], *, digits: int = 2) -> str:
    """Returns mean ± standard deviation; of values of which some are None also how many there are."""
    there = [value for value in values if value is not None]
    if not there:
        return "never"
    found = summarise(there)
    few = "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    return f"{found.mean:.{digits}f} ± {found.standard_deviation:.{digits}f}{few}"


def _difference(values: Sequence[float], others: Sequence[float]) -> str:
    found = paired_comparison(values, others)
    return f"{found.difference:+.2f} [{found.interval_low:.2f}, {found.interval_high:.2f}]"


def _tau(geometry: LabelGeometry) -> float:
    known = WordNet().distances(geometry.names, senses_for(geometry.names), missing="drop")
    return kendall_agreement(geometry.distances(), known, geometry.names).mean


def table(comparison: Comparison) -> str:
    """Returns the table in Markdown: per cent, points, and tau-b."""
    folders = {
        variant.name: [RunFolder(variant.runs[seed].folder) for seed in comparison.read.seeds]
        for variant in comparison.read.variants
        if all(seed in variant.runs for seed in comparison.read.seeds)
    }
    curves = {
        name: {
            part: [[line[part]["error"] for line in folder.history()] for folder in runs]
            for part in ("validation", "test")
        }
        for name, runs in folders.items()
    }
    best = {name: [100 * (1 - min(curve)) for curve in of["test"]] for name, of in curves.items()}
    smoothed = [name for name in curves if name.startswith(CONTROL)]
    tuned = min(smoothed, key=lambda name: sum(map(min, curves[name]["validation"])))
    heading = (
        "objective | best | last | best, over cross entropy | best, over tuned smoothing | saved, paper's "
        "| saved, ours | AUAC | tau-b, learned | tau-b, class means"
    )
    lines = [f"tuned smoothing: {tuned}", "", f"| {heading} |", "|---" * (heading.count("|") + 1) + "|"]
    for name, of in curves.items():
        base, runs = curves[BASELINE], folders[name]
        saved = {
            part: [
                None if share is None else 100 * share
                for own, theirs in zip(of[part], base[part], strict=True)
                for share in [epochs_saved(own, theirs, of_all=part == "test")]
            ]
            for part in of
        }
        try:
            learned = _spread([_tau(run.label_geometry()) for run in runs], digits=3)
            means = _spread([_tau(run.class_means()) for run in runs], digits=3)
        except DataError:
            learned = means = "WordNet is not installed"
        cells = [
            name,
            _spread(best[name]),
            _spread([100 * (1 - curve[-1]) for curve in of["test"]]),
            "" if name == BASELINE else _difference(best[name], best[BASELINE]),
            "" if name == tuned else _difference(best[name], best[tuned]),
            _spread(saved["test"], digits=0),
            _spread(saved["validation"], digits=0),
            _spread([100 * area_under_accuracy_curve(curve) for curve in of["test"]]),
            learned,
            means,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Comparison.load(sys.argv[1])))
