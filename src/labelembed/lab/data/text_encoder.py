"""Texts through a transformers model: its last hidden states, averaged over the tokens, or the ids of its tokens."""

from __future__ import annotations

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
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.cache import cached_array
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
Tokens = list[list[int]]


@dataclass(kw_only=True)
class _KeptTokens:
    maximum_tokens: Annotated[int, Field(ge=3)]
    column: str | None = None


@dataclass(kw_only=True)
class _KeptFeatures(_KeptTokens):
    encoder: str | None
    digest: str


class _ModelEncoder(Encoder):
    """What both share: all texts of a split are read at once, so that texts of like length find each other.

    Alone, too: the texts of another split in a batch would move the rounding.

    Args:
        encoder: Folder of the model with its tokenizer; None: the packaged one.
        maximum_tokens: Of a text, those that begin and end it among them.
    """

    reads_texts = True

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        self.encoder = encoder
        self.maximum_tokens = maximum_tokens
        self._made: tuple[Sequence[str], Tensor, Array] | None = None

    @cached_property
    def folder(self) -> Path:
        """The model's folder."""
        return encoder_folder(self.encoder)

    def fit_transform(self, examples: Texts) -> Encoded:
        """Returns the inputs; nothing is learned of the texts but where they stood."""
        self.column = examples.column
        return self.transform(examples)

    def transform(self, examples: Texts) -> Encoded:
        """Returns the inputs [N, F] of texts."""
        if self._made is None or self._made[0] is not examples.every:
            most = most_tokens(self.folder)
            if most is not None and self.maximum_tokens > most:
                raise DataError(
                    f"{self.folder}: reads {most} tokens of a text at most, and data.maximum_tokens is "
                    f"{self.maximum_tokens}; set it to {most} or less"
                )
            key = {"version": _VERSION, "texts": examples.digest, "maximum_tokens": self.maximum_tokens}
            key["tokenizer"] = encoder_digest(self.folder, weights=False)
            texts = _Tokenized(examples.every, self.folder, self.maximum_tokens)
            inputs = torch.from_numpy(self._inputs(texts, key))
            is_truncated = cached_array(key | {"what": "truncated texts"}, lambda: texts.is_truncated)
            self._made = (examples.every, inputs, is_truncated)
        _, inputs, is_truncated = self._made
        chosen = torch.from_numpy(examples.indices)
        return Encoded(inputs.index_select(0, chosen), int(is_truncated[examples.indices].sum()))

    @abstractmethod
    def _inputs(self, texts: _Tokenized, key: dict[str, Any]) -> Array:
        """Returns the inputs [N, F] of all texts of a split; `key` says of the cache's what hangs on the tokens."""

    def truncation(self, count: int, of: int) -> Truncation:
        """Returns what to say of texts that have more tokens than are read."""
        limit, most = self.maximum_tokens, most_tokens(self.folder)
        return Truncation(count=count, of=of, setting="maximum_tokens", limit=limit, most=most)


class _Tokenized:
    """Texts as tokens, when these are needed: most often what is made of them is in the cache."""

    def __init__(self, texts: Sequence[str], folder: Path, maximum_tokens: int) -> None:
        self.texts, self.folder, self.maximum_tokens = texts, folder, maximum_tokens

    @cached_property
    def _read(self) -> tuple[Tokens, Array]:
        return tokens_of(self.texts, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens)

    @property
    def tokens(self) -> Tokens:
        """The ids of each text's tokens, with those that begin and end it."""
        return self._read[0]

    @property
    def is_truncated(self) -> Array:
        """Whether each text has more tokens [N]."""
        return self._read[1]


def tokens_of(texts: Sequence[str], tokenizer: Any, *, maximum_tokens: int) -> tuple[Tokens, Array]:
    """Returns the ids of each text's tokens, with those that begin and end it, and whether it has more [N].

    Args:
        texts: N texts.
        tokenizer: What makes tokens of them.
        maximum_tokens: Tokens of a text at most.
    """

    def read(some: Sequence[str], limit: int) -> Tokens:
        if not some:
            return []
        ids: Tokens = tokenizer(list(some), truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
        return ids

    # Some tokenizers find nothing in an empty text, and an encoder cannot read nothing.
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, 0)
    nothing = [next(end for end in ends if end is not None)]
    tokens: Tokens = []
    is_truncated = np.zeros(len(texts), dtype=bool)
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        tokens += read(texts[begin : begin + _TEXTS_AT_ONCE], maximum_tokens)
        full = [row for row in range(begin, len(tokens)) if len(tokens[row]) >= maximum_tokens]
        longer = read([texts[row] for row in full], maximum_tokens + 1)
        is_truncated[full] = [len(each) > maximum_tokens for each in longer]
    return [each or nothing for each in tokens], is_truncated


class TextFeatures(_ModelEncoder):
    """Features of texts: hidden states averaged over the tokens that are no padding.

    Texts of like length go through the encoder together, so that little is padding. Features are kept by the content of
    texts and encoder.

    Attributes:
        digest: SHA-256 of the model, once it was read.
    """

    input_range = (0.0, 1.0)  # features are taken as they are
    digest: str | None = None

    def _inputs(self, texts: _Tokenized, key: dict[str, Any]) -> Array:
        digest = encoder_digest(self.folder)
        if self.digest not in (None, digest):
            raise DataError(
                f"{self.folder}: holds another encoder than the one this run was trained on; put that one back"
            )
        self.digest = digest
        key = key | {"what": "text features", "encoder": digest}
        return cached_array(key, lambda: features_of(texts.tokens, self.folder, progress=self.progress))

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
def features_of(tokens: Tokens, folder: Path, *, progress: ReadingProgress | None = None) -> Array:
    """Returns features [N, D], float32, of N texts that are tokens already.

    Args:
        tokens: The ids of each text's tokens.
        folder: Of a transformers model, weights in safetensors form.
        progress: Called with (done, total) while texts are read.

    Raises:
        DataError: The encoder cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_encoder(folder).to(device)
    lengths = np.array(list(map(len, tokens)))
    order = np.argsort(lengths, kind="stable")
    features = np.empty((len(tokens), 0), dtype=np.float32)
    done = 0
    for group in length_groups(lengths[order].tolist(), _TOKENS_AT_ONCE[device.type]):
        rows = order[group]
        ids = torch.zeros(len(rows), int(lengths[rows[-1]]), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = torch.tensor(tokens[row])
        mask = (torch.arange(ids.shape[1]) < torch.from_numpy(lengths[rows])[:, None]).long()
        found = mean_hidden(model, ids.to(device), mask.to(device)).float().cpu().numpy()
        if not features.shape[1]:
            features = np.empty((len(tokens), found.shape[1]), dtype=np.float32)
        features[rows] = found
        done += len(rows)
        if progress is not None:
            progress(done, len(tokens))
    return features


class TextTokens(_ModelEncoder):
    """The tokens of texts: their ids plus 1, then zeros; each text has `maximum_tokens` of them."""

    @cached_property
    def _largest(self) -> int:
        return len(load_tokenizer(self.folder))

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest id of an input."""
        return (0.0, float(self._largest))

    def _inputs(self, texts: _Tokenized, key: dict[str, Any]) -> Array:
        def make() -> Array:
            inputs = np.zeros((len(texts.texts), self.maximum_tokens), dtype=np.int32)
            for row, tokens in enumerate(texts.tokens):
                inputs[row, : len(tokens)] = np.array(tokens) + 1
            return inputs

        return cached_array(key | {"what": "text tokens"}, make)

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
