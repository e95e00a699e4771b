"""Texts as the tokens of a transformers tokenizer, and which texts have more of them than are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.data.cache import cached_array
from labelembed.data.texts import Texts
from labelembed.pretrained_text import encoder_digest, load_tokenizer

Tokens = list[list[int]]
Marks = npt.NDArray[np.bool_]

# Part of the cache's key: another number where other texts count as cut.
_CUT_VERSION = 1
_TEXTS_A_TASK = 1_000


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
