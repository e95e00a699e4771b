"""An output layer that shares its weight with an embedding of the encoder, as in translation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded
from labelembed.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS

from .made_objectives import MODES, made_mode

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
HIDDEN, LABELS = 4, 5
SENTENCES, LENGTH = 6, 7


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


class Words(nn.Module):
    """An encoder of tokens [B, T] whose hidden states are made of its embedding [C, H]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LABELS, HIDDEN)
        self.mixing = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, tokens):
        return torch.tanh(self.mixing(self.embedding(tokens)))


TIED = [mode for mode in MODES if made_mode(mode).output_size == LABELS]


def tied_network(case, *, tied=True):
    objective = made_mode(case)
    with seeded(0, "encoder"):
        encoder = Words().double()
    if tied:
        objective.output.weight = encoder.embedding.weight
    else:
        with torch.no_grad():
            objective.output.weight.copy_(encoder.embedding.weight)
    return Network(nn.Identity(), encoder, objective)


def tied_batch(step=0):
    source = generator(0, "words", step)
    tokens = torch.randint(LABELS, (SENTENCES, LENGTH), generator=source)
    labels = torch.randint(LABELS, (SENTENCES, LENGTH), generator=source)
    labels[:, -2:] = -100
    return tokens, labels, torch.arange(labels.numel()).view_as(labels)


def test_all_but_vectors_of_their_own_width_can_be_tied():
    names = {MODES[case][0] for case in TIED}
    assert names == set(OBJECTIVES) - {"static_labels"}


@pytest.mark.parametrize("case", TIED)
def test_the_gradient_of_a_tied_weight_is_that_of_both_uses(case):
    tied, apart = tied_network(case), tied_network(case, tied=False)
    for network in (tied, apart):
        network.objective.start_epoch(0, 10, 3)
        network(*tied_batch()).total.backward()
    embedding, output = apart.encoder.embedding.weight.grad, apart.objective.output.weight.grad
    assert bool(embedding.any())
    assert bool(output.any())
    # Two sums of float64 gradients, in either order.
    torch.testing.assert_close(tied.encoder.embedding.weight.grad, embedding + output, rtol=1e-12, atol=1e-14)
    assert tied.objective.output.weight.grad is tied.encoder.embedding.weight.grad


@pytest.mark.parametrize("case", TIED)
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_optimisers_hold_a_tied_weight_once_in_the_objectives_group(case, optimizer):
    network = tied_network(case)
    made = OPTIMIZERS[optimizer](network, weight_decay=0.25, head_weight_decay=0.5)
    held = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    decay = {id(parameter): group["weight_decay"] for group in made.param_groups for parameter in group["params"]}
    assert decay[id(network.encoder.embedding.weight)] == 0.5
    assert decay[id(network.encoder.mixing.weight)] == 0.25


def train(network, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        network(*tied_batch(step)).total.backward()
        optimizer.step()


@pytest.mark.parametrize("case", TIED)
def test_a_tied_network_is_saved_and_goes_on_as_it_would_have(case, tmp_path):
    network = tied_network(case)
    optimizer = OPTIMIZERS["sgd"](network, learning_rate=0.1, momentum=0.0)
    network.objective.start_epoch(0, 10, 3)
    train(network, optimizer, range(2))
    save_checkpoint(tmp_path, Checkpoint(2, {"network": dict(network.state_dict())}))
    predicts = network.prediction_state()

    again = tied_network(case)
    checkpoint, damaged = load_newest(tmp_path)
    assert damaged == []
    again.load_state_dict(checkpoint.tensors["network"])
    assert again.objective.output.weight is again.encoder.embedding.weight
    again.objective.start_epoch(0, 10, 3)
    train(again, OPTIMIZERS["sgd"](again, learning_rate=0.1, momentum=0.0), range(2, 4))
    train(network, optimizer, range(2, 4))
    assert_same(dict(again.state_dict()), dict(network.state_dict()))

    for tied in (True, False):  # the saved weights stand under both names
        reader = tied_network(case, tied=tied)
        reader.load_prediction_state(predicts)
        logits = reader.eval().logits(tied_batch()[0])
        assert not torch.equal(logits, network.eval().logits(tied_batch()[0]))
        loaded = again  # two steps further: only to compare with what was saved
        loaded.load_prediction_state(predicts)
        assert torch.equal(logits, loaded.eval().logits(tied_batch()[0]))


def test_a_copy_of_a_tied_network_is_tied_in_itself():
    network = tied_network("one_hot")
    other = copy.deepcopy(network)
    assert other.objective.output.weight is other.encoder.embedding.weight
    assert other.objective.output.weight is not network.objective.output.weight
    assert other.parameter_count() == network.parameter_count() == LABELS * HIDDEN + LABELS + HIDDEN * HIDDEN + HIDDEN
