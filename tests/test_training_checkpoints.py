"""Checkpoints: what is saved comes back, also of tied weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labelembed.lab.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS
from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded
from tests.made_checkpoints import save, steps_in

from .made_objectives import made_mode


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


HIDDEN, LABELS = 4, 5


class Words(nn.Module):
    """An encoder of tokens [B, T] whose hidden states are made of its embedding [C, H]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LABELS, HIDDEN)
        self.mixing = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, tokens):
        return torch.tanh(self.mixing(self.embedding(tokens)))


def tied_network(mode):
    objective = made_mode(mode)
    with seeded(0, "encoder"):
        encoder = Words().double()
    objective.output.weight = encoder.embedding.weight
    return Network(nn.Identity(), encoder, objective)


def train(network, steps):
    optimizer = OPTIMIZERS["sgd"](network, learning_rate=0.1, momentum=0.0)
    for step in steps:
        tokens, labels = torch.randint(LABELS, (2, 6, 7), generator=generator(0, "words", step))
        labels[:, -2:] = -100
        optimizer.zero_grad()
        network(tokens, labels, torch.arange(labels.numel()).view_as(labels)).total.backward()
        optimizer.step()


@pytest.mark.parametrize("mode", sorted(OBJECTIVES.keys() - {"static_labels"}))
def test_tied_network_has_its_weight_once_and_goes_on_from_a_checkpoint_as_it_would_have(mode, tmp_path):
    network, again = tied_network(mode), tied_network(mode)
    held = [id(one) for group in OPTIMIZERS["sgd"](network).param_groups for one in group["params"]]
    assert sorted(held) == sorted(map(id, network.parameters()))
    train(network, range(2))
    save_checkpoint(tmp_path, Checkpoint(2, {"network": dict(network.state_dict())}, {}))
    checkpoint, damaged = load_newest(tmp_path)
    assert damaged == []
    again.load_state_dict(checkpoint.tensors["network"])
    assert again.objective.output.weight is again.encoder.embedding.weight
    for one in (network, again):
        train(one.train(), range(2, 4))
    torch.testing.assert_close(dict(again.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
