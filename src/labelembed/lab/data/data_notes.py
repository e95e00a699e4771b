"""What the user should know of a data set, one line each."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from labelembed.lab.data.checks import counted, few, printable
from labelembed.lab.data.dataset import LabelledData
from labelembed.lab.data.splits import stratified_order
from labelembed.lab.sparse_rows import SparseRows

#: Fewer validation examples say little about which variant is better.
FEW_VALIDATION_EXAMPLES = 50
_SHOWN = 5
# Numbers times labels that one pass of the reference multiplies: a hundred passes take about two seconds.
_REFERENCE_OPERATIONS = 100_000_000


def label_notes(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Returns notes on labels with no or one training example [N], and on names that differ by case only."""
    counts, spellings = Counter(labels.tolist()), Counter(map(str.casefold, names))
    rare = [name for label, name in enumerate(names) if counts[label] < 2]
    alike = [name for name in names if spellings[name.casefold()] > 1]
    groups = {"labels with no or one training example": rare, "labels that differ by case only are kept apart": alike}
    return [f"{what}: {few([repr(name) for name in those], _SHOWN)}" for what, those in groups.items() if those]


def comparison_notes(data: LabelledData, *, random_weights: bool = False) -> list[str]:
    """Returns the reasons why a comparison of objectives on these data may show little, for `check` and `compare`.

    `random_weights` says whether a network for pictures begins with random weights.
    """
    notes = []
    if data.num_labels == 2:
        notes.append("two labels: nothing can be learned about how labels relate; expect what smoothing gives")
    held_out = 0 if data.validation is None else len(data.validation)
    if held_out < FEW_VALIDATION_EXAMPLES:
        few_of_them = f"{counted(held_out, 'validation example')}, fewer than {FEW_VALIDATION_EXAMPLES}"
        notes.append(f"{few_of_them}: too few to choose by; --set 'data.validation={{fraction: 0.3}}' holds out more")
    if random_weights and len(data.input_shape) == 3:
        notes.append("the network begins with random weights; a pre-trained one (recipe pictures) has a lower error")
    return notes


def repeat_notes(values: Mapping[str, Sequence[str]], shown: Callable[[str, int], str]) -> list[str]:
    """Returns notes on inputs of the training set that another split repeats.

    `values` stand for the input of each example [N], by split; `shown` returns an example as a person finds it again.
    """
    train, notes = set(values["train"]), []
    for split, its in values.items():
        again = [shown(split, index) for index, value in enumerate(its) if split != "train" and value in train]
        if again:
            notes.append(f"{counted(len(again), f'{split} example')} also in the training set: {few(again, _SHOWN)}")
    return notes


def telling_notes(frame: Any, labels: Tensor) -> list[str]:
    """Returns a note on each column of the training examples, a DataFrame, that determines their labels [N]."""
    import pandas as pd

    its = pd.Series(labels.numpy(), frame.index)
    likely = [name for name in frame if frame[name].nunique(dropna=False) <= len(frame) / 2]
    tells = [name for name in likely if its.groupby(frame[name], dropna=False).nunique().max() == 1]
    way = "determines the label in every training example; to leave it out: --set 'data.leave_out=[{}]'"
    return [f"column {name!r} {way.format(name)}" for name in tells]


def label_column_note(column: str, labels: Tensor, names: Sequence[str]) -> str:
    """Returns the note on a label column that was found, with the counts of its training labels [N]."""
    counts = Counter(labels.tolist()).most_common(_SHOWN)
    shown = ", ".join(f"'{printable(names[label][:40])}' ({count:,})" for label, count in counts)
    more = ", ..." if len(names) > len(counts) else ""
    more += "; one of them is the column's name: if row 1 is an example, put names above it" * (column in names)
    labels_of = f"labels are taken from column {column!r}: {len(names):,} labels"
    return f"{labels_of}, {shown}{more}; to take another: --set data.label_column=NAME"


def reference_errors(data: LabelledData) -> dict[str, float]:
    """Returns the error of logistic regression on the validation and the test set, within a few seconds.

    Dense inputs are standardised, bags weighted by tf-idf, as fitted on the training examples. Large data sets are cut
    to the beginning of a stratified order. Nothing is returned for ids of tokens, or where there is one label only.
    """
    inputs = data.train.inputs
    is_dense = isinstance(inputs, Tensor)
    if (inputs.dtype == torch.int32 and is_dense) or len(set(data.train.labels.tolist())) < 2:
        return {}
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

    splits = [(name, split) for name, split in data.splits.items() if name != "train"]
    return {name: 1 - float(classifier.score(_matrix(one.inputs), one.labels.numpy())) for name, one in splits}


def _matrix(inputs: Tensor | SparseRows) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.flatten(1).float().numpy()
    from scipy.sparse import csr_matrix

    ids = inputs.ids.numpy()
    return csr_matrix(([1.0] * len(ids), ids, inputs.offsets.numpy()), shape=inputs.shape)
