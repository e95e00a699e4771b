"""Folders of parquet files: pictures and vectors, every error with its file and row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import ParquetReader, prepare
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


# ------------------------------------------------------------------------------------------------------- files


def test_saved_data_sets_hold_pictures_as_parquet_does(tmp_path):
    pictures = made_colours(20)
    contents = [{"bytes": picture_bytes(picture), "path": None} for picture in pictures]
    write_saved(
        tmp_path / "pictures", {"img": contents, "label": [0, 1] * 10}, label_names={"label": ["cat", "dog"]}, files=2
    )
    raw = ParquetReader(path=str(tmp_path / "pictures")).read(to_evaluate=True)
    np.testing.assert_array_equal(raw.train.inputs.numpy(), pictures.transpose(0, 3, 1, 2))
    assert raw.names == ("cat", "dog")
    assert detect(str(tmp_path / "pictures"), {}).recipe == "cifar10-small"


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
