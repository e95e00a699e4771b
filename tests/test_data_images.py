"""The reader of pictures: where pictures and labels are found, what pictures become, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, image_encoder, image_files, prepare
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


def test_folders_of_parts_hold_the_classes(tmp_path):
    for part, each in (("train", 3), ("Test", 2), ("valid", 1), ("sketches", 1)):
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
    assert "image_column" in refusal(unclear)
    assert "image_column" in refusal(unclear, image_column="picture")
    assert data_of(unclear, image_column="second").num_labels == 2
    assert "no path" in refusal(list_of(folder, image=["", *where[1:]]))
    with pytest.raises(DataError, match=r"gone\.png"):
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
    write_parquet(tmp_path / "test-00000-of-00001.parquet", label=[0, 1], img=[3, 4])
    assert "test-00000" in refusal(tmp_path)


def test_folders_that_cannot_be_used_say_what_they_hold_or_which_class_is_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "nothing" in refusal(tmp_path / "empty")
    (tmp_path / "alone").mkdir()
    file = write_image(tmp_path / "alone" / "a.png", made_colours(1)[0])
    assert "a.png" in refusal(tmp_path / "alone")
    assert "one picture" in refusal(file)
    assert "does not exist" in refusal(tmp_path / "nowhere")
    folder = write_classes(tmp_path / "pictures", {"cat": 6, "dog": 6})
    (folder / "emu").mkdir()
    (folder / "emu" / "photo.heic").write_bytes(b"x")
    assert "emu" in refusal(folder)
    parts = tmp_path / "parts"
    write_classes(parts / "train", {"cat": 4, "dog": 4})
    write_classes(parts / "test", {"cat": 1, "eel": 1})
    assert "eel" in refusal(parts)
    assert "one label only" in refusal(write_classes(tmp_path / "one", {"cat": 6}))


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
    other = Image.fromarray(made_colours(1, size=8, seed=1)[0])
    return {
        "plain": (picture_bytes(colours), colours),
        "grey": (picture_bytes(grey), rgb),
        "16 bits": (picture_bytes(grey.astype(np.uint16) * 257), rgb),
        "palette": (picture_bytes(colours, mode="P"), np.asarray(Image.fromarray(colours).convert("P").convert("RGB"))),
        "transparent": (picture_bytes(alpha), white),
        "turned": (picture_bytes(colours, exif=exif), np.rot90(colours, -1)),
        "film": (picture_bytes(colours, save_all=True, append_images=[other]), colours),
    }


def test_pictures_of_every_kind_become_colours():
    with decoding():
        for kind, (content, expected) in kinds().items():
            found = decode(content, channels=3, size=(8, 8), fit="crop")
            assert (found.dtype, found.shape) == (np.uint8, (3, 8, 8)), kind
            np.testing.assert_array_equal(found.transpose(1, 2, 0), expected, err_msg=kind)


def test_a_gif_a_cmyk_jpeg_a_very_thin_picture_and_a_class_of_one_lie_among_photographs(tmp_path):
    folder = write_classes(tmp_path, {"cat": 6, "dog": 5, "emu": 1}, suffix="jpg", size=40)
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


@pytest.mark.parametrize(("height", "width", "side"), [(9, 12, 16), (28, 28, 28), (300, 200, 64)])
def test_size_and_channels_follow_the_training_pictures(tmp_path, height, width, side):
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
    if side == width:
        np.testing.assert_array_equal(data.train.inputs[0, 0].numpy(), made_images(3, height=28, width=28)[0])


def test_equal_pictures_in_two_parts_are_told_of(tmp_path):
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 2, "dog": 2}, seed=5)
    (tmp_path / "test" / "dog" / "same.png").write_bytes((tmp_path / "train" / "cat" / "000.png").read_bytes())
    (note,) = (note for note in data_of(tmp_path).notes if "also in the training set" in note)
    assert "test/dog/same.png" in note


def test_unreadable_pictures_are_listed_together_or_left_out(tmp_path):
    folder = write_classes(tmp_path, {"cat": 30, "dog": 30}, size=40, suffix="jpg")
    whole = (folder / "cat" / "000.jpg").read_bytes()
    (folder / "cat" / "000.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "001.jpg").write_bytes(b"")
    (folder / "dog" / "000.jpg").write_bytes(b"no picture")
    found = refusal(folder, test_fraction=0.02)
    assert "3 pictures cannot be read" in found
    assert all(word in found for word in ("cat/000.jpg", "cat/001.jpg: is empty", "dog/000.jpg", "skip_unreadable"))
    data = data_of(folder, skip_unreadable=True)
    assert len(data.train) + len(data.test) == 57
    assert any("unreadable" in note and "cat/000.jpg" in note for note in data.notes)


# ---- the cache


def test_results_do_not_hang_on_the_number_of_threads(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 40, "b": 40}, size=30)
    images = read(tmp_path).train.inputs
    found = []
    for number in (1, 5):
        monkeypatch.setattr(image_files, "_threads", lambda number=number: number)
        encoder = image_encoder.ImagePixels(20)
        found.append(encoder.fit_transform(Images(images.places, images.root, belong=False)).inputs)
    assert torch.equal(*found)
