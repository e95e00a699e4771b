"""Runs the plan on one data set, and keeps a row for each trained network in a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.data_sets import DataSet
from benchmarks.evidence.methods import FIXED, KINDS, Trial, trials
from benchmarks.evidence.stacked import Examples, Stack, Weights
from labelembed.metrics.calibration import fit_temperature
from labelembed.metrics.classification import classification_metrics

SEEDS = 8
#: The regimes: trained to where validation no longer improves, and for a third of that.
REGIMES = {"long": 1.0, "short": 1 / 3}
FIELDS = (
    *("regime", "trial", "method", "seed", "similarity", "uniform", "learning_rate", "weight_decay", "steps"),
    *("validation_error", "validation_nll", "error", "nll", "ece", "raw_nll", "raw_ece", "top", "temperature"),
    *("train_error", "train_nll"),
)
Row = dict[str, Any]


def run(data_set: DataSet, data: Path, results: Path) -> None:
    """Trains what is not yet in the results.

    That is every trial for every split; or, of a data set that costs more, the trials of the first split and then what
    they chose for the others.
    """
    file = results / f"{data_set.name}.csv"
    done = read(file)
    inputs, labels = data_set.load(data)
    splits = [data_set.split(labels, seed) for seed in range(SEEDS)]
    work = _Work(data_set, inputs, labels, splits)
    for regime in REGIMES:
        for trial in trials(data_set):
            seeds = range(SEEDS) if data_set.own_trials or trial.name == FIXED else [0]
            for kind in sorted(set(KINDS.values())):
                methods = [method for method in KINDS if KINDS[method] == kind]
                if not _has(done, regime, trial.name, methods[0], len(seeds)):
                    done += append(file, work.rows(regime, trial, kind, methods, seeds))
        if data_set.own_trials:
            continue
        tried = {trial.name: trial for trial in trials(data_set)}
        for method, kind in KINDS.items():
            best = min(
                (row for row in done if row["regime"] == regime and row["method"] == method and row["seed"] == 0
                 and row["trial"] != FIXED),
                key=lambda row: (row["validation_error"], row["validation_nll"]),
            )["trial"]  # fmt: skip
            if not _has(done, regime, best, method, SEEDS):
                done += append(file, work.rows(regime, tried[best], kind, [method], range(1, SEEDS)))


def read(file: Path) -> list[Row]:
    """Returns the rows of a file of results; none where there is no file."""
    if not file.is_file():
        return []
    kinds = {"regime": str, "trial": str, "method": str, "seed": int, "steps": int}
    with file.open(newline="") as opened:
        return [{name: kinds.get(name, float)(value) for name, value in row.items()} for row in csv.DictReader(opened)]


def _has(rows: Iterable[Row], regime: str, trial: str, method: str, count: int) -> bool:
    wanted = (regime, trial, method)
    return sum((row["regime"], row["trial"], row["method"]) == wanted for row in rows) >= count


def append(file: Path, rows: list[Row]) -> list[Row]:
    """Writes rows at the end of a file of results, and returns them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.is_file()
    with file.open("a", newline="") as opened:
        writer = csv.DictWriter(opened, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    return rows


class _Work:
    """A data set with its splits, ready to train on."""

    def __init__(self, data_set: DataSet, inputs: Tensor, labels: Tensor, splits: Sequence[dict[str, Tensor]]) -> None:
        self.data_set, self.inputs, self.labels, self.splits = data_set, inputs, labels, splits
        self.num_labels = int(labels.max()) + 1

    def rows(self, regime: str, trial: Trial, kind: str, methods: Sequence[str], seeds: Sequence[int]) -> list[Row]:
        """Trains the methods of one kind with one trial's settings, and returns a row for each network."""
        weights = [trial.weights[method] for method in methods]
        sizes = (self.inputs.shape[1], *self.data_set.hidden_sizes, self.num_labels)
        parts = {name: torch.stack([self.splits[seed][name] for seed in seeds]) for name in self.splits[0]}
        examples = Examples(self.inputs, self.labels, parts["train"], self.num_labels)
        stack = Stack(sizes, seeds, weights, kind=kind)
        epoch = parts["train"].shape[1] // self.data_set.batch_size
        steps = max(1, round(self.data_set.epochs * epoch * REGIMES[regime] * trial.length))
        stack.train(
            examples, steps=steps, batch_size=self.data_set.batch_size, learning_rate=trial.learning_rate,
            weight_decay=trial.weight_decay,
        )  # fmt: skip
        parts["train"] = parts["train"][:, :10_000]  # enough to see how well they fit
        logits = {name: stack.predict(examples, chosen) for name, chosen in parts.items()}
        found = []
        for place, seed in enumerate(seeds):
            truth = {name: self.labels[chosen[place]] for name, chosen in parts.items()}
            for number, method in enumerate(methods):
                own = {name: some[place, number] for name, some in logits.items()}
                found.append(
                    {"regime": regime, "trial": trial.name, "method": method, "seed": seed}
                    | settings(weights[number], trial, steps)
                    | measured(own, truth)
                )
        return found


def settings(weights: Weights, trial: Trial, steps: int) -> Row:
    """Returns what a network was trained with."""
    return {
        "similarity": round(weights.similarity, 4),
        "uniform": round(weights.uniform, 4),
        "learning_rate": float(f"{trial.learning_rate:.4g}"),
        "weight_decay": float(f"{trial.weight_decay:.4g}"),
        "steps": steps,
    }


def measured(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> Row:
    """Returns the metrics of one network, all but the `raw` ones after a temperature fitted on validation."""
    temperature = fit_temperature(logits["validation"], labels["validation"])
    found = {
        name: classification_metrics(logits[name], labels[name], temperature=temperature)
        for name in ("train", "validation", "test")
    }
    raw = classification_metrics(logits["test"], labels["test"])
    top = next((value for name, value in found["test"].items() if name.startswith("top")), float("nan"))
    row = {
        "validation_error": found["validation"]["error"],
        "validation_nll": found["validation"]["nll"],
        "error": found["test"]["error"],
        "nll": found["test"]["nll"],
        "ece": found["test"]["calibration_error"],
        "raw_nll": raw["nll"],
        "raw_ece": raw["calibration_error"],
        "top": top,
        "temperature": temperature,
        "train_error": found["train"]["error"],
        "train_nll": found["train"]["nll"],
    }
    return {name: float(f"{value:.6g}") for name, value in row.items()}
