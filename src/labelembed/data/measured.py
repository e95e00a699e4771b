"""Data for a finished run to measure: labels numbered as the run has them, all examples where none name a test part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from labelembed.data.batch import Split
from labelembed.data.checks import printable
from labelembed.data.dataset import LabelledData, RawData
from labelembed.data.preparation import check_split, encoded
from labelembed.data.row_content import Encoding
from labelembed.errors import DataError

_SHOWN = 8


def renumbered(
    raw: RawData, names: Sequence[str], *, input_shape: tuple[int, ...], merge: bool | None = False
) -> RawData:
    """Returns data with the labels of a run: by name, or by number where the data name none.

    Args:
        raw: What a reader returned.
        names: Names of the labels that the run knows. The data may lack some.
        input_shape: Of one input of the run; grey pictures stand for coloured ones, as in training.
        merge: See `LabelReading`.

    Raises:
        DataError: Examples have labels that the run does not know; names them with their counts.
    """
    number = {name: place for place, name in enumerate(names)}
    folded = {_folded(name): place for name, place in number.items()} if merge else {}

    def place_of(label: int) -> int | None:
        if not raw.names:
            return label if label < len(names) else None
        name = raw.names[label]
        found = number.get(name if merge is False else name.strip(), number.get(name))
        return folded.get(_folded(name)) if found is None else found

    unknown: Counter[str] = Counter()
    parts: dict[str, Split] = {}
    for part, split in (("train", raw.train), ("validation", raw.validation), ("test", raw.test)):
        if split is None:
            continue
        labels, inverse, counts = np.unique(split.labels.numpy(), return_inverse=True, return_counts=True)
        places = [place_of(label) for label in labels.tolist()]
        for label, count, place in zip(labels.tolist(), counts.tolist(), places, strict=True):
            if place is None:
                unknown[raw.names[label] if raw.names else str(label)] += count
        inputs = split.inputs
        if inputs.dtype == torch.uint8 and inputs.shape[1] == 1 and input_shape == (3, *inputs.shape[2:]):
            inputs = inputs.expand(-1, 3, -1, -1)
        numbers = np.array([place or 0 for place in places], dtype=np.int64)
        parts[part] = Split(inputs, torch.from_numpy(numbers[inverse]))
    if unknown:
        told = [f"{printable(name[:60])} ({_examples(count)})" for name, count in unknown.most_common(_SHOWN)]
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        known = ", ".join(map(printable, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        raise DataError(
            f"{raw.source}: has labels that the run does not know: {', '.join(told)}{more}; its {len(names):,} "
            f"labels are {known}"
        )
    return replace(raw, names=tuple(names), **parts)  # type: ignore[arg-type]


def all_measured(raw: RawData, encoding: Encoding | None) -> LabelledData:
    """Returns data without parts with every example in the test set, and none to train on.

    Raises:
        DataError: There is no example, or one cannot be used.
    """
    check_split(raw.train, raw.source, tuple(raw.train.inputs.shape[1:]), len(raw.names))
    data = LabelledData(
        train=Split(raw.train.inputs[:0], raw.train.labels[:0]),
        validation=None,
        test=raw.train,
        names=raw.names,
        input_shape=tuple(raw.train.inputs.shape[1:]),
        input_range=raw.input_range or (0.0, 1.0),  # not used: the run scales by the range of its own training examples
        source=raw.source,
        notes=raw.notes,
        label_column=raw.label_column,
    )
    return data if raw.content is None else encoded(data, raw.content, encoding)


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count:,} examples"
