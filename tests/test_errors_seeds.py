"""What can go wrong, as types and messages; and randomness from (seed, purpose)."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from labelembed import seeds
from labelembed.errors import DataError, LabelEmbedError
from labelembed.lab.errors import InterruptedTraining, RecipeError, RunFolderError, TrainingError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError(["one: wrong", "two: wrong"], source="x.yaml"), 2),
        (RecipeError(["one: wrong"]), 2),
        (DataError("x.csv: row 3"), 2),
        (RunFolderError("no such folder"), 2),
        (TrainingError("loss is nan"), 1),
        (InterruptedTraining("stopped after epoch 3", signal_number=2), 130),
        (InterruptedTraining("stopped after epoch 3", signal_number=15), 143),
        (InterruptedTraining("stopped"), 130),
    ],
)
def test_errors_carry_their_exit_code_and_survive_the_way_back_from_a_worker_process(error, code):
    assert isinstance(error, LabelEmbedError)
    for back in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is type(error)
        assert (str(back), back.exit_code, vars(back)) == (str(error), code, vars(error))


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
