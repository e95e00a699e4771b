"""The handwritten digits that scikit-learn carries: 1,797 images of 8x8, at hand without a download."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from labelembed.data.batch import Split
from labelembed.data.dataset import RawData
from labelembed.data.splits import share_faults, with_test


def read_digits(*, test_fraction: float = 0.25) -> RawData:
    """Returns the digits as uint8 images [N, 1, 8, 8] with values of 0 to 16.

    The set has no test split of its own; one is cut off at random, stratified by label, and always the same.

    Args:
        test_fraction: Part of the 1,797 images that becomes the test set, between 0 and 1.

    Raises:
        ValueError: `test_fraction` is out of its range.
        DataError: `test_fraction` is so small or so large that one side would be empty.
    """
    share_faults(test_fraction).raise_if_any()
    from sklearn.datasets import load_digits  # costs a second to import

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(np.asarray(pixels, dtype=np.uint8).reshape(-1, 1, 8, 8))
    raw = RawData(
        train=Split(inputs, torch.from_numpy(np.asarray(labels, dtype=np.int64))),
        test=None,
        names=tuple(str(digit) for digit in range(10)),
        input_range=(0.0, 16.0),
        source="handwritten digits of scikit-learn",
    )
    return replace(with_test(raw, test_fraction, purpose="digits test"), notes=())
