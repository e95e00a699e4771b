"""Fixed features of texts: the last hidden states of a transformers model, averaged over the tokens.

Computed once and kept in the cache by content, in parts, so that work that was cut short goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.cache import cached_array, forget_array
from labelembed.data.encoder import ReadingProgress
from labelembed.data.encoders.text_tokens import TokenizedTexts, Tokens
from labelembed.errors import DataError
from labelembed.pretrained_text import encoder_digest, load_encoder, load_tokenizer, mean_hidden, most_tokens

#: Part of the cache's key: another number where the features change.
FEATURES_VERSION = 1
Precision = Literal["float32", "bf16"]

# Texts that are kept together before all are: so many are lost at most when the work is cut short.
_PART_ROWS = 512
# Tokens of a batch. What a processor's caches hold; a GPU wants more at once.
_TOKENS_A_BATCH = {"cpu": 4_096, "cuda": 65_536}

Array = npt.NDArray[Any]


def features_of(
    texts: TokenizedTexts, *, precision: Precision = "float32", progress: ReadingProgress | None = None
) -> Array:
    """Returns features [N, D] of texts, float32: hidden states averaged over the tokens that are no padding.

    Texts of like length go through the encoder together, so that little is padding. What is found is kept in the
    cache by the content of texts and encoder.

    Args:
        texts: N texts, with the folder of a transformers model, weights in safetensors form.
        precision: `bf16`: matrix products in bf16, about twice as fast where the processor has AMX, else slower; the
            features then differ by about half a per cent.
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
        "precision": precision,
        "texts": texts.texts.digest,
    }
    parts: list[dict[str, Any]] = []

    def make() -> Array:
        encode = TextEncoder(folder, maximum_tokens=maximum_tokens, precision=precision)
        return _in_parts(texts.tokens, encode, made_from, parts, progress)

    features = cached_array(made_from, make)
    for part in parts:  # the whole stands for them now
        forget_array(part)
    return features


def _in_parts(
    tokens: Tokens,
    encode: TextEncoder,
    made_from: dict[str, Any],
    parts: list[dict[str, Any]],
    progress: ReadingProgress | None,
) -> Array:
    lengths = np.array([len(each) for each in tokens], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    features: Array | None = None
    for begin in range(0, len(order), _PART_ROWS):
        rows = order[begin : begin + _PART_ROWS]
        parts.append(made_from | {"part": begin})
        found = cached_array(parts[-1], partial(encode.features, [tokens[row] for row in rows]))
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
        precision: See `text_features`.

    Raises:
        DataError: It cannot be read, or reads fewer tokens.
    """

    def __init__(self, folder: Path, *, maximum_tokens: int, precision: Precision) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_encoder(folder).to(self.device)
        self.precision = precision
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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
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
