"""The small residual network, and the changes made to training pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labelembed.errors import RecipeError
from labelembed.models import Augmentation, SmallResNet
from labelembed.recipes.building import build_network
from labelembed.recipes.schema import parse_recipe

SHAPE = (3, 32, 32)


def pictures(count: int) -> torch.Tensor:
    """Pictures whose every value is different, none of them 0."""
    return torch.arange(1, count * 3 * 32 * 32 + 1, dtype=torch.float32).view(count, *SHAPE)


# ---------------------------------------------------------------------------------------- small residual network


def test_default_small_resnet_has_the_weights_it_says():
    model = SmallResNet(input_shape=SHAPE)
    convolutions = 3 * 32 * 16 + 32 * 64 * 9 + 64 * 128 * 9 + 2 * 128 * 128 * 9
    assert sum(parameter.numel() for parameter in model.parameters()) == convolutions + 2 * (32 + 64 + 128 * 3)
    assert (model.hidden_size, model.output_std) == (128, None)


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


def test_small_resnet_trains_on_a_single_picture_of_the_smallest_size():
    model = SmallResNet(input_shape=(1, 16, 16))
    model(torch.randn(1, 1, 16, 16)).square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_small_resnet_refuses_all_that_is_wrong():
    with pytest.raises(ValueError, match="16 pixels or more a side") as caught:
        SmallResNet(input_shape=(1, 16, 15), channels=(1, 2), dropout=1.0)
    assert str(caught.value).splitlines() == [
        "`input_shape` must be (channels, height, width), 16 pixels or more a side, got [1, 16, 15]",
        "`channels` must be three numbers >= 1, got [1, 2]",
        "`dropout` must be in [0, 1), got 1.0",
    ]


# ------------------------------------------------------------------------------------------------- augmentation


def test_flip_mirrors_about_half_of_the_pictures_whole():
    inputs = pictures(200)
    outputs = Augmentation("flip", input_shape=SHAPE)(inputs)
    same = (outputs == inputs).flatten(1).all(1)
    mirrored = (outputs == inputs.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    # five deviations of a binomial of 200 and 1/2
    assert abs(int(mirrored.sum()) - 100) < 5 * 50**0.5


def test_crop_moves_each_picture_by_up_to_four_pixels_and_fills_with_zero():
    inputs = pictures(300)
    outputs = Augmentation("crop_flip", input_shape=SHAPE)(inputs)
    assert outputs.shape == inputs.shape
    padded = F.pad(inputs, (4, 4, 4, 4))
    seen = set()
    for before, after in zip(padded, outputs, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if torch.equal(before[:, top : top + 32, left : left + 32], after.flip(2) if mirrored else after)
        ]
        assert len(found) == 1
        seen |= set(found)
    assert {top for top, _, _ in seen} == set(range(9))
    assert {left for _, left, _ in seen} == set(range(9))
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert len(seen) > 100  # both directions and the mirror are drawn on their own: 162 there are


@pytest.mark.parametrize("kind", ["none", "flip", "crop_flip"])
def test_augmentation_acts_in_training_only_and_repeats_with_the_generator(kind):
    augmentation = Augmentation(kind, input_shape=SHAPE)
    inputs = pictures(20)
    torch.manual_seed(3)
    first = augmentation(inputs)
    second = augmentation(inputs)
    torch.manual_seed(3)
    assert torch.equal(augmentation(inputs), first)
    assert torch.equal(first, second) == (kind == "none")
    assert augmentation(inputs[:0]).shape == (0, *SHAPE)
    augmentation.eval()
    before = torch.get_rng_state()
    assert torch.equal(augmentation(inputs), inputs)
    assert torch.equal(torch.get_rng_state(), before)


def recipe(augmentation: str):
    values = {
        "data": {"name": "digits", "augmentation": augmentation},
        "model": {"name": "mlp", "hidden_sizes": [8]},
        "objective": "one_hot",
        "epochs": 1,
        "batch_size": 10,
    }
    return parse_recipe(values, source="test")


def test_network_augments_scaled_pictures_in_training():
    network = build_network(recipe("flip"), num_labels=3, input_shape=SHAPE, scaling=nn.Identity())
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    inputs = pictures(50) / 150_000
    network.hidden(inputs)
    network.eval().hidden(inputs)
    assert not torch.equal(seen[0], inputs)
    assert torch.equal(seen[1], inputs)


def test_augmentation_of_what_is_no_picture_is_refused():
    with pytest.raises(
        RecipeError, match=r"data\.augmentation: must be 'none' for inputs of 636, no pictures, got 'flip'"
    ):
        build_network(recipe("flip"), num_labels=3, input_shape=(636,), scaling=nn.Identity())
    with pytest.raises(RecipeError, match=r"data\.augmentation: must be 'none', 'flip' or 'crop_flip', got 'turn'"):
        recipe("turn")
