"""What the user should know of a data set: labels of very unequal size, pictures that stand in training and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

#: A largest label with more than so many times the rows of the smallest is told.
UNBALANCED_ABOVE = 3.0
_EXAMPLES = 5


def balance_notes(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Returns a line where the training rows are spread very unevenly over the labels, and one for labels without any.

    Args:
        labels: Labels [N] of the training rows.
        names: Names of the labels 0, 1, ...
    """
    counts = np.bincount(labels.cpu().numpy(), minlength=len(names))
    notes = []
    without = [name for name, count in zip(names, counts, strict=False) if count == 0]
    if without:
        more = f" and {len(without) - _EXAMPLES} more" if len(without) > _EXAMPLES else ""
        notes.append(
            f"{len(without)} of {len(names)} labels have no training row: {', '.join(without[:_EXAMPLES])}{more}"
        )
    largest = int(counts.argmax())
    smallest = int(np.where(counts > 0, counts, counts.max()).argmin())
    if counts[largest] > UNBALANCED_ABOVE * counts[smallest]:
        notes.append(
            f"unbalanced labels: {names[largest]} has {counts[largest]:,} training rows, {names[smallest]} has "
            f"{counts[smallest]:,} ({counts[largest] / counts[smallest]:.1f} times as many); the error is that of "
            "all rows together"
        )
    return notes


def repeated_rows(*arrays: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Returns (row, earlier row) for every row that is the same as an earlier one.

    Args:
        arrays: Pictures [N, ...] of one shape; row numbers run on from one array to the next.
    """
    # Python's own hash of the bytes (64 bits) is much faster than SHA-256; who has the same is compared byte by byte.
    first: dict[int, list[int]] = {}
    repeated = []
    starts = np.cumsum([0, *map(len, arrays)])

    def picture_of(row: int) -> npt.NDArray[np.uint8]:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        picture: npt.NDArray[np.uint8] = arrays[place][row - starts[place]]
        return picture

    row = 0
    for array in arrays:
        for picture in array:
            alike = first.setdefault(hash(picture.tobytes()), [])
            earlier = next((other for other in alike if np.array_equal(picture_of(other), picture)), None)
            if earlier is None:
                alike.append(row)
            else:
                repeated.append((row, earlier))
            row += 1
    return repeated


def overlap_notes(
    repeated: Sequence[tuple[int, int]],
    *,
    train_labels: Tensor,
    test_labels: Tensor,
    name_of: Callable[[int], str],
) -> list[str]:
    """Returns a line where test pictures stand in the training set too: how many, and which.

    Args:
        repeated: What `repeated_rows` found in the training pictures followed by the test pictures.
        train_labels: Labels [N] of the training pictures.
        test_labels: Labels of the test pictures.
        name_of: How a row is called, in the same numbering.
    """
    count = len(train_labels)
    both = [(row, earlier) for row, earlier in repeated if earlier < count <= row]
    if not both:
        return []
    other = sum(int(test_labels[row - count]) != int(train_labels[earlier]) for row, earlier in both)
    differing = f", {other} of them with another label" if other else ""
    examples = ", ".join(f"{name_of(row)} = {name_of(earlier)}" for row, earlier in both[:_EXAMPLES])
    more = f" and {len(both) - _EXAMPLES:,} more" if len(both) > _EXAMPLES else ""
    pictures = "1 test picture stands" if len(both) == 1 else f"{len(both):,} test pictures stand"
    return [f"{pictures} in the training set too{differing}: {examples}{more}"]
