"""Checkpoints: what is saved comes back, nothing else is taken for one, and the optimiser's moments fit its weights."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from labelembed import seeds
from labelembed.lab.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.lab.training.optimizers import load_state, state_tensors
from tests.made_checkpoints import save, steps_in


def test_checkpoint_comes_back_as_it_was_saved(tmp_path):
    tied = torch.randn(3, 3)
    tensors = {
        "network": {
            "scalar": torch.tensor(3, dtype=torch.int64),
            "empty": torch.empty(0, 4),
            "view": torch.arange(6.0).view(2, 3).T,
            "bf16": torch.randn(4).bfloat16(),
            "a/name.of parts": torch.arange(256).to(torch.uint8),
            "tied": tied,
            "tied again": tied,
        }
    }
    values = {"position": {"step": 7, "line": None, "score": 0.1 + 0.2}, "text": "naïve ✓"}
    save_checkpoint(tmp_path / "c", Checkpoint(7, tensors, values))
    checkpoint, damaged = load_newest(tmp_path / "c")
    assert (checkpoint.step, checkpoint.values, damaged) == (7, values, [])
    torch.testing.assert_close(checkpoint.tensors, tensors, rtol=0, atol=0)


def test_newest_are_kept(tmp_path):
    save(tmp_path / "two", *range(1, 6))
    assert steps_in(tmp_path / "two") == [4, 5]
    save(tmp_path / "four", *range(8, 13), keep=4)
    assert steps_in(tmp_path / "four") == [9, 10, 11, 12]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_moments_read_from_a_file_belong_to_their_weights_channels_last(make):
    inputs = torch.randn(5, 3, 8, 8)
    with seeds.seeded(0):
        unbroken = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    resumed = copy.deepcopy(unbroken)
    for layer in (unbroken, resumed):
        optimizer = make(layer.parameters(), lr=0.1, fused=True)
        for step in range(4):
            if layer is resumed and step == 2:
                tensors = state_tensors(optimizer)
                by_rows = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
                optimizer = make(layer.parameters(), lr=0.1, fused=True)
                load_state(optimizer, by_rows)
            layer(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(unbroken.weight, resumed.weight)
