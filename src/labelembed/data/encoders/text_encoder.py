"""How texts become inputs through a transformers encoder: its fixed features, or the numbers of its tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelembed.data.cache import cached_array
from labelembed.data.encoders.cut_texts import CutTexts
from labelembed.data.encoders.pictures import ReadingProgress
from labelembed.data.encoders.text_features import Precision, features_of
from labelembed.data.encoders.text_tokens import Marks, TokenizedTexts
from labelembed.errors import DataError
from labelembed.pretrained_text import (
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
# Part of the cache's key: another number where the tokens change.
_TOKENS_VERSION = 1
_KEPT = ("encoder", "maximum_tokens", "precision", "digest", "column")


@dataclass(frozen=True, kw_only=True)
class FeatureEncoding:
    """Which encoder made features, and how.

    Attributes:
        encoder: Its folder; None: the packaged one.
        maximum_tokens: See `text_features`.
        precision: See `text_features`.
        digest: SHA-256 of the encoder, once it was read.
        column: The column that the texts stood in.
    """

    encoder: str | None
    maximum_tokens: int
    precision: Precision
    digest: str | None = None
    column: str | None = None
    #: Features are taken as they are.
    input_range: tuple[float, float] = (0.0, 1.0)
    notes: tuple[str, ...] = ()

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: which encoder it was, by its place and its content."""
        about = {name: getattr(self, name) for name in _KEPT}
        return {FEATURES_FILE: (json.dumps({"format": "labelembed.text-features.1"} | about) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path) -> FeatureEncoding:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: The file is missing or damaged.
        """
        about = _settings(folder / FEATURES_FILE, "labelembed.text-features.1")
        try:
            kept = cls(**{name: about[name] for name in _KEPT})
        except KeyError as error:
            raise DataError(f"{folder / FEATURES_FILE}: damaged, {error} is missing") from None
        if not (
            isinstance(kept.encoder, str | None) and _is_size(kept.maximum_tokens) and isinstance(kept.digest, str)
        ):
            raise DataError(f"{folder / FEATURES_FILE}: damaged, holds other values than it was written with")
        return kept

    def with_digest(self) -> FeatureEncoding:
        """Returns this encoding with the SHA-256 of its encoder.

        Raises:
            DataError: The encoder cannot be read.
        """
        return replace(self, digest=encoder_digest(encoder_folder(self.encoder)))

    def tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        """Returns texts to be cut into tokens."""
        return TokenizedTexts(texts, encoder_folder(self.encoder), self.maximum_tokens)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns the features [N, D] of texts, float32.

        Raises:
            DataError: The encoder cannot be read, or is not the one that the run began with.
        """
        return self.encode(self.tokenized(texts))

    def encode(self, texts: TokenizedTexts, *, progress: ReadingProgress | None = None) -> Tensor:
        """Returns the features [N, D] of what `tokenized` returned; see `encode_texts`."""
        if self.digest is not None and encoder_digest(texts.folder) != self.digest:
            raise DataError(
                f"{texts.folder}: holds another encoder than the one this run was trained on; put that one back"
            )
        return torch.from_numpy(features_of(texts, precision=self.precision, progress=progress))

    def is_cut(self, texts: Sequence[str]) -> Marks:
        """Returns whether each text has more than `maximum_tokens` tokens [N]."""
        return self.tokenized(texts).is_cut

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_tokens:,} tokens"


