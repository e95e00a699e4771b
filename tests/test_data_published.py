"""MNIST's idx files, CIFAR's pickles, the digits: every spelling is found, damage is named, and no pickle is run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labelembed.errors import DataError
from labelembed.lab.data import CifarReader, DigitsReader, MnistReader, prepare, read_idx
from tests.made_data import idx_bytes, made_images, real_data_folder, write_idx_folder
from tests.made_pictures import FINE, TEN, made_cifar, python2_pickle, write_cifar_python

SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_a_damaged_idx_file_is_named(tmp_path):
    whole, path = idx_bytes(SMALL), tmp_path / "images-idx3-ubyte"
    damaged = [b"", b"\x00\x00\x0a\x01" + bytes(8), b"\x00\x00\x08\xff" + bytes(2000), whole[:8], whole[:-1]]
    damaged += [gzip.compress(idx_bytes(made_images(20)), mtime=0)[:-200], gzip.compress(b"no idx file", mtime=0)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{path}: ")):
            read_idx(path)


@pytest.mark.parametrize("spelling", [{}, {"zipped": True}, {"dotted": True, "test_word": "test"}], ids=range(3))
def test_every_spelling_of_the_four_files_is_found(tmp_path, spelling):
    raw = MnistReader(path=str(write_idx_folder(tmp_path, **spelling))).read()
    np.testing.assert_array_equal(raw.train.inputs[:, 0].numpy(), made_images(30))
    np.testing.assert_array_equal(raw.test.inputs[:, 0].numpy(), made_images(10, seed=1))
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.train.labels.tolist() == [row % 10 for row in range(30)]
    assert raw.test.labels.tolist() == list(range(10))
    assert (raw.names, raw.input_range) == (tuple("0123456789"), (0.0, 255.0))


def test_values_of_the_labels_are_names_and_gaps_between_them_closed(tmp_path):
    train = np.array([3, 19, 5] * 10, dtype=np.uint8)
    test = np.array([19, 5, 3, 3, 3, 3, 3, 3, 3, 3], dtype=np.uint8)
    folder = str(write_idx_folder(tmp_path, train_labels=train, test_labels=test))
    raw = MnistReader(path=folder).read()
    assert raw.names == ("3", "5", "19")
    assert (raw.train.labels[:3].tolist(), raw.test.labels[:3].tolist()) == ([0, 2, 1], [2, 1, 0])
    assert MnistReader(path=folder, names={"3": "a", "19": "b"}).read().names == ("a", "5", "b")


def test_real_mnist_has_its_published_numbers():
    mnist = prepare(MnistReader(path=str(real_data_folder("mnist"))).read(), validation=None)
    assert (len(mnist.train), len(mnist.test), mnist.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean, deviation = mnist.input_statistics()
    # published to four places, of pixels scaled to [0, 1]
    assert [float(mean) / 255, float(deviation) / 255] == pytest.approx([0.1307, 0.3081], abs=5e-5)


@pytest.mark.parametrize(("classes", "names"), [(10, TEN), (100, FINE)])
def test_cifar_is_what_its_files_hold(tmp_path, classes, names):
    raw = CifarReader(path=str(write_cifar_python(tmp_path, classes))).read()
    *train, test = made_cifar(classes).values()
    for split, batches in ((raw.train, train), (raw.test, [test])):
        np.testing.assert_array_equal(split.inputs.numpy(), np.concatenate([batch[0] for batch in batches]))
        assert split.labels.tolist() == np.concatenate([batch[1] for batch in batches]).tolist()
    assert (raw.names, raw.input_range) == (tuple(names), (0.0, 255.0))


PICTURES = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    "values",
    [
        {b"labels": [0, 1]},
        {b"data": PICTURES},
        {b"data": PICTURES, b"labels": [0]},
        {b"data": PICTURES, b"labels": [0, b"one"]},
        {b"data": PICTURES, b"labels": [0, 10]},
        b"",
        b"no pickle",
        b"\x80\x02Pname\n.",
        pickle.dumps([1, 2]),
    ],
    ids=range(9),
)
def test_damaged_batches_are_refused(tmp_path, values):
    folder = write_cifar_python(tmp_path, 10)
    (folder / "data_batch_1").write_bytes(values if isinstance(values, bytes) else python2_pickle(values))
    with pytest.raises(DataError, match=re.escape(str(folder))):
        prepare(CifarReader(path=str(folder)).read(), validation=None)


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, getattr, np.fromfile, io.open, __import__])
def test_a_pickle_that_wants_more_is_refused_by_name_and_nothing_runs(tmp_path, function, protocol):
    mark = tmp_path / "ran"
    folder = write_cifar_python(tmp_path / "data", 10)
    (folder / "batches.meta").write_bytes(pickle.dumps({"data": Evil(function, f"touch {mark}")}, protocol=protocol))
    with pytest.raises(DataError, match=rf"batches.meta: .*asks for \S*{function.__name__}"):
        CifarReader(path=str(folder)).read()
    assert not mark.exists()


def test_read_digits_is_the_published_set_with_every_label_beside_its_own_image():
    raw = DigitsReader().read()
    assert [(len(part), tuple(part.inputs.shape[1:])) for part in (raw.train, raw.test)] == [
        (1348, (1, 8, 8)),
        (449, (1, 8, 8)),
    ]
    assert (raw.names, raw.input_range) == (tuple("0123456789"), (0.0, 16.0))
    whole = load_digits()
    published = sorted((image.tobytes(), int(label)) for image, label in zip(whole.data, whole.target, strict=True))
    read = [
        (image.tobytes(), label)
        for part in (raw.train, raw.test)
        for image, label in zip(part.inputs.double().flatten(1).numpy(), part.labels.tolist(), strict=True)
    ]
    assert sorted(read) == published
