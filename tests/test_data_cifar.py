"""CIFAR as its authors publish it, and pickles that want something else."""

from __future__ import annotations

import io
import os
import pickle
import re

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import CifarReader
from labelembed.lab.data.published import load_pickle
from tests.made_pictures import (
    COARSE,
    FINE,
    TEN,
    made_cifar,
    python2_pickle,
    write_cifar_python,
)


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
        write_cifar_python,
        lambda folder, classes: write_cifar_python(folder, classes, protocol=2),
        lambda folder, classes: write_cifar_python(folder, classes, protocol=4),
        lambda folder, classes: write_cifar_python(folder, classes, protocol=5),
    ],
    ids=["python 2", "protocol 2", "protocol 4", "protocol 5"],
)
def test_every_version_is_the_same_data(tmp_path, write):
    write(tmp_path / "ten", 10)
    write(tmp_path / "hundred", 100)
    raw = CifarReader(path=str(tmp_path / "ten")).read()
    assert_is(raw, 10)
    assert raw.names == tuple(TEN)
    assert raw.train.inputs.shape == (20, 3, 32, 32)
    assert raw.input_range == (0.0, 255.0)
    assert raw.source.startswith("CIFAR-10, ")
    fine = CifarReader(path=str(tmp_path / "hundred")).read()
    assert_is(fine, 100)
    assert fine.names == tuple(FINE)
    coarse = CifarReader(path=str(tmp_path / "hundred"), labels="coarse").read()
    assert_is(coarse, 100, "coarse")
    assert coarse.names == tuple(COARSE)


def test_names_where_their_file_is_missing(tmp_path):
    ten, hundred = write_cifar_python(tmp_path / "ten", 10), write_cifar_python(tmp_path / "hundred", 100)
    (ten / "batches.meta").unlink()
    (hundred / "meta").unlink()
    assert CifarReader(path=str(ten)).read().names == tuple(TEN)
    raw = CifarReader(path=str(hundred)).read()
    assert raw.names[:3] == ("0", "1", "2")
    assert "the file with the labels' names is missing: they are called by their numbers" in raw.notes


def test_what_is_missing_or_not_there_is_named(tmp_path):
    folder = write_cifar_python(tmp_path, 10)
    with pytest.raises(DataError, match="CIFAR-10 has no coarse labels"):
        CifarReader(path=str(folder), labels="coarse").read()
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"CIFAR-10: missing data_batch_3; fetch"):
        CifarReader(path=str(folder)).read()


def test_places_that_hold_no_cifar(tmp_path):
    (tmp_path / "something.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no CIFAR files.* found something\.txt"):
        CifarReader(path=str(tmp_path)).read()
    with pytest.raises(DataError, match="nowhere: expected the folder"):
        CifarReader(path=str(tmp_path / "nowhere")).read()
    with pytest.raises(ValueError, match="`labels` must be one of"):
        CifarReader(path=str(tmp_path), labels="corse")


def test_damaged_batches_are_named(tmp_path):
    folder = write_cifar_python(tmp_path, 10)
    pictures = np.zeros((2, 3072), np.uint8)
    cases = [
        ({b"labels": [0, 1]}, "does not hold what a CIFAR batch does ('data')"),
        ({b"data": pictures}, "does not hold what a CIFAR batch does ('labels')"),
        ({b"data": pictures[:, :100], b"labels": [0, 1]}, "does not hold what a CIFAR batch does (cannot reshape"),
        ({b"data": pictures, b"labels": [0]}, "does not hold what a CIFAR batch does (cannot reshape"),
        ({b"data": pictures, b"labels": [0, b"one"]}, "does not hold what a CIFAR batch does"),
        ({b"data": pictures, b"labels": [0, -1]}, "row 1 has the label -1; expected 0 to 9"),
    ]
    for values, reason in cases:
        (folder / "data_batch_1").write_bytes(python2_pickle(values))
        with pytest.raises(DataError, match=re.escape(reason)):
            CifarReader(path=str(folder)).read()
    (folder / "data_batch_1").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="data_batch_1: expected a dictionary, found list"):
        CifarReader(path=str(folder)).read()


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
            CifarReader(path=str(folder)).read()
        (folder / file).write_bytes(whole)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b".", b"no pickle", b"\x80\x02B\xff\xff\xff\x7fab.", b"\x80\x02Pname\n."])
def test_what_is_no_pickle_is_refused_with_the_file(tmp_path, content):
    (tmp_path / "there").write_bytes(content)
    with pytest.raises(DataError, match="there: "):
        load_pickle(tmp_path / "there")


def test_parquet_files_are_left_to_the_reader_of_pictures(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"data\.name=images"):
        CifarReader(path=str(tmp_path)).read()
