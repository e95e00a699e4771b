"""A finished run's classifier as an ONNX file, by the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labelembed.lab.runs.saved_run import SavedRun
from tests.made_cli import SMALL, succeed

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

CLOSE = 1e-5


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "first"
    words = [word for index, word in enumerate(SMALL) if "validation" not in " ".join(SMALL[index : index + 2])]
    words += ["--set", "batch_size=50"]  # of ten labels
    succeed("train", "digits-mlp", "--objective", "adaptive_labels", *words, "--out", place, "--device", "cpu")
    return place


def test_the_verb_writes_a_file_that_gives_the_labels_of_predict(run, tmp_path):
    made = succeed("export", run, "--out", tmp_path / "first.onnx").out
    assert f"{(tmp_path / 'first.onnx').stat().st_size:,} bytes" in made
    saved = SavedRun.load(run)
    test = saved.read_data().splits["test"].inputs[:17].float()
    found = session_of(tmp_path / "first.onnx").run(None, {"inputs": test.numpy()})[0]
    np.testing.assert_allclose(found, saved.probabilities(test).numpy(), atol=CLOSE)
    about = session_of(tmp_path / "first.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == [str(digit) for digit in range(10)]
    assert json.loads(about["input_range"]) == [0, 16]
    assert about["objective"] == "adaptive_labels"
    assert float(about["output_temperature"]) == pytest.approx(saved.output_temperature)
    shown = succeed("export", run).out
    assert shown.startswith(f"{run / 'model.onnx'}: ")


def test_a_network_that_reads_numbers_of_words_is_exported(tmp_path):
    rows = [f"{'good fine' if row % 2 else 'bad awful'} film {row},{'up' if row % 2 else 'down'}" for row in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    words = ["--data", tmp_path / "reviews.csv", "--set", "epochs=1", "--set", "batch_size=20", "--quiet"]
    succeed("train", "text-bag", *words, "--device", "cpu", "--out", tmp_path / "run")
    succeed("export", tmp_path / "run")
    saved = SavedRun.load(tmp_path / "run")
    inputs = saved.read_data().splits["validation"].inputs
    session = session_of(tmp_path / "run" / "model.onnx")
    with torch.no_grad():
        expected = saved.probabilities(inputs).numpy()
    assert expected.std() > 1e-6
    np.testing.assert_allclose(session.run(None, {"inputs": inputs.padded().numpy()})[0], expected, atol=CLOSE)
    (given,) = session.get_inputs()
    assert given.type == "tensor(int32)"
    assert given.shape == ["batch", "features"]
    # a text that is longer than every training text is not cut
    inputs, _ = saved.encode_texts(["good fine film bad awful film", "good fine"])
    expected = saved.probabilities(inputs).numpy()
    np.testing.assert_allclose(session.run(None, {"inputs": inputs.padded().numpy()})[0], expected, atol=CLOSE)
