"""Folders of pictures: their layouts, their errors, and what is told of them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, ValidationSplit, prepare
from tests.made_data import made_colours, picture_bytes, write_image
from tests.made_pictures import write_classes


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELEMBED_CACHE", str(folder))
    return folder


def read(folder, **options):
    return ImageReader(path=str(folder), **options).read()


def pixels_of(file) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)


def assert_rows_are(split, files):
    np.testing.assert_array_equal(split.inputs.numpy(), np.stack([pixels_of(file) for file in files]))


@pytest.mark.parametrize("words", [("train", "test"), ("Training", "TESTING"), ("train", "valid")])
def test_layout_with_parts(tmp_path, words):
    write_classes(tmp_path / words[0], {"dog": 3, "cat": 2})
    write_classes(tmp_path / words[1], {"cat": 1, "dog": 2}, seed=1)
    raw = read(tmp_path)
    assert raw.names == ("cat", "dog")
    assert_rows_are(raw.train, sorted((tmp_path / words[0]).rglob("*.png")))
    assert_rows_are(raw.test, sorted((tmp_path / words[1]).rglob("*.png")))
    assert raw.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert raw.test.labels.tolist() == [0, 1, 1]
    assert raw.notes == (("no test set: the validation set takes its place",) if words[1][0] == "v" else ())


def test_validation_beside_test_is_used_and_other_folders_are_left_aside(tmp_path):
    for seed, part in enumerate(("train", "val", "test", "unlabelled")):
        write_classes(tmp_path / part, {"a": 2, "b": 2}, seed=seed)
    raw = read(tmp_path)
    assert_rows_are(raw.test, sorted((tmp_path / "test").rglob("*.png")))
    assert_rows_are(raw.validation, sorted((tmp_path / "val").rglob("*.png")))
    assert raw.validation.labels.tolist() == [0, 0, 1, 1]
    assert raw.notes == ("folders beside train ignored: unlabelled",)
    data = prepare(raw, validation=ValidationSplit(examples=1))
    assert [len(split) for split in data.splits.values()] == [4, 4, 4]
    assert "validation set: the data's own 4 examples; data.validation holds out none" in data.notes
    write_classes(tmp_path / "val", {"c": 1}, seed=4)
    with pytest.raises(
        DataError, match="has labels in the validation set that no training example has: c; the training set has a, b"
    ):
        read(tmp_path)
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="both val and valid can be the validation set; keep one"):
        read(tmp_path)


def test_train_may_be_a_label(tmp_path):
    write_classes(tmp_path, {"bus": 4, "car": 4, "train": 4})
    assert read(tmp_path).names == ("bus", "car", "train")


def test_test_part_is_held_out_stratified_and_always_the_same(tmp_path):
    write_classes(tmp_path, {"a": 20, "b": 10, "c": 1})
    raw = read(tmp_path)
    assert torch.bincount(raw.test.labels, minlength=3).tolist() == [4, 2, 0]
    assert torch.bincount(raw.train.labels).tolist() == [16, 8, 1]
    assert raw.notes == (
        "no test set: 6 of 31 examples held out for it, stratified and always the same (test_fraction 0.2)",
        "no test picture of c",
    )
    # 15.5 is rounded to the even number; c's only picture is among those, and stays with the training set
    assert len(read(tmp_path, test_fraction=0.5).test) == 15


def test_folder_of_an_archive_and_folders_within_a_class(tmp_path):
    write_classes(tmp_path / "flowers" / "rose", {"red": 2, "white": 2})
    write_classes(tmp_path / "flowers", {"tulip": 4}, seed=1)
    raw = read(tmp_path)
    assert raw.names == ("rose", "tulip")
    assert len(raw.train) + len(raw.test) == 8


def test_endings_in_either_case_and_files_that_are_no_pictures(tmp_path):
    write_classes(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "000.PNG")
    write_image(tmp_path / "a" / "x.JpEg", made_colours(1, size=12, seed=9)[0])
    for name in (".DS_Store", "a/.hidden.png", "a/._000.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("README.txt", "a/labels.csv", "b/Thumbs.db", "b/more.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    raw = read(tmp_path, test_fraction=0.5)
    assert len(raw.train) + len(raw.test) == 7
    assert "hidden files skipped: 4" in raw.notes
    assert "files that are no pictures skipped: 4 (README.txt, a/labels.csv, b/Thumbs.db, ...)" in raw.notes


def test_folders_that_hold_no_classes(tmp_path):
    with pytest.raises(DataError, match=r"is empty; expected a folder a label: class/name\.jpg"):
        read(tmp_path)
    with pytest.raises(DataError, match="does not exist; expected a folder of pictures"):
        read(tmp_path / "nowhere")
    write_image(tmp_path / "one.png", made_colours(1)[0])
    with pytest.raises(DataError, match="holds 1 pictures but no folders, so nothing says what their labels are"):
        read(tmp_path)
    with pytest.raises(DataError, match="is one picture; expected a folder of pictures"):
        read(tmp_path / "one.png")
    write_classes(tmp_path, {"only": 4})
    with pytest.raises(DataError, match="has one label only, only"):
        read(tmp_path)
    (tmp_path / "empty" / "within").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="class folders without a picture: empty; put pictures in, or remove them"):
        read(tmp_path)


def test_name_of_a_folder_that_is_no_text(tmp_path):
    write_classes(tmp_path, {"a": 3, "b": 3})
    try:
        os.rename(os.fsencode(tmp_path / "b"), os.fsencode(tmp_path) + b"/\xff")
    except OSError:
        pytest.skip("this file system refuses names that are no UTF-8")
    with pytest.raises(DataError, match=r"the label '\\udcff' is no valid text; rename it"):
        read(tmp_path)


def test_class_in_the_test_set_only(tmp_path):
    write_classes(tmp_path / "train", {"a": 2, "b": 2, "c": 1})
    write_classes(tmp_path / "test", {"a": 2, "yak": 1, "zebu": 1}, seed=1)
    with pytest.raises(
        DataError,
        match=r"has labels in the test set that no training example has: yak, zebu; the training set has a, b, c",
    ):
        read(tmp_path)
    for name in ("yak", "zebu"):
        shutil.rmtree(tmp_path / "test" / name)
    assert "no test picture of b, c" in read(tmp_path).notes


def damaged(folder):
    whole = picture_bytes(made_colours(1, size=12)[0])
    contents = {"cut": whole[:200], "zero": b"", "text": b"no picture", "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n"}
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)


def test_unreadable_pictures_are_listed_and_left_out_when_asked(tmp_path):
    write_classes(tmp_path, {"a": 6, "b": 6})
    damaged(tmp_path / "a")
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(DataError, match="4 of 16 pictures cannot be read") as raised:
            read(tmp_path)
        lines = str(raised.value).splitlines()
        assert "--set data.skip_unreadable=true" in lines[0]
        assert lines[1].startswith("  a/cut.png: is cut off or damaged")
        assert lines[2:] == [
            "  a/eps.png: is damaged, or no picture whatever its name says",
            "  a/text.png: is damaged, or no picture whatever its name says",
            "  a/zero.png: is empty (0 bytes)",
        ]
        raw = read(tmp_path, skip_unreadable=True)
        assert len(raw.train) + len(raw.test) == 12
        assert (raw.train.inputs.flatten(1).sum(1) > 0).all()
        (note,) = (note for note in raw.notes if note.startswith("unreadable pictures left out: 4 of 16: a/cut.png ("))
        assert "a/zero.png (is empty (0 bytes))" in note
    for number in range(20):
        (tmp_path / "a" / f"z{number:02}.png").write_bytes(b"x")
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "  and 16 more"


def test_class_of_which_no_picture_can_be_read(tmp_path):
    write_classes(tmp_path, {"a": 6, "b": 6})
    (tmp_path / "bad").mkdir()
    damaged(tmp_path / "bad")
    with pytest.raises(DataError, match="bad: no training picture can be read"):
        read(tmp_path, skip_unreadable=True)
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "bad" / "cut.png").unlink()  # the others do not even begin as pictures do
    shutil.copytree(tmp_path / "bad", tmp_path / "worse")
    with pytest.raises(DataError, match=r"none of its 6 pictures can be read; the first: .*\.png: "):
        read(tmp_path, skip_unreadable=True)
