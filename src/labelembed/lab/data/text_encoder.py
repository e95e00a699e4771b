"""Texts through a transformers model: its last hidden states, averaged over the tokens, or the ids of its tokens."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from labelembed.errors import DataError
from labelembed.lab.data.cache import cached_array, cached_with_notes
from labelembed.lab.data.encoder import Encoded, Encoder, ReadingProgress, Texts, Truncation, read_settings
from labelembed.lab.pretrained_text import (
    TOKENIZER_SUFFIXES,
    encoder_digest,
    encoder_folder,
    length_groups,
    load_encoder,
    load_tokenizer,
    mean_hidden,
    model_files,
    most_tokens,
)

FEATURES_FILE = "text-features.json"
TOKENS_FILE = "text-tokens.json"
#: Where a run folder keeps an encoder's settings and tokenizer; the weights are the run's own.
ENCODER_FOLDER = "encoder"
# Part of the caches' keys: another number where the features or the tokens change.
_VERSION = 2
# Tokens of a batch. What a processor's caches hold; a GPU wants more at once.
_TOKENS_AT_ONCE = {"cpu": 4_096, "cuda": 65_536}
_TEXTS_AT_ONCE = 1_000

Array = npt.NDArray[Any]


@dataclass(kw_only=True)
class _KeptTokens:
    maximum_tokens: Annotated[int, Field(ge=3)]
    column: str | None = None


@dataclass(kw_only=True)
class _KeptFeatures(_KeptTokens):
    encoder: str | None
    digest: str


class _ModelEncoder(Encoder):
    """What both share: the texts of a split are read at once, and without others, which would move the rounding.

    Args:
        encoder: Folder of the model with its tokenizer; None: the packaged one.
        maximum_tokens: Of a text, those that begin and end it among them.
    """

    reads_texts = True

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        self.encoder = encoder
        self.maximum_tokens = maximum_tokens

    @cached_property
    def folder(self) -> Path:
        """The model's folder."""
        return encoder_folder(self.encoder)

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
        digest = hashlib.sha256()
        for text in examples:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)  # or two texts could pass for others
        key = {"version": _VERSION, "texts": digest.hexdigest(), "maximum_tokens": self.maximum_tokens}
        key["tokenizer"] = encoder_digest(self.folder, weights=False)
        tokens, truncated = cached_with_notes(
            key | {"what": "tokens"},
            lambda _: tokens_of(examples, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens),
        )
        return Encoded(torch.from_numpy(self._inputs(tokens, key)), truncated)

    @abstractmethod
    def _inputs(self, tokens: Array, key: dict[str, Any]) -> Array:
        """Returns the inputs [N, F] of all texts of a split; `key` is the part of the cache's that tokens hang on."""

    def truncation(self, count: int, of: int) -> Truncation:
        """Returns what to say of texts that have more tokens than are read."""
        limit, most = self.maximum_tokens, most_tokens(self.folder)
        return Truncation(count=count, of=of, setting="maximum_tokens", limit=limit, most=most)


def tokens_of(texts: Sequence[str], tokenizer: Any, *, maximum_tokens: int) -> tuple[Array, int]:
    """Returns the tokens [N, maximum_tokens] of texts, their ids plus 1 and then zeros, and how many texts have more.

    Args:
        texts: N texts.
        tokenizer: What makes tokens of them, those that begin and end a text among them.
        maximum_tokens: Tokens of a text at most.
    """

    def read(some: Sequence[str], limit: int) -> list[list[int]]:
        found = tokenizer(list(some), truncation=True, max_length=limit, return_attention_mask=False) if some else {}
        return list(found.get("input_ids", []))

    # Some tokenizers find nothing in an empty text, and an encoder cannot read nothing.
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, 0)
    nothing = next(end for end in ends if end is not None)
    tokens = np.zeros((len(texts), maximum_tokens), dtype=np.int32)
    tokens[:, 0] = nothing + 1
    truncated = 0
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        for row, ids in enumerate(read(texts[begin : begin + _TEXTS_AT_ONCE], maximum_tokens), start=begin):
            tokens[row, : len(ids)] = np.array(ids, dtype=np.int32) + 1
        full = begin + np.flatnonzero(tokens[begin : begin + _TEXTS_AT_ONCE, -1])
        longer = read([texts[row] for row in full.tolist()], maximum_tokens + 1)
        truncated += sum(len(ids) > maximum_tokens for ids in longer)
    return tokens, truncated


