"""Gradient histograms, colours and contrasts of one picture, in loops, from the words of their documentation."""

import math

import numpy as np


def naive_gradient_histograms(picture: np.ndarray) -> np.ndarray:
    """The features of one picture [C, H, W] of bytes, float64."""
    pixels = picture.astype(np.float64) / 255
    channels, height, width = pixels.shape
    histograms = np.zeros((9, height // 4, width // 4))
    for y in range(height):
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            above, below = max(y - 1, 0), min(y + 1, height - 1)
            gradients = [
                ((pixels[c, y, right] - pixels[c, y, left]) / 2, (pixels[c, below, x] - pixels[c, above, x]) / 2)
                for c in range(channels)
            ]
            across, down = max(gradients, key=lambda gradient: gradient[0] ** 2 + gradient[1] ** 2)
            length = math.hypot(across, down)
            place = (math.degrees(math.atan2(down, across)) % 180) / 20
            lower = math.floor(place)
            share = place - lower
            histograms[lower % 9, y // 4, x // 4] += (1 - share) * length / 16
            histograms[(lower + 1) % 9, y // 4, x // 4] += share * length / 16
    normalised = np.zeros_like(histograms)
    for y in range(height // 4):
        for x in range(width // 4):
            energies = [
                (histograms[:, b, a] ** 2).sum()
                for b in range(max(y - 1, 0), min(y + 2, height // 4))
                for a in range(max(x - 1, 0), min(x + 2, width // 4))
            ]
            around = math.sqrt(sum(energies) / len(energies) * 9)
            normalised[:, y, x] = np.sqrt(histograms[:, y, x] / (around + 0.05))
    blocks = [
        [
            function(pixels[c, y : y + size, x : x + size])
            for c in range(channels)
            for y in range(0, height, size)
            for x in range(0, width, size)
        ]
        for size, function in ((8, np.mean), (16, np.std))
    ]
    return np.concatenate([normalised.ravel(), *blocks])
