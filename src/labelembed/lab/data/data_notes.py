"""What the user should know of a data set: labels of very unequal size, inputs that stand in two parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.lab.data.checks import few, printable

#: A largest label with more than so many times the examples of the smallest is told.
UNBALANCED_ABOVE = 3.0
_EXAMPLES = 5


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
        notes.append(f"{len(without)} of {len(names)} labels have no training example: {few(without, _EXAMPLES)}")
    largest = int(counts.argmax())
    smallest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    if counts[largest] > UNBALANCED_ABOVE * counts[smallest]:
        notes.append(
            f"unbalanced labels: {names[largest]} has {counts[largest]:,} training examples, {names[smallest]} has "
            f"{counts[smallest]:,} ({counts[largest] / counts[smallest]:.1f} times as many); the error is that of "
            "all examples together"
        )
    return notes


def repeated_pictures(*arrays: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Returns (index, earlier index) for every picture that is the same as an earlier one.

    Args:
        arrays: Pictures [N, ...] of one shape; indices run on from one array to the next.
    """
    starts = np.cumsum([0, *map(len, arrays)])

    def content(index: int) -> bytes:
        place = int(np.searchsorted(starts, index, side="right")) - 1
        picture: npt.NDArray[np.uint8] = arrays[place][index - starts[place]]
        return picture.tobytes()

    return repeated_texts(map(content, range(int(starts[-1]))), text_at=content)


def repeated_texts(texts: Iterable[str | bytes], *, text_at: Callable[[int], str | bytes]) -> list[tuple[int, int]]:
    """Returns (index, earlier index) for every text that is the same as an earlier one.

    Args:
        texts: Texts or contents, one after the other; only their hashes are kept, and who has the same is compared.
        text_at: Returns one of them again.
    """
    first: dict[int, int] = {}
    found = ((index, first.setdefault(hash(text), index), text) for index, text in enumerate(texts))
    return [(index, earlier) for index, earlier, text in found if earlier != index and text_at(earlier) == text]


def repeat_notes(
    repeated: Sequence[tuple[int, int]],
    *,
    labels: Mapping[str, Tensor],
    shown: Callable[[int, int], str],
    what: str = "picture",
) -> list[str]:
    """Returns what to say of equal inputs: those that stand in two parts, and training ones with several labels.

    Args:
        repeated: (index, earlier index) of equal inputs, the earlier one the first of its kind, over all parts in the
            order of `labels`, the training set first.
        labels: Labels [N] of each part, by its name in a sentence: `training`, `validation`, `test`.
        shown: Returns a pair as a person finds it again.
        what: What an input is called.
    """
    every = torch.cat(list(labels.values())).tolist()
    part_of = [part for part, found in labels.items() for _ in range(len(found))]
    notes = []
    by_parts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for pair in repeated:
        by_parts.setdefault((part_of[pair[0]], part_of[pair[1]]), []).append(pair)
    for (part, other), pairs in by_parts.items():
        differing = [pair for pair in pairs if every[pair[0]] != every[pair[1]]]
        if part == other:
            if part == "training" and differing:
                one = f"1 training {what} has another label than an equal one"
                many = f"{len(differing):,} training {what}s have another label than an equal one"
                notes.append(f"{one if len(differing) == 1 else many}: {_examples(differing, shown)}")
            continue
        one, many = f"1 {part} {what} stands", f"{len(pairs):,} {part} {what}s stand"
        but = f", {len(differing)} of them with another label" if differing else ""
        notes.append(f"{one if len(pairs) == 1 else many} in the {other} set too{but}: {_examples(pairs, shown)}")
    return notes


def _examples(pairs: Sequence[tuple[int, int]], shown: Callable[[int, int], str]) -> str:
    return few([shown(*pair) if place < _EXAMPLES else "" for place, pair in enumerate(pairs)], _EXAMPLES)


def label_column_note(column: str, labels: Tensor, names: Sequence[str], *, key: str = "label_column") -> str:
    """Returns what to say of a column of labels that was found: how many labels, and the most frequent ones.

    Args:
        column: Its name.
        labels: Labels [N] of the training examples.
        names: Names of the labels 0, 1, ...
        key: The key of `data` that names another column.
    """
    counts = np.bincount(labels.cpu().numpy(), minlength=len(names))
    most = np.argsort(-counts, kind="stable")[:_EXAMPLES]
    shown = ", ".join(f"{printable(names[label][:40])} {counts[label]:,}" for label in most)
    more = ", ..." if len(names) > len(most) else ""
    labels_of = f"labels are taken from column {printable(column)!r}: {len(names):,} labels"
    return f"{labels_of}, {shown}{more}; to take another: --set data.{key}=NAME"
