"""Networks: shapes, the paper's start, the order of pooling, input scaling, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.lab.models import CNN, MLP, MODELS, InputScaling
from labelembed.seeds import seeded

# (model, initialization): not every model has the start of the paper
STARTS = [
    ("mlp", "paper"),
    ("mlp", "pytorch"),
    ("cnn", "paper"),
    ("cnn", "pytorch"),
    ("small_resnet", None),
    ("paper_resnet", None),
]
# The others have a file of their own.
OWN_MODELS = sorted(MODELS.keys() - {"timm", "bag_of_words", "text_transformer"})
# Networks that are made for more than one core.
NARROW = {"paper_resnet": {"channels": (4, 5, 6)}}


def built(name: str, initialization: str | None = None, **arguments) -> nn.Module:
    arguments = NARROW.get(name, {}) | arguments
    arguments |= {} if initialization is None else {"initialization": initialization}
    return MODELS[name](input_shape=(1, 16, 16), **arguments)


@pytest.mark.parametrize(("name", "initialization"), STARTS)
def test_every_model_returns_hidden_rows_of_its_hidden_size(name, initialization):
    assert {start for start, _ in STARTS} == set(OWN_MODELS)
    model = built(name, initialization)
    for count in (0, 1, 5):
        assert model(torch.randn(count, 1, 16, 16)).shape == (count, model.hidden_size)
    assert model.output_std == (0.01 if initialization == "paper" else None)


@pytest.mark.parametrize("name", OWN_MODELS)
def test_gradients_reach_every_weight_and_saved_weights_make_the_same_network(name):
    with seeded(1):
        model, other = built(name), built(name)
        inputs = torch.randn(4, 1, 16, 16)
    model(inputs).square().sum().backward()  # and moves running means
    for key, parameter in model.named_parameters():
        assert bool(parameter.grad.isfinite().all()), key
        assert bool(parameter.grad.any()), key
    assert not torch.equal(model.eval()(inputs), other.eval()(inputs))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(inputs), other(inputs))


def test_mlp_with_batch_norm_takes_a_batch_of_one_row_by_its_running_deviation():
    model = MLP(input_shape=(3,), hidden_sizes=(4,), batch_norm=True)
    model(torch.randn(8, 3))
    row = torch.randn(1, 3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = model(row)
    assert all(layer.training for layer in model.layers)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(found, model.eval()(row))
    assert not any(layer.training for layer in model.layers)


def test_mlp_without_hidden_layers_leaves_all_to_the_output_layer():
    model = MLP(input_shape=(2, 3), hidden_sizes=())
    inputs = torch.randn(4, 2, 3)
    assert model.hidden_size == 6
    assert torch.equal(model(inputs), inputs.flatten(1))


def test_default_networks_have_the_sizes_of_the_paper():
    layers = (25 + 1) * 32, (25 * 32 + 1) * 64, (7 * 7 * 64 + 1) * 1024
    for model, expected in ((MLP, 785 * 500 + 501 * 500), (CNN, sum(layers))):
        assert sum(parameter.numel() for parameter in model(input_shape=(1, 28, 28)).parameters()) == expected


@pytest.mark.parametrize("input_shape", [(1, 4, 4), (3, 9, 13)])
def test_cnn_equals_relu_before_pooling(input_shape):
    model = CNN(input_shape=input_shape, channels=(4, 6), dense_size=5).double()
    first, second = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    (dense,) = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    inputs = torch.randn(3, *input_shape, dtype=torch.float64)
    features = inputs
    for layer in (first, second):
        features = F.max_pool2d(F.relu(F.conv2d(features, layer.weight, layer.bias, padding=2)), 2)
    expected = F.relu(F.linear(features.flatten(1), dense.weight, dense.bias))
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [MLP, CNN])
def test_paper_start_is_a_normal_cut_at_two_deviations(make):
    with seeded(0):
        model = make(input_shape=(1, 28, 28), initialization="paper")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert len(layers) >= 2
    for layer in layers:
        weights = layer.weight.detach().double().numpy().ravel()
        assert np.abs(weights).max() <= 0.2
        assert bool((layer.bias == 0).all())
        # sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) = 0.8796 of the deviation. The spread of a deviation measured on n
        # weights is about 0.6 / sqrt(n) of it; five of these.
        tolerance = 5 * 0.6 / weights.size**0.5
        assert weights.std() == pytest.approx(0.8796 * 0.1, rel=tolerance)
        assert abs(weights.mean()) < 5 * 0.088 / weights.size**0.5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_input_scaling_takes_off_the_offset_and_divides_channel_by_channel(dtype):
    images = torch.randint(256, (5, 3, 4, 2), generator=torch.Generator().manual_seed(0)).to(dtype)
    offset, scale = [10.0, 0.0, -3.0], [255.0, 2.0, 0.5]
    scaled = InputScaling(offset=offset, scale=scale)(images)
    assert scaled.dtype == torch.float32
    for channel in range(3):
        expected = (images[:, channel].double() - offset[channel]) / scale[channel]
        # Multiplied with a rounded reciprocal: two float32 roundings.
        torch.testing.assert_close(scaled[:, channel].double(), expected, rtol=2e-7, atol=0)
