"""Checkpoints: what is saved comes back, and nothing else is taken for a checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from labelembed.errors import RunFolderError
from labelembed.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from tests.made_checkpoints import FILES, assert_loads, rewrite, save, write_manifest


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


def test_manifest_has_length_and_sha256_of_every_file(two_checkpoints):
    folder, path = two_checkpoints
    assert sorted(file.name for file in path.iterdir()) == FILES
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    for name, about in manifest["files"].items():
        content = (path / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert_loads(folder, 2)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path(os.environ["TRAP"]),))


def pickled(kind):
    if kind == "pickle":
        return pickle.dumps(Trap())
    saved = io.BytesIO()
    torch.save({"weight": Trap()}, saved)
    return saved.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
@pytest.mark.parametrize("name", ["network.safetensors", "state.json"])
def test_pickle_is_refused_even_where_the_manifest_vouches_for_it(name, kind, two_checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "sprung").exists()  # the trap is one
    (tmp_path / "sprung").unlink()
    folder, path = two_checkpoints
    rewrite(path, name, pickled(kind))
    assert_loads(folder, 1, damaged=1)
    assert not (tmp_path / "sprung").exists()


def test_manifest_cannot_name_a_file_elsewhere(two_checkpoints, tmp_path):
    folder, path = two_checkpoints
    (tmp_path / "elsewhere.safetensors").write_bytes((path / "best.safetensors").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../elsewhere.safetensors"] = manifest["files"]["best.safetensors"]
    write_manifest(path, manifest)
    assert_loads(folder, 1, damaged=1)


def test_checkpoint_of_a_version_whose_manifest_did_not_vouch_for_itself_is_loaded(two_checkpoints):
    folder, path = two_checkpoints
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert_loads(folder, 2)


@pytest.mark.parametrize("files", [{}, {"state.bin": 1}])
def test_newer_format_is_refused_with_the_way_out(files, two_checkpoints):
    folder, path = two_checkpoints
    (path / "manifest.json").write_text(json.dumps({"format": 2, "files": files}))
    with pytest.raises(RunFolderError, match=r"step-0000000002: written by a newer labelembed \(format 2\); update"):
        load_newest(folder)


def test_newest_are_kept(tmp_path):
    save(tmp_path / "two", *range(1, 6))
    assert sorted(os.listdir(tmp_path / "two")) == ["step-0000000004", "step-0000000005"]
    save(tmp_path / "four", *range(8, 13), keep=4)
    assert sorted(os.listdir(tmp_path / "four")) == [f"step-{step:010d}" for step in (9, 10, 11, 12)]


# ---- the optimiser's state
