"""Holding rows out of the training set, the same rows whatever the seed of the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labelembed.data.batch import Split
from labelembed.errors import ArgumentFaults, DataError
from labelembed.seeds import generator


@dataclass(frozen=True, kw_only=True)
class DevelopmentSplit:
    """Which rows of the training set become the development set; exactly one of the first three.

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
        faults.require(len(given) == 1, "development", given, "must have exactly one of first, fraction, rows")
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


def hold_out(train: Split, how: DevelopmentSplit | None) -> tuple[Split, Split | None]:
    """Returns the training rows that stay and the development rows, each in the order they stood in.

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
    order = stratified_order(train.labels, seed=how.seed, purpose="development")
    return train.select(order[number:].sort().values), train.select(order[:number].sort().values)


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
            f"development: {wording} of {rows:,} training rows is no row; ask for a larger part or leave it out"
        )
    if number >= rows:
        raise DataError(
            f"development: {wording} would leave nothing to train on, "
            f"for the training set has {rows:,} rows; hold out fewer"
        )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
