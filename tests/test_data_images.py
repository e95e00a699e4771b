"""The reader of pictures: where pictures and labels are found, what pictures become, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, image_encoder, prepare
from labelembed.lab.data.image_files import Images, decode, decoding
from tests.made_data import made_colours, made_images, picture_bytes, write_image, write_parquet
from tests.made_pictures import write_classes
from tests.made_texts import write_csv


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


@pytest.mark.parametrize(
    "names", [("train", "Test", "valid", "train_masks"), ("seg_train", "test_set", "my-val", "seg_pred")]
)
def test_folders_of_parts_hold_the_classes(tmp_path, names):
    for part, each in zip(names, (3, 2, 1, 1), strict=True):
        write_classes(tmp_path / part, {"cat": each, "dog": each}, seed=each)
    raw = read(tmp_path)
    assert counts(raw) == {"train": 6, "validation": 2, "test": 4}
    assert raw.names == ("cat", "dog")
    assert raw.test.labels.tolist() == [0, 0, 1, 1]
    assert raw.notes == (f"folders beside {names[0]} ignored: {names[3]}",)


def test_other_layouts_of_folders(tmp_path):
    folder = write_classes(tmp_path / "jobs", {"train": 6, "test": 6, "ship": 6})  # `train` is a label
    (folder / "ship" / "more").mkdir()
    for number, file in enumerate(sorted((folder / "ship").glob("*.png"))[:3]):
        file.rename(folder / "ship" / "more" / f"{number}.PNG")
    for hidden in (".DS_Store", "._000.png"):
        (folder / "test" / hidden).write_bytes(b"x")
    raw = read(folder)
    assert sum(counts(raw).values()) == 18
    assert raw.names == ("ship", "test", "train")
    assert read(write_classes(tmp_path / "words", {"test tube": 6, "train station": 6})).names[0] == "test tube"


def list_of(folder, kind="csv", **columns):
    """A list of the pictures of class folders, with the file's name and class unless said otherwise."""
    files = sorted(folder.rglob("*.png"))
    found = {"image": [str(file.relative_to(folder)) for file in files], "label": [file.parent.name for file in files]}
    table, path = pd.DataFrame(found | columns), folder / f"list.{kind}"
    table.to_parquet(path) if kind == "parquet" else table.to_csv(path, index=False)
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
    rows = [(name, ("groß", "klein")[n % 2]) for n, name in enumerate(where)]
    how = {"delimiter": "^", "encoding": "cp1252"}
    assert read(write_csv(folder / "own.csv", rows, "path", "label", **how), **how).names == ("groß", "klein")
    unclear = list_of(folder, image=range(12), first=where, second=where)
    assert "image_column" in refusal(unclear)
    assert "image_column" in refusal(unclear, image_column="picture")
    assert data_of(unclear, image_column="second").num_labels == 2
    assert "no path" in refusal(list_of(folder, image=["", *where[1:]]))
    with pytest.raises(DataError, match=r"gone\.png"):
        data_of(list_of(folder, image=["gone.png", *where[1:]]))


def test_pictures_in_parquet_files(tmp_path):
    colours = made_colours(8)
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow: the extra `hub`")
    files = {"train-00000-of-00002": (0, 3), "train-00001-of-00002": (3, 6), "test-00000-of-00001": (6, 8)}
    for file, some in files.items():
        pictures = [picture_bytes(picture) for picture in colours[slice(*some)]]
        write_parquet(tmp_path / f"{file}.parquet", img=pictures, label=[number % 2 for number in range(*some)])
    data = data_of(tmp_path)
    np.testing.assert_array_equal(data.train.inputs.numpy(), colours[:6].transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == [0, 1] * 3
    assert data.test.inputs.shape == (2, 3, 16, 16)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", label=[0, 1], img=[3, 4])
    assert "test-00000" in refusal(tmp_path)


def test_folders_that_cannot_be_used_say_what_they_hold(tmp_path):
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
    assert any("emu/photo.heic" in note for note in read(folder).notes)
    parts = tmp_path / "parts"
    write_classes(parts / "train", {"cat": 4, "dog": 4})
    write_classes(parts / "test", {"cat": 1, "eel": 1})
    assert "eel" in refusal(parts)
    write_image(parts / "train" / "all.png", made_colours(1)[0])  # `train` and `test` are no classes
    assert "train/all.png is in no class folder" in refusal(parts)
    assert "one label only" in refusal(write_classes(tmp_path / "one", {"cat": 6}))


def test_a_gif_a_cmyk_jpeg_a_very_thin_picture_and_a_class_of_one_lie_among_photographs(tmp_path):
    folder = write_classes(tmp_path, {"cat": 6, "dog": 5, "emu": 1}, suffix="jpg", size=40)
    Image.fromarray(made_colours(1)[0]).convert("P").save(folder / "cat" / "film.gif")
    Image.fromarray(made_colours(1)[0]).convert("CMYK").save(folder / "cat" / "print.jpg")
    Image.new("RGB", (3_000, 1), "red").save(folder / "dog" / "thin.png")
    for fit in ("crop", "stretch"):
        data = data_of(folder, fit=fit)
        assert data.input_shape == (3, 40, 40)
        assert len(data.train) + len(data.test) == 15


def test_fitting_keeps_what_it_says():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 200
    content = picture_bytes(pixels)
    with decoding():
        for fit, share in (("crop", 1 / 4), ("stretch", 0)):  # at each side a quarter of the width is cut off
            picture = decode(content, channels=3, size=(10, 10), fit=fit)
            kept = picture_bytes(pixels[:, int(share * 40) : int(40 - share * 40)])
            np.testing.assert_array_equal(picture, decode(kept, channels=3, size=(10, 10), fit="stretch"))
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


def test_an_unreadable_picture_is_named_and_all_such_left_out_if_wanted(tmp_path):
    folder = write_classes(tmp_path, {"cat": 30, "dog": 30}, size=40, suffix="jpg")
    whole = (folder / "cat" / "000.jpg").read_bytes()
    (folder / "cat" / "000.jpg").write_bytes(whole[: len(whole) // 2])
    found = refusal(folder, test_fraction=0.02)
    assert "cat/000.jpg: is cut off" in found
    assert "data.skip_unreadable" in found
    (folder / "cat" / "001.jpg").write_bytes(b"")
    assert "cat/001.jpg: is empty" in refusal(folder, test_fraction=0.02)
    (folder / "dog" / "000.jpg").write_bytes(b"no picture")
    data = data_of(folder, skip_unreadable=True)
    assert len(data.train) + len(data.test) == 57
    assert any("unreadable" in note and "cat/000.jpg" in note for note in data.notes)


def test_results_do_not_hang_on_the_number_of_threads(tmp_path):
    write_classes(tmp_path, {"a": 40, "b": 40}, size=30)
    images = read(tmp_path).train.inputs
    found = []
    for number in (1, 5):
        torch.set_num_threads(number)
        encoder = image_encoder.ImagePixels(20)
        found.append(encoder.fit_transform(Images(images.places, images.root, belong=False)).inputs)
        assert torch.get_num_threads() == number
    assert torch.equal(*found)
