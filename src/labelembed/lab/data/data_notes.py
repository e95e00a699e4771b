"""What the user should know of a data set, one line each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelembed.lab.data.batch import Split
from labelembed.lab.data.checks import counted, few, printable
from labelembed.lab.data.dataset import LabelledData
from labelembed.lab.data.splits import stratified_order
from labelembed.lab.sparse_rows import SparseRows

#: A largest label with more than so many times the examples of the smallest is noted.
UNBALANCED_ABOVE = 3.0
#: Fewer validation examples say little about which variant is better.
FEW_VALIDATION_EXAMPLES = 50
_SHOWN = 5
# Numbers times labels that one pass of the reference multiplies: a hundred passes take about two seconds.
_REFERENCE_OPERATIONS = 100_000_000


def balance_notes(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Returns a line where training examples are spread very unevenly over the labels, and one for labels without any.

    Args:
        labels: Labels [N] of the training examples.
        names: Names of the labels 0, 1, ...
    """
    counts = np.bincount(labels.cpu().numpy(), minlength=len(names))
    notes = []
    without = [name for name, count in zip(names, counts, strict=False) if count == 0]
    if without:
        notes.append(f"{len(without)} of {len(names)} labels have no training example: {few(without, _SHOWN)}")
    largest, smallest = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    if counts[largest] > UNBALANCED_ABOVE * counts[smallest]:
        times = counts[largest] / counts[smallest]
        notes.append(
            f"unbalanced labels: {names[largest]} has {counts[largest]:,} training examples, {names[smallest]} has "
            f"{counts[smallest]:,} ({times:.1f} times as many); the error is that of all examples together"
        )
    return notes


def comparison_notes(data: LabelledData, *, random_weights: bool = False) -> list[str]:
    """Returns what speaks against a comparison of objectives on these data; for `check` and `compare`.

    Args:
        data: The data set of the comparison.
        random_weights: Whether a network for pictures begins with random weights.
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


def repeated(values: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Returns (index, earlier index) for every value that is the same as an earlier one."""
    first: dict[Hashable, int] = {}
    pairs = ((index, first.setdefault(value, index)) for index, value in enumerate(values))
    return [(index, earlier) for index, earlier in pairs if earlier != index]


def repeat_notes(
    repeated: Sequence[tuple[int, int]],
    *,
    labels: Mapping[str, Tensor],
    shown: Callable[[int, int], str],
    what: str = "picture",
) -> list[str]:
    """Returns what to say of equal inputs: those that stand in two splits, and training ones with several labels.

    Args:
        repeated: (index, earlier index) of equal inputs, the earlier one the first of its kind, over all splits in the
            order of `labels`, the training set first.
        labels: Labels [N] of each split, by its name in a sentence: `training`, `validation`, `test`.
        shown: Returns a pair as a person finds it again.
        what: What an input is called.
    """
    every = torch.cat(list(labels.values())).tolist()
    split_of = [split for split, of_split in labels.items() for _ in range(len(of_split))]
    by_splits: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for index, earlier in repeated:
        by_splits.setdefault((split_of[index], split_of[earlier]), []).append((index, earlier))
    notes = []
    for (split, other), pairs in by_splits.items():
        differing = [(index, earlier) for index, earlier in pairs if every[index] != every[earlier]]
        if split != other:
            verb = "stands" if len(pairs) == 1 else "stand"
            but = f", {len(differing)} of them with another label" if differing else ""
            notes.append(f"{counted(len(pairs), f'{split} {what}')} {verb} in the {other} set too{but}: ")
        elif split == "training" and differing:
            pairs, verb = differing, "has" if len(differing) == 1 else "have"
            notes.append(f"{counted(len(pairs), f'training {what}')} {verb} another label than an equal one: ")
        else:
            continue
        notes[-1] += few([shown(*pair) if place < _SHOWN else "" for place, pair in enumerate(pairs)], _SHOWN)
    return notes


def label_column_note(column: str, labels: Tensor, names: Sequence[str], *, key: str = "label_column") -> str:
    """Returns what to say of a column of labels that was found: how many labels, and the most frequent ones.

    Args:
        column: Its name.
        labels: Labels [N] of the training examples.
        names: Names of the labels 0, 1, ...
        key: The key of `data` that names another column.
    """
    counts = np.bincount(labels.cpu().numpy(), minlength=len(names))
    most = np.argsort(-counts, kind="stable")[:_SHOWN]
    shown = ", ".join(f"{printable(names[label][:40])} {counts[label]:,}" for label in most)
    more = ", ..." if len(names) > len(most) else ""
    labels_of = f"labels are taken from column {printable(column)!r}: {len(names):,} labels"
    return f"{labels_of}, {shown}{more}; to take another: --set data.{key}=NAME"


class Reference(NamedTuple):
    """What a plain linear classifier reaches on the same inputs, beside which the networks stand.

    Attributes:
        name: What was trained.
        examples: Training examples that it was given.
        validation_error: Share of the validation examples that it gets wrong; None: there are none.
        test_error: The same of the test examples.
    """

    name: str
    examples: int
    validation_error: float | None
    test_error: float | None


def reference_errors(data: LabelledData) -> Reference | None:
    """Returns the errors of logistic regression (scikit-learn) on the inputs of a data set; a few seconds at most.

    Dense inputs are standardised, bags weighted by tf-idf, by the training examples. Of large data sets it is given the
    stratified beginning of the training examples that takes about a second for ten steps.

    Args:
        data: The data set of a run or a comparison.

    Returns:
        None where inputs are ids of tokens, which no linear classifier reads, or all examples have one label.
    """
    inputs = data.train.inputs
    if (isinstance(inputs, Tensor) and inputs.dtype == torch.int32) or len(set(data.train.labels.tolist())) < 2:
        return None
    import warnings

    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = inputs[0].numel() if isinstance(inputs, Tensor) else len(inputs.ids) // max(1, len(inputs))
    most = max(10 * data.num_labels, _REFERENCE_OPERATIONS // (max(1, numbers) * data.num_labels))
    order = stratified_order(data.train.labels, seed=0, purpose="train_rows")[:most]
    scaling = StandardScaler() if isinstance(inputs, Tensor) else TfidfTransformer()
    classifier = make_pipeline(scaling, LogisticRegression(C=1.0 if isinstance(inputs, Tensor) else 10.0))
    train = data.train.select(order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge to the last digit
        classifier.fit(_matrix(train.inputs), train.labels.numpy())

    def error(split: Split | None) -> float | None:
        if split is None or not len(split):
            return None
        return float((classifier.predict(_matrix(split.inputs)) != split.labels.cpu().numpy()).mean())

    return Reference("logistic regression", len(train), error(data.validation), error(data.test))


def _matrix(inputs: Tensor | SparseRows) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.cpu().flatten(1).float().numpy()
    from scipy.sparse import csr_matrix

    ids = inputs.ids.cpu().numpy()
    return csr_matrix((np.ones(len(ids), np.float32), ids, inputs.offsets.cpu().numpy()), shape=inputs.shape)
