"""Files to predict for: pictures and arrays become inputs of the size and scale of training."""

from __future__ import annotations

import io
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.errors import DataError
from labelembed.lab.data import read_inputs
from tests.made_data import made_images, write_image

GREY = {"input_shape": (1, 4, 5), "input_range": (0.0, 255.0)}
COLOUR = {"input_shape": (3, 4, 5), "input_range": (0.0, 255.0)}
DIGITS = {"input_shape": (1, 8, 8), "input_range": (0.0, 16.0)}
FEATURES = {"input_shape": (6,), "input_range": (-2.5, 4.0)}
ONE = made_images(1)[0]


def read_array(folder, array, **kind):
    np.save(folder / "a.npy", array)
    return read_inputs(folder / "a.npy", **kind)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((1, 4, 5), ["a.npy"]),
        ((4, 5), ["a.npy"]),
        ((20,), ["a.npy"]),
        ((2, 1, 4, 5), ["a.npy[0]", "a.npy[1]"]),
        ((2, 4, 5), ["a.npy[0]", "a.npy[1]"]),
        ((1, 20), ["a.npy[0]"]),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, ">f4"])
def test_arrays_of_every_shape_and_type_are_read(tmp_path, shape, names, dtype):
    array = np.asfortranarray((np.arange(np.prod(shape)) * 3).astype(dtype).reshape(shape))
    inputs, found, notes = read_array(tmp_path, array, **GREY)
    assert inputs.shape == (len(names), 1, 4, 5)
    assert inputs.dtype == (torch.uint8 if dtype is np.uint8 else torch.float32)
    assert (found, notes) == (names, [])
    np.testing.assert_array_equal(inputs.numpy().ravel(), array.ravel())


def with_value(value, dtype=np.float64):
    array = np.full((3, 4, 5), 100, dtype)
    array[2, 1, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (with_value(256), "values of 100 to 256"),
        (with_value(-1, np.int16), "values of -1 to 100"),
        (with_value(1e300), "row 2 has the value inf"),
        (with_value(np.nan), "row 2 has the value nan"),
        (np.full((3, 4, 5), 0.5), "trained on 0 to 255"),
        (np.zeros((3, 5, 4)), "[1 x 4 x 5] or [20] or [4 x 5]"),
        (np.float64(3), "found [1]"),
        (np.zeros((0, 4, 5)), "[1 x 4 x 5]"),
        (np.array(["a"] * 20), "found <U1"),
        (np.zeros((3, 4, 5), complex), "found complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_file_and_row(tmp_path, array, word):
    with pytest.raises(DataError, match=re.escape(word)) as raised:
        read_array(tmp_path, array, **GREY)
    assert str(raised.value).startswith(str(tmp_path / "a.npy"))


def test_values_of_another_scale_are_noted_or_refused(tmp_path):
    with pytest.raises(DataError, match="trained on 0 to 16"):
        read_array(tmp_path, np.full((8, 8), 1.0), **DIGITS)
    # a black image is the same in both scales, and 0 and 1 as whole numbers are told, not refused
    assert read_array(tmp_path, np.zeros((8, 8)), **DIGITS)[2] == []
    # of vectors the range is what was measured
    array = np.array([[0.0] * 6, [1.0] * 6, [9.0] * 6])
    inputs, _, notes = read_array(tmp_path, array, **FEATURES)
    assert inputs.tolist() == array.tolist()
    assert "0 to 9" in notes[0]


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def image_bytes(**options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(made_images(1, height=40, width=50)[0]).save(stream, **options)
    return stream.getvalue()


def pickled_array() -> bytes:
    stream, trap = io.BytesIO(), np.empty(1, dtype=object)
    trap[0] = Trap()
    np.save(stream, trap, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"some text", "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 5\n", "no picture"),
        (b"\x93NUMPY\x01\x00", "cut off or damaged"),
        (image_bytes(format="PNG")[:300], "cut off or damaged"),
        (image_bytes(format="JPEG")[:300], "cut off or damaged"),
        (pickled_array(), "Python objects"),
        (pickle.dumps(Trap()), "no picture"),
    ],
)
def test_other_files_are_refused_and_never_unpickled(tmp_path, content, word):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=word) as raised:
        read_inputs(tmp_path / "file", **GREY)
    assert str(raised.value).startswith(f"{tmp_path / 'file'}: ")


