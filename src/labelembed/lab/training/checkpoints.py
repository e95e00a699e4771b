"""Checkpoints: folders that are whole or not there, with a manifest that proves it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from labelembed.json_files import read_json
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import flush_folder, saving, sha256, write_bytes, write_json
from labelembed.lab.training.settings import CheckpointPolicy
from labelembed.tensor_files import require_header

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# About what the JSON files of a checkpoint take, in bytes.
_SMALL_FILES = 10_000


@dataclass(frozen=True)
class Checkpoint:
    """All that resuming needs.

    Args:
        step: Number of optimiser steps made.
        tensors: Groups of named tensors, a file each: network, optimizer, best.
        values: JSON values: position, sums, best score, hyper-parameters.
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
    final = folder / _folder_name(checkpoint.step)
    temporary = folder / f".tmp-{checkpoint.step}"
    needed = sum(value.nbytes for tensors in checkpoint.tensors.values() for value in tensors.values())
    with saving(folder.parent, needed_bytes=needed + _SMALL_FILES):
        try:
            folder.mkdir(exist_ok=True)  # in a run folder that was removed nothing is written
            for left in folder.glob(".tmp-*"):  # of a process that was killed: the run has one owner
                shutil.rmtree(left, ignore_errors=True)
            temporary.mkdir()
            for name, tensors in checkpoint.tensors.items():
                write_bytes(temporary / f"{name}.safetensors", tensor_bytes(_apart(tensors)))
            write_json(temporary / "state.json", {"step": checkpoint.step, **checkpoint.values})
            written = sorted(temporary.iterdir())
            files = {file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in written}
            manifest = {"format": FORMAT_VERSION, "files": files}
            write_json(temporary / MANIFEST, manifest | {"sha256": manifest_digest(manifest)})
            flush_folder(temporary)
            if final.exists():  # made before the run was resumed from an older one
                shutil.rmtree(final)
            os.replace(temporary, final)
            flush_folder(folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    # Newer ones are damaged and were passed over when the run was resumed: they must not count among the kept.
    present = _newest_first(folder)
    for other in set(present) - set(present[present.index(final) :][:keep]):
        shutil.rmtree(other, ignore_errors=True)
    return final


def manifest_digest(manifest: dict[str, Any]) -> str:
    """Returns the SHA-256 of what a manifest says, in hexadecimal; its entry `sha256` is no part of it."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors on the CPU, none in another's memory: the file takes a tied weight once for each name."""
    found: dict[str, Tensor] = {}
    memories: set[int] = set()
    for name, value in tensors.items():
        whole = value.detach().cpu().contiguous()
        memory = whole.untyped_storage().data_ptr()
        found[name] = whole.clone() if memory in memories else whole
        memories.add(memory)
    return found


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Returns the newest checkpoint that is whole, and a line for each newer one that is not.

    Raises:
        RunFolderError: When the newest was written by a newer version of this program.
    """
    damaged: list[str] = []
    for path in _newest_first(folder):
        try:
            return _read(path), damaged
        except RunFolderError:
            raise
        except Exception as error:  # a damaged file makes the readers raise nearly anything, MemoryError included
            damaged.append(f"{path}: {str(error) or type(error).__name__}")
    return None, damaged


def _folder_name(step: int) -> str:
    return f"step-{step:010d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _read(path: Path) -> Checkpoint:
    """Returns a checkpoint whose files are all as its manifest says; raises ValueError otherwise."""
    # Only what the manifest lists: of another file in the folder nobody knows where it comes from.
    files = {path / Path(name).name: expected for name, expected in _listed(path).items()}
    for file, expected in files.items():
        if not file.is_file():
            raise ValueError(f"{file.name} is missing")
        if file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            raise ValueError(f"{file.name} has changed since it was written")
    values = read_json(path / "state.json")
    step = int(values.pop("step"))
    if path.name != _folder_name(step):
        raise ValueError(f"state.json is of step {step}")
    tensors: dict[str, dict[str, Tensor]] = {}
    for file in files:
        if file.suffix == ".safetensors":
            require_header(file)
            tensors[file.stem] = load_tensors(file.read_bytes())
    return Checkpoint(step, tensors, values)


def _listed(path: Path) -> dict[str, Any]:
    """Returns what the manifest of a checkpoint says of each of its files; raises ValueError where it is damaged."""
    try:
        manifest = read_json(path / MANIFEST)
        version = int(manifest["format"])
        said = manifest.pop("sha256", None)  # without it a changed bit could make this a newer format
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error})") from error
    if said not in (None, manifest_digest(manifest)):
        raise ValueError(f"{MANIFEST} has changed since it was written")
    if version > FORMAT_VERSION:
        raise RunFolderError(f"{path}: written by a newer labelembed (format {version}); update labelembed")
    if version < 1 or manifest.keys() != {"format", "files"} or "state.json" not in manifest["files"]:
        raise ValueError(f"{MANIFEST} is none that labelembed writes ({sorted(manifest)})")
    return dict(manifest["files"])


class SavingTimes:
    """Says when a checkpoint is due: often enough, and never so often that a run does little else.

    Args:
        policy: What the recipe says.
    """

    def __init__(self, policy: CheckpointPolicy) -> None:
        self.policy = policy
        self._ended = time.monotonic()
        self._seconds = 0.0

    def is_due(self, step: int, *, epoch_ends: bool) -> bool:
        """Tells whether to save after this optimiser step, which may have been an epoch's last."""
        age = time.monotonic() - self._ended
        if age < self._seconds * (1 / self.policy.time_share - 1):
            return False
        every = self.policy.every_steps
        return (every is not None and step % every == 0) or (epoch_ends and age >= self.policy.minimum_seconds)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Takes the time of a save."""
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._seconds = self._ended - began
