"""What the results say: differences from tuned label smoothing, for each data set and across them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.methods import FIXED, KINDS
from benchmarks.evidence.runs import REGIMES, SEEDS, Row, read

CONTROL = "label_smoothing"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A method minus the control on one data set, over its splits.

    Attributes:
        mean: Of the paired differences.
        half: Half the width of the t interval.
        corrected: The same with the variance of Nadeau and Bengio (2003): splits share examples.
        n: Number of splits.
    """

    mean: float
    half: float
    corrected: float
    n: int

    @property
    def shown(self) -> bool:
        """Whether the corrected interval leaves out 0."""
        return abs(self.mean) > self.corrected


def chosen(rows: Sequence[Row], regime: str, method: str, *, fixed: bool = False, own_trials: bool) -> dict[int, Row]:
    """Returns the row of each seed that validation chose, or with `fixed` that of the recommended settings."""
    own = [row for row in rows if row["regime"] == regime and row["method"] == method]
    if fixed:
        return {row["seed"]: row for row in own if row["trial"] == FIXED}
    tried = [row for row in own if row["trial"] != FIXED]
    by_seed: dict[int, Row] = {}
    if own_trials:
        for seed in sorted({row["seed"] for row in tried}):
            by_seed[seed] = min((row for row in tried if row["seed"] == seed), key=_by_validation)
        return by_seed
    of_first = [row for row in tried if row["seed"] == 0]
    if not of_first:
        return {}
    best = min(of_first, key=_by_validation)["trial"]
    return {row["seed"]: row for row in tried if row["trial"] == best}


def _by_validation(row: Row) -> tuple[float, float]:
    return row["validation_error"], row["validation_nll"]


def difference(
    method: dict[int, Row], control: dict[int, Row], metric: str, *, test_over_train: float
) -> Difference | None:
    """Returns the paired difference of a metric; None with fewer than two common seeds."""
    common = sorted(method.keys() & control.keys())
    if len(common) < 2:
        return None
    values = np.array([method[seed][metric] - control[seed][metric] for seed in common])
    n = len(values)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    spread = float(values.std(ddof=1))
    return Difference(
        mean=float(values.mean()),
        half=quantile * spread / math.sqrt(n),
        corrected=quantile * spread * math.sqrt(1 / n + test_over_train),
        n=n,
    )


def table(results: Path, regime: str, *, metric: str, fixed: bool = False) -> str:
    """Returns a Markdown table: a line for each data set that has results, a column for each method."""
    methods = [method for method in KINDS if method != CONTROL]
    scale, digits = (100, 2) if metric == "error" else (1, 3)
    unit = "error, points" if metric == "error" else f"{metric.upper()}, nats"
    lines = [
        f"| {unit}; {regime}{', fixed settings' if fixed else ''} | n | tuned smoothing | {' | '.join(methods)} |",
        f"|{'---|' * (3 + len(methods))}",
    ]
    means: dict[str, list[float]] = {method: [] for method in methods}
    for data_set in DATA_SETS:
        rows = read(results / f"{data_set.name}.csv")
        control = chosen(rows, regime, CONTROL, own_trials=data_set.own_trials)
        if len(control) < SEEDS:
            continue
        level = np.mean([row[metric] for row in control.values()]) * scale
        cells = []
        for method in methods:
            own = chosen(rows, regime, method, fixed=fixed, own_trials=data_set.own_trials)
            found = difference(own, control, metric, test_over_train=_share(data_set))
            if found is None:
                cells.append("")
                continue
            means[method].append(found.mean * scale)
            cells.append(_cell(found, scale, digits))
        lines.append(f"| {data_set.name} | {len(control)} | {level:.{digits}f} | {' | '.join(cells)} |")
    for name, values in means.items():
        if len(values) > 1:
            lines.append(f"\n{name}: {across(values, digits)}")
    return "\n".join(lines)


def across(values: Sequence[float], digits: int) -> str:
    """Returns mean with interval, wins, ties and losses, and Wilcoxon's test of the data sets' mean differences."""
    found = np.array(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found))
    wins, losses = int((found < 0).sum()), int((found > 0).sum())
    p = stats.wilcoxon(found).pvalue
    return (
        f"mean {found.mean():+.{digits}f} [{found.mean() - half:+.{digits}f}, {found.mean() + half:+.{digits}f}] over "
        f"{len(found)} data sets; better on {wins}, equal on {len(found) - wins - losses}, worse on {losses}; "
        f"Wilcoxon p = {p:.3f}"
    )


def _share(data_set: DataSet) -> float:
    """Returns test examples over training examples."""
    if data_set.train is None:
        return 0.6  # 30 % by 50 %
    return data_set.test / data_set.train


def _cell(found: Difference, scale: float, digits: int) -> str:
    ends = [f"{(found.mean + sign * found.corrected) * scale:+.{digits}f}" for sign in (-1, 1)]
    text = f"{found.mean * scale:+.{digits}f} ± {found.half * scale:.{digits}f} [{', '.join(ends)}]"
    return f"**{text}**" if found.shown else text


def summary(results: Path) -> str:
    """Returns all tables."""
    parts = []
    for regime in REGIMES:
        for metric in ("error", "nll"):
            parts += [table(results, regime, metric=metric), table(results, regime, metric=metric, fixed=True)]
    return "\n\n".join(parts)
