"""CIFAR as its authors publish it: the binary and the Python version, and pickles that want something else."""

from __future__ import annotations

import io
import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelembed.data import cifar, read_cifar
from labelembed.data.restricted_pickle import restricted_load
from labelembed.errors import DataError
from tests.made_pictures import (
    COARSE,
    FINE,
    TEN,
    made_cifar,
    python2_pickle,
    tar_of_zeros,
    write_cifar_binary,
    write_cifar_python,
    write_tar,
)

BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"


def expected(classes: int, labels: str = "fine"):
    """(pictures, labels) of training and test set."""
    made = list(made_cifar(classes).values())
    place = 1 if labels == "fine" else 2
    train = [np.concatenate([part[index] for part in made[:-1]]) for index in (0, place)]
    return train, [made[-1][0], made[-1][place]]


def assert_is(raw, classes, labels="fine"):
    for split, (pictures, numbers) in zip((raw.train, raw.test), expected(classes, labels), strict=True):
        np.testing.assert_array_equal(split.inputs.numpy(), pictures)
        assert split.labels.tolist() == numbers.tolist()


@pytest.mark.parametrize(
    "write",
    [
        write_cifar_binary,
        write_cifar_python,
        lambda folder, classes: write_cifar_python(folder, classes, protocol=2),
        lambda folder, classes: write_cifar_python(folder, classes, protocol=4),
        lambda folder, classes: write_cifar_python(folder, classes, protocol=5),
    ],
    ids=["binary", "python 2", "protocol 2", "protocol 4", "protocol 5"],
)
def test_every_version_is_the_same_data(tmp_path, write):
    write(tmp_path / "ten", 10)
    write(tmp_path / "hundred", 100)
    raw = read_cifar(path=str(tmp_path / "ten"))
    assert_is(raw, 10)
    assert raw.names == tuple(TEN)
    assert raw.train.inputs.shape == (20, 3, 32, 32)
    assert raw.input_range == (0.0, 255.0)
    assert raw.source.startswith("CIFAR-10, ")
    fine = read_cifar(path=str(tmp_path / "hundred"))
    assert_is(fine, 100)
    assert fine.names == tuple(FINE)
    coarse = read_cifar(path=str(tmp_path / "hundred"), labels="coarse")
    assert_is(coarse, 100, "coarse")
    assert coarse.names == tuple(COARSE)
    assert "the train set has 20 pictures; the published one has 50,000" in raw.notes


def test_folder_above_and_archive_as_downloaded(tmp_path):
    write_cifar_python(tmp_path / PYTHON, 10)
    assert_is(read_cifar(path=str(tmp_path)), 10)
    for name, mode in (("cifar-10-python.tar.gz", "w:gz"), ("plain.tar", "w")):
        file = write_tar(tmp_path / name, tmp_path / PYTHON, mode)
        before = sorted(tmp_path.rglob("*"))
        raw = read_cifar(path=str(file))
        assert_is(raw, 10)
        assert raw.names == tuple(TEN)
        assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked to the disk


def test_archive_that_is_none_or_unpacks_to_too_much(tmp_path, monkeypatch):
    file = tmp_path / "cifar.tar.gz"
    file.write_bytes(b"\x1f\x8b not gzip")
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: is no \.tar\.gz, cut off or damaged"):
        read_cifar(path=str(file))
    whole = write_tar(tmp_path / "whole.tar.gz", write_cifar_python(tmp_path / PYTHON, 10)).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut off|missing"):
        read_cifar(path=str(file))
    monkeypatch.setattr(cifar, "_MAXIMUM_BYTES", 100_000)
    with pytest.raises(DataError, match="unpacks to more than 100,000 bytes"):
        read_cifar(path=str(tar_of_zeros(tmp_path / "bomb.tar.gz", "train", 10**6)))


def test_duplicates_across_the_sets_are_told(tmp_path):
    folder = write_cifar_binary(tmp_path, 10)
    test, train = folder / "test_batch.bin", folder / "data_batch_2.bin"
    content = test.read_bytes()
    other = bytes([(train.read_bytes()[0] + 1) % 10])
    test.write_bytes(content[: 2 * 3073] + other + train.read_bytes()[1:3073] + content[3 * 3073 :])
    raw = read_cifar(path=str(folder))
    assert "1 test picture stands in the training set too, 1 of them with another label: test 2 = train 4" in raw.notes


def test_names_where_their_file_is_missing(tmp_path):
    ten, hundred = write_cifar_binary(tmp_path / "ten", 10), write_cifar_python(tmp_path / "hundred", 100)
    (ten / "batches.meta.txt").unlink()
    (hundred / "meta").unlink()
    assert read_cifar(path=str(ten)).names == tuple(TEN)
    raw = read_cifar(path=str(hundred))
    assert raw.names[:3] == ("0", "1", "2")
    assert "the file with the labels' names is missing: they are called by their numbers" in raw.notes


