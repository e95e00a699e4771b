"""Does a run with cross entropy foretell what online label smoothing gains over tuned label smoothing?"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import RidgeCV

from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.diagnosis import Diagnosis, diagnose
from benchmarks.evidence.methods import RECOMMENDED
from benchmarks.evidence.runs import REGIMES, SEEDS, read
from benchmarks.evidence.stacked import Examples, Stack
from benchmarks.evidence.summary import CONFIDENCE, CONTROL, chosen

METHOD = "online_label_smoothing"
FILE = "diagnoses.csv"
#: Strengths of the ridge, of which cross-validation takes one.
STRENGTHS = np.logspace(-1, 3, 9)


def collect(data_set: DataSet, data: Path, results: Path) -> None:
    """Trains cross entropy with the fixed settings on each split, and keeps what it shows, where that is missing."""
    file = results / FILE
    done = {(row["data_set"], row["regime"]) for row in _rows(file)}
    if all((data_set.name, regime) in done for regime in REGIMES):
        return
    inputs, labels = data_set.load(data)
    splits = [data_set.split(labels, seed) for seed in range(SEEDS)]
    parts = {name: torch.stack([split[name] for split in splits]) for name in ("train", "validation")}
    num_labels = int(labels.max()) + 1
    examples = Examples(inputs, labels, parts["train"], num_labels)
    count = parts["train"].shape[1]
    parts["train"] = parts["train"][:, :10_000]
    for regime, length in REGIMES.items():
        sizes = (inputs.shape[1], *data_set.hidden_sizes, num_labels)
        stack = Stack(sizes, range(SEEDS), [RECOMMENDED["cross_entropy"]], kind="none")
        stack.train(
            examples, steps=max(1, round(data_set.epochs * (count // data_set.batch_size) * length)),
            batch_size=data_set.batch_size, learning_rate=data_set.learning_rate, weight_decay=data_set.weight_decay,
        )  # fmt: skip
        logits = {name: stack.predict(examples, part)[:, 0] for name, part in parts.items()}
        found = []
        for seed in range(SEEDS):
            of_split = [some for name, part in parts.items() for some in (logits[name][seed], labels[part[seed]])]
            diagnosis = diagnose(*of_split, training_examples=count)
            found.append({"data_set": data_set.name, "regime": regime, "seed": seed} | diagnosis._asdict())
        is_new = not file.is_file()
        with file.open("a", newline="") as opened:
            writer = csv.DictWriter(opened, list(found[0]))
            if is_new:
                writer.writeheader()
            writer.writerows(found)


class Point(NamedTuple):
    """One data set at one length of training.

    Attributes:
        number: Of the data set, from 1, in the order of the plan.
        name: Its name.
        regime: `long` or `short`.
        features: [5], means over the splits.
        gains: [2], of the error and of the NLL, as shares of tuned smoothing's.
    """

    number: int
    name: str
    regime: str
    features: NDArray[np.float64]
    gains: NDArray[np.float64]


def points(results: Path) -> list[Point]:
    """Returns the data sets that are done, at both lengths."""
    diagnoses = _rows(results / FILE)
    found = []
    for number, data_set in enumerate(DATA_SETS, start=1):
        rows = read(results / f"{data_set.name}.csv")
        for regime in REGIMES:
            of_both = [chosen(rows, regime, method, own_trials=data_set.own_trials) for method in (METHOD, CONTROL)]
            own = [row for row in diagnoses if (row["data_set"], row["regime"]) == (data_set.name, regime)]
            if not own or any(len(some) < SEEDS for some in of_both):
                continue
            features = np.mean([_diagnosis(row).features() for row in own], axis=0)
            means = {
                metric: [np.mean([row[metric] for row in some.values()]) for some in of_both]
                for metric in ("error", "nll")
            }
            (error, control_error), (nll, control_nll) = means["error"], means["nll"]
            gains = np.array([error / control_error, nll / control_nll]) - 1
            found.append(Point(number, data_set.name, regime, features, gains))
    return found


def predicted(fitted_on: Sequence[Point], others: Sequence[Point]) -> NDArray[np.float64]:
    """Returns the gains [n, 2] that ridge regressions on the features of some data sets predict of others."""
    features = np.stack([point.features for point in fitted_on])
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    of_others = (np.stack([point.features for point in others]) - center) / scale
    gains = np.stack([point.gains for point in fitted_on])
    ridges = [RidgeCV(STRENGTHS).fit((features - center) / scale, own) for own in gains.T]
    return np.stack([ridge.predict(of_others) for ridge in ridges], axis=1)


def write(results: Path) -> str:
    """Returns how well a rule does on data sets that it has not seen."""
    every = points(results)
    odd, even = ([point for point in every if point.number % 2 == side] for side in (1, 0))
    each = [
        ([point for point in every if point.number != number], [point for point in every if point.number == number])
        for number in sorted({point.number for point in every})
    ]
    lines = [
        "| change, share | error of the rule (root mean square) | of the mean | signs right |",
        "|---|---|---|---|",
    ]
    for tested, splits in {"odd to even": [(odd, even)], "each left out": each}.items():
        truth = np.concatenate([[point.gains for point in others] for _, others in splits])
        rule = np.concatenate([predicted(fitted_on, others) for fitted_on, others in splits])
        mean = np.concatenate(
            [[np.mean([point.gains for point in fitted_on], axis=0)] * len(others) for fitted_on, others in splits]
        )
        errors = [np.sqrt(((some - truth) ** 2).mean(axis=0)) for some in (rule, mean)]
        right = (np.sign(rule) == np.sign(truth)).sum(axis=0)
        for place, name in enumerate(("error", "NLL")):
            own = " | ".join(f"{some[place]:.4f}" for some in errors)
            lines.append(f"| {name}, {tested} | {own} | {right[place]} of {len(truth)} |")
    return "\n".join(lines)


def _expected(every: Sequence[Point], place: int) -> dict[str, float]:
    """Returns the mean with its prediction interval; the lengths of one data set are no two independent values."""
    gains = np.array([point.gains[place] for point in every])
    n = len({point.number for point in every})
    mean = float(gains.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * gains.std(ddof=1) * math.sqrt(1 + 1 / n))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def _diagnosis(row: dict[str, str]) -> Diagnosis:
    return Diagnosis(
        gap=float(row["gap"]),
        temperature=float(row["temperature"]),
        confusion_entropy=float(row["confusion_entropy"]),
        num_labels=int(row["num_labels"]),
        examples_per_label=float(row["examples_per_label"]),
    )
