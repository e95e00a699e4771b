"""Fixed features of pictures: equal to their naive form, and what they are good for."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import gradient_histograms as module
from benchmarks.gradient_histograms import gradient_histograms

from tests.naive.picture_features import naive_gradient_histograms


def smooth(rows: int, channels: int, height: int, width: int) -> np.ndarray:
    """Pictures of few frequencies, so that no two channels have gradients of one length."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) for a, b, c in generator.uniform(-0.7, 0.7, (rows * channels, 3))]
    return ((np.array(waves).reshape(rows, channels, height, width) + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 16, 16), (3, 16, 48)])
def test_gradient_histograms_equal_their_naive_form(channels, height, width, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 2)  # so that chunks meet
    pictures = smooth(3, channels, height, width)
    found = gradient_histograms(pictures)
    expected = np.array([naive_gradient_histograms(picture) for picture in pictures])
    assert found.dtype == np.float32
    # float32 leaves 1e-7 of a gradient; the root of a bin that is nearly empty makes the most of it
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.astype(np.float64) ** 2, expected**2, rtol=0, atol=2e-5)


def test_stripes_fill_the_bin_of_their_direction_alone():
    stripes = np.zeros((1, 3, 32, 32), np.uint8)
    stripes[..., ::4] = 200
    stripes[..., 1::4] = 200  # the gradient goes across, 0 degrees
    across = gradient_histograms(stripes)[0, :576].reshape(9, 8, 8)
    assert across[0].min() > 0.2
    assert across[1:].max() == 0
    down = gradient_histograms(stripes.transpose(0, 1, 3, 2).copy())[0, :576].reshape(9, 8, 8)
    # 90 degrees lie between the bins of 80 and of 100
    assert min(down[4].min(), down[5].min()) > 0.1
    assert np.delete(down, [4, 5], axis=0).max() == 0


def test_one_colour_has_no_gradient_and_no_contrast():
    plain = np.full((1, 3, 32, 32), 51, np.uint8)
    found = gradient_histograms(plain)[0]
    assert found[:576].max() == 0
    np.testing.assert_allclose(found[576:624], 0.2, rtol=1e-6)
    assert found[624:].max() < 1e-3  # the root of what float32 leaves of 0.04 - 0.04


def test_pictures_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 16 pixels"):
        gradient_histograms(np.zeros((2, 3, 24, 24), np.uint8))
