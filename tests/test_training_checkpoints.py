"""Checkpoints: what is saved comes back, and nothing else is taken for a checkpoint."""

from __future__ import annotations

import json
import os

import torch

from labelembed.lab.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from tests.made_checkpoints import assert_loads, save, write_manifest


def test_checkpoint_comes_back_as_it_was_saved(tmp_path):
    tensors = {
        "network": {
            "scalar": torch.tensor(3, dtype=torch.int64),
            "empty": torch.empty(0, 4),
            "view": torch.arange(6.0).view(2, 3).T,
            "bf16": torch.randn(4).bfloat16(),
            "states": torch.arange(256).to(torch.uint8),
        },
        "optimizer": {},
    }
    values = {"position": {"step": 7, "line": None, "score": 0.1 + 0.2}, "text": "naïve ✓"}
    save_checkpoint(tmp_path / "c", Checkpoint(7, tensors, values))
    found, damaged = load_newest(tmp_path / "c")
    assert damaged == []
    assert (found.step, found.values) == (7, values)
    torch.testing.assert_close(found.tensors, tensors, rtol=0, atol=0)


def test_manifest_cannot_name_a_file_elsewhere(two_checkpoints, tmp_path):
    folder, path = two_checkpoints
    (tmp_path / "elsewhere.safetensors").write_bytes((path / "best.safetensors").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../elsewhere.safetensors"] = manifest["files"]["best.safetensors"]
    write_manifest(path, manifest)
    assert_loads(folder, 1, damaged=1)


def test_newest_are_kept(tmp_path):
    save(tmp_path / "two", *range(1, 6))
    assert sorted(os.listdir(tmp_path / "two")) == ["step-0000000004", "step-0000000005"]
    save(tmp_path / "four", *range(8, 13), keep=4)
    assert sorted(os.listdir(tmp_path / "four")) == [f"step-{step:010d}" for step in (9, 10, 11, 12)]


# ---- the optimiser's state
