"""Data for a finished run to evaluate: labels matched to the run's by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from labelembed.errors import DataError
from labelembed.lab.data.checks import counted, few
from labelembed.lab.data.dataset import RawData


def renumbered(
    raw: RawData, names: Sequence[str], *, label_values: Sequence[str] = (), merge: bool | None = False
) -> RawData:
    """Returns data with the labels of a run: by name, or by number where the data name none.

    Args:
        raw: What a reader returned.
        names: Names of the labels that the run knows. The data may lack some.
        label_values: See `RawData`, of the run's data: a label is looked for among them first.
        merge: Whether labels that differ by case or spaces are one; None: spaces around a label are no part of it.

    Raises:
        DataError: Examples have labels that the run does not know; names them with their counts.
    """
    number = {name: place for spelt in (names, label_values) for place, name in enumerate(spelt)}
    folded = {_folded(name): place for name, place in number.items()} if merge else {}

    def place_of(label: int) -> int | None:
        if not raw.names:
            return label if label < len(names) else None
        name = raw.names[label]
        found = number.get(name if merge is False else name.strip(), number.get(name))
        return folded.get(_folded(name)) if found is None else found

    unknown: Counter[str] = Counter()
    parts = {}
    for part, examples in raw.parts.items():
        labels, inverse, counts = np.unique(examples.labels.numpy(), return_inverse=True, return_counts=True)
        places = [place_of(label) for label in labels.tolist()]
        for label, count, place in zip(labels.tolist(), counts.tolist(), places, strict=True):
            if place is None:
                unknown[raw.names[label] if raw.names else str(label)] += count
        numbers = np.array([place or 0 for place in places], dtype=np.int64)
        parts[part] = replace(examples, labels=torch.from_numpy(numbers[inverse]))
    if unknown:
        told = few([f"{name} ({counted(count, 'example')})" for name, count in unknown.most_common()])
        raise DataError(
            f"{raw.source}: has labels that the run does not know: {told}; its {len(names):,} labels are "
            f"{few(label_values or names)}"
        )
    return replace(raw, names=tuple(names), parts=parts)


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()
