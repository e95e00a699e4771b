"""Pictures as their pixels: decoded and resized once, and kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from labelembed.lab.data.cache import NewArray, cached_with_notes
from labelembed.lab.data.encoder import Encoded, Encoder, read_settings
from labelembed.lab.data.image_files import Fit, Images, ImageSize, Pixels, decode, size_notes

PIXELS_FILE = "image-pixels.json"
# Part of the cache's key: another number where the same files give other pixels.
_VERSION = 5
# The smallest and the largest size that `auto` takes; networks for pictures need the smallest.
_SMALLEST, _LARGEST = 16, 64


@dataclass(kw_only=True)
class _Kept:
    channels: Literal[1, 3]
    size: int
    fit: Fit


class ImagePixels(Encoder):
    """Pictures [N, channels, size, size] of bytes.

    The training pictures decide what all become: grey where all of them are grey and otherwise coloured, and with
    `auto` the median of their shorter sides, but 16 to 64 pixels.

    Args:
        image_size: Height and width, or `auto`.
        fit: How pictures of other proportions are brought to it.
    """

    input_range = (0.0, 255.0)
    notes: tuple[str, ...] = ()

    def __init__(self, image_size: ImageSize = "auto", fit: Fit = "crop") -> None:
        self.image_size, self.fit = image_size, fit
        self.channels: Literal[1, 3] = 3
        self.size = 0

    def fit_transform(self, examples: Images) -> Encoded:
        """Learns size and channels from the training pictures."""
        typical, are_grey, extreme = examples.headers()
        self.size = max(_SMALLEST, min(typical, _LARGEST)) if self.image_size == "auto" else self.image_size
        self.channels = 1 if are_grey else 3
        self.notes = size_notes(self.image_size, self.fit, self.size, typical, extreme)
        return self.transform(examples)

    def transform(self, examples: Images) -> Encoded:
        """Returns the pixels, from the cache where the same pictures were decoded before."""
        if not examples.belong:
            return Encoded(torch.from_numpy(self._decoded(examples, partial(np.zeros, dtype=np.uint8))[0]))
        about = [_VERSION, self.channels, self.size, self.fit]
        made_from = {"what": "pictures", "about": about, "pictures": examples.digests}
        return Encoded(torch.from_numpy(cached_with_notes(made_from, partial(self._decoded, examples))[0]))

    def _decoded(self, images: Images, new_array: NewArray) -> tuple[Pixels, None]:
        pixels = new_array((len(images), self.channels, self.size, self.size))
        how = partial(decode, channels=self.channels, size=(self.size, self.size), fit=self.fit)
        reasons: dict[int, str] = {}
        for decoded in images.each(how, range(len(images)), reasons):
            for index, picture in decoded.items():
                pixels[index] = picture
            if self.progress is not None and decoded:
                self.progress(self.done + max(decoded) + 1, max(self.total, len(images)))
        images.refuse(reasons)
        return pixels, None

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: channels, size and fit."""
        about = {"channels": self.channels, "size": self.size, "fit": self.fit}
        return {PIXELS_FILE: (json.dumps(about) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> ImagePixels:
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept = read_settings(folder / PIXELS_FILE, _Kept)
        found = cls(kept.size, kept.fit)
        found.channels, found.size = kept.channels, kept.size
        return found
