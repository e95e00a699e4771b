"""What the parts of a data set are for, and holding examples out: the same ones whatever the seed of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.batch import Examples
from labelembed.seeds import generator

Part = TypeVar("Part", bound=Examples)

#: How parts are spelt in file names, folders, lists and columns.
PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
#: Default share of the examples that becomes the test set.
TEST_FRACTION = 0.2


def assigned(
    found: Mapping[str, Part],
    fraction: float | None,
    *,
    source: str,
    to_evaluate: bool = False,
    purpose: str = "test",
    seen: npt.NDArray[np.bool_] | None = None,
) -> tuple[dict[str, Part], list[str]]:
    """Returns the parts `train`, `validation` and `test` of a data set, and notes on them: the rule of all readers.

    Only where there is no test part the validation part is the test set, as is usual where test labels are secret.
    Where there is neither, a `fraction` (None: 0.2) of the training examples is held out unless they are `to_evaluate`,
    stratified by label and always the same (see `stratified_order` for `purpose`). A label's only example is trained
    on, and so are those [N] that something has been decided by already, `seen`; see `seen_first`.
    """
    parts, notes = dict(found), []
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
        notes.append("no test set: the validation set takes its place")
    if "test" in parts and fraction is not None and not to_evaluate:
        raise DataError(f"{source}: has a test set of its own; leave `test_fraction` out")
    if "test" in parts or to_evaluate:
        return parts, notes
    train, share = parts["train"], TEST_FRACTION if fraction is None else fraction
    count = round(share * len(train))
    if not 0 < count < len(train):
        raise DataError(f"{source}: `test_fraction` {share:g} of {len(train):,} examples leaves an empty set")
    order = stratified_order(train.labels, seed=0, purpose=purpose)
    if seen is not None:
        is_seen = torch.from_numpy(seen)[order]
        order = torch.cat([order[~is_seen], order[is_seen]])
    is_test = torch.zeros(len(train), dtype=torch.bool)
    is_test[order[:count]] = torch.isin(train.labels[order[:count]], train.labels[order[count:]])
    parts |= {part: train.select(chosen.nonzero()[:, 0]) for part, chosen in (("train", ~is_test), ("test", is_test))}
    held = f"{is_test.sum():,} of {len(train):,} examples held out for it"
    return parts, [f"no test set: {held}, stratified and always the same (test_fraction {share:g})"]


def seen_first(examples: int, fraction: float | None) -> npt.NDArray[np.bool_]:
    """Returns which of so many examples [N] may be looked at before any is held out, to find the columns.

    They are half as many as will be trained on, drawn without a look at them; `assigned` holds out the others first.
    """
    number = int((1 - (TEST_FRACTION if fraction is None else fraction)) / 2 * examples)
    order = torch.randperm(examples, generator=generator(0, "test")).numpy()
    return np.isin(np.arange(examples), order[examples - max(1, number) :])


def fraction_errors(fraction: object) -> ArgumentErrors:
    """Returns what is wrong with a `test_fraction`; None is no error."""
    errors = ArgumentErrors()
    inside = type(fraction) in (int, float) and 0 < fraction < 1  # type: ignore[operator]
    rule = "must be a number between 0 and 1, both excluded"
    errors.require(fraction is None or inside, "test_fraction", fraction, rule)
    return errors


def hold_out(
    train: Part, *, first: int | None = None, fraction: float | None = None, examples: int | None = None, seed: int = 0
) -> tuple[Part, Part]:
    """Returns the training examples that stay and the validation set, each in the order they stood in.

    Exactly one of `first`, `fraction` and `examples` is given. Raises DataError where one side would be empty.

    Args:
        train: The training examples.
        first: The first so many, as the papers do with MNIST (5,000).
        fraction: This part of them, at random and stratified by label.
        examples: So many, at random and stratified by label.
        seed: Which random ones; not the run's seed, so that runs with other seeds choose by the same examples.
    """
    wanted = first or examples or round((fraction or 0) * len(train))
    if not 0 < wanted < len(train):
        raise DataError(f"data.validation: holding out {wanted:,} of {len(train):,} examples leaves an empty set")
    # another purpose would hold out other examples than those of docs/results.md
    drawn = stratified_order(train.labels, seed=seed, purpose="development")
    order = drawn if first is None else torch.arange(len(train))
    return train.select(order[wanted:].sort().values), train.select(order[:wanted].sort().values)


def stratified_order(labels: Tensor, *, seed: int, purpose: str) -> Tensor:
    """Returns a random order [N] of examples with `labels` [N] of which every beginning has them in their proportions.

    The first n hold of each label what is due to it, to about one example. A label's only example comes in the middle.
    Another `purpose` gets another order from the same seed.
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
