"""What the results say: differences from tuned label smoothing, for each data set and across them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.methods import FIXED, KINDS, MORE_KINDS
from benchmarks.evidence.runs import REGIMES, SEEDS, Row, read

CONTROL = "label_smoothing"
CONFIDENCE = 0.95
_read = functools.cache(read)  # a table has hundreds of numbers of one file


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


def difference(method: dict[int, Row], control: dict[int, Row], metric: str, *, test_over_train: float) -> Difference:
    """Returns the paired difference of a metric over the splits of both."""
    values = np.array([method[seed][metric] - control[seed][metric] for seed in sorted(control)])
    n = len(values)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    spread = float(values.std(ddof=1))
    return Difference(
        mean=float(values.mean()),
        half=quantile * spread / math.sqrt(n),
        corrected=quantile * spread * math.sqrt(1 / n + test_over_train),
        n=n,
    )


class Comparison(NamedTuple):
    """Which settings of the methods are compared with which of smoothing.

    Attributes:
        name: Of the table.
        methods_fixed: The methods have the recommended settings, untuned.
        control_fixed: Smoothing is the usual 0.1, untuned.
    """

    name: str
    methods_fixed: bool
    control_fixed: bool


COMPARISONS = (
    Comparison("tuned, against tuned smoothing", False, False),
    Comparison("untuned, against tuned smoothing", True, False),
    Comparison("untuned, against untuned smoothing 0.1", True, True),
)
METHODS = tuple(method for method in KINDS if method != CONTROL)
#: Data sets that share examples. Tests across data sets are also given with one of each: the first that is there.
RELATED = (
    ("optdigits", "digits"),
    ("mnist-55000", "mnist-2000"),
    ("cifar100-450", "cifar100-100", "cifar100-30", "cifar100-groups"),
)
METRICS = {"error": ("test error, points", 100.0, 2), "nll": ("test NLL, nats", 1.0, 3)}


def level(
    results: Path, data_set: DataSet, regime: str, metric: str, *, fixed: bool = False, method: str = CONTROL
) -> float:
    """Returns the mean of a method on a data set; not a number where not all splits are there."""
    rows = chosen(_read(results / f"{data_set.name}.csv"), regime, method, fixed=fixed, own_trials=data_set.own_trials)
    return float(np.mean([row[metric] for row in rows.values()])) if len(rows) == SEEDS else math.nan


def differences(
    results: Path,
    regime: str,
    metric: str,
    method: str,
    comparison: Comparison = COMPARISONS[0],
    *,
    data_sets: Sequence[DataSet] = DATA_SETS,
    control: str = CONTROL,
) -> dict[str, Difference]:
    """Returns a method's difference from the control on each data set whose splits are all there."""
    found = {}
    for data_set in data_sets:
        rows = _read(results / f"{data_set.name}.csv")
        own, others = (
            chosen(rows, regime, name, fixed=fixed, own_trials=data_set.own_trials)
            for name, fixed in ((method, comparison.methods_fixed), (control, comparison.control_fixed))
        )
        if len(own) == len(others) == SEEDS:
            found[data_set.name] = difference(own, others, metric, test_over_train=share(data_set))
    return found


