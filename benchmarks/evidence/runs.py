"""Runs the plan on one data set, and keeps a row for each trained network in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.methods import FIXED, Trial, trials
from benchmarks.evidence.stacked import Examples, Stack, Weights
from labelembed.geometry import LabelGeometry, kendall_agreement
from labelembed.metrics.calibration import fit_temperature
from labelembed.metrics.classification import classification_metrics, risk_coverage

SEEDS = 8
#: The regimes: trained to where validation no longer improves, and for a third of that.
REGIMES = {"long": 1.0, "short": 1 / 3}
FIELDS = (
    *("regime", "trial", "method", "seed", "similarity", "uniform", "learning_rate", "weight_decay", "steps"),
    *("validation_error", "validation_nll", "error", "nll", "ece", "raw_nll", "raw_ece", "top", "temperature"),
    *("train_error", "train_nll"),
)
#: What the second and the third plan keep besides.
MORE_FIELDS = ("excess_aurc", "error_at_80", "error_at_90", "group_error", "tau_learned", "tau_means")
_RISKS = {
    "excess_aurc": "excess_aurc",
    "error_at_80": "error_at_80_coverage",
    "error_at_90": "error_at_90_coverage",
}
Row = dict[str, Any]


def run(
    data_set: DataSet,
    data: Path,
    results: Path,
    *,
    kinds: Mapping[str, str],
    regimes: Iterable[str],
) -> None:
    """Trains what is not yet in the results: methods by what they learn from, with their trials.

    That is every trial for every split; or, of a data set that costs more, the trials of the first split and then what
    they chose for the others.
    """
    file = results / f"{data_set.name}.csv"
    done = read(file)
    inputs, labels = data_set.load(data)
    splits = [data_set.split(labels, seed) for seed in range(SEEDS)]
    references = data_set.references(data) if data_set.references is not None else {}
    work = _Work(data_set, inputs, labels, splits, references)
    for regime in regimes:
        for trial in trials(data_set):
            seeds = range(SEEDS) if data_set.own_trials or trial.name == FIXED else [0]
            for kind in sorted(set(kinds.values())):
                methods = [method for method in kinds if kinds[method] == kind]
                if not _has(done, regime, trial.name, methods[0], len(seeds)):
                    done += append(file, work.rows(regime, trial, kind, methods, seeds))
        if data_set.own_trials:
            continue
        tried = {trial.name: trial for trial in trials(data_set)}
        for method, kind in kinds.items():
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
        writer = csv.DictWriter(opened, list(rows[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    return rows


class _Work:
    """A data set with its splits, ready to train on."""

    def __init__(
        self,
        data_set: DataSet,
        inputs: Tensor,
        labels: Tensor,
        splits: Sequence[dict[str, Tensor]],
        references: Mapping[str, Tensor],
    ) -> None:
        self.data_set, self.inputs, self.labels, self.splits = data_set, inputs, labels, splits
        self.num_labels, self.references = int(labels.max()) + 1, references
        self.noisy = data_set.noisy(inputs, labels) if data_set.noise else labels

    def rows(self, regime: str, trial: Trial, kind: str, methods: Sequence[str], seeds: Sequence[int]) -> list[Row]:
        """Trains the methods of one kind with one trial's settings, and returns a row for each network."""
        weights = [trial.weights[method] for method in methods]
        sizes = (self.inputs.shape[1], *self.data_set.hidden_sizes, self.num_labels)
        parts = {name: torch.stack([self.splits[seed][name] for seed in seeds]) for name in self.splits[0]}
        examples = Examples(self.inputs, self.noisy, parts["train"], self.num_labels)
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
            truth = {name: self.noisy[chosen[place]] for name, chosen in parts.items()}
            truth["test"] = self.labels[parts["test"][place]]
            for number, method in enumerate(methods):
                own = {name: some[place, number] for name, some in logits.items()}
                row = {"regime": regime, "trial": trial.name, "method": method, "seed": seed}
                row |= settings(weights[number], trial, steps) | measured(own, truth)
                if self.data_set not in DATA_SETS:
                    learned = stack.learned(place * len(methods) + number)
                    row |= measured_more(own, truth, row["temperature"], learned, self.references)
                found.append(row)
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


def measured_more(
    logits: dict[str, Tensor],
    labels: dict[str, Tensor],
    temperature: float,
    learned: Tensor | None,
    references: Mapping[str, Tensor],
) -> Row:
    """Returns what the second plan asks for besides: risk against coverage, wrong groups, and what labels are alike."""
    probabilities = (logits["test"].double() / temperature).softmax(dim=1)
    risk = risk_coverage(probabilities, labels["test"])
    row = dict.fromkeys(MORE_FIELDS, math.nan)
    row |= {name: risk[key] for name, key in _RISKS.items()}
    if (groups := references.get("groups")) is not None:
        wrong = groups[probabilities.argmax(dim=1)] != groups[labels["test"]]
        row["group_error"] = float(wrong.double().mean())
    reference = next((table for name, table in references.items() if name.startswith("tau_")), None)
    if reference is not None:
        shares, truth = logits["train"].double().softmax(dim=1), labels["train"]
        means = torch.stack([shares[truth == label].mean(dim=0) for label in range(shares.shape[1])])
        names = tuple(map(str, range(len(means))))
        row["tau_means"] = kendall_agreement(LabelGeometry(names, vectors=means).distances(), reference).mean
        if learned is not None:
            of_labels = LabelGeometry(names, similarities=learned).distances()
            row["tau_learned"] = kendall_agreement(of_labels, reference).mean
    return {name: float(f"{value:.6g}") for name, value in row.items()}
