"""Texts as the tokens of a transformers model, and as its last hidden states, averaged over the tokens.

Features are computed once and kept in the cache by content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import DataError
from labelembed.lab.data.cache import cached_array
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.texts import Texts
from labelembed.lab.pretrained_text import encoder_digest, load_encoder, load_tokenizer, mean_hidden, most_tokens

#: Part of the cache's key: another number where the features change.
FEATURES_VERSION = 1
Tokens = list[list[int]]

# Texts between two reports of progress.
_PART_ROWS = 512
# Tokens of a batch. What a processor's caches hold; a GPU wants more at once.
_TOKENS_A_BATCH = {"cpu": 4_096, "cuda": 65_536}

# Part of the cache's key: another number where other texts count as cut.
_CUT_VERSION = 1
_TEXTS_A_TASK = 1_000

Array = npt.NDArray[Any]
Marks = npt.NDArray[np.bool_]


class TokenizedTexts:
    """Texts that are cut into tokens once, and only when the tokens are needed.

    Args:
        texts: N texts.
        folder: Of the tokenizer.
        maximum_tokens: Tokens of a text that are read, those that begin and end it among them.
    """

    def __init__(self, texts: Texts, folder: Path, maximum_tokens: int) -> None:
        self.texts = texts
        self.folder = folder
        self.maximum_tokens = maximum_tokens

    def made_from(self, what: str, version: int) -> dict[str, Any]:
        """Returns what something that hangs on the tokens alone is made from, for the cache."""
        return {
            "what": what,
            "version": version,
            "tokenizer": encoder_digest(self.folder, weights=False),
            "maximum_tokens": self.maximum_tokens,
            "texts": self.texts.digest,
        }

    @cached_property
    def _read(self) -> tuple[Tokens, Marks]:
        return tokens_of(self.texts, load_tokenizer(self.folder), maximum_tokens=self.maximum_tokens)

    @property
    def tokens(self) -> Tokens:
        """The numbers of each text's tokens, with those that begin and end it."""
        return self._read[0]

    @cached_property
    def is_cut(self) -> Marks:
        """Whether each text has more tokens [N]; from the cache where it is kept."""
        return cached_array(self.made_from("cut texts", _CUT_VERSION), lambda: self._read[1])


def tokens_of(texts: Sequence[str], tokenizer: Any, *, maximum_tokens: int) -> tuple[Tokens, Marks]:
    """Returns the numbers of each text's tokens, with those that begin and end it, and whether it has more [N].

    Args:
        texts: N texts.
        tokenizer: What cuts them.
        maximum_tokens: Tokens of a text at most.
    """
    found: Tokens = []
    is_cut: list[bool] = []
    # Some tokenizers find nothing in an empty text, and an encoder cannot read nothing.
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, 0)
    nothing = [next(number for number in ends if number is not None)]
    every = list(texts)
    for begin in range(0, len(every), _TEXTS_A_TASK):
        chunk = every[begin : begin + _TEXTS_A_TASK]
        read = tokenizer(chunk, truncation=True, max_length=maximum_tokens, return_attention_mask=False)
        is_cut += [
            len(tokens) >= maximum_tokens and _has_more(read, row, chunk[row], tokenizer, maximum_tokens)
            for row, tokens in enumerate(read["input_ids"])
        ]
        found += [tokens or nothing for tokens in read["input_ids"]]
    return found, np.array(is_cut, dtype=bool)


def _has_more(read: Any, row: int, text: str, tokenizer: Any, maximum_tokens: int) -> bool:
    """Tells whether a text that has as many tokens as are read has more."""
    if read.encodings is not None:  # the library's fast tokenizers know what they cut off
        return bool(read.encodings[row].overflowing)
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"]) > maximum_tokens


def features_of(texts: TokenizedTexts, *, progress: ReadingProgress | None = None) -> Array:
    """Returns features [N, D] of texts, float32: hidden states averaged over the tokens that are no padding.

    Texts of like length go through the encoder together, so that little is padding. What is found is kept in the
    cache by the content of texts and encoder.

    Args:
        texts: N texts, with the folder of a transformers model, weights in safetensors form.
        progress: Called with (done, total) while texts are read.

    Raises:
        DataError: The encoder cannot be read.
    """
    folder, maximum_tokens = texts.folder, texts.maximum_tokens
    made_from = {
        "what": "text features",
        "version": FEATURES_VERSION,
        "encoder": encoder_digest(folder),
        "maximum_tokens": maximum_tokens,
        "precision": "float32",
        "texts": texts.texts.digest,
    }

    def make() -> Array:
        encode = TextEncoder(folder, maximum_tokens=maximum_tokens)
        return _in_parts(texts.tokens, encode, progress)

    return cached_array(made_from, make)


def _in_parts(tokens: Tokens, encode: TextEncoder, progress: ReadingProgress | None) -> Array:
    """Returns the features [N, D] of texts, encoded by their length."""
    order = np.argsort([len(each) for each in tokens], kind="stable")
    features: Array | None = None
    for begin in range(0, len(order), _PART_ROWS):
        rows = order[begin : begin + _PART_ROWS]
        found = encode.features([tokens[row] for row in rows])
        if features is None:
            features = np.empty((len(tokens), found.shape[1]), dtype=np.float32)
        features[rows] = found
        if progress is not None:
            progress(begin + len(rows), len(order))
    assert features is not None
    return features


class TextEncoder:
    """A transformers model that turns tokens into features.

    Args:
        folder: Of the model.
        maximum_tokens: Of a text, to see that the model can read as many.

    Raises:
        DataError: It cannot be read, or reads fewer tokens.
    """

    def __init__(self, folder: Path, *, maximum_tokens: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_encoder(folder).to(self.device)
        limit = most_tokens(load_tokenizer(folder), self.model)
        if limit is not None and maximum_tokens > limit:
            raise DataError(
                f"{folder}: reads {limit} tokens of a text at most, and data.maximum_tokens is {maximum_tokens}; "
                f"set it to {limit} or less"
            )

    @torch.inference_mode()
    def features(self, tokens: Tokens) -> Array:
        """Returns features [N, D] of texts that are sorted by their length."""
        parts = []
        for batch in _batches(tokens, _TOKENS_A_BATCH[self.device.type]):
            numbers = np.zeros((len(batch), len(batch[-1])), dtype=np.int64)
            mask = np.zeros_like(numbers)
            for row, each in enumerate(batch):
                numbers[row, : len(each)], mask[row, : len(each)] = each, 1
            inputs = (torch.from_numpy(part).to(self.device) for part in (numbers, mask))
            parts.append(mean_hidden(self.model, *inputs).float().cpu())
        return torch.cat(parts).numpy()


def _batches(tokens: Tokens, budget: int) -> Iterator[Tokens]:
    """Gives texts that follow each other, as many as have so many tokens with their padding; one at least."""
    begin = 0
    for end, each in enumerate(tokens):
        if end > begin and len(each) * (end + 1 - begin) > budget:
            yield tokens[begin:end]
            begin = end
    yield tokens[begin:]
