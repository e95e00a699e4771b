"""Images to predict for: brought to the channels, the size and the range of the network."""

import numpy as np
import pytest
import torch
from PIL import Image

from labelembed.data import read_inputs
from labelembed.errors import DataError
from tests.made_data import made_images, write_image

GREY = {"input_shape": (1, 4, 5), "input_range": (0.0, 255.0)}
COLOUR = {"input_shape": (3, 4, 5), "input_range": (0.0, 255.0)}
ONE = made_images(1)[0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "gif", "pgm"])
def test_read_inputs_image_of_the_right_size_is_taken_as_it_is(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = write_image(tmp_path / f"one.{suffix}", ONE, **options)
    inputs, names, notes = read_inputs(path, **GREY)
    np.testing.assert_array_equal(inputs.numpy(), ONE[None, None])
    assert inputs.dtype == torch.uint8
    assert names == [f"one.{suffix}"]
    assert notes == []


def test_read_inputs_type_is_seen_from_the_content(tmp_path):
    path = write_image(tmp_path / "one.png", ONE).rename(tmp_path / "one.npy")
    np.testing.assert_array_equal(read_inputs(path, **GREY)[0].numpy(), ONE[None, None])


def test_read_inputs_colour_image(tmp_path):
    pixels = made_images(3).transpose(1, 2, 0)
    inputs, _, notes = read_inputs(write_image(tmp_path / "c.png", np.ascontiguousarray(pixels)), **COLOUR)
    np.testing.assert_array_equal(inputs[0].numpy(), pixels.transpose(2, 0, 1))
    assert notes == []


def test_read_inputs_notes_every_change_of_an_image(tmp_path):
    red = np.zeros((40, 100, 3), np.uint8)
    red[..., 0] = 200
    inputs, _, notes = read_inputs(write_image(tmp_path / "red.png", red), **GREY)
    assert notes == ["colours made grey", "resized from 100x40 to 5x4, which changes its proportions"]
    # the weight of red in ITU-R 601 luma is 0.299
    assert set(inputs.flatten().tolist()) == {round(200 * 0.299)}
    inputs, _, notes = read_inputs(write_image(tmp_path / "grey.png", np.repeat(np.repeat(ONE, 2, 0), 2, 1)), **COLOUR)
    assert notes == ["grey used for red, green and blue", "resized from 10x8 to 5x4"]
    assert torch.equal(inputs[0, 0], inputs[0, 2])
    # grey pixels in a colour file lose nothing, so nothing is noted
    same = np.repeat(ONE[..., None], 3, axis=2)
    inputs, _, notes = read_inputs(write_image(tmp_path / "same.png", same), **GREY)
    assert notes == []
    np.testing.assert_array_equal(inputs[0, 0].numpy(), ONE)


def test_read_inputs_resizing_takes_every_pixel_into_account(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::2] = 255  # picking every eighth row would give 255 or 0
    inputs, _, _ = read_inputs(
        write_image(tmp_path / "s.png", stripes), input_shape=(1, 8, 8), input_range=(0.0, 255.0)
    )
    assert (inputs.float() - 127.5).abs().max() < 10  # the filter's edge rows weigh one stripe more


def test_read_inputs_transparent_is_white(tmp_path):
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[0, 0, 3] = 255  # one black pixel, all else is transparent
    for mode, kind in ((None, GREY), ("LA", GREY), (None, COLOUR)):
        inputs, _, notes = read_inputs(write_image(tmp_path / "t.png", pixels, mode), **kind)
        assert "transparent parts made white" in notes
        assert inputs[0, 0, 0, 0] == 0
        assert inputs[0].flatten(1)[:, 1:].float().mean() == 255
    pixels[..., 3] = 255
    assert read_inputs(write_image(tmp_path / "t.png", pixels), **COLOUR)[2] == []


def test_read_inputs_deep_grey_is_not_cut_off(tmp_path):
    deep = ONE.astype(np.uint16) * 257
    inputs, _, notes = read_inputs(write_image(tmp_path / "deep.png", deep), **GREY)
    assert notes == ["16 bits a channel made 8"]
    np.testing.assert_array_equal(inputs[0, 0].numpy(), ONE)
    with pytest.raises(DataError, match="has 32 bits a pixel; save the picture with 8"):
        read_inputs(write_image(tmp_path / "float.tiff", ONE.astype(np.float32)), **GREY)


def test_read_inputs_first_frame_and_orientation(tmp_path):
    frames = [Image.fromarray(image) for image in made_images(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert "only the first of several frames used" in read_inputs(tmp_path / "film.gif", **GREY)[2]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    inputs, _, notes = read_inputs(write_image(tmp_path / "turned.png", ONE, exif=exif), **GREY)
    assert notes == ["turned as the camera's orientation says"]
    np.testing.assert_array_equal(inputs[0, 0].numpy(), ONE[::-1, ::-1])


@pytest.mark.parametrize("high", [1.0, 16.0])
def test_read_inputs_image_is_scaled_to_the_range(tmp_path, high):
    path = write_image(tmp_path / "one.png", ONE)
    inputs, _, _ = read_inputs(path, input_shape=(1, 4, 5), input_range=(0.0, high))
    # float32 rounding of one product
    np.testing.assert_allclose(inputs[0, 0].numpy(), ONE * (high / 255), rtol=1e-6)


def test_read_inputs_invert(tmp_path):
    path = write_image(tmp_path / "one.png", ONE)
    inputs, _, notes = read_inputs(path, invert=True, **GREY)
    np.testing.assert_array_equal(inputs[0, 0].numpy(), 255 - ONE)
    assert notes == ["dark and light exchanged"]


def test_read_inputs_image_for_a_network_that_takes_none(tmp_path):
    path = write_image(tmp_path / "one.png", ONE)
    with pytest.raises(DataError, match=r"the network takes inputs of shape \(20,\); give a .npy array"):
        read_inputs(path, input_shape=(20,), input_range=(0.0, 255.0))
    with pytest.raises(DataError, match=r"values of -2.5 to 4, which says nothing of black and white"):
        read_inputs(path, input_shape=(1, 4, 5), input_range=(-2.5, 4.0))
