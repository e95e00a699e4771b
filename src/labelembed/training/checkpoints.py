"""Checkpoints: folders that are whole or not there, with a manifest that proves it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from labelembed.errors import RunFolderError
from labelembed.training.files import flush_folder, saving, sha256, write_bytes, write_json

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that resuming needs.

    Args:
        step: Number of optimiser steps made.
        tensors: Groups of named tensors, a file each: network, optimizer, random, best.
        values: JSON values: position, sums, best score, random states, schedule, hyper-parameters.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Writes one checkpoint, and only then deletes all but the newest `keep`.

    The files are written into a folder of another name and flushed, the manifest with their SHA-256 and
    lengths comes last, and the folder is renamed: what has its final name is whole.

    Raises:
        TrainingError: When it cannot be written; what was there before is kept.
    """
    final = folder / f"step-{checkpoint.step:010d}"
    temporary = folder / f".tmp-{os.getpid()}-{checkpoint.step}"
    with saving(folder.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".tmp-*"):  # of a process that was killed: the run has one owner
                shutil.rmtree(left, ignore_errors=True)
            temporary.mkdir()
            for name, tensors in checkpoint.tensors.items():
                whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
                write_bytes(temporary / f"{name}.safetensors", tensor_bytes(whole))
            write_json(temporary / "state.json", {"step": checkpoint.step, **checkpoint.values})
            listed = {
                file.name: {"sha256": sha256(file), "bytes": file.stat().st_size}
                for file in sorted(temporary.iterdir())
            }
            write_json(temporary / MANIFEST, {"format": FORMAT_VERSION, "files": listed})
            flush_folder(temporary)
            if final.exists():  # made before the run was resumed from an older one
                shutil.rmtree(final)
            os.replace(temporary, final)
            flush_folder(folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Returns the newest checkpoint that is whole, and a line for each newer one that is not.

    Raises:
        RunFolderError: When the newest was written by a newer version of this program.
    """
    damaged: list[str] = []
    for path in _newest_first(folder):
        fault = _fault(path)
        if fault is None:
            try:
                return _read(path), damaged
            except (OSError, ValueError, SafetensorError, KeyError) as error:
                fault = str(error)
        damaged.append(f"{path}: {fault}")
    return None, damaged


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _fault(path: Path) -> str | None:
    """Returns what is wrong with a checkpoint's files, or None when all are as the manifest says."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        version, listed = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"no readable manifest ({error})"
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunFolderError(f"{path}: written by a newer labelembed (format {version}); update labelembed")
    for name, expected in listed.items():
        file = path / Path(name).name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected.get("bytes"):
            return f"{name} has {file.stat().st_size} bytes, {expected.get('bytes')} were written"
        if sha256(file) != expected.get("sha256"):
            return f"{name} has changed since it was written"
    return None if "state.json" in listed else "the manifest lists no state.json"


def _read(path: Path) -> Checkpoint:
    values = json.loads((path / "state.json").read_text())
    tensors = {file.stem: load_tensors(file.read_bytes()) for file in path.glob("*.safetensors")}
    return Checkpoint(step=int(values.pop("step")), tensors=tensors, values=values)
