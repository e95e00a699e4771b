"""Folders of parquet files: pictures and vectors, every error with its file and row."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import DATA, ParquetReader, prepare
from labelembed.lab.data.detect import detect
from tests.made_data import (
    made_colours,
    made_images,
    picture_bytes,
    real_data_folder,
    write_parquet,
    write_picture_folder,
)
from tests.made_texts import write_saved

pytest.importorskip("pyarrow", reason="parquet files need pyarrow: the extra `hub`")


def vectors(folder: Path, train=None, test=None, **columns) -> Path:
    """Writes train.parquet and test.parquet of 6 and 2 vectors of 3 numbers with labels of text."""
    train = np.arange(18, dtype=np.float32).reshape(6, 3).tolist() if train is None else train
    test = np.ones((2, 3), dtype=np.float32).tolist() if test is None else test
    labels = {"train": ["b", "a", "c"] * 2, "test": ["c", "a"]}
    write_parquet(folder / "train.parquet", vector=train, label=labels["train"][: len(train)], **columns)
    write_parquet(folder / "test.parquet", vector=test, label=labels["test"][: len(test)])
    return folder


# ---------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_pictures_come_as_they_are_stored(tmp_path, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    folder = write_picture_folder(tmp_path, kind=kind, **options)
    raw = ParquetReader(path=str(folder)).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), made_colours(7).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(raw.test.inputs.numpy(), made_colours(4, seed=1).transpose(0, 3, 1, 2))
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert raw.names == ("cat", "dog")
    assert raw.input_range == (0.0, 255.0)
    assert raw.source == f"parquet files in {folder}"
    assert prepare(raw, validation=None).input_shape == (3, 16, 16)


def test_pictures_have_one_channel_or_three_as_the_training_pictures(tmp_path):
    grey = made_images(7, height=16, width=16)
    raw = ParquetReader(path=str(write_picture_folder(tmp_path / "grey", train=grey, test=grey[:4]))).read()
    np.testing.assert_array_equal(raw.train.inputs[:, 0].numpy(), grey)
    assert raw.train.inputs.shape == (7, 1, 16, 16)
    raw = ParquetReader(path=str(write_picture_folder(tmp_path / "grey train", train=grey))).read()
    np.testing.assert_array_equal(raw.train.inputs[:, 0].numpy(), grey)
    luminance = made_colours(4, seed=1) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(raw.test.inputs[:, 0].numpy(), luminance, atol=0.51)
    assert raw.notes == ("pictures converted: colours made grey: 4 (of 11)",)
    raw = ParquetReader(path=str(write_picture_folder(tmp_path / "grey test", test=grey[:4]))).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), made_colours(7).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(raw.test.inputs.numpy(), np.repeat(grey[:4, None], 3, axis=1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture_bytes(made_colours(1)[0])[:200], "cut off or damaged"),
        (b"no picture", "no picture whatever its name says"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture whatever its name says"),
        (b"", "has no picture in it"),
        (None, "has no picture in it"),
        (
            picture_bytes(made_colours(1, size=17)[0]),
            r"the pictures have 2 sizes.* \(16 x 16\) .* \(17 x 17\); bring",
        ),
    ],
)
def test_picture_that_cannot_be_used_is_named(tmp_path, content, reason):
    contents = [picture_bytes(picture) for picture in made_colours(3)]
    write_parquet(tmp_path / "train.parquet", img=[*contents[:2], content], label=[0, 1, 0])
    write_parquet(tmp_path / "test.parquet", img=contents, label=[0, 1, 0])
    with pytest.raises(DataError, match=reason) as raised:
        ParquetReader(path=str(tmp_path)).read()
    assert "train.parquet row 2" in str(raised.value)


def test_pictures_of_several_sizes_and_damaged_ones_are_read_as_those_of_a_folder(tmp_path):
    contents = [picture_bytes(made_colours(1, size=size, seed=size)[0]) for size in (16, 20, 30, 24)] * 3
    contents[5] = b"no picture"
    write_parquet(tmp_path / "train.parquet", img=contents, label=[0, 1] * 6)
    raw = ParquetReader(
        path=str(tmp_path), image_size="auto", fit="pad", skip_unreadable=True, test_fraction=0.25
    ).read()
    assert raw.train.inputs.shape[1:] == (3, 24, 24)
    assert len(raw.train) + len(raw.test) == 11
    assert any(note.startswith("pictures become 24 x 24") for note in raw.notes)
    assert any(note.startswith("unreadable pictures left out: 1 of 12: train.parquet row 5") for note in raw.notes)
    assert any("in the training set too" in note for note in raw.notes)


# ------------------------------------------------------------------------------------------------------ labels


def test_label_column_is_the_first_with_class_names_or_the_one_asked_for(tmp_path):
    contents = [picture_bytes(picture) for picture in made_colours(4)]
    names = {"fine_label": ["oak", "rose", "ant"], "coarse_label": ["plant", "animal"]}
    for split in ("train", "test"):
        columns = {"img": contents, "fine_label": [0, 1, 2, 2], "coarse_label": [0, 0, 1, 1]}
        write_parquet(tmp_path / f"{split}.parquet", class_names=names, **columns)
    assert ParquetReader(path=str(tmp_path)).read().names == ("oak", "rose", "ant")
    coarse = ParquetReader(path=str(tmp_path), labels="coarse_label").read()
    assert (coarse.names, coarse.train.labels.tolist()) == (("plant", "animal"), [0, 0, 1, 1])
    assert ParquetReader(path=str(tmp_path), names=["x", "y", "z"]).read().names == ("x", "y", "z")
    with pytest.raises(DataError, match="expected 3 names, one for each label"):
        ParquetReader(path=str(tmp_path), names=["x"]).read()
    with pytest.raises(
        DataError, match=r"no column 'coarse_labl' \(did you mean 'coarse_label'\?\); there are: fine_label"
    ):
        ParquetReader(path=str(tmp_path), labels="coarse_labl").read()
    with pytest.raises(DataError, match="`labels`: column 'img' holds bytes; texts or numbers are read"):
        ParquetReader(path=str(tmp_path), labels="img").read()
    with pytest.raises(DataError, match="`inputs`: 'fine_label' is no column that holds pictures"):
        ParquetReader(path=str(tmp_path), inputs="fine_label").read()


def test_labels_without_class_names_are_numbered_in_order(tmp_path):
    raw = DATA["parquet"](path=str(vectors(tmp_path))).read()
    assert raw.names == ("a", "b", "c")
    assert raw.train.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert raw.test.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 1, 2], "row 2 has the label 2; the file names labels 0 to 1"),
        ([0, -1, 1], "column 'label' has no label in 1 of 3 examples (row 1)"),
        ([0, 1, None], "column 'label' has no label in 1 of 3 examples (row 2)"),
    ],
)
def test_label_out_of_range_is_named(tmp_path, labels, reason):
    rows = np.ones((3, 2)).tolist()
    write_parquet(tmp_path / "train.parquet", vector=rows, label=[0, 1, 1], class_names={"label": ["x", "y"]})
    write_parquet(tmp_path / "test.parquet", vector=rows, label=labels, class_names={"label": ["x", "y"]})
    with pytest.raises(DataError, match=re.escape(f"test.parquet: {reason}")):
        ParquetReader(path=str(tmp_path)).read()


def test_label_that_training_lacks_and_unclear_columns(tmp_path):
    vectors(tmp_path / "a", test=[[1.0, 2.0, 3.0]])
    write_parquet(tmp_path / "a" / "test.parquet", vector=[[1.0, 2.0, 3.0]], label=["d"])
    with pytest.raises(
        DataError, match="has labels in the test set that no training example has: d; the training set has a, b, c"
    ):
        ParquetReader(path=str(tmp_path / "a")).read()
    write_parquet(tmp_path / "b.parquet", vector=[[1.0]], one=[1], two=[2])
    with pytest.raises(DataError, match=r"labels is unclear; name it: --set data.labels=NAME\n  one \(1 value"):
        ParquetReader(path=str(tmp_path / "b.parquet")).read()
    write_parquet(tmp_path / "c.parquet", vector=[[1.0]], other=[[2.0]], label=[2])
    with pytest.raises(DataError, match="several columns can be the inputs; choose one by `inputs`: vector, other"):
        ParquetReader(path=str(tmp_path / "c.parquet")).read()
    found = ParquetReader(path=str(tmp_path / "c.parquet"), inputs="other").read(to_evaluate=True)
    assert found.train.inputs.tolist() == [[2.0]]
    write_parquet(tmp_path / "d.parquet", text=["words"], label=[0])
    with pytest.raises(DataError, match=r"no column holds pictures .*; there are: text, label"):
        ParquetReader(path=str(tmp_path / "d.parquet")).read()


# ----------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("kind", ["float32", "float64", "fixed"])
def test_vectors(tmp_path, kind):
    import pyarrow

    types = {"float32": pyarrow.list_(pyarrow.float32()), "fixed": pyarrow.list_(pyarrow.float32(), 3)}
    rows = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    chosen = {"vector": types[kind]} if kind in types else {}
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", vector=rows.tolist(), label=[0, 1] * 3, types=chosen)
    raw = ParquetReader(path=str(tmp_path)).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), rows)
    assert raw.train.inputs.dtype == torch.float32
    assert prepare(raw, validation=None).input_range == (float(rows.min()), float(rows.max()))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1.0, 2.0], "column 'vector': row 4 has 2 numbers; expected 3"),
        ([], "column 'vector': row 4 has 0 numbers; expected 3"),
        (None, "column 'vector': row 4 has nan numbers; expected 3"),
        ([1.0, None, 2.0], "column 'vector': row 4 has a number missing"),
        ([1.0, float("nan"), 2.0], "column 'vector': row 4 has the value nan"),
        ([1.0, 1e300, 2.0], "column 'vector' as float32: row 4 has the value inf"),
    ],
)
def test_vector_that_cannot_be_used_is_named(tmp_path, row, reason):
    rows = np.ones((6, 3)).tolist()
    rows[4] = row
    with pytest.raises(DataError, match=f"train.parquet: {reason}"):
        ParquetReader(path=str(vectors(tmp_path, train=rows))).read()


def test_vectors_of_other_length_in_test_and_no_pictures_for_features(tmp_path):
    with pytest.raises(DataError, match="the test set has vectors of 2 numbers, the training set of 3"):
        ParquetReader(path=str(vectors(tmp_path / "a", test=[[1.0, 2.0]]))).read()
    with pytest.raises(DataError, match="holds vectors; `features: gradient_histograms` needs pictures"):
        ParquetReader(path=str(vectors(tmp_path / "b")), features="gradient_histograms").read()
    with pytest.raises(ValueError, match="`features` must be one of 'pixels', 'gradient_histograms', got 'hog'"):
        ParquetReader(path=str(tmp_path), features="hog").read()


# ------------------------------------------------------------------------------------------------------- files


def test_spellings_of_files_and_which_part_is_which(tmp_path):
    one = vectors(tmp_path / "one")
    for layout in ("data/train-00000-of-00001-0123456789abcdef.parquet", "train/0000.parquet", "set_train.parquet"):
        folder = tmp_path / layout.split(".")[0].replace("/", "_")
        for split in ("train", "test"):
            target = folder / layout.replace("train", split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((one / f"{split}.parquet").read_bytes())
        assert len(ParquetReader(path=str(folder)).read().test) == 2, layout
    write_parquet(one / "validation.parquet", vector=[[5.0, 6.0, 7.0]], label=["c"])
    raw = ParquetReader(path=str(one)).read()
    assert raw.validation.inputs.tolist() == [[5.0, 6.0, 7.0]]
    assert (raw.validation.labels.tolist(), len(raw.train), len(raw.test)) == ([2], 6, 2)
    (one / "test.parquet").unlink()
    raw = ParquetReader(path=str(one)).read()
    assert raw.test.inputs.tolist() == [[5.0, 6.0, 7.0]]
    assert (raw.validation, raw.notes) == (None, ("no test set: the validation set takes its place",))
    alone = ParquetReader(path=str(one / "train.parquet")).read()
    assert (len(alone.train), len(alone.test)) == (5, 1)
    assert ParquetReader(path=str(one / "train.parquet")).read(to_evaluate=True).test is None


def test_saved_data_sets_hold_pictures_and_vectors_as_parquet_does(tmp_path):
    pictures = made_colours(20)
    contents = [{"bytes": picture_bytes(picture), "path": None} for picture in pictures]
    write_saved(
        tmp_path / "pictures", {"img": contents, "label": [0, 1] * 10}, label_names={"label": ["cat", "dog"]}, files=2
    )
    write_saved(tmp_path / "vectors", {"vector": np.eye(20).tolist(), "label": ["a", "b"] * 10})
    raw = ParquetReader(path=str(tmp_path / "pictures")).read(to_evaluate=True)
    np.testing.assert_array_equal(raw.train.inputs.numpy(), pictures.transpose(0, 3, 1, 2))
    assert raw.names == ("cat", "dog")
    raw = ParquetReader(path=str(tmp_path / "vectors")).read(to_evaluate=True)
    np.testing.assert_array_equal(raw.train.inputs.numpy(), np.eye(20))
    found = {kind: detect(str(tmp_path / kind), {}).recipe for kind in ("pictures", "vectors")}
    assert found == {"pictures": "cifar10-small", "vectors": "vectors-mlp"}


def test_parts_of_one_parquet_file_come_from_its_column(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    split = ["train", "test", "train", "train", "validation", "train", "test", "train"]
    write_parquet(tmp_path / "a.parquet", vector=rows.tolist(), label=[0, 1, 1, 0, 0, 1, 0, 1], split=split)
    raw = ParquetReader(path=str(tmp_path / "a.parquet")).read()
    np.testing.assert_array_equal(raw.train.inputs.numpy(), rows[[0, 2, 3, 5, 7]])
    np.testing.assert_array_equal(raw.test.inputs.numpy(), rows[[1, 6]])
    assert raw.validation.labels.tolist() == [0]


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: does not exist; expected a \.csv, .* or \.parquet file"):
        ParquetReader(path=str(tmp_path / "nowhere")).read()
    (tmp_path / "words.txt").write_text("x")
    with pytest.raises(DataError, match=r"words\.txt: has a heading and no row"):
        ParquetReader(path=str(tmp_path)).read()
    folder = write_picture_folder(tmp_path / "p")
    (folder / "test-00000-of-00001.parquet").rename(tmp_path / "kept")
    held_out = ParquetReader(path=str(folder)).read()
    assert (len(held_out.train), len(held_out.test)) == (6, 1)
    assert held_out.notes[0].startswith("no test set: 1 of 7 examples held out for it")
    (tmp_path / "kept").rename(folder / "test-00000-of-00001.parquet")
    shard = folder / "train-00001-of-00002.parquet"
    whole = shard.read_bytes()
    for damaged in (whole[:-20], whole[: len(whole) // 2], b"", b"no parquet file"):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet: is no parquet file, cut off or damaged"):
            ParquetReader(path=str(folder)).read()
    shard.unlink()
    with pytest.raises(DataError, match=r"the train set has 2 files, of which 1 are missing, .* number 00001"):
        ParquetReader(path=str(folder)).read()


def test_shards_that_differ_are_refused(tmp_path):
    folder = write_picture_folder(tmp_path)
    shard = folder / "train-00001-of-00002.parquet"
    write_parquet(shard, picture=[picture_bytes(made_colours(1)[0])], label=[0])
    with pytest.raises(DataError, match=r"00001-of-00002\.parquet: has no column 'img'; in train-00000"):
        ParquetReader(path=str(folder)).read()
    write_parquet(shard, img=["text"], label=[0])
    with pytest.raises(DataError, match=r"column 'img' holds values; in train-00000-of-00002\.parquet it holds bytes"):
        ParquetReader(path=str(folder)).read()
    (folder / "train.parquet").write_bytes(shard.read_bytes())
    with pytest.raises(DataError, match="the train set has 2 files by their names, but there are 3"):
        ParquetReader(path=str(folder)).read()


def test_without_pyarrow_the_way_out_is_named(tmp_path, monkeypatch):
    folder = vectors(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r'parquet files need pyarrow: pip install "labelembed\[hub\]"'):
        ParquetReader(path=str(folder)).read()


def test_real_pictures():
    """CIFAR-100's published means, and the ten pictures that its two sets share."""
    raw = ParquetReader(path=str(real_data_folder("cifar100"))).read()
    assert (raw.train.inputs.shape, len(raw.test)) == ((50_000, 3, 32, 32), 10_000)
    assert raw.test.labels.bincount().tolist() == [100] * 100
    found = raw.train.inputs.float().mean((0, 2, 3)) / 255
    assert found.tolist() == pytest.approx([0.5071, 0.4866, 0.4409], abs=1e-4)  # published to four places
    told = [note for note in raw.notes if "equal one" in note or "stand in" in note]
    assert told[0].startswith("9 training pictures have another label than an equal one: train-00000-of-00002.parquet")
    assert told[1].startswith("10 test pictures stand in the training set too, 6 of them with another label: ")
