"""The digits that scikit-learn carries."""

import pytest
import torch

from labelembed.data import DigitsReader, ValidationSplit, prepare
from labelembed.errors import DataError


def test_read_digits_is_the_published_set():
    raw = DigitsReader().read()
    assert (len(raw.train), len(raw.test)) == (1348, 449)
    assert raw.train.inputs.shape == (1348, 1, 8, 8)
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.names == tuple("0123456789")
    assert raw.input_range == (0.0, 16.0)
    together = torch.cat([raw.train.inputs, raw.test.inputs])
    assert (int(together.min()), int(together.max())) == (0, 16)
    # every image once: the sums over pixels and labels are those of the whole set
    from sklearn.datasets import load_digits

    whole = load_digits()
    assert together.sum() == whole.data.sum()
    counts = torch.bincount(raw.train.labels) + torch.bincount(raw.test.labels)
    assert counts.tolist() == torch.bincount(torch.from_numpy(whole.target)).tolist()
    # labels stand beside their own images
    of_image = {image.tobytes(): int(label) for image, label in zip(whole.data, whole.target, strict=True)}
    for split in (raw.train, raw.test):
        for image, label in zip(split.inputs.double().flatten(1).numpy(), split.labels.tolist(), strict=True):
            assert of_image[image.tobytes()] == label


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_read_digits_refuses_a_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="`test_fraction` must be a number between 0 and 1, both excluded, got"):
        DigitsReader(test_fraction=fraction).read()


@pytest.mark.parametrize(("fraction", "side"), [(1e-5, "test"), (0.9999, "training")])
def test_read_digits_refuses_an_empty_side(fraction, side):
    with pytest.raises(DataError, match=f"of 1,797 examples leaves an empty {side} set"):
        DigitsReader(test_fraction=fraction).read()


def test_read_digits_prepared():
    data = prepare(DigitsReader(test_fraction=0.2).read(), validation=ValidationSplit(fraction=0.1), batch_size=64)
    assert [len(split) for split in data.splits.values()] == [1294, 144, 359]
    assert data.input_shape == (1, 8, 8)
