"""timm's networks as encoders: widths, small and grey pictures, and weights from a file, of which nothing is run."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from labelembed.errors import DataError
from labelembed.lab.models import Backbone
from labelembed.lab.pretrained_images import read_weights
from tests.made_hostile import Bomb, pickle_bomb

timm = pytest.importorskip("timm", reason="needs timm: pip install 'labelembed[pictures]'")
NAME = "test_resnet"  # the smallest there is, of timm's own tests


@pytest.fixture(scope="module")
def whole():
    """The network with its classifier, as published files of weights have it."""
    return timm.create_model(NAME)


@pytest.mark.parametrize(("side", "channels", "factor"), [(28, 3, 2), (32, 3, 1), (8, 1, 4)])
def test_small_pictures_are_doubled_and_grey_ones_given_to_all_colours(side, channels, factor):
    model = Backbone(input_shape=(channels, side, side), backbone=NAME, weights="random").eval()
    seen = []
    model.layers.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    inputs = torch.randn(2, channels, side, side)
    assert model(inputs).shape == (2, model.hidden_size)
    repeated = inputs.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    assert torch.equal(seen[0], repeated.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("kind", ["safetensors", "nested"])
def test_weights_are_loaded_from_a_file_without_their_classifier(whole, tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state}, path)
    model = Backbone(input_shape=(3, 32, 32), backbone=NAME, weights=str(path)).eval()
    found = model.layers.state_dict()
    assert found.keys() < state.keys()
    assert all(torch.equal(found[name], state[name]) for name in found)
    inputs = torch.randn(2, 3, 32, 32)
    whole.eval()
    expected = whole.forward_head(whole.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(model(inputs), expected)


def test_weights_of_another_network_are_refused_with_the_names(whole, tmp_path):
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    gone = next(name for name in state if name.endswith("conv1.weight"))
    del state[gone]
    path = tmp_path / "weights.safetensors"
    save_file({**state, "stem.surplus": torch.zeros(2)}, path)
    with pytest.raises(DataError, match=rf"(?s)not the weights of timm's '{NAME}'.*{gone}.*stem\.surplus"):
        Backbone(input_shape=(3, 32, 32), backbone=NAME, weights=str(path))


def test_files_that_hold_no_weights_are_refused_and_nothing_in_them_is_run(tmp_path):
    path, hacked = tmp_path / "weights.pth", tmp_path / "hacked"
    for content in (b"nothing of the kind", pickle_bomb(hacked), {"weights": Bomb(hacked)}, [1], {"epoch": 3}):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(DataError, match=str(path)):
            read_weights(path)
    assert not hacked.exists()
