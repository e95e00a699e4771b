"""The recipes for pictures that ship, each run for a step or two on made pictures of the right format."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from labelembed.lab.data import Split, Unchanged
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import PaperResNet
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs import task
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.optimizers import SCHEDULES
from labelembed.lab.training.run_folder import RunFolder
from tests.made_data import made_colours, picture_bytes, write_parquet
from tests.made_pictures import write_classes
from tests.made_training import no_flush, one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_flush")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def cifar(folder, labels: int):
    """A folder as the hub has CIFAR: a row of each label twice, and four to test."""
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


def test_cifar10_resnet8_trains_an_epoch_at_the_papers_width(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'labelembed[hub]'")
    data = cifar(tmp_path / "cifar10", 10)
    line, saved = run("cifar10-resnet8", data, tmp_path / "run", "data.train_examples=8", "batch_size=8")
    assert isinstance(saved.network.encoder, PaperResNet)
    assert saved.network.encoder.hidden_size == 2048
    assert saved.network.encoder.layers[0][0].out_channels == 128
    assert saved.recipe.batch_size == 8
    assert line["train"]["total"] > 0
    assert line["validation"] is None  # as in the paper
    assert 0 <= line["test"]["error"] <= 1  # of the curves over the epochs
    assert line["learning_rate"] == 0.001
    # 4.9 million in the encoder, and both output layers and E
    assert saved.network.parameter_count() == 4_891_264 + 2 * (2048 * 10 + 10) + 100


def test_cifar100_resnet18_learns_a_fifth_as_fast_from_epochs_40_and_80(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'labelembed[hub]'")
    data = cifar(tmp_path / "cifar100", 100)
    narrow = "model.channels=[2,3,4,5]"
    line, saved = run("cifar100-resnet18", data, tmp_path / "run", narrow, "data.train_examples=8", "batch_size=8")
    assert saved.names[99] == "name99"  # the fine labels
    assert line["train"]["total"] > 0
    block = load_recipe("cifar100-resnet18", data="anywhere")[0].schedule
    schedule = SCHEDULES[block.pop("name")](**block)
    rates = [schedule(epoch * 390, 390, 39_000) for epoch in (0, 39, 40, 79, 80, 99)]
    assert rates == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])


def test_images_backbone_goes_on_from_a_file_that_may_then_be_gone(tmp_path):
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'labelembed[backbones]'")
    data = write_classes(tmp_path / "pictures", {"cat": 12, "dog": 12}, size=20)
    weights = tmp_path / "weights.pth"
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state, weights)
    settings = ["model.backbone=test_resnet", "data.image_size=32", "batch_size=8", f"model.weights={weights}"]
    rate = "optimizer.learning_rate=1.0e-9"  # at which the weights stay what they were
    line, saved = run("images-backbone", data, tmp_path / "run", *settings, rate)
    assert 0 <= line["validation"]["error"] <= 1
    found = saved.network.encoder.layers.state_dict()
    kept = {name: value for name, value in found.items() if name.endswith("weight")}
    torch.testing.assert_close(kept, {name: state[name] for name in kept}, rtol=1e-6, atol=1e-6)
    weights.unlink()
    assert torch.isfinite(SavedRun.load(tmp_path / "run").probabilities(torch.zeros(2, 3, 32, 32))).all()


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_recipes_refuse_to_mix_where_a_row_must_have_one_label(mixing):
    with pytest.raises(RecipeError, match=r"data\.mixing: must be 'none' with the objective 'adaptive_labels'"):
        load_recipe("digits-lwal", settings=[f"data.mixing={mixing}"])
    steps = ["objective={name: retrospection, store: steps}", f"data.mixing={mixing}"]
    with pytest.raises(RecipeError, match=r"data\.mixing: .* take 'pass'"):
        load_recipe("digits-mlp", settings=steps)
    assert load_recipe("digits-mlp", settings=[f"data.mixing={mixing}"])[0].data["mixing"] == mixing


def test_weights_of_a_file_are_read_where_training_begins_and_nowhere_else(tmp_path, monkeypatch):
    class Network(torch.nn.Module):
        hidden_size, output_std = 4, 0.1

        def __init__(self, *, weights, **_):
            super().__init__()
            read.append(weights)

    read = []
    monkeypatch.setitem(task.MODELS, "timm", Network)
    settings = [f"model.weights={tmp_path}/file.pth", "data.scaling=unit"]
    recipe, _ = load_recipe("images-backbone", data="pictures", settings=settings)
    facts = {"names": ("a", "b"), "input_shape": (3, 32, 32), "input_range": (0, 255), "encoder": Unchanged()}
    made = task.Classification(recipe, **facts, label_column=None, label_values=())
    examples = Split(torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 0, 1]))
    for to_train in (True, False):
        if to_train:
            made.data = SimpleNamespace(names=("a", "b"), train=examples)
        else:
            del made.data
        made.build_network(tmp_path)
    assert read == [f"{tmp_path}/file.pth", None]
