"""Small checkpoints, and calls of the system that fail, for the tests of what is saved."""

from __future__ import annotations

import json

import torch

from labelembed.lab.training.checkpoints import Checkpoint, load_newest, manifest_digest, save_checkpoint


def made_checkpoint(step):
    """Returns a checkpoint all of whose values tell its step."""
    weights = {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)}
    return Checkpoint(step, {"network": weights, "best": {"weight": torch.arange(5.0) + step}}, {"sums": [step, 0.1]})


def save(folder, *steps, **arguments):
    """Saves the checkpoints of these steps; returns the folder of the last."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for step in steps:
        path = save_checkpoint(folder, made_checkpoint(step), **arguments)
    return path


def assert_loads(folder, step, damaged=0):
    """The newest whole one is that of `step`, value for value; so many newer ones are named as damaged."""
    found, lines = load_newest(folder)
    assert len(lines) == damaged
    expected = made_checkpoint(step)
    assert (found.step, found.values) == (step, expected.values)
    torch.testing.assert_close(found.tensors, expected.tensors, rtol=0, atol=0)
    return lines


def write_manifest(path, manifest):
    """Writes a manifest that vouches for itself."""
    said = {key: value for key, value in manifest.items() if key != "sha256"}
    (path / "manifest.json").write_text(json.dumps(said | {"sha256": manifest_digest(said)}))
