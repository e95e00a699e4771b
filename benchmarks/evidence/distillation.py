"""Candidate 1 and 2 of the plan: one network taught by several of the same split, that saw the example or did not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.methods import Trial, trials
from benchmarks.evidence.runs import REGIMES, SEEDS, Row, append, measured, read, settings
from benchmarks.evidence.stacked import Examples, Stack, Weights
from benchmarks.evidence.summary import CONTROL, METRICS, cell, chosen, difference, level, share

TEACHERS = (4, 8)
FOLDS = 4
METHOD = "online_label_smoothing"
#: What the student is trained on: shares of the teachers and of the uniform component, chosen by validation.
MIXTURES = (Weights(0.7, 0.15), Weights(0.6, 0.1), Weights(0.4, 0.1))


def run(data_set: DataSet, data: Path, results: Path, *, regimes: Sequence[str] = tuple(REGIMES)) -> None:
    """Trains teachers and students with what validation chose for online label smoothing, as far as that is done."""
    inputs, labels = data_set.load(data)
    file = results / f"{data_set.name}-distillation.csv"
    rows = read(results / f"{data_set.name}.csv")
    tried = {trial.name: trial for trial in trials(data_set)}
    for regime in regimes:
        best = chosen(rows, regime, METHOD, own_trials=data_set.own_trials)
        for seed in range(SEEDS):
            if seed in best and not any(row["seed"] == seed and row["regime"] == regime for row in read(file)):
                work = _Split(data_set, inputs, labels, seed, regime, tried[best[seed]["trial"]])
                append(file, work.rows())


def table(results: Path, regime: str) -> str:
    """Returns a Markdown table of the differences from tuned smoothing; a student's mixture is chosen by validation."""
    done = {}
    for data_set in DATA_SETS:
        rows = read(results / f"{data_set.name}-distillation.csv")
        of_methods = {
            method: chosen([row for row in rows if row["method"] == method], regime, method, own_trials=True)
            for method in dict.fromkeys(row["method"] for row in rows)
        }
        if of_methods and all(len(of_seeds) == SEEDS for of_seeds in of_methods.values()):
            done[data_set] = of_methods
    lines = []
    for metric, (unit, scale, digits) in METRICS.items():
        names = [f"{one.name} ({level(results, one, regime, metric) * scale:.{digits}f})" for one in done]
        lines += [
            "",
            f"| {unit}; {regime}; against tuned smoothing | {' | '.join(names)} |",
            f"|{'---|' * (1 + len(done))}",
        ]
        for method in next(iter(done.values()), {}):
            cells = []
            for data_set, of_methods in done.items():
                control = chosen(
                    read(results / f"{data_set.name}.csv"), regime, CONTROL, own_trials=data_set.own_trials
                )
                found = difference(of_methods[method], control, metric, test_over_train=share(data_set))
                cells.append(cell(found, scale, digits))
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines[1:])


class _Split:
    """One split of a data set with the settings that were chosen for it."""

    def __init__(self, data_set: DataSet, inputs: Tensor, labels: Tensor, seed: int, regime: str, trial: Trial) -> None:
        self.data_set, self.inputs, self.labels = data_set, inputs, labels
        self.seed, self.regime, self.trial = seed, regime, trial
        self.parts = data_set.split(labels, seed)
        self.num_labels = int(labels.max()) + 1
        self.sizes = (inputs.shape[1], *data_set.hidden_sizes, self.num_labels)
        epoch = len(self.parts["train"]) // data_set.batch_size
        self.steps = max(1, round(data_set.epochs * epoch * REGIMES[regime] * trial.length))

    def rows(self) -> list[Row]:
        """Returns a row for each student, each ensemble, and a network trained as long as teachers and student."""
        own = self.trial.weights[METHOD]
        most = max(TEACHERS)
        teachers = self._trained([own], seeds=[1_000 * (self.seed + 1) + number for number in range(most)])
        of_train = self._probabilities(teachers, self.parts["train"])[:, 0]
        found = []
        for number in TEACHERS:
            ensemble = {
                name: self._probabilities(teachers, part)[:number, 0].mean(0).clamp_min(1e-12).log()
                for name, part in self.parts.items()
            }
            found.append(self._row(f"ensemble of {number}", own, ensemble))
            found += self._students(f"distilled from {number}", of_train[:number].mean(0))
            longer = self._trained([own], seeds=[self.seed], times=number + 1)
            found.append(self._row(f"{number + 1} times as long", own, self._logits(longer, 0)))
        found += self._students("distilled across folds", self._across_folds(own))
        return found

    def _students(self, name: str, table: Tensor) -> list[Row]:
        stack = self._trained(MIXTURES, seeds=[self.seed], table=table)
        return [self._row(name, weights, self._logits(stack, place)) for place, weights in enumerate(MIXTURES)]

    def _across_folds(self, own: Weights) -> Tensor:
        """Returns predictions [n, C] of each training example by two networks that were not trained on it."""
        train = self.parts["train"]
        random = torch.Generator().manual_seed(self.seed)
        table = torch.zeros(len(train), self.num_labels)
        for repeat in range(2):
            folds = torch.randperm(len(train), generator=random)
            size = len(train) // FOLDS
            # the last fold has what the division leaves over; all networks have as many examples
            kept = [
                torch.cat([folds[: fold * size], folds[(fold + 1) * size :]])[: len(train) - size]
                for fold in range(FOLDS)
            ]
            seeds = [2_000 * (self.seed + 1) + FOLDS * repeat + fold for fold in range(FOLDS)]
            trained_on = torch.stack([train[some] for some in kept])
            stack = self._trained([own], seeds=seeds, train=trained_on)
            for fold in range(FOLDS):
                end = len(train) if fold == FOLDS - 1 else (fold + 1) * size
                left_out = folds[fold * size : end]
                table[left_out] += self._probabilities(stack, train[left_out], trained_on)[fold, 0] / 2
        return table

    def _trained(
        self,
        weights: Sequence[Weights],
        *,
        seeds: Sequence[int],
        times: int = 1,
        train: Tensor | None = None,
        table: Tensor | None = None,
    ) -> Stack:
        kind = "class_means" if table is None else "table"
        stack = Stack(self.sizes, seeds, weights, kind=kind, tables=None if table is None else table[None])
        stack.train(
            self._examples(len(seeds), train), steps=self.steps * times, batch_size=self.data_set.batch_size,
            learning_rate=self.trial.learning_rate, weight_decay=self.trial.weight_decay,
        )  # fmt: skip
        return stack

    def _examples(self, count: int, train: Tensor | None = None) -> Examples:
        train = self.parts["train"].expand(count, -1) if train is None else train
        return Examples(self.inputs, self.labels, train, self.num_labels)

    def _probabilities(self, stack: Stack, part: Tensor, train: Tensor | None = None) -> Tensor:
        """Returns the predictions [S, K, n, C] of some examples, as the networks give them."""
        count = len(stack.seeds)
        return stack.predict(self._examples(count, train), part.expand(count, -1)).softmax(3)

    def _logits(self, stack: Stack, place: int) -> dict[str, Tensor]:
        return {name: stack.predict(self._examples(1), part[None])[0, place] for name, part in self.parts.items()}

    def _row(self, method: str, weights: Weights, logits: dict[str, Tensor]) -> Row:
        truth = {name: self.labels[part] for name, part in self.parts.items()}
        about = {"regime": self.regime, "trial": self.trial.name, "method": method, "seed": self.seed}
        return about | settings(weights, self.trial, self.steps) | measured(logits, truth)
