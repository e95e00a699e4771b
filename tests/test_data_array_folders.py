"""Arrays in a folder of npy files, arrays without a test set, and parquet by way of the same reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from labelembed.data import ValidationSplit, VectorReader, prepare
from labelembed.errors import DataError
from tests.made_data import made_arrays, write_arrays, write_parquet

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


def test_faults_of_a_folder_name_the_file(tmp_path):
    folder = write_npy_folder(tmp_path, test_labels=None)
    np.save(folder / "test_label.npy", np.zeros(6, int))
    with pytest.raises(DataError, match=r"missing the arrays test_labels \(did you mean 'test_label'\?\); it holds"):
        VectorReader(path=str(folder)).read()
    np.save(folder / "test_labels.npy", np.arange(6) % 3)
    whole_file = (folder / "train_inputs.npy").read_bytes()
    (folder / "train_inputs.npy").write_bytes(whole_file[:-8])
    with pytest.raises(DataError, match=r"train_inputs\.npy: no npy array, cut off or damaged"):
        VectorReader(path=str(folder)).read()
    np.save(folder / "train_inputs.npy", np.array([{"a": 1}] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"train_inputs\.npy: holds Python objects \(pickle\), which are never loaded"):
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
    data = prepare(raw, validation=ValidationSplit(rows=3))
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
