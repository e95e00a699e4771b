"""The handwritten digits that scikit-learn carries: 1,797 images of 8x8, at hand without a download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from labelembed.errors import ArgumentErrors
from labelembed.lab.data.batch import Split
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.readers.arrays import ArrayReader
from labelembed.lab.data.splits import assigned, fraction_errors


@dataclass(frozen=True, kw_only=True)
class DigitsReader(ArrayReader):
    """The digits as uint8 images [N, 1, 8, 8] with values of 0 to 16.

    Args:
        test_fraction: Share of the 1,797 images that becomes the test set, between 0 and 1.
    """

    test_fraction: float = 0.25

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        return fraction_errors(self.test_fraction)

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set."""
        from sklearn.datasets import load_digits  # costs a second to import

        pixels, labels = load_digits(return_X_y=True)
        inputs = torch.from_numpy(np.asarray(pixels, dtype=np.uint8).reshape(-1, 1, 8, 8))
        every = {"train": Split(inputs, torch.from_numpy(np.asarray(labels, dtype=np.int64)))}
        source = "handwritten digits of scikit-learn"
        parts, _ = assigned(every, self.test_fraction, source=source, purpose="digits test")
        names = tuple(str(digit) for digit in range(10))
        return RawData(parts=parts, names=names, input_range=(0.0, 16.0), source=source)
