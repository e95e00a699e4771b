"""What pictures become: their pixels, or the features of a pre-trained network; made once and kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from labelembed.errors import DataError
from labelembed.files import file_digest
from labelembed.lab.data.cache import cache_folder, cached_file, cached_with_notes
from labelembed.lab.data.encoder import Encoded, Encoder, RawInputs, read_settings
from labelembed.lab.data.image_files import Array, Fit, Images, ImageSize, decode
from labelembed.lab.pretrained_images import NETWORK, PACKAGED, FeatureNetwork, weights_file

#: Pictures in a batch: progress is reported after each batch, and a dry run measures one.
AT_ONCE = 64
# Part of the cache's keys: another number where the same picture gives other inputs.
_VERSION = 6


@dataclass(kw_only=True)
class _Kept:
    """What a run folder keeps: all that was learned, and of features which network it was."""

    channels: Literal[1, 3] = 3
    size: int
    fit: Fit
    backbone: str = ""
    weights: str = ""
    digest: str = ""


class ImagePixels(Encoder):
    """Pictures [N, channels, size, size] of bytes: grey where all training pictures are, of the size that these have.

    That is the median of their shorter sides, but 16 to 64, unless `image_size` says another; for `fit` see `Fit`.
    """

    file: ClassVar[str] = "image-pixels.json"
    input_range = (0.0, 255.0)
    backbone = weights = digest = ""
    notes: tuple[str, ...] = ()

    def __init__(self, image_size: ImageSize = "auto", fit: Fit = "crop") -> None:
        self.image_size, self.fit = image_size, fit
        self.channels: Literal[1, 3] = 3
        self.size = 0  # learned

    def fit_transform(self, examples: Images) -> Encoded:
        """Learns size and channels from the training pictures."""
        typical, are_grey = examples.headers()
        self._learn(typical, are_grey)
        if self.image_size != "auto":
            self.size = self.image_size
            return self.transform(examples)
        size = f"{self.size} x {self.size}, because the median shorter side is {typical:,}"
        self.notes = (f"pictures become {size}; another size: --set data.image_size=NUMBER",)
        return self.transform(examples)

    def transform(self, examples: Images) -> Encoded:
        """Returns the inputs, from the cache where they were made before; pixels to predict for are not kept."""
        if not examples.belong:
            return Encoded(torch.from_numpy(self._make(examples)))
        key = {"inputs": self._cache_key(), "pictures": examples.digests}
        made, _ = cached_with_notes(key, lambda: (self._make(examples), None))
        return Encoded(torch.from_numpy(made))

    def files(self) -> dict[str, bytes]:
        """Returns the settings file: channels, size and fit, and of features network and weights."""
        return {self.file: (json.dumps({one.name: getattr(self, one.name) for one in fields(_Kept)}) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> Self:
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept = read_settings(folder / cls.file, _Kept)
        encoder = cls(image_size=kept.size, fit=kept.fit)
        vars(encoder).update(vars(kept))
        return encoder

    def _make(self, images: Images) -> Array:
        inputs = self._empty(len(images))
        with contextlib.closing(images.each(lambda index: self._input_of(images.content(index)))) as made:
            for done, (index, one) in enumerate(made, start=1):
                inputs[index] = one
                if self.progress is not None and (done % AT_ONCE == 0 or done == len(images)):
                    self.progress(self.done + done, max(self.total, len(images)))
        return inputs

    def _learn(self, typical: int, are_grey: bool) -> None:
        self.size = max(16, min(typical, 64))  # networks for pictures need 16
        self.channels = 1 if are_grey else 3

    def _cache_key(self) -> list[Any]:
        return [_VERSION, self.channels, self.size, self.fit]

    def _empty(self, count: int) -> Array:
        return np.zeros((count, self.channels, self.size, self.size), np.uint8)

    def _input_of(self, content: bytes) -> Array:
        return decode(content, channels=self.channels, size=(self.size, self.size), fit=self.fit)


class ImageFeatures(ImagePixels):
    """What a network of timm without its classifier makes of pictures [N, D].

    Each picture goes through the network by itself, on one thread a picture: so its features are the same to the bit
    whatever other pictures there are. They are kept at once, so that an interruption loses next to nothing.

    `backbone` is timm's name of the network, for `weights` see `weights_file`; pictures get 128 pixels a side where
    those of the training have up to 64, 192 where they have less than 192, else 224, unless `image_size` says another.
    """

    file = "image-features.json"
    input_range = (0.0, 1.0)  # features are taken as they are

    def __init__(
        self, backbone: str = NETWORK, weights: str = PACKAGED, image_size: ImageSize = "auto", fit: Fit = "crop"
    ) -> None:
        super().__init__(image_size, fit)
        self.backbone, self.weights = backbone, weights
        self._seconds_each: float | None = None

    def transform(self, examples: Images) -> Encoded:
        """Returns the features, from the cache where they were computed before."""
        file = weights_file(self.backbone, self.weights)
        digest = file_digest(file)
        if self.digest not in ("", digest):
            raise DataError(f"{file}: holds other weights than those this run was trained on; put those back")
        self.digest = digest
        if self.dry_run:
            missing = [index for index, digest in enumerate(examples.digests) if not self._file(digest).exists()]
            if missing:
                return self._estimate(examples, missing)
        return super().transform(examples)

    def raw_inputs(self) -> RawInputs:
        """Returns the network, for pictures of bytes."""
        return RawInputs(self._network, (3, self.size, self.size), (0.0, 255.0))

    def _estimate(self, images: Images, missing: list[int]) -> Encoded:
        """Computes a few pictures, which stand for all, and notes how long the others will take."""
        stand_in = self._empty(len(images))  # the network is built here
        if self._seconds_each is None:
            some, began = missing[: 3 * AT_ONCE], time.perf_counter()
            self._make(images.select(torch.tensor(some)))
            self._seconds_each = (time.perf_counter() - began) / len(some)
            missing = missing[len(some) :]
        left = (self.left_to_do[0] if self.left_to_do else 0) + len(missing)
        self.left_to_do = (left, left * self._seconds_each) if left else None
        return Encoded(torch.from_numpy(stand_in)) if left else super().transform(images)

    @cached_property
    def _network(self) -> FeatureNetwork:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return FeatureNetwork(self.backbone, weights=self.weights, size=self.size).to(device)

    def _learn(self, typical: int, are_grey: bool) -> None:
        self.size = 128 if typical <= 64 else 192 if typical < 192 else 224

    def _cache_key(self) -> list[Any]:
        return [_VERSION, self.backbone, self.digest, self.size, self.fit]

    def _empty(self, count: int) -> Array:
        return np.zeros((count, self._network.width), np.float32)

    def _input_of(self, content: bytes) -> Array:
        return cached_file(self._file(hashlib.sha256(content).hexdigest()), lambda: self._features_of(content))

    @torch.inference_mode()
    def _features_of(self, content: bytes) -> Array:
        pixels = decode(content, channels=3, size=(self.size, self.size), fit=self.fit, cubic=True)
        features = self._network(torch.from_numpy(pixels)[None].to(self._network.mean.device))
        return features.float().cpu().numpy()[0]  # type: ignore[no-any-return]

    def _file(self, digest: str) -> Path:
        key = hashlib.sha256(json.dumps(self._cache_key()).encode()).hexdigest()[:16]
        return cache_folder() / f"features-{key}" / f"{digest}.npy"
