"""Named arrays in an npz file: what is read, and what is refused with array and row."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import VectorReader, prepare
from tests.made_data import made_arrays, write_arrays
from tests.made_hostile import Bomb, pickle_bomb

ROWS = np.zeros((12, 5))


def read(place):
    return VectorReader(path=str(place)).read()


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written_is_read(tmp_path, save):
    arrays = made_arrays()
    save(tmp_path / "data.npz", **arrays | {"train_inputs": np.asfortranarray(arrays["train_inputs"]).astype(">f8")})
    raw = read(tmp_path / "data.npz")
    for part in ("train", "test"):
        inputs, labels = arrays[f"{part}_inputs"].astype(np.float32), arrays[f"{part}_labels"]
        np.testing.assert_array_equal(raw.parts[part].inputs.numpy(), inputs)
        assert raw.parts[part].labels.tolist() == labels.tolist()
    assert raw.names == ("0", "1", "2")


def test_the_range_is_that_of_the_examples_that_are_trained_on(tmp_path):
    raw = read(write_arrays(tmp_path / "data.npz"))
    for how in ({"validation": None}, {"validation": {"examples": 3}}, {"train_examples": 6}):
        data = prepare(raw, **({"validation": None} | how))
        assert data.input_range == (data.train.inputs.min(), data.train.inputs.max())
    scaled = np.random.default_rng(0).uniform(0.2, 0.7, (12, 5))
    raw = read(write_arrays(tmp_path / "d.npz", train_inputs=scaled, test_inputs=scaled[:6]))
    assert prepare(raw, validation=None).input_range == (0.0, 1.0)


@pytest.mark.parametrize(("shape", "expected"), [((4,), (4,)), ((6, 5), (1, 6, 5)), ((3, 6, 5), (3, 6, 5))])
def test_pictures_without_a_channel_get_one(tmp_path, shape, expected):
    inputs = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    raw = read(write_arrays(tmp_path / "d.npz", train_inputs=inputs, test_inputs=inputs[:6]))
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.train.inputs.shape == (12, *expected)
    np.testing.assert_array_equal(raw.train.inputs.numpy().ravel(), inputs.ravel())
    assert raw.input_range == (0.0, 255.0)


def test_names_may_be_more_than_the_labels_that_occur_and_labels_whole_floating_point(tmp_path):
    names, labels = np.array(["cat", "dög", "eel", "fly"]), np.arange(12) % 3 * 1.0
    raw = read(write_arrays(tmp_path / "data.npz", names=names, train_labels=labels))
    assert raw.names == ("cat", "dög", "eel", "fly")
    assert raw.train.labels.tolist() == [row % 3 for row in range(12)]


FAULTS = {
    "missing": ({"train_labels": None, "a\nb": ROWS}, "missing the arrays train_labels"),
    "misspelt": ({"train_inputs": None, "train_input": ROWS}, "did you mean 'train_input'"),
    "nan": ({"train_inputs": changed(ROWS, (7, 2), np.nan)}, "train_inputs: row 7 has the value nan"),
    "too large": ({"train_inputs": changed(ROWS, (3, 0), 1e300)}, "train_inputs: row 3"),
    "whole numbers": ({"train_inputs": ROWS.astype(np.int64)}, "found int64"),
    "other dtype": ({"test_inputs": ROWS[:6].astype(np.uint8)}, "test_inputs: "),
    "fewer labels": ({"train_labels": np.zeros(11, int)}, "train_labels: expected 12"),
    "negative": ({"test_labels": np.array([0, 1, -1, 0, 0, 0])}, "test_labels: row 2 has the label -1"),
    "text labels": ({"train_labels": np.array(["cat"] * 12)}, "put texts into `names`"),
    "new in the test": ({"test_labels": np.array([0, 1, 2, 3, 0, 0])}, "the label 3"),
    "same names": ({"names": np.array(["cat", "dog", "cat"])}, "'cat'"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_used_is_named(tmp_path, case):
    changes, expected = FAULTS[case]
    path = write_arrays(tmp_path / "data.npz", **changes)
    with pytest.raises(DataError, match=re.escape(expected)) as raised:
        prepare(read(path), validation=None)
    assert str(path) in str(raised.value)


def test_nothing_is_unpickled_and_what_is_no_npz_is_refused(tmp_path):
    ran, trap = tmp_path / "ran", np.empty(12, dtype=object)
    trap[:] = [Bomb(ran)] * 12
    write_arrays(tmp_path / "objects.npz", train_labels=trap)
    for number, content in enumerate((pickle_bomb(ran), b"", b"PK\x03\x04 and no more", b"\x93NUMPY")):
        (tmp_path / f"{number}.npz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "texts.npz", "w") as archive:
        for name in made_arrays():
            archive.writestr(f"{name}.npy", "no array")
    for name in ("objects.npz", "0.npz", "1.npz", "2.npz", "3.npz", "texts.npz", "nowhere.npz"):
        with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
            read(tmp_path / name)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["validation", "val", "dev"])
def test_validation_arrays_are_the_validation_set(tmp_path, name):
    validation = {f"{name}_inputs": np.full((4, 5), 50.0), f"{name}_labels": np.array([2, 1, 0, 2])}
    raw = read(write_arrays(tmp_path / "a.npz", **validation))
    assert raw.validation.labels.tolist() == [2, 1, 0, 2]
    data = prepare(raw, validation={"examples": 3})
    assert [len(split) for split in data.splits.values()] == [12, 4, 6]
    assert data.input_range[1] < 50
    with pytest.raises(DataError, match="missing the arrays validation_labels"):
        read(write_arrays(tmp_path / "a.npz", **validation | {f"{name}_labels": None}))
