"""MLP and CNNs: shapes, gradients, the paper's start and layers, what a block computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.lab.models import CNN, MLP, MODELS, PaperResNet
from labelembed.lab.models.cnn import BasicBlock
from labelembed.seeds import seeded

# Networks that are made for more than one core are narrow here.
NETWORKS = {"mlp": {}, "cnn": {}, "small_resnet": {}, "paper_resnet": {"channels": (4, 5, 6)}}


def built(name: str, **arguments) -> nn.Module:
    return MODELS[name](input_shape=(1, 16, 16), **NETWORKS[name], **arguments)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_weight_and_saved_weights_make_the_same_network(name):
    with seeded(1):
        model, other = built(name), built(name)
        inputs = torch.randn(4, 1, 16, 16)
    for count in (0, 1, 4):
        assert model(inputs[:count]).shape == (count, model.hidden_size)
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
    row, state = torch.randn(1, 3), {name: value.clone() for name, value in model.state_dict().items()}
    found = model(row)
    assert all(layer.training for layer in model.layers)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(found, model.eval()(row))


def test_default_networks_have_the_sizes_of_the_paper():
    layers = (25 + 1) * 32, (25 * 32 + 1) * 64, (7 * 7 * 64 + 1) * 1024
    for model, expected in ((MLP, 785 * 500 + 501 * 500), (CNN, sum(layers))):
        assert sum(parameter.numel() for parameter in model(input_shape=(1, 28, 28)).parameters()) == expected


@pytest.mark.parametrize("make", [MLP, CNN])
def test_paper_start_is_a_normal_cut_at_two_deviations(make):
    with seeded(0):
        model = make(input_shape=(1, 28, 28), initialization="paper")
    assert (model.output_std, make(input_shape=(1, 28, 28)).output_std) == (0.01, None)
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


@pytest.mark.parametrize(
    ("depth", "widths", "blocks", "features"), [(8, (128, 256, 512), 1, 2048), (18, (128, 256, 512, 1024), 2, 1024)]
)
def test_paper_resnet_has_the_layers_of_the_paper(depth, widths, blocks, features):
    with torch.device("meta"):  # no memory for the weights
        model = PaperResNet(input_shape=(3, 32, 32), depth=depth)
    assert (model.hidden_size, model.output_std) == (features, None)
    expected = 3 * widths[0] * 9 + 2 * widths[0]
    before = widths[0]
    for width in widths:
        expected += 9 * before * width + 9 * width * width * (2 * blocks - 1) + 2 * width * 2 * blocks
        expected += 0 if before == width else before * width + 2 * width  # the shortcut
        before = width
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert len(layers) + 1 == depth


def normalised(values: torch.Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, padding: int) -> torch.Tensor:
    values = F.conv2d(values, convolution.weight, stride=convolution.stride, padding=padding)
    mean, deviation = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
    values = (values - mean) / (deviation + norm.eps).sqrt()
    return values * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


@pytest.mark.parametrize(("width_in", "width_out", "stride"), [(3, 3, 1), (3, 5, 2), (3, 5, 1), (4, 4, 2)])
def test_block_equals_its_lines_written_out(width_in, width_out, stride):
    with seeded(0):
        block = BasicBlock(width_in, width_out, stride=stride).double()
        for part in block.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
        inputs = torch.randn(4, width_in, 7, 6, dtype=torch.float64)
    convolutions = [part for part in block.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
    inner = normalised(inputs, convolutions[0], norms[0], 1).clamp_min(0)
    inner = normalised(inner, convolutions[1], norms[1], 1)
    around = inputs
    if (stride, width_in) != (1, width_out):
        assert convolutions[2].stride == (1, 1)
        around = normalised(inputs[:, :, ::stride, ::stride], convolutions[2], norms[2], 0)
    before = inputs.clone()
    torch.testing.assert_close(block(inputs), (inner + around).clamp_min(0), rtol=0, atol=1e-10)
    assert torch.equal(inputs, before)  # nothing in it is changed in place
