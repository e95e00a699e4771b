"""What is looked at in every step's gradients: exact, without a change to them, at the cost of one operator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from labelembed.training.finite import finite_if, gradients_of

KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def seen(values):
    """Tells whether the numbers say that something is not finite."""
    return not all(math.isfinite(number.item()) for number in finite_if(values))


def gradients(kind, generator):
    """Returns gradients of many forms: with one value, none, more than a vector register holds, transposed."""
    sizes = [(), (1,), (0, 3), (7,), (130, 33), (64, 64)]
    made = [torch.randn(size, generator=generator).to(kind) for size in sizes]
    return [*made, torch.randn(5, 9, generator=generator).to(kind).t()]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_anywhere_is_seen(kind, value):
    generator = torch.Generator().manual_seed(1)
    places = 0
    for number, one in enumerate(gradients(kind, generator)):
        for place in {0, one.numel() // 2, one.numel() - 1} if one.numel() else ():
            values = gradients(kind, generator)
            assert not seen(values)
            values[number].masked_fill_(torch.arange(one.numel()).view(one.shape) == place, value)
            assert seen(values)
            places += 1
    assert places == 14


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_stay_as_they_are_to_the_last_bit(kind):
    values = gradients(kind, torch.Generator().manual_seed(1))
    limits = torch.finfo(kind)
    values.append(
        torch.tensor([0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_normal / 2], dtype=kind)
    )
    before = [value.clone() for value in values]
    finite_if(values)
    for one, other in zip(values, before, strict=True):
        assert torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def test_sparse_gradient_is_looked_at_by_the_values_that_it_has():
    table = nn.Embedding(6, 3, sparse=True)
    table(torch.tensor([1, 4, 4])).sum().backward()  # whose values are one number, many times
    (values,) = gradients_of(table.parameters())
    assert values.shape == (3, 3)
    assert not seen([values])
    table.weight.grad._values().fill_(math.inf)
    assert seen(gradients_of(table.parameters()))


class Counted(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        self.count += 1
        return operator(*arguments, **(named or {}))


@pytest.mark.parametrize("number", [1, 50])
def test_look_takes_as_many_operators_for_many_gradients_as_for_one(number):
    values = [torch.randn(4) for _ in range(number)]
    finite_if(values)
    with Counted() as counted:
        finite_if(values)
    assert counted.count <= 3


def test_finite_gradient_whose_norm_overflows_is_finite():
    assert not seen([torch.full((3,), torch.finfo(torch.float32).max)])