class TextFeatures(_ModelEncoder):
    """Features of texts: hidden states averaged over the tokens that are no padding.

    Texts of like length go through the encoder together, so that little is padding. Features are kept by the content of
    texts and encoder.

    Attributes:
        digest: SHA-256 of the model, once it was read.
    """

    input_range = (0.0, 1.0)  # features are taken as they are
    digest: str | None = None

    def _inputs(self, tokens: Array, key: dict[str, Any]) -> Array:
        digest = encoder_digest(self.folder)
        if self.digest not in (None, digest):
            what = "holds another encoder than the one this run was trained on; put that one back"
            raise DataError(f"{self.folder}: {what}")
        self.digest = digest
        key = key | {"what": "text features", "encoder": digest}
        return cached_array(key, lambda: features_of(tokens, self.folder, progress=self.progress))

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: which encoder it was, by its place and its content."""
        about = {"encoder": self.encoder, "maximum_tokens": self.maximum_tokens, "digest": self.digest}
        return {FEATURES_FILE: (json.dumps(about | {"column": self.column}) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TextFeatures:
        """Reads what `files` returned from a run folder; raises DataError where it is missing or damaged."""
        kept = read_settings(folder / FEATURES_FILE, _KeptFeatures)
        encoder = cls(kept.encoder, kept.maximum_tokens)
        encoder.digest, encoder.column = kept.digest, kept.column
        return encoder


@torch.inference_mode()
def features_of(tokens: Array, folder: Path, *, progress: ReadingProgress | None = None) -> Array:
    """Returns features [N, D], float32, of tokens [N, T] as `tokens_of` returns them, through the model of a folder.

    `progress` is called with (done, total). Raises DataError where the model cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_encoder(folder).to(device)
    lengths = (tokens > 0).sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    features: list[Array] = [np.empty((0, model.config.hidden_size), dtype=np.float32)]
    done = 0
    for group in length_groups(lengths[order].tolist(), _TOKENS_AT_ONCE[device.type]):
        ids = torch.from_numpy(tokens[order[group], : lengths[order[group]].max()]).long().to(device)
        features.append(mean_hidden(model, (ids - 1).clamp_min(0), (ids > 0).long()).float().cpu().numpy())
        done += len(ids)
        if progress is not None:
            progress(done, len(tokens))
    return np.concatenate(features)[np.argsort(order, kind="stable")]


class TextTokens(_ModelEncoder):
    """The tokens of texts: their ids plus 1, then zeros; each text has `maximum_tokens` of them."""

    @cached_property
    def _largest(self) -> int:
        return len(load_tokenizer(self.folder))

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest id of an input."""
        return (0.0, float(self._largest))

    def _inputs(self, tokens: Array, key: dict[str, Any]) -> Array:
        return tokens

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: tokenizer and settings of the encoder, without its weights."""
        files = [file for file in model_files(self.folder, TOKENIZER_SUFFIXES) if not file.name.endswith(".index.json")]
        about = {"maximum_tokens": self.maximum_tokens, "column": self.column}
        kept = {f"{ENCODER_FOLDER}/{file.name}": file.read_bytes() for file in files}
        return kept | {TOKENS_FILE: (json.dumps(about) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TextTokens:
        """Reads what `files` returned from a run folder; raises DataError where one is missing or damaged."""
        kept = read_settings(folder / TOKENS_FILE, _KeptTokens)
        encoder = cls(str(encoder_folder(folder / ENCODER_FOLDER)), kept.maximum_tokens)
        encoder.column = kept.column
        return encoder