def test_faults_of_the_binary_version(tmp_path):
    folder = write_cifar_binary(tmp_path, 10)
    batch = folder / "data_batch_3.bin"
    content = batch.read_bytes()
    batch.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: expected records of 3,073 bytes, found 12,291 bytes"):
        read_cifar(path=str(folder))
    batch.write_bytes(content[: 2 * 3073] + b"\x0a" + content[2 * 3073 + 1 :])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: row 2 has the label 10; expected 0 to 9"):
        read_cifar(path=str(folder))
    batch.unlink()
    with pytest.raises(DataError, match=r"CIFAR-10, binary version: missing data_batch_3\.bin; fetch"):
        read_cifar(path=str(folder))
    batch.write_bytes(content)
    with pytest.raises(DataError, match="CIFAR-10 has no coarse labels"):
        read_cifar(path=str(folder), labels="coarse")


def test_places_that_hold_no_cifar(tmp_path):
    (tmp_path / "something.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no CIFAR files; expected data_batch_1\.bin.* found something\.txt"):
        read_cifar(path=str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        read_cifar(path=str(tmp_path / "nowhere"))
    with pytest.raises(
        ValueError, match=r"`labels` must be one of 'fine', 'coarse', got 'corse' .did you mean 'coarse'"
    ):
        read_cifar(path=str(tmp_path), labels="corse")


def test_faults_of_the_python_version(tmp_path):
    folder = write_cifar_python(tmp_path, 10)
    pictures = np.zeros((2, 3072), np.uint8)
    cases = [
        ({b"labels": [0, 1]}, "`data`: expected an array [N, 3072] of bytes, found NoneType"),
        ({b"data": pictures[:, :100], b"labels": [0, 1]}, "found an array [2, 100]"),
        ({b"data": pictures, b"labels": [0]}, "`labels`: expected 2 whole numbers, found 1 values"),
        ({b"data": pictures, b"labels": b"01"}, "`labels`: expected 2 whole numbers, found none"),
        ({b"data": pictures, b"labels": [0, b"1"]}, "`labels`: expected 2 whole numbers"),
        ({b"data": pictures, b"labels": [0, -1]}, "row 1 has the label -1; expected 0 to 9"),
    ]
    for values, reason in cases:
        (folder / "data_batch_1").write_bytes(python2_pickle(values))
        with pytest.raises(DataError, match=re.escape(reason)):
            read_cifar(path=str(folder))
    (folder / "data_batch_1").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="data_batch_1: expected a dictionary, found list"):
        read_cifar(path=str(folder))


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (getattr, "getattr"),
        (np.fromfile, "fromfile"),
        (io.open, "open"),
        (__import__, "__import__"),
    ],
)
def test_pickle_that_wants_more_is_refused_by_name_and_nothing_runs(tmp_path, function, name, protocol):
    mark = tmp_path / "ran"
    folder = write_cifar_python(tmp_path / "data", 10)
    evil = pickle.dumps({b"data": Evil(function, f"touch {mark}")}, protocol=protocol)
    for file in ("test_batch", "batches.meta"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(evil)
        with pytest.raises(DataError, match=rf"{file}: the pickle asks for \S*{name}, which no CIFAR file needs"):
            read_cifar(path=str(folder))
        (folder / file).write_bytes(whole)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02(cnumpy\ndtype\nU\x02u1K\x00K\x01\x87oq\x00.",  # OBJ
        b"\x80\x02(inumpy\nndarray\n.",  # INST
        b"\x80\x02Pname\n.",  # PERSID
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x8f(K\x01\x90.",  # a set
        b"\x80\x02cnumpy\ndtype\n}K\x01K\x02sb.",  # a state for a function
        b"\x80\x02cnumpy\ndtype\nN}K\x01K\x02s\x86b.",
        b"\x80\x02]r\xff\xff\xff\x7f.",  # the memo's place 2**31
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",  # a key that is hashed 100,000 deep
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",  # an array of objects
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00zip_c\x86R.",
        b"",
        b".",
        b"no pickle",
        b"\x80\x02B\xff\xff\xff\x7fab.",
    ],
)
def test_pickles_that_only_do_harm_are_refused(content):
    with pytest.raises(DataError, match=r"^there: "):
        restricted_load(content, "there")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_damaged_pickle_is_refused_or_read(junk, place, byte):
    whole = python2_pickle({b"data": np.zeros((1, 4), np.uint8), b"labels": [1], b"batch_label": b"x"})
    place %= len(whole)
    for content in (junk, whole[:place] + bytes([byte]) + whole[place + 1 :], whole[:place] + junk):
        try:
            restricted_load(content, "there")
        except DataError as error:
            message = str(error)
        else:
            continue
        assert message.startswith("there: ")
        assert len(message) < 300
