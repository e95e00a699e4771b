"""Checkpoints: what is saved comes back, and nothing else is taken for a checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from labelembed.errors import RunFolderError
from labelembed.objectives import LabelEmbedding
from labelembed.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS, load_state, state_tensors
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


def test_file_that_the_manifest_does_not_list_is_not_loaded(two_checkpoints):
    folder, path = two_checkpoints
    shutil.copy(path / "best.safetensors", path / "optimizer.safetensors")
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


@pytest.mark.parametrize(
    "manifest", ["[]", '{"format": 1, "files": {"state.json": null}}', '{"format": 0, "files": {}}']
)
def test_manifest_of_another_form_is_refused(manifest, two_checkpoints):
    folder, path = two_checkpoints
    (path / "manifest.json").write_text(manifest)
    assert_loads(folder, 1, damaged=1)


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


def tiny_network():
    torch.manual_seed(0)
    return Network(nn.Identity(), nn.Linear(4, 3), LabelEmbedding(3, 5))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"weight_decay": 0.1, "betas": (0.8, 0.99)}),
        ("adamw", {}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("sgd", {"momentum": 0.0}),
    ],
)
def test_optimizer_state_comes_back_through_files(name, arguments, tmp_path):
    inputs, labels = torch.randn(8, 4), torch.arange(8) % 5

    def step(network, optimizer):
        optimizer.zero_grad()
        network(inputs, labels).total.backward()
        optimizer.step()

    network = tiny_network()
    optimizer = OPTIMIZERS[name](network, **arguments)
    for _ in range(3):
        step(network, optimizer)
    tensors = state_tensors(optimizer)
    weights = network.state_dict()
    save_checkpoint(tmp_path / "c", Checkpoint(3, {"network": weights, "optimizer": tensors}))
    found, _ = load_newest(tmp_path / "c")

    other = tiny_network()
    other.load_state_dict(found.tensors["network"])
    resumed = OPTIMIZERS[name](other, **arguments)
    load_state(resumed, found.tensors["optimizer"])
    torch.testing.assert_close(state_tensors(resumed), tensors, rtol=0, atol=0)
    for _ in range(2):
        step(network, optimizer)
        step(other, resumed)
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)
