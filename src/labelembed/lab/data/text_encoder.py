"""Texts through a transformers model: the ids of its tokens, or its last hidden states, averaged over the tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field

from labelembed.errors import DataError
from labelembed.files import file_digest
from labelembed.lab.data.cache import cached_with_notes
from labelembed.lab.data.encoder import Encoded, Encoder, Texts, read_settings
from labelembed.lab.pretrained_text import (
    TOKENIZER_SUFFIXES,
    Array,
    encoder_folder,
    features_of,
    load_tokenizer,
    model_files,
    tokens_of,
)

SETTINGS_FILE = "text-encoder.json"
#: Where a run folder keeps an encoder's settings and tokenizer; the weights are the run's own.
ENCODER_FOLDER = "encoder"
# Part of the cache's key: another number where the features change.
_VERSION = 4


@dataclass(kw_only=True)
class _Kept:
    encoder: str | None
    maximum_tokens: Annotated[int, Field(ge=3)]
    digest: str | None
    column: str | None


class TextTokens(Encoder):
    """The tokens of texts: their ids plus 1, then zeros; each text has `maximum_tokens` of them.

    Args:
        encoder: Folder of the model with its tokenizer; None: the packaged one.
        maximum_tokens: Of a text, those that begin and end it among them.
    """

    reads_texts = True
    limit_key = "maximum_tokens"
    #: SHA-256 of what features depend on of the model, once it was read.
    digest: str | None = None

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        self.encoder, self.maximum_tokens = encoder, maximum_tokens

    @cached_property
    def folder(self) -> Path:
        """The model's folder."""
        return encoder_folder(self.encoder)

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest id of an input."""
        return (0.0, float(len(load_tokenizer(self.folder))))

    def fit_transform(self, examples: Texts) -> Encoded:
        """Returns the inputs; nothing is learned of the texts but where they stood."""
        self.column = examples.column
        return self.transform(examples)

    def transform(self, examples: Sequence[str]) -> Encoded:
        """Returns the inputs [N, maximum_tokens] of texts."""
        tokens, truncated = tokens_of(examples, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens)
        return Encoded(torch.from_numpy(tokens), truncated)

    def files(self) -> dict[str, bytes]:
        """Returns the settings, and of a fine-tuned encoder its tokenizer and config; the weights are the run's own."""
        place = None if self.digest is None else self.encoder
        kept = _Kept(encoder=place, maximum_tokens=self.maximum_tokens, digest=self.digest, column=self.column)
        files = model_files(self.folder, TOKENIZER_SUFFIXES) if self.digest is None else []
        content = {f"{ENCODER_FOLDER}/{file.name}": file.read_bytes() for file in files}
        return content | {SETTINGS_FILE: (json.dumps(vars(kept)) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> Self:
        """Reads what `files` returned from a run folder; raises DataError where one is missing or damaged."""
        kept = read_settings(folder / SETTINGS_FILE, _Kept)
        own = folder / ENCODER_FOLDER
        encoder = cls(str(own) if own.is_dir() else kept.encoder, kept.maximum_tokens)
        encoder.digest, encoder.column = kept.digest, kept.column
        return encoder


class TextFeatures(TextTokens):
    """Features of texts: hidden states averaged over the tokens.

    The texts of a split are read at once and without others, and are found again in the cache by their content.
    """

    input_range = (0.0, 1.0)  # features are taken as they are

    def transform(self, examples: Sequence[str]) -> Encoded:
        """Returns the inputs [N, F] of texts, from the cache where these texts are known."""
        files = model_files(self.folder, (*TOKENIZER_SUFFIXES, ".safetensors"))
        digest = hashlib.sha256(json.dumps({file.name: file_digest(file) for file in files}).encode()).hexdigest()
        if self.digest not in (None, digest):
            raise DataError(f"{self.folder}: holds another encoder than the one this run was trained on; put that back")
        self.digest = digest
        texts = hashlib.sha256(json.dumps(list(examples)).encode()).hexdigest()
        key = {"version": _VERSION, "encoder": digest, "texts": texts, "maximum_tokens": self.maximum_tokens}

        def make() -> tuple[Array, int]:
            tokens, truncated = tokens_of(examples, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens)
            return features_of(tokens, self.folder, progress=self.progress), truncated

        inputs, truncated = cached_with_notes(key, make)
        return Encoded(torch.from_numpy(inputs), truncated)
