"""Small checkpoints, for the tests of what is saved."""

from __future__ import annotations

import hashlib

import torch

from labelembed.lab.training.checkpoints import Checkpoint, load_newest, save_checkpoint


def made_checkpoint(step):
    """Returns a checkpoint all of whose values tell its step."""
    weights = {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)}
    return Checkpoint(step, {"network": weights, "best": {"weight": torch.arange(5.0) + step}}, {"sums": [step, 0.1]})


def save(folder, *steps, **arguments):
    """Saves the checkpoints of these steps; returns the file of the last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for step in steps:
        path = save_checkpoint(folder, made_checkpoint(step), **arguments)
    return path


def steps_in(folder):
    """Returns the steps of the checkpoints in a folder, the oldest first; all else in it fails."""
    return sorted(int(path.name.split("-")[1]) for path in folder.iterdir())


def assert_loads(folder, step, damaged=0):
    """The newest whole one is that of `step`, value for value; so many newer ones are named as damaged."""
    checkpoint, lines = load_newest(folder)
    assert len(lines) == damaged
    expected = made_checkpoint(step)
    assert (checkpoint.step, checkpoint.values) == (step, expected.values)
    torch.testing.assert_close(checkpoint.tensors, expected.tensors, rtol=0, atol=0)
    return lines


def vouch_for(path):
    """Renames a checkpoint for whatever it now holds, so that its SHA-256 fits; returns its new path."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"{path.name[:15]}-{digest}.safetensors"))
