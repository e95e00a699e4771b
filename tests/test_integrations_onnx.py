"""ONNX files give what encoder and objective give, for every objective and any number of examples."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from labelembed.integrations.onnx import export_onnx
from labelembed.objectives import OBJECTIVES, Retrospection
from labelembed.seeds import generator
from tests.made_objectives import made_mode

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

NAMES = ("cat", "dog", "Straßenbahn", 'a "b", c', "e")
# Twice what another order of float32 sums makes of logits of this size.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
FORMS = (*sorted(OBJECTIVES), "label_embedding, compressed", "label_embedding, shared", "adaptive_labels, repel")


def inputs(number):
    return torch.randn(number, 3, 8, 8, generator=generator(number, "inputs"))


def made_encoder():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout()
    encoder = nn.Sequential(*layers, nn.Linear(8, 4))
    encoder(inputs(20))  # so that the running means are none that anything starts with
    return encoder


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("mode", FORMS)
def test_onnxruntime_gives_what_torch_gives(tmp_path, mode, probabilities):
    encoder, objective = made_encoder(), made_mode(mode, dtype=torch.float32)
    objective.output_temperature.fill_(1.7)
    for name, buffer in objective.named_buffers():
        if name.endswith("centroids"):
            buffer.normal_()
    path = tmp_path / "m.onnx"
    assert export_onnx(path, encoder, objective, inputs(3), probabilities=probabilities) <= 1e-5
    assert encoder.training  # the modules stay as they are
    encoder.eval(), objective.eval()
    for number in (1, 17):
        with torch.no_grad():
            hidden = encoder(inputs(number))
            expected = objective.probabilities(hidden) if probabilities else objective.logits(hidden)
        assert expected.std() > 1e-3  # scores that tell labels apart
        (scores,) = session_of(path).run(None, {"inputs": inputs(number).numpy()})
        np.testing.assert_allclose(scores, expected, **CLOSE)


def test_what_only_training_needs_is_not_written_and_names_are_of_all_labels(tmp_path):
    objective = Retrospection(4, 3, num_examples=10_000)
    export_onnx(tmp_path / "m.onnx", made_encoder(), objective, inputs(3))
    assert (tmp_path / "m.onnx").stat().st_size < 20_000
    with pytest.raises(ValueError, match="`names` must be of 3 labels, got 2"):
        export_onnx(tmp_path / "m.onnx", made_encoder(), objective, inputs(3), names=["cat", "dog"])


def test_the_file_says_what_is_needed_to_use_it(tmp_path):
    path, objective = tmp_path / "m.onnx", made_mode("label_smoothing", dtype=torch.float32)
    export_onnx(path, made_encoder(), objective, inputs(3), names=NAMES, metadata={"input_range": "[0, 255]"})
    session = session_of(path)
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("inputs", ["batch", 3, 8, 8], "tensor(float)")
    assert (returned.name, returned.shape) == ("logits", ["batch", len(NAMES)])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(NAMES)
    assert (about["objective"], about["output"]) == ("label_smoothing", "logits")
    assert (about["output_temperature"], about["input_range"]) == ("1.0", "[0, 255]")
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]  # nothing of the weights lies beside it


@pytest.mark.parametrize("package", ["sklearn", "transformers", "lightning"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    for name in (package, "sklearn.base", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"labelembed.integrations.{package}", raising=False)
    with pytest.raises(ImportError, match=rf"labelembed\[{package}\]"):
        importlib.import_module(f"labelembed.integrations.{package}")
