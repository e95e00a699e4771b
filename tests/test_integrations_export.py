"""Exported classifiers give what the run gives, for every objective, network and number of rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry
from labelembed.integrations import export as exporting
from labelembed.integrations.export import export_run, export_saved
from labelembed.lab.data import Unchanged
from labelembed.lab.errors import TrainingError
from labelembed.lab.models import MODELS, InputScaling
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.task import Classification
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES
from tests.made_cli import SMALL, call, succeed

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

SHAPE, NAMES = (3, 16, 16), ("cat", "dog", "Straßenbahn", 'a "b", c')
ROWS = (1, 3, 17)
# Twice what another order of float32 sums makes of logits of this size.
CLOSE = 1e-5
GIVEN = {
    "static_labels": {"embedding": LabelGeometry(NAMES, vectors=torch.arange(20.0).reshape(4, 5).sin())},
    "distillation": {"teacher_logits": None},
    "adaptive_labels": {"label_dimension": 7},
    "label_embedding": {"embedding": "compressed", "rank": 3},
}
ENCODERS = {
    "mlp": {"hidden_sizes": [16], "batch_norm": True},
    "cnn": {},
    "small_resnet": {},
}


def saved_of(objective, model="mlp", *, folder="nowhere", **more):
    torch.manual_seed(1)
    encoder = MODELS[model](input_shape=SHAPE, **ENCODERS[model])
    scaling = InputScaling(offset=[100.0, 120.0, 90.0], scale=[60.0, 50.0, 70.0])
    kind = OBJECTIVES[objective](encoder.hidden_size, len(NAMES), **GIVEN.get(objective, {}) | more)
    network = Network(scaling, encoder, kind)
    network.train()
    with torch.no_grad():  # so that running means and centroids are none that anything begins with
        network.hidden(torch.rand(20, *SHAPE) * 255)
        for name, buffer in network.objective.named_buffers():
            if name.endswith("centroids"):
                buffer.normal_()
    recipe = load_recipe("digits-mlp", objective="one_hot")[0]
    recipe = recipe.model_copy(update={"objective": {"name": objective}, "model": {"name": model}})
    facts = {"names": NAMES, "input_shape": SHAPE, "input_range": (0.0, 255.0), "encoder": Unchanged()}
    task = Classification(recipe, **facts, label_column=None, label_values=())
    return SavedRun(RunFolder(folder), task, network.eval(), output_temperature=1.7)


def raw(rows):
    return torch.randint(0, 256, (rows, *SHAPE), generator=torch.Generator().manual_seed(rows)).float()


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def assert_same(saved, run):
    for rows in ROWS:
        with torch.no_grad():
            expected = saved.network.logits(raw(rows)).numpy()
        assert expected.std() > 1e-3  # scores that tell rows or labels apart
        np.testing.assert_allclose(run(raw(rows).numpy()), expected, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize(
    ("objective", "model"),
    # Between them these have every form of logits, and every kind of layer.
    [("label_embedding", "mlp"), ("static_labels", "cnn"), ("adaptive_labels", "small_resnet")],
)
def test_onnxruntime_gives_what_the_run_gives(tmp_path, objective, model):
    saved = saved_of(objective, model)
    made = export_saved(saved, tmp_path / "m.onnx")
    assert made.difference <= CLOSE
    session = session_of(tmp_path / "m.onnx")
    assert_same(saved, lambda inputs: session.run(None, {"inputs": inputs})[0])


@pytest.mark.parametrize("objective", ["one_hot", "label_embedding", "static_labels", "adaptive_labels"])
def test_the_exported_program_gives_what_the_run_gives(tmp_path, objective):
    saved = saved_of(objective)
    export_saved(saved, tmp_path / "m.pt2", format="torch")
    extra = {"labelembed.json": ""}
    module = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    assert_same(saved, lambda inputs: module(torch.from_numpy(inputs)).detach().numpy())
    assert json.loads(json.loads(extra["labelembed.json"])["labels"]) == list(NAMES)


def test_the_file_says_what_is_needed_to_use_it(tmp_path):
    export_saved(saved_of("label_smoothing"), tmp_path / "m.onnx")
    session = session_of(tmp_path / "m.onnx")
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("inputs", ["batch", *SHAPE], "tensor(float)")
    assert (returned.name, returned.shape) == ("logits", ["batch", len(NAMES)])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(NAMES)
    assert json.loads(about["input_range"]) == [0, 255]
    assert float(about["output_temperature"]) == 1.7
    assert about["objective"] == "label_smoothing"
    assert about["output"] == "logits"
    # One file: nothing of the weights lies beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


class WithoutOperator(nn.Module):
    hidden_size, output_std = 4, None

    def forward(self, inputs):
        rows = inputs.flatten(1)[:, :4]
        return torch.linalg.eigvals(rows[:, :, None] * rows[:, None, :]).real


class DependsOnItsInput(nn.Module):
    hidden_size, output_std = 4, None

    def forward(self, inputs):
        return inputs.flatten(1)[:, :4] * (2 if inputs.sum() > 0 else 1)


@pytest.mark.parametrize(
    ("encoder", "format", "said"),
    [
        (WithoutOperator, "onnx", "ONNX has no operator for aten.linalg_eig"),
        (DependsOnItsInput, "torch", "cannot be traced by torch.export: Could not guard on data-dependent expression"),
    ],
)
def test_what_cannot_be_exported_is_named_in_one_line(tmp_path, capfd, encoder, format, said):
    saved = saved_of("one_hot")
    network = Network(saved.network.scaling, encoder(), OBJECTIVES["one_hot"](4, len(NAMES))).eval()
    saved = SavedRun(saved.folder, saved.task, network)
    with pytest.raises(LabelEmbedError) as refused:
        export_saved(saved, tmp_path / "m", format=format)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_gives_something_else_is_not_written(tmp_path, monkeypatch):
    saved = saved_of("one_hot")
    real = exporting._torch

    def off_by_a_little(program, about):
        content, tried = real(program, about)
        return content, lambda inputs: tried(inputs) + 0.01

    monkeypatch.setattr(exporting, "_torch", off_by_a_little)
    with pytest.raises(TrainingError, match=r"differ by 0\.01"):
        export_saved(saved, tmp_path / "m.pt2", format="torch")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ the command line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "first"
    words = [word for index, word in enumerate(SMALL) if "validation" not in " ".join(SMALL[index : index + 2])]
    words += ["--set", "batch_size=50"]  # of ten labels
    succeed("train", "digits-mlp", "--objective", "adaptive_labels", *words, "--out", place, "--device", "cpu")
    return place


def test_the_verb_writes_a_file_that_gives_the_labels_of_predict(run, tmp_path):
    made = succeed("export", run, "--out", tmp_path / "first.onnx", "--probabilities").out
    assert f"{(tmp_path / 'first.onnx').stat().st_size:,} bytes" in made
    saved = SavedRun.load(run)
    test = saved.read_data().splits["test"].inputs[:17].float()
    found = session_of(tmp_path / "first.onnx").run(None, {"inputs": test.numpy()})[0]
    np.testing.assert_allclose(found, saved.probabilities(test).numpy(), atol=CLOSE)


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
        expected = saved.network.logits(inputs).numpy()
    assert expected.std() > 1e-6
    np.testing.assert_allclose(session.run(None, {"inputs": inputs.padded().numpy()})[0], expected, atol=CLOSE)
    (given,) = session.get_inputs()
    assert given.type == "tensor(int32)"
    assert given.shape == ["batch", "features"]
    # a text that is longer than every training text is not cut
    inputs, _ = saved.encode_texts(["good fine film bad awful film", "good fine"])
    expected = saved.probabilities(inputs).numpy()
    np.testing.assert_allclose(_softmax(session, inputs, saved.output_temperature), expected, atol=CLOSE)


def _softmax(session, inputs, temperature):
    logits = torch.from_numpy(session.run(None, {"inputs": inputs.padded().numpy()})[0])
    return (logits / temperature).softmax(dim=-1).numpy()


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    for words, said in (
        ([tmp_path], "no recipe.yaml"),
        ([run, "--out", tmp_path], "is a folder; name a file with --out"),
        ([run, "--out", tmp_path / "no" / "m.onnx"], "there is no folder"),
        ([run, "--format", "tflite"], "tflite"),
    ):
        called = call("export", *words)
        assert called.code == 2
        assert said in called.err
        assert "Traceback" not in called.err
    with pytest.raises(ValueError, match="`format` must be one of 'onnx', 'torch', got 'tflite'"):
        export_run(run, format="tflite")


def test_networks_that_write_sentences_are_not_exported(tmp_path):
    folder = RunFolder(tmp_path / "translator")
    folder.path.mkdir()
    recipe = load_recipe("translation-lstm", data=str(tmp_path))[0]
    folder.write_recipe(recipe.of_one_run())
    folder.write("result.json", {"status": "finished"})
    called = call("export", folder.path)
    assert called.code == 2
    assert "networks that write sentences are not exported" in called.err
    assert "labelembed translate" in called.err


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(LabelEmbedError, match=r"labelembed\[export\]"):
        export_saved(saved_of("one_hot"), tmp_path / "m.onnx")
