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


def test_the_output_layer_may_have_a_weight_decay_of_its_own():
    network = Network(nn.Identity(), Words(), OBJECTIVES["label_embedding"](HIDDEN, LABELS))
    head = {id(value) for name, value in network.objective.named_parameters() if "embedding" not in name}
    for given, of_head in ((None, 0.25), (0.5, 0.5), (0.0, 0.0)):
        optimizer = OPTIMIZERS["sgd"](network, weight_decay=0.25, head_weight_decay=given)
        decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
        assert {decays[id(value)] for value in network.encoder.parameters()} == {0.25}
        assert {decays[one] for one in head} == {of_head}
