"""What the user should know of a data set, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.lab.data.batch import Split
from labelembed.lab.data.checks import counted, few, printable
from labelembed.lab.data.dataset import LabelledData
from labelembed.lab.data.splits import display_name, stratified_order
from labelembed.lab.sparse_rows import SparseRows

#: A largest label with more than so many times the examples of the smallest is noted.
UNBALANCED_ABOVE = 3.0
#: Fewer validation examples say little about which variant is better.
FEW_VALIDATION_EXAMPLES = 50
_SHOWN = 5
# Numbers times labels that one pass of the reference multiplies: a hundred passes take about two seconds.
_REFERENCE_OPERATIONS = 100_000_000


def balance_notes(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Returns what to say of training labels [N]: those without an example, and that they are spread very unevenly."""
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    without = [name for name, count in zip(names, counts, strict=True) if not count]
    notes = [f"{len(without)} of {len(names)} labels have no training example: {few(without, _SHOWN)}"]
    some = [(count, name) for name, count in zip(names, counts, strict=True) if count]
    (most, largest), (least, smallest) = max(some), min(some)
    if most > UNBALANCED_ABOVE * least:
        notes.append(
            f"unbalanced labels: {largest} has {most:,} training examples, {smallest} has {least:,} "
            f"({most / least:.1f} times as many); the error is that of all examples together"
        )
    return notes if without else notes[1:]


def comparison_notes(data: LabelledData, *, random_weights: bool = False) -> list[str]:
    """Returns what speaks against a comparison of objectives on these data; for `check` and `compare`.

    `random_weights` says whether a network for pictures begins with random weights.
    """
    notes = []
    if data.num_labels == 2:
        notes.append("two labels: nothing can be learned about how labels relate; expect no more than smoothing gives")
    held_out = 0 if data.validation is None else len(data.validation)
    if held_out < FEW_VALIDATION_EXAMPLES:
        notes.append(
            f"{counted(held_out, 'validation example')}, fewer than {FEW_VALIDATION_EXAMPLES}: too few to choose "
            "by, so do not trust a small difference; --set 'data.validation={fraction: 0.3}' holds out more"
        )
    if random_weights and len(data.input_shape) == 3:
        notes.append("the network begins with random weights; a pre-trained one (recipe pictures) has a lower error")
    return notes


def repeat_notes(
    values: Mapping[str, Sequence[str]], splits: Mapping[str, Split], shown: Callable[[str, int], str], what: str
) -> list[str]:
    """Returns what to say of equal inputs: those that stand in two splits, and training ones with several labels.

    `values` stand for the input of each example [N], by split, the training set first. `shown` returns an example, by
    split and index, as a person finds it again; `what` is what it is called.
    """
    import pandas as pd

    number: dict[str, int] = {}  # for pandas takes no text of characters that are none
    rows = [
        (number.setdefault(value, len(number)), split, index, label)
        for split, its in values.items()
        for index, (value, label) in enumerate(zip(its, splits[split].labels.tolist(), strict=True))
    ]
    table = pd.DataFrame(rows, columns=["value", "split", "index", "label"])
    again = table[table.duplicated("value")]
    again = again.merge(table.drop_duplicates("value"), on="value", suffixes=("", "_first"))
    again["differs"] = again["label"] != again["label_first"]
    notes = []
    for (split, other), pairs in again.groupby(["split", "split_first"], sort=False):
        if split == other:
            pairs = pairs[pairs["differs"]] if split == "train" else pairs[:0]
        if not len(pairs):
            continue
        differing, is_one = int(pairs["differs"].sum()), len(pairs) == 1
        but = f", {differing} of them with another label" if differing else ""
        where = f"{'stands' if is_one else 'stand'} in the {display_name(other)} set too{but}"
        if split == other:
            where = f"{'has' if is_one else 'have'} another label than an equal one"
        places = [
            " = ".join(dict.fromkeys((shown(split, index), shown(other, first))))
            for index, first in pairs[["index", "index_first"]].values[:_SHOWN].tolist()
        ]
        told = counted(len(pairs), f"{display_name(split)} {what}")
        notes.append(f"{told} {where}: {few([*places, *[''] * (len(pairs) - len(places))], _SHOWN)}")
    return notes


def label_column_note(column: str, labels: Tensor, names: Sequence[str], *, key: str = "label_column") -> str:
    """Returns what to say of a column of training labels [N] that was found; `key` of `data` names another one."""
    counts = torch.bincount(labels, minlength=len(names))
    most = counts.argsort(descending=True, stable=True)[:_SHOWN].tolist()
    shown = ", ".join(f"{printable(names[label][:40])} {counts[label]:,}" for label in most)
    more = ", ..." if len(names) > len(most) else ""
    labels_of = f"labels are taken from column {printable(column)!r}: {len(names):,} labels"
    return f"{labels_of}, {shown}{more}; to take another: --set data.{key}=NAME"


class Reference(NamedTuple):
    """A plain linear classifier: its name, how many training examples it was given, and its errors as fractions."""

    name: str
    examples: int
    validation_error: float | None
    test_error: float | None


def reference_errors(data: LabelledData) -> Reference | None:
    """Returns the errors of logistic regression (scikit-learn) on the inputs of a data set; a few seconds at most.

    Dense inputs are standardised, bags weighted by tf-idf, by the training examples. Of large data sets it is given the
    stratified beginning. None where inputs are ids of tokens, or all examples have one label.
    """
    inputs = data.train.inputs
    is_dense = isinstance(inputs, Tensor)
    if (is_dense and inputs.dtype == torch.int32) or len(set(data.train.labels.tolist())) < 2:
        return None
    import warnings

    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = inputs[0].numel() if isinstance(inputs, Tensor) else len(inputs.ids) // max(1, len(inputs))
    most = max(10 * data.num_labels, _REFERENCE_OPERATIONS // (max(1, numbers) * data.num_labels))
    train = data.train.select(stratified_order(data.train.labels, seed=0, purpose="train_rows")[:most])
    scaling, strength = (StandardScaler(), 1.0) if is_dense else (TfidfTransformer(), 10.0)
    classifier = make_pipeline(scaling, LogisticRegression(C=strength))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge to the last digit
        classifier.fit(_matrix(train.inputs), train.labels.numpy())

    def error(split: Split | None) -> float | None:
        if split is None or not len(split):
            return None
        return float((classifier.predict(_matrix(split.inputs)) != split.labels.numpy()).mean())

    return Reference("logistic regression", len(train), error(data.validation), error(data.test))


def _matrix(inputs: Tensor | SparseRows) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.flatten(1).float().numpy()
    from scipy.sparse import csr_matrix

    ids = inputs.ids.numpy()
    return csr_matrix(([1.0] * len(ids), ids, inputs.offsets.numpy()), shape=inputs.shape)
