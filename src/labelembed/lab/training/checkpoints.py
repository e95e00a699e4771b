"""Checkpoints: folders that are whole or not there, with a manifest that proves it; and a run's state as one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from labelembed.files import read_json, require_header
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import flush_folder, saving, sha256, write_bytes, write_json
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import load_state, state_tensors

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """All that resuming needs.

    Args:
        step: Number of optimiser steps made.
        tensors: Groups of named tensors, a file each: network, optimizer, best.
        values: JSON values: position, sums of the terms, fp16's scaler.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any] = dataclasses.field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Writes one checkpoint, and only then deletes all but the newest `keep`.

    The files are written into a folder of another name and flushed, the manifest with their SHA-256 and
    lengths comes last, and the folder is renamed: what has its final name is whole.

    Raises:
        TrainingError: When it cannot be written; what was there before is kept.
    """
    final, temporary = folder / _folder_name(checkpoint.step), folder / f".tmp-{checkpoint.step}"
    needed = 10_000 + sum(value.nbytes for tensors in checkpoint.tensors.values() for value in tensors.values())
    with saving(folder.parent, needed_bytes=needed):
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
    separate: dict[str, Tensor] = {}
    memories: set[int] = set()
    for name, value in tensors.items():
        whole = value.detach().cpu().contiguous()
        memory = whole.untyped_storage().data_ptr()
        separate[name] = whole.clone() if memory in memories else whole
        memories.add(memory)
    return separate


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
        digest = manifest.pop("sha256")  # without it a changed bit could make this a newer format
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error})") from error
    if digest != manifest_digest(manifest):
        raise ValueError(f"{MANIFEST} has changed since it was written")
    if version > FORMAT_VERSION:
        raise RunFolderError(f"{path}: written by a newer labelembed (format {version}); update labelembed")
    if version < 1 or manifest.keys() != {"format", "files"} or "state.json" not in manifest["files"]:
        raise ValueError(f"{MANIFEST} is none that labelembed writes ({sorted(manifest)})")
    return dict(manifest["files"])


# ---- the state of a run

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
_Number = Annotated[float, Field(strict=True)]


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Position:
    """Where a run stands; everything in it travels with a checkpoint as JSON.

    Attributes:
        epoch: Epochs finished.
        batch: Batches finished of the epoch in progress.
        step: Optimiser steps made.
        seconds: Time spent in finished epochs.
        epoch_seconds: Time spent in the epoch in progress before it was resumed.
        best_score: Lowest selection score so far, and in `best_tie` what breaks ties of it.
        best_epoch: The epoch (from 1) it was reached in; 0 when there is none.
        best_line: The history's line of that epoch.
        patience_from: Epochs finished when a run that patience had ended was taken up again.
    """

    epoch: _Count = 0
    batch: _Count = 0
    step: _Count = 0
    seconds: _Number = 0.0
    epoch_seconds: _Number = 0.0
    best_score: _Number | None = None
    best_epoch: _Count = 0
    best_line: dict[str, Any] = dataclasses.field(default_factory=dict)
    best_tie: _Number = 0.0
    patience_from: _Count = 0

    @pydantic.model_validator(mode="after")
    def _knows_its_best_epoch(self) -> Position:
        known = self.best_epoch == 0 or {"train", "validation", "test"} <= self.best_line.keys()
        if not known or self.best_epoch > self.epoch or (self.epoch > 0 and self.best_epoch == 0):
            raise ValueError("it does not say which epoch was the best")
        return self

    def take_if_best(self, by: str, line: dict[str, Any]) -> bool:
        """Notes an epoch where it is the best so far; returns whether it is.

        A small validation set has few possible errors, so that many epochs tie; the NLL tells them apart. Of epochs
        that are equal in both the first is kept. `by` is `last_epoch`, or `validation_` and a metric.
        """
        score, tie = -float(line["epoch"]), 0.0
        if by != "last_epoch":
            metric = by.removeprefix("validation_")
            score = float(line["validation"][metric]) * (-1 if metric == "bleu" else 1)
            tie = float(line["validation"]["nll"]) if metric == "error" else 0.0
        if self.best_score is not None and (score, tie) >= (self.best_score, self.best_tie):
            return False
        self.best_score, self.best_tie, self.best_epoch, self.best_line = score, tie, line["epoch"], line
        return True


class _Saved(pydantic.BaseModel):
    """The JSON values of a checkpoint that a run goes on with; what is out of range is refused."""

    model_config = ConfigDict(allow_inf_nan=False)

    position: Position
    term_sums: dict[str, _Number]
    scaler: dict[str, Any]


class RunState:
    """Everything that a run changes while it trains.

    Attributes:
        position: Where the run stands, and its best epoch.
        best_weights: State of the selected epoch's network, on the CPU; empty while there is none.
        term_sums: Each term summed over the examples of the epoch in progress.
    """

    def __init__(self, network: Network, optimizer: Optimizer, scaler: GradScaler | None) -> None:
        self.network, self.optimizer, self.scaler = network, optimizer, scaler
        self.position = Position()
        self.best_weights: dict[str, Tensor] = {}
        self.term_sums: dict[str, float] = {}

    def add_terms(self, terms: Mapping[str, float], examples: int) -> None:
        """Adds the terms of a step, means over so many examples."""
        for name, mean in terms.items():
            self.term_sums[name] = self.term_sums.get(name, 0.0) + mean * examples

    def checkpoint(self) -> Checkpoint:
        """Returns it all."""
        values: dict[str, Any] = {
            "position": dataclasses.asdict(self.position),
            "term_sums": self.term_sums,
            "scaler": self.scaler.state_dict() if self.scaler is not None else {},
        }
        tensors = {"network": self.network.state_dict(), "optimizer": state_tensors(self.optimizer)}
        if self.best_weights:
            tensors["best"] = self.best_weights
        return Checkpoint(self.position.step, tensors, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved; what is of another run makes torch raise anything."""
        saved = _Saved.model_validate(checkpoint.values)
        if saved.position.step != checkpoint.step:
            raise ValueError(f"it is of step {checkpoint.step} by one number and {saved.position.step} by another")
        best = checkpoint.tensors.get("best", {})
        if best:  # through the network, which refuses those of another one
            self.network.load_prediction_state(best)
            self.best_weights = self.network.prediction_state()
        self.network.load_state_dict(checkpoint.tensors["network"])
        load_state(self.optimizer, checkpoint.tensors["optimizer"])
        if self.scaler is not None and saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        self.term_sums = saved.term_sums
        self.position = saved.position