@pytest.mark.parametrize("limit", [30, 5])  # twice the limit is where Pillow goes over from warning to refusing
def test_pictures_of_too_many_pixels_are_refused(tmp_path, monkeypatch, limit):
    path = write_image(tmp_path / "one.png", made_images(1, height=5, width=8)[0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=f"more than {limit} pixels"):
        read_inputs(path, **GREY)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "gif", "pgm"])
def test_a_picture_of_the_right_size_is_taken_as_it_is_whatever_its_name(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = write_image(tmp_path / f"one.{suffix}", ONE, **options)
    for file in (path, path.with_name("one.npy")):
        inputs, names, notes = read_inputs(path.rename(file), **GREY)
        np.testing.assert_array_equal(inputs.numpy(), ONE[None, None])
        assert (inputs.dtype, names, notes) == (torch.uint8, [file.name], [])


def test_pictures_are_brought_to_the_size_and_the_colours_of_training(tmp_path):
    red = np.zeros((40, 100, 3), np.uint8)
    red[..., 0] = 200
    inputs, _, _ = read_inputs(write_image(tmp_path / "red.png", red), **GREY)
    # the weight of red in ITU-R 601 luma is 0.299
    assert set(inputs.flatten().tolist()) == {round(200 * 0.299)}
    same = np.repeat(ONE[..., None], 3, axis=2)
    inputs, _, _ = read_inputs(write_image(tmp_path / "same.png", same), **GREY)
    np.testing.assert_array_equal(inputs[0, 0].numpy(), ONE)
    inputs, _, _ = read_inputs(write_image(tmp_path / "colour.png", same), **COLOUR)
    assert torch.equal(inputs[0, 0], inputs[0, 2])


def test_resizing_takes_every_pixel_into_account(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 255  # picking every eighth row would give 255 or 0
    inputs, _, _ = read_inputs(write_image(tmp_path / "s.png", stripes), **(GREY | {"input_shape": (1, 8, 8)}))
    assert (inputs.float() - 127.5).abs().max() < 10  # the filter's edge rows weigh one stripe more


def test_transparent_is_white(tmp_path):
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[0, 0, 3] = 255  # one black pixel, all else is transparent
    for mode, kind in ((None, GREY), ("LA", GREY), (None, COLOUR)):
        inputs, _, _ = read_inputs(write_image(tmp_path / "t.png", pixels, mode), **kind)
        assert inputs[0, 0, 0, 0] == 0
        assert inputs[0].flatten(1)[:, 1:].float().mean() == 255


def test_deep_grey_first_frame_orientation_and_range(tmp_path):
    def pixels_of(path, **kind):
        return read_inputs(path, **(GREY | kind))[0][0, 0].numpy()

    deep = write_image(tmp_path / "deep.png", ONE.astype(np.uint16) * 257)
    np.testing.assert_array_equal(pixels_of(deep), ONE)
    with pytest.raises(DataError, match="has 32 bits a pixel"):
        pixels_of(write_image(tmp_path / "float.tiff", ONE.astype(np.float32)))
    frames = [Image.fromarray(image) for image in made_images(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels_of(tmp_path / "film.gif"), np.asarray(frames[0]))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = write_image(tmp_path / "turned.png", ONE, exif=exif)
    np.testing.assert_array_equal(pixels_of(turned), ONE[::-1, ::-1])
    # float32 rounding of one product
    np.testing.assert_allclose(pixels_of(turned, input_range=(0.0, 16.0)), ONE[::-1, ::-1] * (16 / 255), rtol=1e-6)
    for kind in ({"input_shape": (20,)}, {"input_range": (-2.5, 4.0)}):
        with pytest.raises(DataError, match=r"inputs of shape|values of -2.5"):
            pixels_of(turned, **kind)
