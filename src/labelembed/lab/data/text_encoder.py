"""Texts through a transformers model: the ids of its tokens, or its last hidden states, averaged over the tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field

from labelembed.errors import DataError
from labelembed.lab.data.cache import cached_with_notes, file_digest
from labelembed.lab.data.encoder import Encoded, Encoder, Texts, read_settings
from labelembed.lab.pretrained_text import (
    TOKENIZER_SUFFIXES,
    Array,
    encoder_folder,
    features_of,
    load_tokenizer,
    model_files,
    most_tokens,
    tokens_of,
)

SETTINGS_FILE = "text-encoder.json"
#: Where a run folder keeps an encoder's settings and tokenizer; the weights are the run's own.
ENCODER_FOLDER = "encoder"
# Part of the cache's key: another number where the features or the tokens change.
_VERSION = 3


@dataclass(kw_only=True)
class _Kept:
    encoder: str | None
    maximum_tokens: Annotated[int, Field(ge=3)]
    digest: str
    column: str | None = None


class TextTokens(Encoder):
    """The tokens of texts: their ids plus 1, then zeros; each text has `maximum_tokens` of them.

    The texts of a split are read at once and without others, and are found again in the cache by their content.

    Args:
        encoder: Folder of the model with its tokenizer; None: the packaged one.
        maximum_tokens: Of a text, those that begin and end it among them.

    Attributes:
        digest: SHA-256 of what the inputs depend on of the model, once it was read.
    """

    reads_texts = True
    limit_key = "maximum_tokens"
    needs_weights: ClassVar[bool] = False
    digest: str | None = None

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        self.encoder = encoder
        self.maximum_tokens = maximum_tokens

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
        """Returns the inputs [N, F] of texts, from the cache where these texts are known."""
        most = most_tokens(self.folder)
        if most is not None and self.maximum_tokens > most:
            limit = f"data.maximum_tokens is {self.maximum_tokens}; set it to {most} or less"
            raise DataError(f"{self.folder}: reads {most} tokens of a text at most, and {limit}")
        files = model_files(self.folder, (*TOKENIZER_SUFFIXES, *([".safetensors"] if self.needs_weights else [])))
        digest = hashlib.sha256(json.dumps({file.name: file_digest(file) for file in files}).encode()).hexdigest()
        if self.digest not in (None, digest):
            what = "holds another encoder than the one this run was trained on; put that one back"
            raise DataError(f"{self.folder}: {what}")
        self.digest = digest
        texts = hashlib.sha256()
        for text in examples:
            content = text.encode("utf-8", "surrogatepass")
            texts.update(len(content).to_bytes(8, "little") + content)  # or two texts could pass for others
        key = {"version": _VERSION, "what": type(self).__name__, "encoder": digest, "texts": texts.hexdigest()}
        key |= {"maximum_tokens": self.maximum_tokens}
        inputs, truncated = cached_with_notes(key, lambda _: self._make(examples))
        return Encoded(torch.from_numpy(inputs), truncated)

    def _make(self, examples: Sequence[str]) -> tuple[Array, int]:
        return tokens_of(examples, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens)

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: which encoder it was, and unless its weights are needed its other files."""
        place = self.encoder if self.needs_weights else None
        kept = _Kept(encoder=place, maximum_tokens=self.maximum_tokens, digest=self.digest or "", column=self.column)
        files = [] if self.needs_weights else model_files(self.folder, TOKENIZER_SUFFIXES)
        content = {f"{ENCODER_FOLDER}/{file.name}": file.read_bytes() for file in files}
        return content | {SETTINGS_FILE: (json.dumps(vars(kept)) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> Self:
        """Reads what `files` returned from a run folder; raises DataError where one is missing or damaged."""
        kept = read_settings(folder / SETTINGS_FILE, _Kept)
        encoder = cls(kept.encoder if cls.needs_weights else str(folder / ENCODER_FOLDER), kept.maximum_tokens)
        encoder.digest, encoder.column = kept.digest, kept.column
        return encoder


class TextFeatures(TextTokens):
    """Features of texts: hidden states averaged over the tokens."""

    input_range = (0.0, 1.0)  # features are taken as they are
    needs_weights = True

    def _make(self, examples: Sequence[str]) -> tuple[Array, int]:
        tokens, truncated = super()._make(examples)
        return features_of(tokens, self.folder, progress=self.progress), truncated