def table(results: Path, regime: str, metric: str, comparison: Comparison) -> str:
    """Returns a Markdown table: a line for each data set that has results, a column for each method."""
    unit, scale, digits = METRICS[metric]
    columns = {method: differences(results, regime, metric, method, comparison) for method in METHODS}
    lines = [
        f"| {unit}; {regime}; {comparison.name} | smoothing | {' | '.join(METHODS).replace('_', ' ')} |",
        f"|{'---|' * (2 + len(METHODS))}",
    ]
    done = [data_set for data_set in DATA_SETS if all(data_set.name in own for own in columns.values())]
    for data_set in done:
        control = level(results, data_set, regime, metric, fixed=comparison.control_fixed)
        cells = [cell(own[data_set.name], scale, digits) for own in columns.values()]
        lines.append(f"| {data_set.name} | {control * scale:.{digits}f} | {' | '.join(cells)} |")
    every = [data_set.name for data_set in done]
    repeated = {name for related in RELATED for name in [name for name in related if name in every][1:]}
    unrelated = [name for name in every if name not in repeated]
    for what, names in (("all", every), ("no two with the same examples", unrelated)):
        if len(names) > 1:
            cells = [across([own[name].mean * scale for name in names], digits) for own in columns.values()]
            lines.append(f"| {what}: {len(names)} | | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_with_half(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean over data sets and half the width of its t interval."""
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(half)


def across(values: Sequence[float], digits: int) -> str:
    """Returns mean with interval, how often better and worse, and the p of Wilcoxon's test of the mean differences."""
    found = np.array(values)
    mean, half = mean_with_half(values)
    wins, losses = int((found < 0).sum()), int((found > 0).sum())
    p = stats.wilcoxon(found).pvalue if found.any() else 1.0
    ends = f"[{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]"
    return f"{mean:+.{digits}f} {ends}; better {wins}, worse {losses}; {_p(p)}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def share(data_set: DataSet) -> float:
    """Returns test examples over training examples."""
    if data_set.train is None:
        return 0.6  # 30 % by 50 %
    return data_set.test / data_set.train


def cell(found: Difference, scale: float, digits: int) -> str:
    """Returns a difference with both intervals, bold where it is shown."""
    ends = [f"{(found.mean + sign * found.corrected) * scale:+.{digits}f}" for sign in (-1, 1)]
    text = f"{found.mean * scale:+.{digits}f} ± {found.half * scale:.{digits}f} [{', '.join(ends)}]"
    return f"**{text}**" if found.shown else text


def overview(results: Path) -> str:
    """Returns a Markdown table of the means over all data sets, a line for each length and comparison."""
    columns = [(metric, method) for metric in METRICS for method in METHODS if method != "cross_entropy"]
    headings = [f"{METRICS[metric][0]}: {method.replace('_', ' ')}" for metric, method in columns]
    lines = [f"| mean over the data sets | {' | '.join(headings)} |", f"|{'---|' * (1 + len(columns))}"]
    for regime in REGIMES:
        for comparison in COMPARISONS:
            cells = []
            for metric, method in columns:
                _, scale, digits = METRICS[metric]
                found = differences(results, regime, metric, method, comparison).values()
                cells.append(across([one.mean * scale for one in found], digits))
            lines.append(f"| {regime}; {comparison.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def calibration(results: Path) -> str:
    """Returns a Markdown table of the ECE before and after temperature scaling, its mean over the data sets."""
    done = [one for one in DATA_SETS if all(one.name in differences(results, "long", "ece", name) for name in METHODS)]
    lines = [
        f"| ECE, % | {' | '.join(name.replace('_', ' ') for name in (CONTROL, *METHODS))} |",
        f"|{'---|' * (2 + len(METHODS))}",
    ]
    for regime, fixed in itertools.product(REGIMES, (False, True)):
        control = [level(results, one, regime, "raw_ece", fixed=fixed) for one in done]
        cells = []
        for method in (CONTROL, *METHODS):
            before, after = (
                [level(results, one, regime, metric, fixed=fixed, method=method) for one in done]
                for metric in ("raw_ece", "ece")
            )
            lower = sum(own < other for own, other in zip(before, control, strict=True))
            count = "" if method == CONTROL else f" ({lower} of {len(done)})"
            cells.append(f"{100 * np.mean(before):.1f} → {100 * np.mean(after):.1f}{count}")
        lines.append(f"| {regime}, {'untuned' if fixed else 'tuned'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(results: Path) -> str:
    """Returns all tables."""
    tables = (
        table(results, regime, metric, comparison)
        for regime in REGIMES
        for metric in METRICS
        for comparison in COMPARISONS
    )
    return "\n\n".join([overview(results), calibration(results), *tables])


#: What the second and the third plan show besides: heading, scale, digits.
MORE_METRICS = METRICS | {
    "raw_nll": ("NLL without temperature, nats", 1.0, 3),
    "excess_aurc": ("excess AURC x 1,000", 1_000.0, 1),
    "error_at_80": ("error at 80 % coverage, points", 100.0, 2),
    "group_error": ("wrong group, points", 100.0, 2),
    "tau_learned": ("tau-b of the learned labels", 1.0, 3),
    "tau_means": ("tau-b of class means of the outputs", 1.0, 3),
}
CONTROLS = ("cross_entropy", "label_smoothing")


def more_summary(results: Path, data_sets: Sequence[DataSet]) -> str:
    """Returns the tables of the second or the third plan: differences from both controls, then means.

    Of data sets whose trials are all there: the fixed settings are made last.
    """
    last = {"metric": "nll", "fixed": True, "method": "progressive"}
    data_sets = [one for one in data_sets if not math.isnan(level(results, one, "long", **last))]
    tables = [_against(results, data_sets, metric, control) for metric in METRICS for control in CONTROLS]
    return "\n\n".join([*tables, *(_means(results, data_sets, metric) for metric in MORE_METRICS)])


def _against(results: Path, data_sets: Sequence[DataSet], metric: str, control: str) -> str:
    unit, scale, digits = MORE_METRICS[metric]
    methods = [method for method in MORE_KINDS if method != control]
    columns = [differences(results, "long", metric, method, data_sets=data_sets, control=control) for method in methods]
    done = [one for one in data_sets if all(one.name in own for own in columns)]
    lines = [
        f"| {unit} | {' | '.join((control, *methods)).replace('_', ' ')} |",
        f"|{'---|' * (2 + len(methods))}",
    ]
    for one in done:
        whole = level(results, one, "long", metric, method=control) * scale
        cells = [cell(own[one.name], scale, digits) for own in columns]
        lines.append(f"| {one.name} | {whole:.{digits}f} | {' | '.join(cells)} |")
    if len(done) > 1:
        cells = [across([own[one.name].mean * scale for one in done], digits) for own in columns]
        lines.append(f"| all: {len(done)} | | {' | '.join(cells)} |")
    return "\n".join(lines)


def _means(results: Path, data_sets: Sequence[DataSet], metric: str) -> str:
    """Returns the mean of each method, tuned and with its fixed settings; a dash where there is none."""
    unit, scale, digits = MORE_METRICS[metric]
    lines = [f"| {unit}; fixed settings in brackets | {' | '.join(MORE_KINDS).replace('_', ' ')} |"]
    lines.append(f"|{'---|' * (1 + len(MORE_KINDS))}")
    for one in data_sets:
        both = [
            [level(results, one, "long", metric, method=method, fixed=fixed) * scale for fixed in (False, True)]
            for method in MORE_KINDS
        ]
        if not all(math.isnan(tuned) for tuned, _ in both):
            cells = ["-" if math.isnan(tuned) else f"{tuned:.{digits}f} ({fixed:.{digits}f})" for tuned, fixed in both]
            lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines)
