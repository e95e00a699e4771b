"""MNIST's idx files and CIFAR's pickles: every spelling is found, damage is named, and nothing in a pickle is run."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import CifarReader, MnistReader, prepare, read_idx
from labelembed.lab.data.published import load_pickle
from tests.made_data import idx_bytes, made_images, real_data_folder, write_idx, write_idx_folder
from tests.made_pictures import FINE, TEN, made_cifar, python2_pickle, write_cifar_python

SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(24,), (2, 3, 4)])
def test_an_idx_file_is_read_whatever_it_is_called(tmp_path, shape, zipped):
    array = SMALL.reshape(shape)
    np.testing.assert_array_equal(read_idx(write_idx(tmp_path / "any.name", array, zipped=zipped)), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x0a\x01" + bytes(8),
        b"\x00\x00\x08\xff" + bytes(2000),
        idx_bytes(SMALL)[:8],
        idx_bytes(SMALL)[:-1],
        idx_bytes(SMALL) + b"\n",
        idx_bytes(SMALL.astype(np.float32)),
        gzip.compress(idx_bytes(made_images(20)), mtime=0)[:-200],
        gzip.compress(b"no idx file", mtime=0),
    ],
    ids=range(9),
)
def test_a_damaged_idx_file_is_named(tmp_path, content):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: ")) as refused:
        read_idx(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "spelling", [{}, {"zipped": True}, {"dotted": True, "test_word": "test"}, {"prefix": "emnist-"}], ids=range(4)
)
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
    raw = MnistReader(path=str(write_idx_folder(tmp_path, train_labels=train, test_labels=test))).read()
    assert raw.names == ("3", "5", "19")
    assert (raw.train.labels[:3].tolist(), raw.test.labels[:3].tolist()) == ([0, 2, 1], [2, 1, 0])


def test_names_are_those_of_the_user_or_of_fashion_mnist(tmp_path):
    folder = str(write_idx_folder(tmp_path / "FashionMNIST" / "raw"))
    names = MnistReader(path=folder).read().names
    assert (names[0], names[9], len(names)) == ("T-shirt/top", "Ankle boot", 10)
    raw = MnistReader(path=folder, names={"T-shirt/top": "top", 77: "x"}).read()
    assert raw.names == ("top", *names[1:])
    assert "no label 77" in raw.notes[-1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_labels": np.arange(29, dtype=np.uint8) % 10}, "29"),
        ({"test_labels": np.array([1, 2, 3, 77, 4, 5, 6, 7, 8, 9], np.uint8)}, "77"),
        ({"train_labels": np.zeros(30, np.float32)}, "no idx file"),
        ({"test_images": np.zeros((10, 5, 4), np.uint8)}, "shape"),
        ({"train_images": np.zeros((30, 20), np.uint8)}, "30 x 20"),
    ],
)
def test_idx_files_that_do_not_go_together_are_refused(tmp_path, changes, expected):
    with pytest.raises(DataError, match=expected) as refused:
        prepare(MnistReader(path=str(write_idx_folder(tmp_path, **changes))).read(), validation=None)
    assert str(tmp_path) in str(refused.value)


def test_missing_idx_files_and_two_sets_in_a_folder_are_named(tmp_path):
    folder = write_idx_folder(tmp_path / "part")
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "a.bin")
    with pytest.raises(DataError, match=r"test_labels.*a\.bin"):
        MnistReader(path=str(folder)).read()
    with pytest.raises(DataError, match="nowhere"):
        MnistReader(path=str(tmp_path / "nowhere")).read()
    write_idx_folder(folder, prefix="emnist-")
    with pytest.raises(DataError, match="several data sets"):
        MnistReader(path=str(folder)).read()


def test_real_mnist_has_its_published_numbers():
    mnist = prepare(MnistReader(path=str(real_data_folder("mnist"))).read(), validation=None)
    assert (len(mnist.train), len(mnist.test), mnist.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean, deviation = mnist.input_statistics()
    # published to four places, of pixels scaled to [0, 1]
    assert [float(mean) / 255, float(deviation) / 255] == pytest.approx([0.1307, 0.3081], abs=5e-5)


# ---- CIFAR


@pytest.mark.parametrize("protocol", [None, 2, 4, 5], ids=["python 2", "protocol 2", "protocol 4", "protocol 5"])
@pytest.mark.parametrize(("classes", "names"), [(10, TEN), (100, FINE)])
def test_every_version_of_cifar_is_the_same_data(tmp_path, classes, names, protocol):
    raw = CifarReader(path=str(write_cifar_python(tmp_path, classes, protocol=protocol))).read()
    *train, test = made_cifar(classes).values()
    for split, batches in ((raw.train, train), (raw.test, [test])):
        np.testing.assert_array_equal(split.inputs.numpy(), np.concatenate([batch[0] for batch in batches]))
        assert split.labels.tolist() == np.concatenate([batch[1] for batch in batches]).tolist()
    assert (raw.names, raw.input_range) == (tuple(names), (0.0, 255.0))


def test_missing_files_of_cifar_are_named(tmp_path):
    folder = write_cifar_python(tmp_path / "ten", 10)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"CIFAR-10: missing data_batch_3"):
        CifarReader(path=str(folder)).read()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"data\.name=images"):
        CifarReader(path=str(tmp_path / "hub")).read()
    with pytest.raises(DataError, match="nowhere"):
        CifarReader(path=str(tmp_path / "nowhere")).read()


PICTURES = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    "values",
    [
        {b"labels": [0, 1]},
        {b"data": PICTURES},
        {b"data": PICTURES[:, :100], b"labels": [0, 1]},
        {b"data": PICTURES, b"labels": [0]},
        {b"data": PICTURES, b"labels": [0, b"one"]},
        {b"data": PICTURES, b"labels": [0, -1]},
        {b"data": PICTURES, b"labels": [0, 10]},
        [1, 2],
    ],
)
def test_damaged_batches_are_refused(tmp_path, values):
    folder = write_cifar_python(tmp_path, 10)
    content = python2_pickle(values) if isinstance(values, dict) else pickle.dumps(values)
    (folder / "data_batch_1").write_bytes(content)
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
    evil = pickle.dumps({b"data": Evil(function, f"touch {mark}")}, protocol=protocol)
    for file in ("test_batch", "batches.meta"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(evil)
        with pytest.raises(DataError, match=rf"{file}: .*asks for \S*{function.__name__}"):
            CifarReader(path=str(folder)).read()
        (folder / file).write_bytes(whole)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b".", b"no pickle", b"\x80\x02B\xff\xff\xff\x7fab.", b"\x80\x02Pname\n."])
def test_what_is_no_pickle_is_refused_with_the_file(tmp_path, content):
    (tmp_path / "there").write_bytes(content)
    with pytest.raises(DataError, match="there: "):
        load_pickle(tmp_path / "there")
