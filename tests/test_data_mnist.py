"""The idx format and folders of idx files: every spelling is found, every error has its message."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import LabelledData, MnistReader, prepare, read_idx
from tests.made_data import idx_bytes, made_images, real_data_folder, write_idx, write_idx_folder

SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_read_idx_returns_what_was_written(tmp_path, dtype, zipped):
    array = (np.arange(-12, 12).reshape(2, 3, 4) * 5).astype(dtype)
    # the name says nothing: the content does
    read = read_idx(write_idx(tmp_path / "any.name", array, zipped=zipped))
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def file_error(tmp_path, content: bytes) -> str:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_idx(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "begins with an empty file"),
        (b"\x00\x00", "is no idx file.* begins with 00 00$"),
        (b"\x89PNG\r\n", "is no idx file.*89 50 4e 47"),
        (b"\x00\x00\x0a\x01" + bytes(8), "is no idx file.*00 00 0a 01"),
        (b"\x00\x00\x08\x00" + bytes(8), "is no idx file.*00 00 08 00"),
        (b"\x00\x00\x08\xff" + bytes(2000), "is no idx file.*00 00 08 ff"),
        (idx_bytes(SMALL)[:9], "or cut off within its header"),
        (idx_bytes(SMALL)[:-1], r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off"),
        (idx_bytes(SMALL) + b"\n", "expected 24 bytes of values .* found 25; bytes follow the array"),
        (
            gzip.compress(idx_bytes(SMALL)[:-1]),
            r"expected 24 bytes of values \(2 x 3 x 4 of uint8\), found 23; the file is cut off",
        ),
        (gzip.compress(idx_bytes(SMALL) + b"\n"), "found 25; bytes follow the array"),
        (gzip.compress(idx_bytes(made_images(20)))[:-200], "the gzip is cut off or damaged"),
        (gzip.compress(b"no idx file"), "is no idx file"),
        (gzip.compress(b""), "begins with an empty file"),
    ],
    # Bytes with a time in them are no names: two test processes would name the tests differently.
    ids=range(14),
)
def test_read_idx_names_file_expected_and_found(tmp_path, content, expected):
    assert re.search(expected, file_error(tmp_path, content))


def test_read_idx_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: does not exist; expected an idx file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is a folder; expected an idx file"):
        read_idx(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        read_idx(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("test_word", ["t10k", "test"])
def test_read_idx_folder_finds_every_spelling(tmp_path, zipped, dotted, test_word):
    folder = write_idx_folder(tmp_path, zipped=zipped, dotted=dotted, test_word=test_word)
    raw = MnistReader(path=str(folder)).read()
    assert raw.train.inputs.shape == (30, 1, 4, 5)
    assert raw.train.inputs.dtype == torch.uint8
    np.testing.assert_array_equal(raw.train.inputs[:, 0].numpy(), made_images(30))
    np.testing.assert_array_equal(raw.test.inputs[:, 0].numpy(), made_images(10, seed=1))
    assert raw.train.labels.tolist() == [row % 10 for row in range(30)]
    assert raw.test.labels.tolist() == list(range(10))
    assert raw.names == tuple("0123456789")
    assert raw.input_range == (0.0, 255.0)
    assert str(folder) in raw.source


def test_read_idx_folder_prefix_and_labels_from_one(tmp_path):
    labels = {"train_labels": np.arange(30, dtype=np.uint8) % 26 + 1, "test_labels": np.arange(10, dtype=np.uint8) + 17}
    write_idx_folder(tmp_path, prefix="emnist-letters-", test_word="test", **labels)
    raw = MnistReader(path=str(tmp_path)).read()
    assert raw.names == tuple(str(value) for value in range(1, 27))
    assert raw.train.labels.min() == 0
    assert raw.test.labels.tolist() == list(range(16, 26))
    # a second set makes the folder ambiguous until one is chosen
    write_idx_folder(tmp_path, prefix="emnist-digits-", test_word="test")
    with pytest.raises(DataError, match=r"holds 2 data sets; choose one by `prefix`: emnist-digits, emnist-letters"):
        MnistReader(path=str(tmp_path)).read()
    assert len(MnistReader(path=str(tmp_path), prefix="emnist-digits").read().names) == 10
    with pytest.raises(DataError, match=r"unknown prefix 'emnist-leters' \(did you mean 'emnist-letters'\?\)"):
        MnistReader(path=str(tmp_path), prefix="emnist-leters").read()


def test_read_idx_folder_gaps_in_label_values_are_closed(tmp_path):
    train = np.array([3, 9, 5] * 10, dtype=np.uint8)
    test = np.array([9, 5, 3, 3, 3, 3, 3, 3, 3, 3], dtype=np.uint8)
    raw = MnistReader(path=str(write_idx_folder(tmp_path, train_labels=train, test_labels=test))).read()
    assert raw.names == ("3", "5", "9")
    assert raw.train.labels[:3].tolist() == [0, 2, 1]
    assert raw.test.labels[:3].tolist() == [2, 1, 0]


def test_read_idx_folder_fashion_names(tmp_path):
    for folder in ("fashion_mnist", "FashionMNIST/raw"):
        names = MnistReader(path=str(write_idx_folder(tmp_path / folder))).read().names
        assert (names[0], names[9], len(names)) == ("T-shirt/top", "Ankle boot", 10)
    plain = write_idx_folder(tmp_path / "plain")
    assert MnistReader(path=str(plain)).read().names[0] == "0"
    some = np.array([0, 2, 9] * 10, np.uint8)
    few = write_idx_folder(tmp_path / "fashion3", train_labels=some, test_labels=some[:10])
    assert MnistReader(path=str(few)).read().names == ("T-shirt/top", "Pullover", "Ankle boot")


def test_read_idx_folder_names_of_the_user(tmp_path):
    folder = str(write_idx_folder(tmp_path / "fashion"))
    names = [f"label {digit}" for digit in range(10)]
    assert MnistReader(path=folder, names=names).read().names == tuple(names)
    with pytest.raises(DataError, match="expected 10 names, one for each label found in training, got 9"):
        MnistReader(path=folder, names=names[:9]).read()
    with pytest.raises(DataError, match="labels 0 and 9 have the same name 'label 0'"):
        MnistReader(path=folder, names=[*names[:9], "label 0"]).read()
    with pytest.raises(DataError, match="the name of label 3 is empty"):
        MnistReader(path=folder, names=[*names[:3], " ", *names[4:]]).read()


@pytest.mark.parametrize(
    ("changes", "file", "expected"),
    [
        ({"train_labels": np.zeros(29, np.uint8)}, "train-labels-idx1-ubyte", "a label for each image, found 29"),
        ({"test_labels": np.array([1, 2, 3, 77, 4, 5, 6, 7, 8, 9], np.uint8)}, "", "no training example has: 77"),
        (
            {"train_labels": np.array([0] * 8 + [-1] + [1] * 21, np.int8)},
            "train-labels-idx1-ubyte",
            "row 8 has the label -1",
        ),
        ({"train_labels": np.zeros(30, np.float32)}, "train-labels-idx1-ubyte", "whole numbers"),
        ({"train_labels": np.zeros((30, 1), np.uint8)}, "train-labels-idx1-ubyte", "found 30 x 1"),
        ({"train_images": np.zeros((30, 20), np.uint8)}, "train-images-idx3-ubyte", "found 30 x 20 of uint8"),
        ({"test_images": np.zeros((10, 4, 5), np.float32)}, "t10k-images-idx3-ubyte", "of float32"),
        (
            {"test_images": np.zeros((10, 5, 4), np.uint8)},
            "t10k-images-idx3-ubyte",
            "images of 4 x 5 as in the training",
        ),
        ({"train_images": np.zeros((30, 0, 5), np.uint8)}, "train-images-idx3-ubyte", "one or more, found 30 x 0 x 5"),
    ],
)
def test_a_wrong_idx_file_is_named_with_what_was_expected(tmp_path, changes, file, expected):
    with pytest.raises(DataError, match=re.escape(expected)) as refused:
        MnistReader(path=str(write_idx_folder(tmp_path, **changes))).read()
    assert str(refused.value).startswith(str(tmp_path / file))


def test_missing_idx_files_are_listed(tmp_path):
    folder = write_idx_folder(tmp_path / "part")
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "a.bin")
    with pytest.raises(DataError, match=r"missing t10k-labels-idx1-ubyte .*; it holds a\.bin"):
        MnistReader(path=str(folder)).read()
    with pytest.raises(DataError, match="nowhere: expected the folder"):
        MnistReader(path=str(tmp_path / "nowhere")).read()


# ---- the real files


@pytest.fixture(scope="module")
def mnist() -> LabelledData:
    return prepare(MnistReader(path=str(real_data_folder("mnist"))).read(), validation=None)


def test_real_mnist_has_its_published_numbers(mnist):
    assert (len(mnist.train), len(mnist.test), mnist.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert mnist.names == tuple("0123456789")
    assert torch.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean, deviation = mnist.input_statistics()
    # published to four places, of pixels scaled to [0, 1]
    assert (mean / 255).tolist() == pytest.approx([0.1307], abs=5e-5)
    assert (deviation / 255).tolist() == pytest.approx([0.3081], abs=5e-5)
