"""Randomness from (seed, purpose)."""

from __future__ import annotations

import pytest
import torch

from labelembed import seeds


def test_derived_seed_never_changes():
    """Runs of other versions and machines must be repeatable: these numbers are part of the format."""
    assert seeds.derived_seed(0) == 3456079177858693020
    assert seeds.derived_seed(3, "order", 7) == 8403337869328738062


def test_example_order_is_a_permutation_that_depends_on_seed_and_epoch_only():
    order = seeds.example_order(50, 3, 5)
    assert sorted(order.tolist()) == list(range(50))
    assert [seeds.example_order(count, 3, 5).tolist() for count in (0, 1)] == [[], [0]]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(seeds.example_order(50, 3, 5), order)
    assert torch.equal(torch.get_rng_state(), before)
    orders = {tuple(seeds.example_order(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(5)}
    assert len(orders) == 20


def test_seeded_block_restores_the_global_state_even_when_it_fails():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeds.seeded(3, "encoder"):
        one = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match="rand"), seeds.seeded(3, "encoder"):
        torch.rand("three")
    assert torch.equal(torch.get_rng_state(), before)
    with seeds.seeded(3, "encoder"):
        assert torch.equal(torch.rand(3), one)
    with seeds.seeded(3, "objective"):
        assert not torch.equal(torch.rand(3), one)
