"""Checkpoints: one file each, named by step and SHA-256, and written completely or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from labelembed.files import file_digest, parse_json, require_header
from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.files import check_format, saving, write_bytes

FORMAT_VERSION = 1


class Checkpoint(NamedTuple):
    """All that resuming needs: the steps made, tensors by group (network, optimizer, best) and name, JSON values."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Writes one checkpoint and then deletes all but the newest `keep`; TrainingError: it cannot be written."""
    # Copies: the file takes a tied weight once for each name.
    tensors = {
        f"{group}/{name}": value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for group, its in checkpoint.tensors.items()
        for name, value in its.items()
    }
    about = json.dumps({"format": FORMAT_VERSION, "values": checkpoint.values}, allow_nan=False)
    # One entry only: safetensors writes several in any order, and equal states should give equal files.
    content = tensor_bytes(tensors, metadata={"checkpoint": about})
    path = folder / f"step-{checkpoint.step:010d}-{hashlib.sha256(content).hexdigest()}.safetensors"
    with saving(folder.parent):
        folder.mkdir(exist_ok=True)  # in a run folder that was removed nothing is written
        for left in folder.glob(".*"):  # of a process that was killed: the run has one owner
            left.unlink()
        write_bytes(path, content)
    # Files of later steps are damaged, or from before the run was resumed from an older checkpoint: they are deleted.
    older = [other for other in _newest_first(folder) if other.name[:15] < path.name[:15]]
    for other in {*_newest_first(folder)} - {path, *older[: keep - 1]}:
        with contextlib.suppress(OSError):
            other.unlink()
    return path


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Returns the newest checkpoint that is whole, and a line for each newer one that is not.

    RunFolderError: the newest was written by a newer version of this program.
    """
    damaged: list[str] = []
    for path in _newest_first(folder):
        try:
            return _read(path), damaged
        except RunFolderError:
            raise
        except Exception as error:  # a damaged file makes the readers raise nearly anything, MemoryError included
            damaged.append(f"{path}: {' '.join(str(error).split())[:300] or type(error).__name__}")
    return None, damaged


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _read(path: Path) -> Checkpoint:
    _, step, digest = path.stem.split("-")
    if file_digest(path) != digest:
        raise ValueError("has changed since it was written")
    require_header(path)
    with safe_open(path, framework="pt") as file:
        about = parse_json(file.metadata()["checkpoint"])
        check_format(path, about["format"], FORMAT_VERSION)
        tensors: dict[str, dict[str, Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 - no mapping
            group, name = key.split("/", 1)
            tensors.setdefault(group, {})[name] = file.get_tensor(key)
    return Checkpoint(int(step), tensors, about["values"])


_Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]


class Position(BaseModel):
    """Where a run stands; everything in it travels with a checkpoint as JSON."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epoch: _Count = 0  # finished
    batch: _Count = 0  # finished, of the epoch in progress
    step: _Count = 0  # optimiser steps made
    seconds: float = 0.0  # in finished epochs
    epoch_seconds: float = 0.0  # in the epoch in progress, before it was resumed
    term_sums: dict[str, float] = {}  # each term over the examples of the epoch in progress
    best_score: float | None = None  # the lowest so far; where the last epoch is selected, minus its number
    best_tie: float = 0.0  # what breaks ties of it
    best_epoch: _Count = 0  # from 1; 0 when there is none
    best_line: dict[str, Any] = {}  # the history's line of that epoch
    patience_from: _Count = 0  # epochs finished when a run that patience had ended was taken up again

    @model_validator(mode="after")
    def _knows_its_best_epoch(self) -> Position:
        known = self.best_epoch == 0 or {"train", "validation", "test"} <= self.best_line.keys()
        if not known or self.best_epoch > self.epoch or (self.epoch > 0 and self.best_epoch == 0):
            raise ValueError("it does not say which epoch was the best")
        return self

    def take_if_best(self, by: str, line: dict[str, Any]) -> bool:
        """Notes an epoch where it is the best so far; returns whether it is.

        Many epochs tie where a validation set is small; the NLL tells them apart, and of equal ones the first is kept.
        `by` is `last_epoch`, or `validation_` and a metric.
        """
        metrics, metric = line["validation"], by.removeprefix("validation_")
        score = -float(line["epoch"]) if by == "last_epoch" else float(metrics[metric])
        score *= -1 if metric == "bleu" else 1
        tie = float(metrics["nll"]) if metric in ("error", "bleu") else 0.0
        if self.best_score is not None and (score, tie) >= (self.best_score, self.best_tie):
            return False
        self.best_score, self.best_tie, self.best_epoch, self.best_line = score, tie, line["epoch"], line
        return True
