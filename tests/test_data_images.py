"""The reader of pictures: where pictures and labels are found, what pictures become, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, cache, image_files, image_pixels, prepare
from labelembed.lab.data.image_files import Images, decode, decoding
from tests.made_data import made_colours, made_images, picture_bytes, write_image, write_parquet
from tests.made_pictures import write_classes


@pytest.fixture(autouse=True)
def cache_place(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELEMBED_CACHE", str(folder))
    return folder


def read(path, **arguments):
    return ImageReader(path=str(path), **arguments).read()


def data_of(path, **arguments):
    return prepare(read(path, **arguments), validation=None)


def counts(raw):
    return {part: len(examples) for part, examples in raw.parts.items()}


def refusal(path, **arguments):
    with pytest.raises(DataError) as caught:
        data_of(path, **arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---- where pictures lie


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev"])
def test_folders_of_parts_hold_the_classes(tmp_path, word):
    for part, each in (("train", 3), ("test", 2), (word, 1), ("sketches", 1)):
        write_classes(tmp_path / part, {"cat": each, "dog": each}, seed=each)
    raw = read(tmp_path)
    assert counts(raw) == {"train": 6, "validation": 2, "test": 4}
    assert raw.names == ("cat", "dog")
    assert raw.test.labels.tolist() == [0, 0, 1, 1]
    assert raw.notes == ("folders beside train ignored: sketches",)


def test_other_layouts_of_folders(tmp_path):
    write_classes(tmp_path / "jobs", {"train": 6, "test": 6, "ship": 6})  # `train` is a label
    assert read(tmp_path / "jobs").names == ("ship", "test", "train")
    write_classes(tmp_path / "archive" / "inner", {"cat": 6, "dog": 6})
    (tmp_path / "archive" / "inner" / "cat" / "more").mkdir()
    for number, file in enumerate(sorted((tmp_path / "archive" / "inner" / "cat").glob("*.png"))[:3]):
        file.rename(tmp_path / "archive" / "inner" / "cat" / "more" / f"{number}.PNG")
    for hidden in (".DS_Store", "._000.png"):
        (tmp_path / "archive" / "inner" / "dog" / hidden).write_bytes(b"x")
    raw = read(tmp_path / "archive")
    assert sum(counts(raw).values()) == 12
    assert raw.names == ("cat", "dog")


def list_of(folder, kind="csv", **columns):
    """A list of the pictures of class folders, with the file's name and class unless said otherwise."""
    files = sorted(folder.rglob("*.png"))
    columns = {
        "image": [f"{file.relative_to(folder)}" for file in files],
        "label": [file.parent.name for file in files],
    } | columns
    path = folder / f"list.{kind}"
    if kind == "parquet":
        return write_parquet(path, **columns)
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_list_is_the_same_data_as_the_folder(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folder = write_classes(tmp_path / "pictures", {"cat": 10, "dog": 10})
    of_folder = data_of(folder)
    of_list = data_of(list_of(folder, kind))
    assert of_list.fingerprint() == of_folder.fingerprint()
    assert any("labels are taken from column 'label'" in note for note in of_list.notes)


def test_columns_of_a_list_are_found_named_or_asked_for(tmp_path):
    folder = write_classes(tmp_path / "pictures", {"cat": 6, "dog": 6})
    where = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))
    parts = ["train", "train", "train", "train", "val", "test"] * 2
    listed = list_of(folder, image=where, split=parts, shot=["a", "b"] * 6)
    assert counts(read(listed)) == {"train": 8, "validation": 2, "test": 2}
    assert read(listed, label_column="shot").names == ("a", "b")
    unclear = list_of(folder, image=range(12), first=where, second=where)
    assert "image_column" in refusal(unclear, image_column="picture")
    assert data_of(unclear, image_column="second").num_labels == 2
    assert "no path" in refusal(list_of(folder, image=["", *where[1:]]))
    with pytest.raises(DataError, match=r"gone\.png: does not exist"):
        data_of(list_of(folder, image=["gone.png", *where[1:]]))


