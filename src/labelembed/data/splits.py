"""What the parts of a data set are for, and holding examples out: the same ones whatever the seed of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from labelembed.data.batch import Split
from labelembed.data.dataset import RawData
from labelembed.errors import ArgumentFaults, DataError
from labelembed.seeds import generator

Part = TypeVar("Part")

#: How parts are spelt in file names, folders, lists and columns.
PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
#: What a reader notes where there is a validation part and no test part.
NO_TEST_NOTE = "no test set: the validation set takes its place"
#: Default share of the examples that becomes the test set.
TEST_FRACTION = 0.2


def validation_and_test(parts: Mapping[str, Part]) -> tuple[Part | None, Part | None]:
    """Returns the validation set and the test set of a data set that comes in parts; every reader goes by this rule.

    A validation part is the validation set, and none is held out of the training examples. Only where there is no test
    part it is the test set, as is usual where test labels are kept secret.

    Args:
        parts: By name: `validation` and `test` where there are such.
    """
    validation, test = parts.get("validation"), parts.get("test")
    return (None, validation) if test is None else (validation, test)


@dataclass(frozen=True, kw_only=True)
class ValidationSplit:
    """Which rows of the training set become the validation set; exactly one of the first three.

    Args:
        first: The first so many rows, as the papers do with MNIST (5,000).
        fraction: This part of the rows, between 0 and 1, at random and stratified by label.
        rows: So many rows, at random and stratified by label.
        seed: Which random rows; not the run's seed, so that runs with other seeds choose by the same rows.

    Raises:
        ValueError: Not exactly one is given, or a value is out of its range.
    """

    first: int | None = None
    fraction: float | None = None
    rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        faults = ArgumentFaults()
        given = {
            name: value
            for name, value in (("first", self.first), ("fraction", self.fraction), ("rows", self.rows))
            if value is not None
        }
        faults.require(len(given) == 1, "validation", given, "must have exactly one of first, fraction, rows")
        for name in ("first", "rows"):
            value = getattr(self, name)
            faults.require(value is None or _is_whole(value, 1), name, value, "must be a whole number >= 1")
        if self.fraction is not None:
            inside = (
                isinstance(self.fraction, float | int) and not isinstance(self.fraction, bool) and 0 < self.fraction < 1
            )
            faults.require(inside, "fraction", self.fraction, "must be a number between 0 and 1, both excluded")
        faults.require(_is_whole(self.seed, 0), "seed", self.seed, "must be a whole number >= 0")
        faults.raise_if_any()


def hold_out(train: Split, how: ValidationSplit | None) -> tuple[Split, Split | None]:
    """Returns the training rows that stay and the validation examples, each in the order they stood in.

    Without `how` nothing is held out.

    Raises:
        DataError: Nothing would be held out, or no training row would stay.
    """
    if how is None:
        return train, None
    if how.first is not None:
        _require_both_sides(how.first, len(train), f"first = {how.first:,}")
        return (
            Split(train.inputs[how.first :], train.labels[how.first :]),
            Split(train.inputs[: how.first], train.labels[: how.first]),
        )
    if how.rows is not None:
        number, wording = how.rows, f"rows = {how.rows:,}"
    else:
        assert how.fraction is not None  # the constructor has seen to it
        number, wording = round(how.fraction * len(train)), f"fraction = {how.fraction}"
    _require_both_sides(number, len(train), wording)
    order = stratified_order(train.labels, seed=how.seed, purpose="development")  # of version 0.1: the same examples
    return train.select(order[number:].sort().values), train.select(order[:number].sort().values)


def hold_out_test(
    labels: Tensor, fraction: float | None, *, where: str, what: str, purpose: str = "test"
) -> tuple[Tensor, Tensor, str]:
    """Returns which examples are trained on and which become the test set, where the data bring none.

    They are stratified by label and always the same, so that every run is tested on the same examples. A label's only
    example is trained on.

    Args:
        labels: Labels [N], int64.
        fraction: Part of the examples that becomes the test set; None: 0.2.
        where: The data set, for messages.
        what: What its examples are called: `rows`, `pictures`.
        purpose: See `stratified_order`.

    Returns:
        train: Positions in ascending order.
        test: Those of the test set.
        note: What to say of it.

    Raises:
        DataError: One of both would be empty.
    """
    share = TEST_FRACTION if fraction is None else fraction
    count = round(share * len(labels))
    if not 0 < count < len(labels):
        side = "training" if count else "test"
        raise DataError(f"{where}: `test_fraction` {share:g} of {len(labels):,} {what} leaves an empty {side} set")
    order = stratified_order(labels, seed=0, purpose=purpose).numpy()
    values = labels.cpu().numpy()
    is_test = np.zeros(len(values), dtype=bool)
    is_test[order[:count]] = np.isin(values[order[:count]], values[order[count:]])
    held = f"{is_test.sum():,} of {len(values):,} {what} held out for it"
    note = f"no test set: {held}, stratified and always the same (test_fraction {share:g})"
    train, test = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (~is_test, is_test))
    return train, test, note


def with_test(raw: RawData, fraction: float | None, *, purpose: str = "test") -> RawData:
    """Returns data with a test set: their own, or examples held out of the training set; see `hold_out_test`.

    Raises:
        DataError: They have a test set and `fraction` asks for another, or one side would be empty.
    """
    if raw.test is not None:
        if fraction is not None:
            raise DataError(f"{raw.source}: has a test set of its own; leave `test_fraction` out")
        return raw
    train, test, note = hold_out_test(raw.train.labels, fraction, where=raw.source, what="examples", purpose=purpose)
    parts = {"train": raw.train.select(train), "test": raw.train.select(test)}
    return replace(raw, **parts, notes=(*raw.notes, note))  # type: ignore[arg-type]


def share_faults(fraction: float | None) -> ArgumentFaults:
    """Returns what is wrong with a `test_fraction`."""
    faults = ArgumentFaults()
    inside = fraction is None or (not isinstance(fraction, bool) and 0 < fraction < 1)
    faults.require(inside, "test_fraction", fraction, "must be a number between 0 and 1, both excluded")
    return faults


def stratified_order(labels: Tensor, *, seed: int, purpose: str) -> Tensor:
    """Returns a random order [N] of the rows of which every beginning has the labels in their proportions.

    The first n rows hold of each label what is due to it, to about one row. Since a smaller beginning is part
    of a larger one, so are the sets cut with it. A label's only row comes in the middle: it stays with the
    larger side.

    Args:
        labels: Labels [N], int64, not negative.
        seed: Seed of the order.
        purpose: What the order is for; other purposes get other orders from the same seed.
    """
    shuffle = torch.randperm(labels.shape[0], generator=generator(seed, purpose)).numpy()
    shuffled = labels.cpu().numpy()[shuffle]
    by_label = np.argsort(shuffled, kind="stable")
    _, starts, counts = np.unique(shuffled[by_label], return_index=True, return_counts=True)
    rank = np.arange(len(shuffled)) - np.repeat(starts, counts)
    # The r-th of c rows of a label stands at (r + 1/2) / c of the way; ties stay in shuffled order.
    place = np.empty(len(shuffled))
    place[by_label] = (2 * rank + 1) / (2 * np.repeat(counts, counts))
    return torch.from_numpy(shuffle[np.argsort(place, kind="stable")])


def _require_both_sides(number: int, rows: int, wording: str) -> None:
    if number < 1:
        raise DataError(
            f"validation: {wording} of {rows:,} training rows is no row; ask for a larger part or leave it out"
        )
    if number >= rows:
        raise DataError(
            f"validation: {wording} would leave nothing to train on, "
            f"for the training set has {rows:,} rows; hold out fewer"
        )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
