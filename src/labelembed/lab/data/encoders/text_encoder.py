"""How texts become inputs through a transformers model: its fixed features, or the numbers of its tokens."""

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
from labelembed.lab.data.encoder import CutTexts, Encoded, Encoder, read_settings
from labelembed.lab.data.encoders.text_features import TokenizedTexts, features_of
from labelembed.lab.data.texts import Texts
from labelembed.lab.pretrained_text import (
    TOKENIZER_SUFFIXES,
    encoder_digest,
    encoder_folder,
    load_tokenizer,
    model_files,
    most_tokens_said,
)

FEATURES_FILE = "text-features.json"
TOKENS_FILE = "text-tokens.json"
#: Where a run folder keeps an encoder's settings and tokenizer; the weights are the run's own.
ENCODER_FOLDER = "encoder"
_FEATURES_FORMAT, _TOKENS_FORMAT = "labelembed.text-features.2", "labelembed.text-tokens.1"
# Part of the cache's key: another number where the tokens change.
_TOKENS_VERSION = 1


@dataclass(kw_only=True)
class _KeptTokens:
    maximum_tokens: Annotated[int, Field(ge=3)]
    column: str | None = None


@dataclass(kw_only=True)
class _KeptFeatures(_KeptTokens):
    encoder: str | None
    digest: str


class _OfModel(Encoder):
    """What both share: all texts of a part are read at once, so that texts of like length find each other.

    Alone, too: the texts of another part in a batch would move the rounding.

    Args:
        encoder: Folder of the model with its tokenizer; None: the packaged one.
        maximum_tokens: Of a text, those that begin and end it among them.
    """

    reads_texts = True

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        self.encoder = encoder
        self.maximum_tokens = maximum_tokens
        self._made: tuple[Sequence[str], Tensor, npt.NDArray[np.bool_]] | None = None

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
            tokenized = TokenizedTexts(examples.whole, self.folder, self.maximum_tokens)
            self._made = (examples.every, self._inputs(tokenized), tokenized.is_cut)
        _, inputs, is_cut = self._made
        indices = examples.indices
        return Encoded(inputs.index_select(0, torch.from_numpy(indices)), int(is_cut[indices].sum()))

    @abstractmethod
    def _inputs(self, texts: TokenizedTexts) -> Tensor:
        """Returns the inputs [N, F] of all texts of a part."""

    def cut_texts(self, count: int, of: int) -> CutTexts:
        """Returns what to say of texts that have more tokens than are read."""
        limit, most = self.maximum_tokens, most_tokens_said(self.folder)
        return CutTexts(count=count, of=of, setting="maximum_tokens", limit=limit, most=most)


class TextFeatures(_OfModel):
    """The features of texts, see `features_of`.

    Args:
        encoder: Folder of the model; None: the packaged one.
        maximum_tokens: See `features_of`.

    Attributes:
        digest: SHA-256 of the model, once it was read.
    """

    input_range = (0.0, 1.0)  # features are taken as they are

    def __init__(self, encoder: str | None, maximum_tokens: int) -> None:
        super().__init__(encoder, maximum_tokens)
        self.digest: str | None = None

    def _inputs(self, texts: TokenizedTexts) -> Tensor:
        found = encoder_digest(self.folder)
        if self.digest not in (None, found):
            raise DataError(
                f"{self.folder}: holds another encoder than the one this run was trained on; put that one back"
            )
        self.digest = found
        return torch.from_numpy(features_of(texts, progress=self.progress))

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: which encoder it was, by its place and its content."""
        about = {
            "format": _FEATURES_FORMAT,
            "encoder": self.encoder,
            "maximum_tokens": self.maximum_tokens,
            "digest": self.digest,
            "column": self.column,
        }
        return {FEATURES_FILE: (json.dumps(about) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TextFeatures:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: The file is missing or damaged.
        """
        kept = read_settings(folder / FEATURES_FILE, _FEATURES_FORMAT, _KeptFeatures)
        found = cls(kept.encoder, kept.maximum_tokens)
        found.digest, found.column = kept.digest, kept.column
        return found


class TextTokens(_OfModel):
    """The tokens of texts: their numbers plus 1, then zeros; each text has `maximum_tokens` of them."""

    @cached_property
    def tokenizer(self) -> Any:
        """What cuts texts into tokens."""
        return load_tokenizer(self.folder)

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest number of an input."""
        return (0.0, float(len(self.tokenizer)))

    def _inputs(self, texts: TokenizedTexts) -> Tensor:
        limit, longest = self.maximum_tokens, self.tokenizer.model_max_length
        if limit > longest:
            raise DataError(
                f"{self.folder}: reads {longest} tokens of a text at most, and data.maximum_tokens is {limit}; set it "
                f"to {longest} or less"
            )

        def make() -> Any:
            inputs = np.zeros((len(texts.texts), limit), dtype=np.int32)
            for row, tokens in enumerate(texts.tokens):
                inputs[row, : len(tokens)] = np.array(tokens) + 1
            return inputs

        return torch.from_numpy(cached_array(texts.made_from("text tokens", _TOKENS_VERSION), make))

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: tokenizer and settings of the encoder, without its weights."""
        settings = {"format": _TOKENS_FORMAT, "maximum_tokens": self.maximum_tokens, "column": self.column}
        found = [file for file in model_files(self.folder, TOKENIZER_SUFFIXES) if not file.name.endswith(".index.json")]
        kept = {f"{ENCODER_FOLDER}/{file.name}": file.read_bytes() for file in found}
        return kept | {TOKENS_FILE: (json.dumps(settings) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any] | None = None) -> TextTokens:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: A file is missing or damaged.
        """
        kept = read_settings(folder / TOKENS_FILE, _TOKENS_FORMAT, _KeptTokens)
        found = cls(str(encoder_folder(folder / ENCODER_FOLDER)), kept.maximum_tokens)
        found.column = kept.column
        return found
