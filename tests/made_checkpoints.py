"""Small checkpoints, for the tests of what is saved."""

from __future__ import annotations

import hashlib

import torch

from labelembed.lab.training.checkpoints import Checkpoint, save_checkpoint


def save(folder, *steps, **arguments):
    """Saves the checkpoints of these steps; returns the file of the last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for step in steps:
        tensors = {"network": {"weight": torch.full((3, 2), float(step))}}
        path = save_checkpoint(folder, Checkpoint(step, tensors, {"sums": [step, 0.1]}), **arguments)
    return path


def steps_in(folder):
    """Returns the steps of the checkpoints in a folder, the oldest first; all else in it fails."""
    return sorted(int(path.name.split("-")[1]) for path in folder.iterdir())


def vouch_for(path):
    """Renames a checkpoint for whatever it now holds, so that its SHA-256 fits; returns its new path."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"{path.name[:15]}-{digest}.safetensors"))