@dataclass(frozen=True)
class TokenEncoding:
    """A tokenizer, and how many tokens of a text are read.

    Args:
        folder: Of the tokenizer, with the config.json of its model.
        maximum_tokens: Of a text, those that begin and end it among them; a row has so many numbers.
        column: The column that the texts stood in.
        notes: None.
    """

    folder: Path
    maximum_tokens: int
    column: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def tokenizer(self) -> Any:
        """What cuts texts into tokens."""
        return load_tokenizer(self.folder)

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest number of an input."""
        return (0.0, float(len(self.tokenizer)))

    def files(self) -> dict[str, bytes]:
        """Returns what a run folder keeps: tokenizer and settings of the encoder, without its weights."""
        settings = {"format": "labelembed.text-tokens.1", "maximum_tokens": self.maximum_tokens, "column": self.column}
        found = [file for file in model_files(self.folder, TOKENIZER_SUFFIXES) if not file.name.endswith(".index.json")]
        kept = {f"{ENCODER_FOLDER}/{file.name}": file.read_bytes() for file in found}
        return kept | {TOKENS_FILE: (json.dumps(settings) + "\n").encode()}

    @classmethod
    def load(cls, folder: Path) -> TokenEncoding:
        """Reads what `files` returned from a run folder.

        Raises:
            DataError: A file is missing or damaged.
        """
        about = _settings(folder / TOKENS_FILE, "labelembed.text-tokens.1")
        if not _is_size(about.get("maximum_tokens")):
            raise DataError(f"{folder / TOKENS_FILE}: damaged, maximum_tokens is {about.get('maximum_tokens')!r}")
        return cls(encoder_folder(folder / ENCODER_FOLDER), about["maximum_tokens"], about.get("column"))

    def tokenized(self, texts: Sequence[str]) -> TokenizedTexts:
        """Returns texts to be cut into tokens."""
        return TokenizedTexts(texts, self.folder, self.maximum_tokens)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Returns each text's tokens [N, maximum_tokens], int32: their numbers plus 1, then zeros."""
        return self.encode(self.tokenized(texts))

    def encode(self, texts: TokenizedTexts, *, progress: ReadingProgress | None = None) -> Tensor:
        """Returns the tokens [N, maximum_tokens] of what `tokenized` returned; see `encode_texts`."""
        limit = self.maximum_tokens
        longest = self.tokenizer.model_max_length
        if limit > longest:
            raise DataError(
                f"{self.folder}: reads {longest} tokens of a text at most, and data.maximum_tokens is {limit}; set it "
                f"to {longest} or less"
            )
        made_from = {
            "what": "text tokens",
            "version": _TOKENS_VERSION,
            "tokenizer": encoder_digest(self.folder, weights=False),
            "maximum_tokens": limit,
            "texts": texts.digest,
        }

        def make() -> Any:
            inputs = np.zeros((len(texts.texts), limit), dtype=np.int32)
            for row, tokens in enumerate(texts.tokens):
                inputs[row, : len(tokens)] = np.array(tokens) + 1
            return inputs

        return torch.from_numpy(cached_array(made_from, make))

    def is_cut(self, texts: Sequence[str]) -> Marks:
        """Returns whether each text has more than `maximum_tokens` tokens [N]."""
        return self.tokenized(texts).is_cut

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_tokens:,} tokens"


class EncodedTexts:
    """Texts that an encoder turns into features, or its tokenizer into tokens.

    Args:
        texts: Texts of each part of a data set.
        found: Returns with which encoder, and how; not asked where a run folder says it.
        progress: Called with (done, total) while the texts of a part are read.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        found: Callable[[], FeatureEncoding | TokenEncoding],
        *,
        progress: ReadingProgress | None = None,
    ) -> None:
        self.texts = [text for part in texts for text in part]
        self._parts = texts
        self._found = found
        self._progress = progress
        self._tokenized: list[TokenizedTexts] = []
        self._inputs: dict[int, Tensor] = {}

    def fit(self, rows: Tensor) -> FeatureEncoding | TokenEncoding:
        """Returns the encoding, of which nothing is learned from the texts."""
        return self._found()

    def inputs(self, encoding: FeatureEncoding | TokenEncoding, rows: Tensor) -> Tensor:
        """Returns the inputs [N, F] of the texts at these positions [N], which are of one part."""
        # a part at once, so that texts of like length find each other, and alone: others in a batch move the rounding
        ends = list(accumulate(map(len, self._parts)))
        part = bisect_right(ends, int(rows[0])) if len(rows) else 0
        self._tokenized = self._tokenized or [encoding.tokenized(texts) for texts in self._parts]
        if part not in self._inputs:
            self._inputs[part] = encoding.encode(self._tokenized[part], progress=self._progress)
        return self._inputs[part].index_select(0, rows - (ends[part] - len(self._parts[part])))

    def cut(self, encoding: object, rows: Tensor) -> CutTexts | None:
        """Returns how many of the texts at these positions [N] have more tokens than are read; None: none."""
        marks = np.concatenate([part.is_cut for part in self._tokenized])
        folder, limit = self._tokenized[0].folder, self._tokenized[0].maximum_tokens
        return CutTexts.among(marks, rows, setting="maximum_tokens", limit=limit, most=lambda: most_tokens_said(folder))

    def shown(self, row: int, encoding: object = None) -> str:
        """Returns a text."""
        return self.texts[row]


def _settings(file: Path, wanted: str) -> Mapping[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: damaged ({error})") from None
    if not isinstance(about, dict) or about.get("format") != wanted:
        raise DataError(f"{file}: damaged, or of another version; expected the format {wanted!r}")
    return about


def _is_size(value: Any) -> bool:
    return type(value) is int and 3 <= value < 2**31
