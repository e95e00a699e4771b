"""An output layer that shares its weight with an embedding of the encoder, as in translation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labelembed.lab.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS
from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded

from .made_objectives import made_mode

HIDDEN, LABELS = 4, 5
every_objective = pytest.mark.parametrize("mode", sorted(OBJECTIVES.keys() - {"static_labels"}))


class Words(nn.Module):
    """An encoder of tokens [B, T] whose hidden states are made of its embedding [C, H]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LABELS, HIDDEN)
        self.mixing = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, tokens):
        return torch.tanh(self.mixing(self.embedding(tokens)))


def network_of(mode, *, tied=True):
    objective = made_mode(mode)
    with seeded(0, "encoder"):
        encoder = Words().double()
    if tied:
        objective.output.weight = encoder.embedding.weight
    else:
        with torch.no_grad():
            objective.output.weight.copy_(encoder.embedding.weight)
    return Network(nn.Identity(), encoder, objective)


def batch_of(step=0):
    source = generator(0, "words", step)
    tokens, labels = torch.randint(LABELS, (2, 6, 7), generator=source)
    labels[:, -2:] = -100
    return tokens, labels, torch.arange(labels.numel()).view_as(labels)


@every_objective
def test_optimisers_hold_a_tied_weight_once_in_the_objectives_group(mode):
    network = network_of(mode)
    made = OPTIMIZERS["sgd"](network, weight_decay=0.25, head_weight_decay=0.5)
    held = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    decay = {id(parameter): group["weight_decay"] for group in made.param_groups for parameter in group["params"]}
    assert decay[id(network.encoder.embedding.weight)] == 0.5
    assert decay[id(network.encoder.mixing.weight)] == 0.25


def train(network, steps):
    optimizer = OPTIMIZERS["sgd"](network, learning_rate=0.1, momentum=0.0)
    for step in steps:
        optimizer.zero_grad()
        network(*batch_of(step)).total.backward()
        optimizer.step()


@every_objective
def test_a_tied_network_is_saved_and_goes_on_as_it_would_have(mode, tmp_path):
    network, again = network_of(mode), network_of(mode)
    train(network, range(2))
    save_checkpoint(tmp_path, Checkpoint(2, {"network": dict(network.state_dict())}))
    predicts, logits = network.prediction_state(), network.eval().logits(batch_of()[0])
    checkpoint, damaged = load_newest(tmp_path)
    assert damaged == []
    again.load_state_dict(checkpoint.tensors["network"])
    assert again.objective.output.weight is again.encoder.embedding.weight
    for one in (network, again):
        train(one.train(), range(2, 4))
    torch.testing.assert_close(dict(again.state_dict()), dict(network.state_dict()), rtol=0, atol=0)
    for tied in (True, False):  # the saved weights stand under both names
        reader = network_of(mode, tied=tied)
        reader.load_prediction_state(predicts)
        assert torch.equal(reader.eval().logits(batch_of()[0]), logits)
