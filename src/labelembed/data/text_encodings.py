"""How texts become inputs through a transformers encoder: its fixed features, or the numbers of its tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelembed.data.cache import cached_array
from labelembed.data.cut_texts import CutTexts, kept_marks
from labelembed.data.encoders.pictures import ReadingProgress
from labelembed.data.text_features import Marks, Precision, digest_of_texts, text_features, tokens_of
from labelembed.errors import ArgumentFaults, DataError
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

    def encode_texts(
        self,
        texts: Sequence[str],
        *,
        progress: ReadingProgress | None = None,
        tell_cut: Callable[[Marks], None] = lambda is_cut: None,
    ) -> Tensor:
        """Returns features [N, D] of texts, float32; for `tell_cut` see `text_features`.

        Raises:
            DataError: The encoder cannot be read, or is not the one that the run began with.
        """
        folder = encoder_folder(self.encoder)
        if self.digest is not None and encoder_digest(folder) != self.digest:
            raise DataError(f"{folder}: holds another encoder than the one this run was trained on; put that one back")
        how: dict[str, Any] = {"maximum_tokens": self.maximum_tokens, "precision": self.precision}
        return torch.from_numpy(text_features(texts, folder=folder, progress=progress, tell_cut=tell_cut, **how))

    def is_cut(self, texts: Sequence[str]) -> Marks:
        """Returns whether each text has more than `maximum_tokens` tokens [N]."""
        return _marks(texts, encoder_folder(self.encoder), self.maximum_tokens, None)

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_tokens:,} tokens"


class FeatureContent:
    """Texts that become fixed features.

    Args:
        texts: Texts of each part of a data set.
        encoding: With which encoder.
        progress: Called with (done, total) while the texts of a part are read.
    """

    def __init__(
        self, texts: Sequence[Sequence[str]], encoding: FeatureEncoding, *, progress: ReadingProgress | None = None
    ) -> None:
        self.texts = [text for part in texts for text in part]
        self._parts = texts
        self._encoding = encoding
        self._progress = progress
        self._features: dict[int, Tensor] = {}
        self._is_cut: dict[int, Marks] = {}

    def fit(self, rows: Tensor) -> FeatureEncoding:
        """Returns the encoding, of which nothing is learned from the rows."""
        return replace(self._encoding, digest=encoder_digest(encoder_folder(self._encoding.encoder)))

    def inputs(self, encoding: FeatureEncoding, rows: Tensor) -> Tensor:
        """Returns the features [N, D] of the texts at these positions [N], which are of one part."""
        # a part at once, so that texts of like length find each other, and alone: others in a batch move the rounding
        ends = list(accumulate(map(len, self._parts)))
        part = bisect_right(ends, int(rows[0])) if len(rows) else 0
        if part not in self._features:
            tell_cut = partial(self._is_cut.__setitem__, part)
            self._features[part] = encoding.encode_texts(self._parts[part], progress=self._progress, tell_cut=tell_cut)
        return self._features[part].index_select(0, rows - (ends[part] - len(self._parts[part])))

    def cut(self, encoding: FeatureEncoding, rows: Tensor) -> CutTexts | None:
        """Returns how many of the texts at these positions [N] have more tokens than are read; None: none."""
        is_cut = np.concatenate(list(self._is_cut.values())) if len(self._is_cut) == len(self._parts) else None
        return _cut(self.texts, rows, encoder_folder(encoding.encoder), encoding.maximum_tokens, is_cut)

    def shown(self, row: int, encoding: object = None) -> str:
        """Returns a text."""
        return self.texts[row]


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

    def encode_texts(self, texts: Sequence[str], *, tell_cut: Callable[[Marks], None] = lambda is_cut: None) -> Tensor:
        """Returns each text's tokens [N, maximum_tokens], int32: their numbers plus 1, then zeros.

        Args:
            texts: N texts.
            tell_cut: Called with whether each text has more tokens [N], where the tokens are not kept already.
        """
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
            "texts": digest_of_texts(texts),
        }

        def make() -> Any:
            inputs = np.zeros((len(texts), limit), dtype=np.int32)
            found, is_cut = tokens_of(texts, self.tokenizer, maximum_tokens=limit)
            tell_cut(is_cut)
            for row, tokens in enumerate(found):
                inputs[row, : len(tokens)] = np.array(tokens) + 1
            return inputs

        return torch.from_numpy(cached_array(made_from, make))

    def is_cut(self, texts: Sequence[str]) -> Marks:
        """Returns whether each text has more than `maximum_tokens` tokens [N]."""
        return _marks(texts, self.folder, self.maximum_tokens, None)

    @property
    def limit(self) -> str:
        """How much of a text is read."""
        return f"{self.maximum_tokens:,} tokens"


class TokenContent:
    """Texts that become the numbers of their tokens.

    Args:
        texts: All texts of a data set.
        encoder: Folder of the encoder whose tokenizer cuts them; None: the packaged one.
        maximum_tokens: See `TokenEncoding`.
        column: See `TokenEncoding`.

    Raises:
        ValueError: `maximum_tokens` is less than 3.
    """

    def __init__(self, texts: Sequence[str], *, encoder: str | None, maximum_tokens: int, column: str | None) -> None:
        faults = ArgumentFaults()
        faults.require(maximum_tokens >= 3, "maximum_tokens", maximum_tokens, "must be >= 3")
        faults.raise_if_any()
        self.texts = texts
        self._encoder, self._maximum_tokens, self._column = encoder, maximum_tokens, column
        self._tokens: Tensor | None = None
        self._is_cut: Marks | None = None

    def fit(self, rows: Tensor) -> TokenEncoding:
        """Returns the encoding, of which nothing is learned from the rows."""
        return TokenEncoding(encoder_folder(self._encoder), self._maximum_tokens, self._column)

    def inputs(self, encoding: TokenEncoding, rows: Tensor) -> Tensor:
        """Returns the tokens [N, maximum_tokens] of the texts at these positions [N]."""
        if self._tokens is None:
            self._tokens = encoding.encode_texts(self.texts, tell_cut=self._keep_cut)
        return self._tokens.index_select(0, rows)

    def _keep_cut(self, is_cut: Marks) -> None:
        self._is_cut = is_cut

    def cut(self, encoding: TokenEncoding, rows: Tensor) -> CutTexts | None:
        """Returns how many of the texts at these positions [N] have more tokens than are read; None: none."""
        return _cut(self.texts, rows, encoding.folder, encoding.maximum_tokens, self._is_cut)

    def shown(self, row: int, encoding: object = None) -> str:
        """Returns a text."""
        return self.texts[row]


def _cut(
    texts: Sequence[str], rows: Tensor, folder: Path, maximum_tokens: int, is_cut: Marks | None
) -> CutTexts | None:
    """Returns how many texts at these positions have more tokens; `is_cut` [N]: which, where that is known already."""
    marks = _marks(texts, folder, maximum_tokens, is_cut)
    limits: dict[str, Any] = {"setting": "maximum_tokens", "limit": maximum_tokens}
    return CutTexts.among(marks, rows, most=lambda: most_tokens_said(folder), **limits)


def _marks(texts: Sequence[str], folder: Path, maximum_tokens: int, is_cut: Marks | None) -> Marks:
    def make() -> Marks:
        return tokens_of(texts, load_tokenizer(folder), maximum_tokens=maximum_tokens)[1] if is_cut is None else is_cut

    tokenizer = encoder_digest(folder, weights=False)
    return kept_marks(digest_of_texts(texts), tokenizer, maximum_tokens=maximum_tokens, make=make)


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
