"""Named arrays in an npz file or a folder of npy files: every error with array and row."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import DATA, ValidationSplit, VectorReader, prepare
from tests.made_data import made_arrays, write_arrays, write_parquet

ROWS = np.zeros((12, 5))


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def test_read_arrays_returns_what_was_written(tmp_path):
    arrays = made_arrays()
    raw = VectorReader(path=str(write_arrays(tmp_path / "data.npz"))).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), arrays["train_inputs"].astype(np.float32))
    np.testing.assert_array_equal(raw.test.inputs.numpy(), arrays["test_inputs"].astype(np.float32))
    assert raw.train.labels.tolist() == arrays["train_labels"].tolist()
    assert raw.test.labels.tolist() == arrays["test_labels"].tolist()
    assert raw.names == ("0", "1", "2")
    trained = arrays["train_inputs"].astype(np.float32)
    data = prepare(raw, validation=None, batch_size=12)
    assert data.input_range == (trained.min(), trained.max())
    assert data.input_shape == (5,)
    # nor do training examples take part that are held out, or left out
    for how in ({"validation": ValidationSplit(examples=3)}, {"validation": None, "train_examples": 6}):
        data = prepare(raw, **how)
        assert data.input_range == (data.train.inputs.min(), data.train.inputs.max())


def test_read_arrays_compressed_and_by_columns(tmp_path):
    arrays = made_arrays()
    arrays["train_inputs"] = np.asfortranarray(arrays["train_inputs"]).astype(">f8")
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    raw = DATA["vectors"](path=str(tmp_path / "data.npz")).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), made_arrays()["train_inputs"].astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "expected"), [((4,), (4,)), ((6, 5), (1, 6, 5)), ((3, 6, 5), (3, 6, 5)), ((3, 3, 3), (3, 3, 3))]
)
def test_read_arrays_shapes(tmp_path, shape, expected):
    inputs = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    raw = VectorReader(path=str(write_arrays(tmp_path / "d.npz", train_inputs=inputs, test_inputs=inputs[:6]))).read()
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.train.inputs.shape == (12, *expected)
    np.testing.assert_array_equal(raw.train.inputs.numpy().ravel(), inputs.ravel())
    assert raw.input_range == (0.0, 255.0)


def test_read_arrays_range_of_scaled_inputs(tmp_path):
    inputs = np.random.default_rng(0).uniform(0.2, 0.7, (12, 5))
    raw = VectorReader(path=str(write_arrays(tmp_path / "d.npz", train_inputs=inputs, test_inputs=inputs[:6]))).read()
    assert prepare(raw, validation=None).input_range == (0.0, 1.0)


@pytest.mark.parametrize("names", [np.array(["cat", "dög", "eel", "fly"]), np.array(["cat", "dog", "eel", "fly"], "S")])
def test_read_arrays_names_may_be_more_than_the_labels_that_occur(tmp_path, names):
    raw = VectorReader(path=str(write_arrays(tmp_path / "data.npz", names=names))).read()
    assert len(raw.names) == 4
    assert raw.names[0] == "cat"


def test_read_arrays_whole_floating_point_labels(tmp_path):
    raw = VectorReader(path=str(write_arrays(tmp_path / "d.npz", train_labels=np.arange(12) % 3 * 1.0))).read()
    assert raw.train.labels.tolist() == [row % 3 for row in range(12)]


FAULTS = {
    "strange name": (
        {"train_labels": None, "a\nb": ROWS},
        r"missing the arrays train_labels; it holds 'a\nb', test_inputs",
    ),
    "missing": (
        {"train_labels": None, "test_inputs": None},
        "missing the arrays train_labels, test_inputs; it holds test_labels, train_inputs",
    ),
    "misspelt": (
        {"train_inputs": None, "train_input": ROWS},
        "missing the arrays train_inputs (did you mean 'train_input'?)",
    ),
    "nan": (
        {"train_inputs": changed(ROWS, (7, 2), np.nan)},
        "train_inputs: row 7 has the value nan; expected finite numbers, so repair or drop that row",
    ),
    "infinite": ({"test_inputs": changed(ROWS[:6], (5, 0), -np.inf)}, "test_inputs: row 5 has the value -inf"),
    "too large": (
        {"train_inputs": changed(ROWS, (3, 0), 1e300)},
        "train_inputs: row 3 has a value too large for float32",
    ),
    "whole number inputs": (
        {"train_inputs": ROWS.astype(np.int64)},
        "train_inputs: expected uint8 or floating point, found int64; convert with .astype(np.float32)",
    ),
    "text inputs": ({"test_inputs": np.array(["a"] * 6)}, "test_inputs: expected uint8 or floating point, found <U1"),
    "flat inputs": ({"train_inputs": ROWS[:, 0]}, "expected [N, F], [N, H, W] or [N, C, H, W], found 12"),
    "no rows": (
        {"train_inputs": ROWS[:0], "train_labels": np.zeros(0, int)},
        "train_inputs: expected at least one row and one value, found 0 x 5",
    ),
    "no test rows": (
        {"test_inputs": ROWS[:0], "test_labels": np.zeros(0, int)},
        "test_inputs: expected at least one row and one value, found 0 x 5",
    ),
    "no features": ({"train_inputs": ROWS[:, :0]}, "at least one row and one value, found 12 x 0"),
    "channels last": (
        {"train_inputs": np.zeros((12, 8, 8, 3), np.uint8)},
        "12 x 8 x 8 x 3 looks like [N, H, W, C]; expected [N, C, H, W], so use .transpose(0, 3, 1, 2)",
    ),
    "other shape": (
        {"test_inputs": ROWS[:6, :4]},
        "test_inputs: expected rows of 5 float32 as in train_inputs, found 4 float32",
    ),
    "other dtype": (
        {"test_inputs": ROWS[:6].astype(np.uint8)},
        "test_inputs: expected rows of 5 float32 as in train_inputs, found 5 uint8",
    ),
    "constant": ({"train_inputs": ROWS + 7, "test_inputs": ROWS[:6] + 7}, "every value of the training inputs is 7.0"),
    "fewer labels": (
        {"train_labels": np.zeros(11, int)},
        "train_labels: expected 12 labels, one for each row of inputs, found 11",
    ),
    "one-hot": (
        {"train_labels": np.eye(3)[np.arange(12) % 3]},
        "train_labels: expected [N], found 12 x 3; for one-hot rows use .argmax(axis=1)",
    ),
    "negative": (
        {"test_labels": np.array([0, 1, -1, 0, 0, 0])},
        "test_labels: row 2 has the label -1; expected 0 or more",
    ),
    "no whole number": (
        {"train_labels": changed(np.zeros(12), 4, 1.5)},
        "train_labels: row 4 has the label 1.5; expected a whole number",
    ),
    "nan label": ({"train_labels": changed(np.zeros(12), 4, np.nan)}, "train_labels: row 4 has the label nan"),
    "text labels": (
        {"train_labels": np.array(["cat"] * 12)},
        "train_labels: expected whole numbers, found <U3; put texts into `names`",
    ),
    "label without a name": (
        {"names": np.array(["cat", "dog"])},
        "train_labels: row 2 has the label 2; expected 0 to 1, as there are 2 `names`",
    ),
    "new label in the test": (
        {"test_labels": np.array([0, 1, 2, 3, 0, 0])},
        "test_labels: row 3 has the label 3; expected 0 to 2, as the largest training label says",
    ),
    "identities for labels": (
        {"train_labels": changed(np.zeros(12, int), 9, 90210)},
        "train_labels: row 9 has the label 90210 though there are only 12 rows; number the labels from 0",
    ),
    "huge label": ({"train_labels": changed(np.zeros(12, int), 9, 2**40)}, "row 9 has the label 1099511627776"),
    "same names": ({"names": np.array(["cat", "dog", "cat"])}, "names: labels 0 and 2 have the same name 'cat'"),
    "empty name": ({"names": np.array(["cat", "", "eel"])}, "names: the name of label 1 is empty"),
    "numbers for names": ({"names": np.arange(3)}, "names: expected [C] of text, found 3 int64"),
    "not UTF-8": ({"names": np.array([b"cat", b"\xff", b"eel"])}, "names: expected UTF-8"),
    "objects": (
        {"names": np.array(["cat", None, "eel"], dtype=object)},
        "names: holds Python objects (pickle), which are never loaded",
    ),
    "records": ({"train_labels": np.zeros(12, [("a", "i4")])}, "train_labels: expected numbers, found [('a', '<i4')]"),
    "complex": ({"train_inputs": ROWS.astype(complex)}, "train_inputs: expected numbers, found complex128"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_read_arrays_names_file_array_row_and_expectation(tmp_path, case):
    changes, expected = FAULTS[case]
    path = write_arrays(tmp_path / "data.npz", **changes)
    with pytest.raises(DataError, match=re.escape(expected)) as raised:
        VectorReader(path=str(path)).read()
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_read_arrays_never_unpickles(tmp_path):
    trap = np.empty(12, dtype=object)
    trap[:] = [Trap()] * 12
    with pytest.raises(DataError, match="never loaded"):
        VectorReader(path=str(write_arrays(tmp_path / "data.npz", train_labels=trap))).read()
    path = tmp_path / "pickle.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="it is no zip archive"):
        VectorReader(path=str(path)).read()


def test_read_arrays_what_is_no_npz(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.npz: does not exist; expected an .npz file"):
        VectorReader(path=str(tmp_path / "nowhere.npz")).read()
    with pytest.raises(DataError, match=r"is a folder; expected an .npz file"):
        VectorReader(path=str(tmp_path)).read()
    for content in (b"", b"PK\x03\x04 and no more", b"\x93NUMPY"):
        path = tmp_path / "wrong.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="it is no zip archive or damaged"):
            VectorReader(path=str(path)).read()
    with zipfile.ZipFile(tmp_path / "texts.npz", "w") as archive:
        for name in made_arrays():
            archive.writestr(f"{name}.npy", "no array")
    with pytest.raises(DataError, match="train_inputs: no npy array, cut off or damaged"):
        VectorReader(path=str(tmp_path / "texts.npz")).read()


WHOLE = {"train_inputs": None, "train_labels": None, "test_inputs": None, "test_labels": None}


def write_npy_folder(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in made_arrays(**changes).items():
        np.save(folder / f"{name}.npy", array)
    return folder


def whole(rows: int = 50, labels: int = 5) -> dict[str, np.ndarray]:
    """Vectors that tell their row, and labels in turn."""
    inputs = np.arange(rows, dtype=np.float32)[:, None] * np.array([1.0, 100.0], np.float32)
    return WHOLE | {"inputs": inputs, "labels": np.arange(rows) % labels}


def test_folder_of_npy_files_is_as_the_npz_of_the_same_arrays(tmp_path):
    folder = VectorReader(path=str(write_npy_folder(tmp_path / "folder"))).read()
    one = VectorReader(path=str(write_arrays(tmp_path / "one.npz"))).read()
    for split in ("train", "test"):
        assert torch.equal(getattr(folder, split).inputs, getattr(one, split).inputs)
        assert torch.equal(getattr(folder, split).labels, getattr(one, split).labels)
    assert (folder.names, folder.input_range) == (one.names, one.input_range)
    assert folder.source == f"arrays in {tmp_path / 'folder'}"


def test_names_of_a_folder_come_from_either_file(tmp_path):
    folder = write_npy_folder(tmp_path)
    (folder / "names.txt").write_text("cat\ndög\neel\n", encoding="utf-8")
    assert VectorReader(path=str(folder)).read().names == ("cat", "dög", "eel")
    np.save(folder / "names.npy", np.array(["x", "y", "z", "more"]))
    assert VectorReader(path=str(folder)).read().names == ("x", "y", "z", "more")
    (folder / "names.npy").unlink()
    (folder / "names.txt").write_text("cat\ncat\neel\n")
    with pytest.raises(DataError, match="labels 0 and 1 have the same name 'cat'"):
        VectorReader(path=str(folder)).read()
    (folder / "names.txt").write_bytes(b"d\xf6g\n")
    with pytest.raises(DataError, match=r"names\.txt: expected UTF-8"):
        VectorReader(path=str(folder)).read()


def test_half_named_arrays_are_not_mixed(tmp_path):
    path = write_arrays(tmp_path / "b.npz", **whole() | {"train_inputs": np.ones((3, 2))})
    with pytest.raises(DataError, match="missing the arrays train_labels, test_inputs, test_labels"):
        VectorReader(path=str(path)).read()
    path = write_arrays(tmp_path / "c.npz", **whole() | {"labels": np.full(50, -1)})
    with pytest.raises(DataError, match=r"c\.npz: labels: row 0 has the label -1"):
        VectorReader(path=str(path), test_fraction=0.2).read()
    path = write_arrays(tmp_path / "d.npz", **whole() | {"names": np.array(["a", "b"])})
    with pytest.raises(DataError, match=r"d\.npz: labels: row 2 has the label 2; expected 0 to 1, as there are 2"):
        VectorReader(path=str(path), test_fraction=0.2).read()


@pytest.mark.parametrize("name", ["validation", "val", "dev"])
def test_validation_arrays_are_the_validation_set_and_the_test_set_where_there_is_no_other(tmp_path, name):
    validation = {f"{name}_inputs": np.full((4, 5), 50.0), f"{name}_labels": np.array([2, 1, 0, 2])}
    raw = VectorReader(path=str(write_arrays(tmp_path / "a.npz", **validation))).read()
    assert raw.validation.labels.tolist() == [2, 1, 0, 2]
    assert raw.validation.inputs.unique().tolist() == [50.0]
    data = prepare(raw, validation=ValidationSplit(examples=3))
    assert [len(split) for split in data.splits.values()] == [12, 4, 6]
    assert data.input_range[1] < 50
    folder = write_npy_folder(tmp_path / "b", **validation, test_inputs=None, test_labels=None)
    raw = VectorReader(path=str(folder)).read()
    assert (raw.validation, raw.test.labels.tolist()) == (None, [2, 1, 0, 2])
    assert raw.notes == ("no test set: the validation set takes its place",)
    np.save(folder / f"{name}_labels.npy", np.array([2, 1, 0, 3]))
    with pytest.raises(DataError, match="validation_labels: row 3 has the label 3; expected 0 to 2"):
        VectorReader(path=str(folder)).read()
    (folder / f"{name}_labels.npy").unlink()
    with pytest.raises(DataError, match=f"missing the arrays {name}_labels"):
        VectorReader(path=str(folder)).read()
    path = write_arrays(tmp_path / "c.npz", **validation, valid_inputs=np.ones((1, 5)))
    with pytest.raises(DataError, match="can be the validation set; keep one"):
        VectorReader(path=str(path)).read()


def test_parquet_is_read_too(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow: the extra `hub`")
    columns = {"vector": np.arange(20.0).reshape(10, 2).tolist(), "label": ["a", "b"] * 5}
    file = write_parquet(tmp_path / "train.parquet", **columns)
    raw = VectorReader(path=str(file), test_fraction=0.2).read()
    assert (len(raw.train), len(raw.test), raw.names) == (8, 2, ("a", "b"))
    assert torch.equal(VectorReader(path=str(file)).read().test.inputs, raw.test.inputs)
    write_parquet(tmp_path / "test.parquet", **columns)
    assert len(VectorReader(path=str(tmp_path)).read().test) == 10
