"""What comes before the encoder: scaling; training pictures mirrored, moved, cut out and mixed in pairs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from labelembed.lab.data import IdentityEncoder
from labelembed.lab.models import Augmentation, InputScaling, Mixing
from labelembed.lab.recipes.schema import parse_recipe
from labelembed.lab.runs.task import Classification

SHAPE = (3, 8, 10)


def pictures(count: int) -> torch.Tensor:
    """Pictures whose every value is different, none of them 0."""
    return torch.arange(1, count * 240 + 1, dtype=torch.float32).view(count, *SHAPE)


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
            if torch.equal(before[:, top : top + 8, left : left + 10], after.flip(2) if mirrored else after)
        ]
        assert len(found) == 1
        seen |= set(found)
    assert [set(drawn) for drawn in zip(*seen, strict=True)] == [set(range(9)), set(range(9)), {False, True}]
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


@pytest.mark.parametrize("side", [1, 3, 4, 30])
def test_cutout_puts_zero_in_a_square_with_its_middle_anywhere(side):
    inputs = pictures(400)
    outputs = Augmentation("none", cutout=side, input_shape=SHAPE)(inputs)
    gone = outputs == 0
    assert torch.equal(outputs[~gone], inputs[~gone])
    assert torch.equal(gone, gone[:, :1].expand_as(gone))  # of all channels
    y, x = torch.meshgrid(torch.arange(8), torch.arange(10), indexing="ij")
    starts = [(row - side // 2, column - side // 2) for row in range(8) for column in range(10)]
    squares = {
        ((top <= y) & (y < top + side) & (left <= x) & (x < left + side)).numpy().tobytes() for top, left in starts
    }
    seen = {mask.numpy().tobytes() for mask in gone[:, 0].contiguous()}
    assert seen <= squares
    # 80 places are drawn 400 times: each is missed with a chance of e^-5
    assert len(seen) > 0.8 * len(squares)


def test_mixup_fades_each_row_into_its_partner():
    inputs = pictures(12)
    mixed = Mixing("mixup", input_shape=SHAPE)(inputs)
    share = mixed.share.double()
    assert 0 < share < 1
    assert sorted(mixed.partners.tolist()) == list(range(12))
    expected = share * inputs.double() + (1 - share) * inputs[mixed.partners].double()
    torch.testing.assert_close(mixed.inputs.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_takes_a_rectangle_from_the_partner_and_says_how_much_is_left(seed):
    inputs = pictures(12)
    torch.manual_seed(seed)
    mixed = Mixing("cutmix", input_shape=SHAPE)(inputs)
    others = inputs[mixed.partners]
    moved = mixed.partners != torch.arange(12)
    assert bool(((mixed.inputs == inputs) | (mixed.inputs == others)).all())
    inside = (mixed.inputs != inputs)[moved][0, 0]
    assert bool(((mixed.inputs != inputs)[moved] == inside).all())  # one rectangle for the batch
    rows, columns = inside.any(1), inside.any(0)
    assert torch.equal(inside, rows[:, None] & columns)
    for line in (rows, columns):  # without a gap
        places = line.nonzero().flatten()
        assert len(places) == 0 or len(places) == places[-1] - places[0] + 1
    assert mixed.share.item() == pytest.approx(1 - inside.float().mean().item())


def test_what_is_no_picture_or_out_of_range_is_refused():
    assert Mixing("mixup", input_shape=(7,))(torch.randn(4, 7)).inputs.shape == (4, 7)
    for make, kind, more in ((Mixing, "cutmix", {}), (Mixing, "mixup", {"alpha": 0}), (Augmentation, "flip", {})):
        with pytest.raises(ValueError, match="must be"):
            make(kind, input_shape=(7,), **more)


def test_network_mixes_in_training_and_gives_the_objective_both_labels():
    values = {"data": {"name": "digits", "mixing": "mixup"}, "model": {"name": "mlp", "hidden_sizes": [8]}}
    recipe = parse_recipe(values | {"objective": "one_hot", "epochs": 1, "batch_size": 10}, source="test")
    facts = {"names": ("a", "b", "c"), "input_shape": SHAPE, "input_range": (0.0, 1.0), "encoder": IdentityEncoder()}
    made = Classification(recipe, **facts, label_column=None).build_network()
    inputs, labels = pictures(9) / 1000, torch.arange(9) % 3
    torch.manual_seed(5)
    found = made(inputs, labels, torch.arange(9))
    torch.manual_seed(5)
    mixed = made.mixing(inputs)
    hidden = made.encoder(mixed.inputs)
    one, other = made.objective(hidden, labels), made.objective(hidden, labels[mixed.partners])
    torch.testing.assert_close(found.total, mixed.share * one.total + (1 - mixed.share) * other.total)
    made.eval()
    assert torch.equal(made(inputs, labels).total, made.objective(made.encoder(inputs), labels).total)


def test_input_scaling_takes_off_the_offset_and_divides_channel_by_channel():
    images = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    offset, scale = torch.tensor([10.0, 0.0, -3.0]).view(3, 1, 1), torch.tensor([255.0, 2.0, 0.5]).view(3, 1, 1)
    scaled = InputScaling(offset=offset.flatten().tolist(), scale=scale.flatten().tolist())(images)
    # Multiplied with a rounded reciprocal: two float32 roundings.
    torch.testing.assert_close(scaled, (images.double() - offset).div(scale).float(), rtol=2e-7, atol=0)
