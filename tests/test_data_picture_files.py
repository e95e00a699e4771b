"""Pictures of every kind into one array: converted and counted, resized as new ones are, kept in the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.lab.data import ImageReader, cache, read_inputs
from labelembed.lab.data.encoders import pictures
from labelembed.lab.data.encoders.pictures import PictureFolder, decode_pictures
from tests.made_data import made_colours, made_images, write_image
from tests.made_pictures import write_classes


@pytest.fixture(autouse=True)
def cache_place(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELEMBED_CACHE", str(folder))
    return folder


def read(files, root, *, image_size=None, fit="crop", progress=None, trained=None):
    return decode_pictures(
        PictureFolder(root), files, where=str(root), image_size=image_size, fit=fit, progress=progress, trained=trained
    )


def write_kinds(folder) -> dict[str, tuple]:
    """Files of every kind: by name, the pixels [H, W, 3] they become and what is told of them."""
    grey = made_images(1, height=8, width=8)[0]
    colours = made_colours(1, size=8)[0]
    rgb = np.repeat(grey[..., None], 3, axis=2)
    kinds = {}

    def add(name, pixels, expected, told, mode=None, **options):
        write_image(folder / name, pixels, mode, **options)
        kinds[name] = (expected, told)

    spread = "grey used for red, green and blue"
    add("plain.png", colours, colours, [])
    add("grey.png", grey, rgb, [spread])
    add("deep.png", grey.astype(np.uint16) * 257, rgb, [spread, "16 bits a channel made 8"])
    palette = Image.fromarray(colours).quantize(16)
    palette.save(folder / "palette.png")
    kinds["palette.png"] = (np.asarray(palette.convert("RGB")), [])
    alpha = np.concatenate([colours, np.full((8, 8, 1), 255, np.uint8)], axis=2)
    alpha[0, 0, 3] = 0
    white = colours.copy()
    white[0, 0] = 255
    add("alpha.png", alpha, white, ["transparent parts made white"])
    inks = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    cmyk = Image.fromarray(inks).convert("CMYK")
    cmyk.save(folder / "inks.tiff")
    kinds["inks.tiff"] = (np.asarray(cmyk.convert("RGB")), ["CMYK made RGB"])
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned.png", colours, np.rot90(colours, -1), ["turned as the camera's orientation says"], exif=exif)
    frames = [Image.fromarray(made_colours(1, size=8, seed=seed)[0]) for seed in (0, 1)]
    frames[0].save(folder / "film.png", save_all=True, append_images=frames[1:])
    kinds["film.png"] = (colours, ["only the first of several frames used"])
    return kinds


def test_pictures_of_every_kind_become_rgb_and_are_counted(tmp_path):
    kinds = write_kinds(tmp_path)
    rows = read([tmp_path / name for name in kinds], tmp_path)
    assert rows.pixels.shape == (len(kinds), 3, 8, 8)
    for picture, (name, (expected, _)) in zip(rows.pixels, kinds.items(), strict=True):
        np.testing.assert_array_equal(picture.transpose(1, 2, 0), expected, err_msg=name)
    told: dict[str, int] = {}
    for _, changes in kinds.values():
        for change in changes:
            told[change] = told.get(change, 0) + 1
    assert rows.converted == told
    assert rows.unreadable == {}


def test_grey_pictures_alone_stay_grey(tmp_path):
    grey = made_images(3, height=8, width=8)
    files = [write_image(tmp_path / f"{row}.png", picture) for row, picture in enumerate(grey)]
    rows = read(files, tmp_path)
    np.testing.assert_array_equal(rows.pixels, grey[:, None])
    assert rows.converted == {}


def test_new_pictures_are_resized_as_those_of_training(tmp_path):
    folder = tmp_path / "pictures"
    write_classes(folder, {"a": 2, "b": 2}, size=40)
    tall = made_colours(1, size=300)[0][:, :170]
    exif = Image.Exif()
    exif[0x0112] = 6
    file = write_image(folder / "a" / "tall.jpg", tall, exif=exif.tobytes())
    for fit in ("crop", "stretch", "pad"):
        raw = ImageReader(path=str(folder), image_size=16, fit=fit, test_fraction=0.2).read()
        trained = torch.cat([raw.train.inputs, raw.test.inputs])
        found, _, notes = read_inputs(file, input_shape=(3, 16, 16), input_range=(0.0, 255.0), fit=fit)
        assert any(torch.equal(found[0], picture) for picture in trained), fit
        (note,) = (note for note in notes if note.startswith("resized from 300x170 to 16x16"))
        change = {fit: f"({fit}, for its proportions are others)" for fit in ("crop", "stretch", "pad")}
        assert note.endswith(change[fit])


def test_training_pictures_decide_whether_all_are_grey(tmp_path):
    grey, colours = made_images(2, height=8, width=8), made_colours(1, size=8)[0]
    files = [write_image(tmp_path / f"{n}.png", picture) for n, picture in enumerate([*grey, colours])]
    found = read(files, tmp_path, trained=2)
    np.testing.assert_array_equal(found.pixels[:2, 0], grey)
    np.testing.assert_allclose(found.pixels[2, 0], colours @ [0.299, 0.587, 0.114], atol=0.51)
    assert found.converted == {"colours made grey": 1}
    # the same files with another number of training pictures are not taken from the cache
    assert read(files, tmp_path).pixels.shape == (3, 3, 8, 8)


def test_fitting_keeps_what_it_says(tmp_path):
    # left half red, right half blue, 40 wide and 20 high
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 200
    file = write_image(tmp_path / "halves.png", pixels)
    crop, stretch, pad = (
        read([file], tmp_path, image_size=10, fit=fit).pixels[0] for fit in ("crop", "stretch", "pad")
    )
    for picture in (crop, stretch):
        assert picture[0, :, 0].tolist() == [200] * 10
        assert picture[2, :, -1].tolist() == [200] * 10
    assert pad[:, :2].max() == pad[:, 8:].max() == 0  # 10 wide, 5 high, the border below one larger
    assert pad[0, 2:7, 0].tolist() == [200] * 5
    edge = np.zeros((20, 40, 3), np.uint8)
    edge[:, :9] = 255  # cut off by the crop, whose part begins at 10
    file = write_image(tmp_path / "edge.png", edge)
    assert read([file], tmp_path, image_size=10).pixels.max() == 0
    assert read([file], tmp_path, image_size=10, fit="stretch").pixels.max() == 255
    thin = write_image(tmp_path / "thin.png", np.full((1, 300, 3), 7, np.uint8))
    for fit in ("crop", "stretch", "pad"):
        assert read([thin], tmp_path, image_size=10, fit=fit).pixels.max() == 7


def test_decoded_once_and_found_by_content(tmp_path, cache_place):
    write_classes(tmp_path, {"a": 3, "b": 3})
    files = sorted(tmp_path.rglob("*.png"))
    calls = []

    def progress(done, total):
        calls.append((done, total))

    first = read(files, tmp_path, progress=progress)
    assert calls == [(6, 6)]
    again = read(files, tmp_path, progress=progress)
    assert calls == [(6, 6)]
    assert again[1:] == first[1:]
    np.testing.assert_array_equal(again.pixels, first.pixels)
    moved = tmp_path / "other"
    moved.mkdir()
    renamed = [file.rename(moved / f"{row}.png") for row, file in enumerate(files)]
    read(renamed, moved, progress=progress)
    assert len(calls) == 1  # the names say nothing
    write_image(renamed[2], made_colours(1, size=12, seed=77)[0])
    changed = read(renamed, moved, progress=progress)
    assert len(calls) == 2
    assert [row for row in range(6) if (changed.pixels[row] != first.pixels[row]).any()] == [2]
    read(renamed, moved, image_size=6, progress=progress)
    assert len(calls) == 3
    for file in cache_place.glob("*.json"):
        file.write_text(file.read_text()[:-5])
    read(renamed, moved, progress=progress)  # notes that are cut off are made anew
    assert len(calls) == 4


def test_large_pictures_are_decoded_in_threads_to_the_same_pixels(tmp_path, monkeypatch):
    files = [write_image(tmp_path / f"{row:03}.png", picture) for row, picture in enumerate(made_colours(70, size=10))]
    alone = read(files, tmp_path)
    monkeypatch.setattr(pictures, "_PIXELS_FOR_THREADS", 1)
    monkeypatch.setattr(pictures, "_cores", lambda: 4)
    monkeypatch.setattr(pictures, "_VERSION", "another key")
    calls = []
    threaded = read(files, tmp_path, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_array_equal(threaded.pixels, alone.pixels)
    assert calls == [(64, 70), (70, 70)]


def test_many_pictures_lie_in_a_file(tmp_path, monkeypatch, cache_place):
    write_classes(tmp_path, {"a": 6, "b": 6})
    in_memory = ImageReader(path=str(tmp_path)).read()
    monkeypatch.setattr(cache, "MAPPED_ABOVE_BYTES", 1000)
    monkeypatch.setattr(pictures, "_VERSION", "another key")
    for _ in range(2):  # made, and found again
        raw = ImageReader(path=str(tmp_path)).read()
        assert torch.equal(raw.train.inputs, in_memory.train.inputs)
        assert torch.equal(raw.test.inputs, in_memory.test.inputs)
    files = sorted(file.name for file in cache_place.iterdir())
    assert len(files) == 4
    before = {file: file.read_bytes() for file in cache_place.iterdir()}
    raw.train.inputs.zero_()  # what is changed stays in memory
    assert {file: file.read_bytes() for file in cache_place.iterdir()} == before
    chosen = in_memory.train.select(torch.tensor([3, 0, 3]))
    assert torch.equal(chosen.inputs, in_memory.train.inputs[[3, 0, 3]])
    assert sorted(file.name for file in cache_place.iterdir()) == files  # a selection's file has no name
    batch = next(chosen.batches(2))
    batch.inputs.zero_()
    assert chosen.inputs.max() > 0
