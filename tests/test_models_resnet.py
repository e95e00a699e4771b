"""The residual networks: sizes, what a block computes, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.lab.models import PaperResNet, SmallResNet
from labelembed.lab.models.cnn import BasicBlock
from labelembed.seeds import seeded

SHAPE = (3, 32, 32)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def on_paper(make, **arguments) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return make(input_shape=SHAPE, **arguments)


@pytest.mark.parametrize(
    ("depth", "widths", "blocks", "features"), [(8, (128, 256, 512), 1, 2048), (18, (128, 256, 512, 1024), 2, 1024)]
)
def test_paper_resnet_has_the_layers_of_the_paper(depth, widths, blocks, features):
    model = on_paper(PaperResNet, depth=depth)
    assert (model.hidden_size, model.output_std) == (features, None)
    expected = 3 * widths[0] * 9 + 2 * widths[0]
    before = widths[0]
    for width in widths:
        expected += 9 * before * width + 9 * width * width * (2 * blocks - 1) + 2 * width * 2 * blocks
        expected += 0 if before == width else before * width + 2 * width  # the shortcut
        before = width
    assert count(model) == expected
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


def test_small_resnet_equals_its_layers_written_out():
    model = SmallResNet(input_shape=(2, 17, 20), channels=(3, 4, 5)).double().eval()
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)

    def layer(values: torch.Tensor, place: int) -> torch.Tensor:
        norm = norms[place]
        values = F.conv2d(values, convolutions[place].weight, stride=2 if place == 0 else 1, padding=1)
        shift, scale = norm.running_mean.view(-1, 1, 1), (norm.running_var + norm.eps).sqrt().view(-1, 1, 1)
        values = (values - shift) / scale * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        return values.clamp_min(0)

    inputs = torch.randn(3, 2, 17, 20, dtype=torch.float64)
    values = F.max_pool2d(layer(layer(inputs, 0), 1), 2)
    values = F.max_pool2d(layer(values, 2), 2)
    expected = (values + layer(layer(values, 3), 4)).mean((2, 3))
    torch.testing.assert_close(model(inputs), expected, rtol=0, atol=1e-12)
