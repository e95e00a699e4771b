"""What a reader returns (`RawData`) and what a run trains on (`LabelledData`)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import counted, few
from labelembed.lab.data.encoder import Encoder, IdentityEncoder

# Elements turned to float64 at a time (8 MiB), so that statistics need no float copy of the data.
_CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class RawData:
    """A data set as a reader found it, before validation examples are held out and inputs are made.

    Attributes:
        parts: The examples of `train` and, where there are such, of `validation` and `test`.
        names: Names of the labels 0, 1, ...; none: arrays to evaluate whose labels have numbers only.
        input_range: Smallest and largest value an input can have; None: the encoder learns it.
        source: Where the data came from, for messages and reports.
        notes: What the user should know of the data, one line each.
        label_column: The column of the labels; None: not of a table.
        new_encoder: Makes the encoder that turns examples into inputs.
    """

    parts: Mapping[str, Examples]
    names: tuple[str, ...]
    input_range: tuple[float, float] | None = None
    source: str
    notes: tuple[str, ...] = ()
    label_column: str | None = None
    new_encoder: Callable[[], Encoder] = IdentityEncoder

    @property
    def train(self) -> Examples:
        """The training examples."""
        return self.parts["train"]

    @property
    def validation(self) -> Examples | None:
        """The validation set that the data bring."""
        return self.parts.get("validation")

    @property
    def test(self) -> Examples | None:
        """The test examples."""
        return self.parts.get("test")

    def renamed(self, names: Mapping[str | int, str] | None) -> RawData:
        """Returns the data with the user's own name for each label that `names` has one for."""
        own = {str(label): name for label, name in (names or {}).items()}
        unknown = sorted(own.keys() - set(self.names))
        notes = [f"data.names: the data have no label {few(unknown)}"] if unknown else []
        return replace(self, names=tuple(own.get(name, name) for name in self.names), notes=(*self.notes, *notes))


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledData:
    """A data set ready for training; see `prepare`.

    Attributes:
        train, validation, test: The splits; a batch's indices are positions in them.
        names, source, notes, label_column: As those of `RawData`.
        input_shape: Shape of one input: (channels, height, width), or (features,).
        input_range: Smallest and largest value that an input can have, or that those of training have.
        encoder: The encoder that made the inputs, fitted on the training examples.
        texts: An example as a person reads it, by the split's name and the index; None where only inputs are known.
        images: The same of pictures: [3, H, W] of bytes, small.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    names: tuple[str, ...]
    input_shape: tuple[int, ...]
    input_range: tuple[float, float]
    source: str
    notes: tuple[str, ...] = ()
    encoder: Encoder = field(default_factory=IdentityEncoder)
    texts: Callable[[str, int], str] | None = None
    images: Callable[[str, int], Tensor] | None = None
    label_column: str | None = None

    @property
    def num_labels(self) -> int:
        """Number of labels, those included that no example has."""
        return len(self.names)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def to(self, device: torch.device | str) -> LabelledData:
        """Returns this data with every split on `device`."""
        return replace(self, **{name: split.to(device) for name, split in self.splits.items()})  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """Returns the SHA-256 (64 hexadecimal digits) of inputs, labels, names, and words behind ids of each split."""
        digest = hashlib.sha256(json.dumps(self.names).encode())
        if self.encoder.vocabulary:
            digest.update(json.dumps(self.encoder.vocabulary).encode())
        for name, split in self.splits.items():
            inputs = split.inputs
            tensors = (inputs,) if isinstance(inputs, Tensor) else (inputs.ids, inputs.offsets)
            for tensor in (*tensors, split.labels):
                array = np.ascontiguousarray(tensor.cpu().numpy())
                # the heading keeps two arrays from passing for one, or [2, 3] for [3, 2]
                digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
                digest.update(array.data)
        return digest.hexdigest()

    def input_statistics(self) -> tuple[Tensor, Tensor]:
        """Returns mean [C] and standard deviation [C] of the training inputs, float32; 1 for a constant channel.

        C is the first entry of `input_shape`: the channels of images, or each feature on its own.
        """
        inputs = self.train.inputs
        assert isinstance(inputs, Tensor)  # ids of words have no mean
        channels = inputs.shape[1]

        def mean_of(function: Callable[[Tensor], Tensor]) -> Tensor:
            total = torch.zeros(channels, dtype=torch.float64)
            for chunk in torch.split(inputs, max(1, _CHUNK_ELEMENTS // inputs[0].numel())):
                total += function(chunk.cpu().to(torch.float64).transpose(0, 1).reshape(channels, -1)).sum(dim=1)
            return total / (inputs.numel() / channels)

        mean = mean_of(lambda values: values)
        deviation = mean_of(lambda values: (values - mean[:, None]).square()).sqrt()
        deviation[deviation == 0] = 1.0
        return mean.to(torch.float32), deviation.to(torch.float32)


def renumbered(raw: RawData, names: Sequence[str]) -> RawData:
    """Returns data to evaluate with the labels of a finished run: by name, or by number where the data name none.

    Spaces around a name do not count. Raises DataError where the data have labels other than `names`, the run's.
    """
    known, theirs = {name: label for label, name in enumerate(names)}, raw.names
    if not theirs:
        theirs = tuple(str(label) for label in range(1 + max(int(part.labels.max()) for part in raw.parts.values())))
        known = {str(label): label for label in range(len(names))}
    number = torch.tensor([known.get(name, known.get(name.strip(), -1)) for name in theirs])
    labels = torch.cat([part.labels for part in raw.parts.values()])
    unknown = Counter(theirs[label] for label in labels[number[labels] < 0].sort().values.tolist())
    if unknown:
        shown = few([f"{name} ({counted(count, 'example')})" for name, count in unknown.most_common()])
        raise DataError(f"{raw.source}: has labels that the run does not know: {shown}; it knows {few(names)}")
    parts = {name: replace(part, labels=number[part.labels]) for name, part in raw.parts.items()}
    return replace(raw, names=tuple(names), parts=parts)