def parquet(path, pictures, **columns):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow: the extra `hub`")
    labels = {"label": [number % 2 for number in range(len(pictures))]} | columns
    names = {"class_names": {"label": ["cat", "dog"]}} if "label" not in columns else {}
    return write_parquet(path, img=[picture_bytes(picture) for picture in pictures], **labels, **names)


def test_pictures_in_parquet_files(tmp_path):
    colours = made_colours(8)
    parquet(tmp_path / "train-00000-of-00002.parquet", colours[:3], label=[0, 1, 0])
    parquet(tmp_path / "train-00001-of-00002.parquet", colours[3:6], label=[1, 0, 1])
    parquet(tmp_path / "test-00000-of-00001.parquet", colours[6:], label=[0, 1])
    data = data_of(tmp_path)
    np.testing.assert_array_equal(data.train.inputs.numpy(), colours[:6].transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.test.inputs.shape == (2, 3, 16, 16)


def test_parquet_files_that_cannot_be_used_are_named(tmp_path):
    parquet(tmp_path / "a" / "train.parquet", made_colours(6))
    write_parquet(tmp_path / "a" / "test.parquet", label=[0, 1], img=[3, 4], class_names={"label": ["cat", "dog"]})
    assert "test.parquet" in refusal(tmp_path / "a")
    write_parquet(tmp_path / "b" / "train.parquet", label=[0, 1] * 3, vector=[[0.5, 1.0]] * 6)
    assert ".npz" in refusal(tmp_path / "b")  # vectors are read from elsewhere
    pictures = [picture_bytes(picture) for picture in made_colours(6)]
    write_parquet(tmp_path / "c" / "train.parquet", label=[0, 1] * 3, img=[*pictures[:4], b"", b"x"])
    found = refusal(tmp_path / "c", test_fraction=0.2, skip_unreadable=False)
    assert "has no picture in it" in found or "is damaged" in found


EMPTY = {
    "nothing": (lambda folder: None, "nothing"),
    "pictures alone": (lambda folder: write_image(folder / "a.png", made_colours(1)[0]), "a.png"),
    "texts": (lambda folder: (folder / "notes.md").write_text("x"), "notes.md"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_folders_without_classes_are_refused_with_what_they_hold(tmp_path, case):
    write, word = EMPTY[case]
    write(tmp_path)
    found = refusal(tmp_path)
    assert word in found
    assert "class/name.jpg" in found


def test_classes_that_cannot_be_used_are_named(tmp_path):
    folder = write_classes(tmp_path / "pictures", {"cat": 6, "dog": 6})
    (folder / "emu").mkdir()
    assert "emu" in refusal(folder)
    (folder / "emu" / "photo.heic").write_bytes(b"x")
    assert "emu" in refusal(folder)
    parts = tmp_path / "parts"
    write_classes(parts / "train", {"cat": 4, "dog": 4})
    write_classes(parts / "test", {"cat": 1, "eel": 1})
    assert "eel" in refusal(parts)
    assert "one label only" in refusal(write_classes(tmp_path / "one", {"cat": 6}))
    bad = os.fsencode(tmp_path / "odd") + b"/\xff"
    write_classes(tmp_path / "odd", {"cat": 4, "dog": 4})
    os.rename(tmp_path / "odd" / "dog", bad)
    assert "no valid text" in refusal(tmp_path / "odd")


# ---- what pictures become


def kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files of every kind, and the pixels [8, 8, 3] that they become."""
    grey, colours = made_images(1, height=8, width=8)[0], made_colours(1, size=8)[0]
    rgb = np.repeat(grey[..., None], 3, axis=2)
    alpha = np.concatenate([colours, np.full((8, 8, 1), 255, np.uint8)], axis=2)
    alpha[0, 0, 3] = 0
    white = colours.copy()
    white[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(colours).quantize(16)
    cmyk = Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8)).convert("CMYK")
    other = Image.fromarray(made_colours(1, size=8, seed=1)[0])
    return {
        "plain": (picture_bytes(colours), colours),
        "grey": (picture_bytes(grey), rgb),
        "16 bits": (picture_bytes(grey.astype(np.uint16) * 257), rgb),
        "palette": (picture_bytes(colours, mode="P"), np.asarray(Image.fromarray(colours).convert("P").convert("RGB"))),
        "GIF": (picture_bytes(np.asarray(palette.convert("RGB")), "GIF"), None),
        "transparent": (picture_bytes(alpha), white),
        "CMYK": (
            picture_bytes(np.full((8, 8, 3), (255, 0, 0), np.uint8), "TIFF", "CMYK"),
            np.asarray(cmyk.convert("RGB")),
        ),
        "turned": (picture_bytes(colours, exif=exif), np.rot90(colours, -1)),
        "film": (picture_bytes(colours, save_all=True, append_images=[other]), colours),
    }


def test_pictures_of_every_kind_become_colours():
    with decoding():
        for kind, (content, expected) in kinds().items():
            found = decode(content, channels=3, size=(8, 8), fit="crop")
            assert (found.dtype, found.shape) == (np.uint8, (3, 8, 8)), kind
            if expected is not None:
                np.testing.assert_array_equal(found.transpose(1, 2, 0), expected, err_msg=kind)


def test_a_gif_a_cmyk_jpeg_and_a_very_thin_picture_lie_among_photographs(tmp_path):
    folder = write_classes(tmp_path, {"cat": 6, "dog": 6}, suffix="jpg", size=40)
    Image.fromarray(made_colours(1)[0]).convert("P").save(folder / "cat" / "film.gif")
    Image.fromarray(made_colours(1)[0]).convert("CMYK").save(folder / "cat" / "print.jpg")
    Image.new("RGB", (3_000, 1), "red").save(folder / "dog" / "thin.png")
    for fit in ("crop", "stretch", "pad"):
        data = data_of(folder, fit=fit)
        assert data.input_shape == (3, 40, 40)
        assert len(data.train) + len(data.test) == 15


def test_fitting_keeps_what_it_says():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 200
    content = picture_bytes(pixels)
    with decoding():
        crop, stretch, pad = (decode(content, channels=3, size=(10, 10), fit=fit) for fit in ("crop", "stretch", "pad"))
        for picture in (crop, stretch):
            assert picture[0, :, 0].tolist() == [200] * 10
            assert picture[2, :, -1].tolist() == [200] * 10
        assert pad[:, :2].max() == pad[:, 8:].max() == 0  # 10 wide, 5 high
        assert pad[0].max(axis=1).tolist().count(200) == 5
        for fit in ("crop", "stretch", "pad"):
            thin = picture_bytes(np.full((1, 300, 3), 7, np.uint8))
            assert decode(thin, channels=3, size=(10, 10), fit=fit).max() == 7


SIZES = {"tiny": ((9, 12), 16), "as they are": ((28, 28), 28), "large": ((300, 200), 64)}


@pytest.mark.parametrize("case", SIZES)
def test_size_and_channels_follow_the_training_pictures(tmp_path, case):
    (height, width), side = SIZES[case]
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number, picture in enumerate(made_images(3, height=height, width=width)):
            write_image(tmp_path / "train" / name / f"{number}.png", picture)
        write_classes(tmp_path / "test", {name: 2}, size=500)
    data = data_of(tmp_path)
    assert data.input_shape == (1, side, side)  # the test pictures are coloured, and larger
    assert data.test.inputs.shape == (4, 1, side, side)
    assert any(f"{side} x {side}" in note for note in data.notes)
    assert data_of(tmp_path, image_size=20).input_shape == (1, 20, 20)
    if case == "as they are":
        np.testing.assert_array_equal(data.train.inputs[0, 0].numpy(), made_images(3, height=28, width=28)[0])


def test_pictures_that_are_cut_to_their_middle_are_told_of(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            write_image(tmp_path / name / f"{number}.png", made_images(1, height=10, width=50, seed=number)[0])
    assert any("data.fit=pad" in note for note in data_of(tmp_path).notes)
    assert not any("data.fit=pad" in note for note in data_of(tmp_path, fit="pad").notes)


def test_equal_pictures_in_two_parts_are_told_of(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 2, "dog": 2}, seed=5)
    (tmp_path / "test" / "dog" / "same.png").write_bytes((tmp_path / "train" / "cat" / "000.png").read_bytes())
    notes = [note for note in data_of(tmp_path).notes if "stands in the training set too" in note]
    assert notes == [
        "1 test picture stands in the training set too, 1 of them with another label: test/dog/same.png = "
        "train/cat/000.png"
    ]


def test_unreadable_pictures_are_listed_together_or_left_out(tmp_path):
    folder = write_classes(tmp_path, {"cat": 30, "dog": 30}, size=40, suffix="jpg")
    whole = (folder / "cat" / "000.jpg").read_bytes()
    (folder / "cat" / "000.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "001.jpg").write_bytes(b"")
    (folder / "dog" / "000.jpg").write_bytes(b"no picture")
    found = refusal(folder, test_fraction=0.02)
    assert "3 pictures cannot be read" in found
    for name in ("cat/000.jpg: is cut off", "cat/001.jpg: is empty", "dog/000.jpg: is damaged", "skip_unreadable"):
        assert name in found
    data = data_of(folder, skip_unreadable=True)
    assert len(data.train) + len(data.test) == 57
    assert any("unreadable" in note and "cat/000.jpg" in note for note in data.notes)


def test_decompression_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with decoding(), pytest.raises(DataError, match="limit"):
        decode(picture_bytes(made_colours(1, size=12)[0]), channels=3, size=(8, 8), fit="crop")


# ---- the cache


def test_decoded_once_and_found_by_content(tmp_path, monkeypatch):
    write_classes(tmp_path / "a", {"cat": 6, "dog": 6})
    raw = read(tmp_path / "a")
    calls = []
    original = image_pixels.decode
    monkeypatch.setattr(image_pixels, "decode", lambda *a, **b: (calls.append(1), original(*a, **b))[1])
    first = prepare(raw, validation=None)
    assert len(calls) == 12
    (tmp_path / "a").rename(tmp_path / "moved")
    again = data_of(tmp_path / "moved")
    assert len(calls) == 12  # the names say nothing
    assert torch.equal(first.train.inputs, again.train.inputs)
    write_image(tmp_path / "moved" / "cat" / "000.png", made_colours(1, size=12, seed=77)[0])
    assert not torch.equal(data_of(tmp_path / "moved").train.inputs, first.train.inputs)


def test_many_pictures_lie_in_a_file_and_without_room_it_is_said(tmp_path, monkeypatch, cache_place):
    write_classes(tmp_path, {"a": 6, "b": 6})
    in_memory = data_of(tmp_path)
    monkeypatch.setattr(cache, "MAPPED_ABOVE_BYTES", 1000)
    monkeypatch.setattr(image_pixels, "_VERSION", "another key")
    for _ in range(2):  # made, and found again
        assert torch.equal(data_of(tmp_path).train.inputs, in_memory.train.inputs)
    monkeypatch.setattr(image_pixels, "_VERSION", "a third key")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np.lib.format, "open_memmap", full)
    with pytest.raises(DataError, match=r"No space left .*LABELEMBED_CACHE"):
        data_of(tmp_path)
    assert not list(cache_place.glob(".*"))


def test_results_do_not_hang_on_the_number_of_threads(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 40, "b": 40}, size=30)
    images = read(tmp_path).train.inputs
    found = []
    for number in (1, 5):
        monkeypatch.setattr(image_files, "_threads", lambda number=number: number)
        encoder = image_pixels.ImagePixels(20)
        found.append(encoder.fit_transform(Images(images.places, images.root, belong=False)).inputs)
    assert torch.equal(*found)
