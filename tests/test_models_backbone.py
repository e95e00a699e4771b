"""timm's networks as encoders: widths, small and grey pictures, and weights from a file, of which nothing is run."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file

from labelembed.errors import DataError
from labelembed.lab.models import Backbone
from labelembed.lab.pretrained_images import read_weights
from labelembed.lab.recipes.schema import parse_recipe


@pytest.fixture(scope="module")
def timm():
    """The package, if it is there and fits this torch: the base install has none."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs timm and a torchvision made for this torch: pip install 'labelembed[pictures]' ({error})")
    return timm


NAME = "test_resnet"  # the smallest there is, of timm's own tests


@pytest.fixture(scope="module")
def whole(timm):
    """The network with its classifier, as published files of weights have it."""
    return timm.create_model(NAME)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(("side", "enlarge", "factor"), [(28, 32, 2), (32, 32, 1), (8, 32, 4), (28, 1, 1), (32, 33, 2)])
def test_small_pictures_are_doubled_until_they_are_large_enough(side, enlarge, factor):
    model = Backbone(input_shape=(3, side, side), backbone=NAME, weights="random", enlarge=enlarge).eval()
    seen = []
    model.layers.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    inputs = torch.randn(2, 3, side, side)
    rows = model(inputs)
    assert rows.shape == (2, model.hidden_size)
    repeated = inputs.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    assert torch.equal(seen[0], repeated)


@pytest.mark.usefixtures("timm")
def test_grey_pictures_are_given_to_all_three_colours():
    model = Backbone(input_shape=(1, 32, 32), backbone=NAME, weights="random").eval()
    inputs = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(inputs), model.layers(inputs.repeat(1, 3, 1, 1)))


@pytest.mark.usefixtures("timm")
def test_a_batch_of_one_row_is_normalised_by_the_running_deviation():
    model = Backbone(input_shape=(3, 32, 32), backbone=NAME, weights="random")
    inputs = torch.randn(1, 3, 32, 32)
    rows = model(inputs)
    rows.square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    assert all(part.training for part in model.modules())
    assert torch.equal(rows, model.eval()(inputs))


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested"])
def test_weights_are_loaded_from_a_file_without_their_classifier(whole, tmp_path, kind):
    path = tmp_path / f"weights.{'pth' if kind == 'nested' else kind}"
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if kind == "nested" else state, path)
    model = Backbone(input_shape=(3, 32, 32), backbone=NAME, weights=str(path)).eval()
    found = model.layers.state_dict()
    assert found.keys() < state.keys()
    assert all(torch.equal(found[name], state[name]) for name in found)
    inputs = torch.randn(2, 3, 32, 32)
    whole.eval()
    expected = whole.forward_head(whole.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(model(inputs), expected)


def test_weights_of_another_network_are_refused_with_the_names(whole, tmp_path):
    state = dict(whole.state_dict())
    gone = next(name for name in state if name.endswith("conv1.weight"))
    wrong = next(name for name in state if name.endswith("bn1.weight"))
    del state[gone]
    state[wrong] = torch.zeros(3)
    path = tmp_path / "weights.safetensors"
    save_file({**{key: value.clone() for key, value in state.items()}, "stem.surplus": torch.zeros(2)}, path)
    with pytest.raises(DataError) as caught:
        Backbone(input_shape=(3, 32, 32), backbone=NAME, weights=str(path))
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: are not the weights of timm's '{NAME}'"
    for line, name in zip(lines, (gone, "stem.surplus", wrong), strict=True):
        assert name in line


class Touch:
    """What a hostile file holds: unpickled, it would make a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, hacked: None, "cannot be read as weights"),
        (lambda path, hacked: path.write_bytes(b"nothing of the kind"), "cannot be read as weights"),
        (lambda path, hacked: path.write_bytes(pickle.dumps(Touch(hacked))), "cannot be read as weights"),
        (lambda path, hacked: torch.save({"weights": Touch(hacked)}, path), "cannot be read as weights"),
        (lambda path, hacked: torch.save([torch.zeros(2)], path), "holds no weights; expected tensors by name"),
        (lambda path, hacked: torch.save({"epoch": 3}, path), "holds no weights; expected tensors by name"),
    ],
)
def test_files_that_hold_no_weights_are_refused_and_nothing_in_them_is_run(tmp_path, write, message):
    path, hacked = tmp_path / "weights.pth", tmp_path / "hacked"
    write(path, hacked)
    with pytest.raises(DataError, match=message) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert not hacked.exists()


@pytest.mark.usefixtures("timm")
def test_arguments_that_make_no_backbone_are_all_named():
    with pytest.raises(ValueError, match="got") as caught:
        Backbone(input_shape=(32, 32), backbone="resnet5o", enlarge=0, dropout=1.0)
    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        "`input_shape` must be (channels, height, width), got [32, 32]",
        "`enlarge` must be >= 1, got 0",
        "`dropout` must be in [0, 1), got 1.0",
    ]
    assert lines[3].startswith("`backbone` must be a name of timm.list_models() (did you mean 'resnet")


def recipe(**model):
    values = {"data": "digits", "model": {"name": "timm", **model}, "objective": "one_hot"}
    return parse_recipe(values | {"epochs": 1, "batch_size": 10}, source="test")


def test_without_timm_the_message_says_what_to_install_and_recipes_can_be_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError, match=r"labelembed\[pictures"):
        Backbone(input_shape=(3, 32, 32))
    assert recipe(backbone="resnet50", weights="random").model["backbone"] == "resnet50"
