"""The digits that scikit-learn carries."""

import torch

from labelembed.lab.data import DigitsReader


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
