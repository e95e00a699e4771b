"""Objectives over tokens: padding counts nowhere, and the output layer may be tied to an embedding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES
from labelembed.seeds import generator, seeded
from labelembed.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS

from . import made_objectives
from .made_objectives import ROWS, build

torch.set_num_threads(1)  # with tensors this small, threads that wait for each other take most of the time
HIDDEN, LABELS = 4, 5
SENTENCES, LENGTH = 6, 7

# Every objective by its defaults, and every way in which one keeps, gathers or counts.
CASES = made_objectives.CASES | {
    "label_embedding, published": ("label_embedding", {"preset": "published_code", "confidence_limit": 0.2}),
    "label_embedding, mixture": ("label_embedding", {"preset": "mixture", "confidence_limit": 0.2}),
    "label_embedding, shared": ("label_embedding", {"auxiliary": "shared"}),
    "label_embedding, compressed": (
        "label_embedding",
        {"embedding": "compressed", "rank": 3, "target_warmup_steps": 0.5, "initial_scale": "log"},
    ),
    "label_embedding, fixed": ("label_embedding", {"embedding": "SAVED"}),
    "online, published": ("online_label_smoothing", {"preset": "published", "top_k": 3}),
    "online, top 2": ("online_label_smoothing", {"top_k": 2, "temperature": 2.0}),
    "retrospection": ("retrospection", {"store_every": 2}),  # 5 by default, and there are three epochs
    "retrospection, every epoch": ("retrospection", {"store_every": 1}),
    "retrospection, in its steps": ("retrospection", {"store_every": 1, "store": "steps", "top_k": 3}),
    "distillation, top 3": ("distillation", {"temperature": 2.0, "top_k": 3}),
    "adaptive, repel": ("adaptive_labels", {"repel_weight": 1.0, "prediction": "training_set"}),
    "adaptive, after every third": ("adaptive_labels", {"update_every": 3, "warmup_steps": 1, "momentum": 0.9}),
    "adaptive, once an epoch": ("adaptive_labels", {"update": "epoch"}),
    "adaptive, wide": ("adaptive_labels", {"label_dimension": 9}),
}
every_case = pytest.mark.parametrize("case", CASES)


def make(case, *, hidden_size=HIDDEN, num_labels=LABELS, **arguments):
    """Returns the objective of a case with noise for parameters, so that it is sure of itself."""
    name, given = CASES[case]
    if given.get("embedding") == "SAVED":
        table = torch.randn(num_labels, num_labels, generator=generator(0, "saved"))
        given = {"embedding": LabelGeometry([str(label) for label in range(num_labels)], similarities=table)}
    with seeded(0, "objective"):
        objective = build(name, hidden_size, num_labels, **given, **arguments).double()
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
    objective.begin_training(STEPS * EPOCHS)
    return objective


EPOCHS, STEPS = 3, 2


def made_tokens(objective, step):
    """Returns hidden [B, T, H], labels [B, T] and rows [B, T]; where the label is -100 there is only rubbish.

    Sentences of 0 to T tokens; three labels in four as the objective says. The rows of the two steps are different.
    """
    source = generator(0, "tokens", step)
    hidden = torch.randn(SENTENCES, LENGTH, HIDDEN, generator=source, dtype=torch.float64)
    with torch.no_grad():
        labels = objective.logits(hidden).argmax(dim=-1)
    labels[:, 1::4] = (labels[:, 1::4] + 1) % LABELS
    lengths = torch.tensor([LENGTH, 1, 3, 0, 5, 2])
    padding = torch.arange(LENGTH) >= lengths[:, None]
    order = torch.randperm(ROWS, generator=source)[: SENTENCES * LENGTH] // 2 * 2 + step
    rows = order.unique()[: int(lengths.sum())]
    rows = torch.zeros_like(labels).masked_scatter(~padding, rows)
    hidden[padding] = float("nan")
    labels[padding] = -100
    rows[padding] = 10**9
    return hidden, labels, rows


def one_step(objective, hidden, labels, rows):
    """Returns the terms and the gradients of hidden rows and parameters of a training step."""
    objective.zero_grad()
    hidden = hidden.clone().requires_grad_(True)
    terms = objective(hidden, labels, rows)
    terms.total.backward()
    of_parameters = {name: parameter.grad for name, parameter in objective.named_parameters()}
    return terms._asdict(), hidden.grad, of_parameters


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, expected[name]), name
        else:
            assert value == expected[name], name


@every_case
def test_padded_tokens_count_nowhere(case):
    """Over three epochs: terms, gradients and all that is remembered are those of the tokens alone, to the last bit."""
    padded, plain = make(case), make(case)
    batches = [made_tokens(padded, step) for step in range(STEPS)]
    learned = False
    for epoch in range(EPOCHS):
        for objective in (padded, plain):
            objective.train().begin_epoch(epoch, EPOCHS)
        for hidden, labels, rows in batches:
            counts = labels != -100
            found = one_step(padded, hidden, labels, rows)
            expected = one_step(plain, hidden[counts], labels[counts], rows[counts])
            assert_same(found[0], expected[0])
            assert torch.equal(found[1][counts], expected[1])
            assert torch.equal(found[1][~counts], torch.zeros_like(found[1][~counts]))
            assert_same(found[2], expected[2])
            learned = learned or bool(expected[1].any())
            assert all(bool(torch.isfinite(value)) for value in found[0].values())
        for objective in (padded, plain):
            objective.end_epoch()
        assert padded.needs_training_pass() == plain.needs_training_pass()
        if padded.needs_training_pass():
            for objective, selects in ((padded, False), (plain, True)):
                objective.eval().begin_pass()
                for hidden, labels, rows in batches:
                    counts = labels != -100 if selects else torch.ones_like(labels, dtype=torch.bool)
                    parts = (hidden[counts], labels[counts], rows[counts]) if selects else (hidden, labels, rows)
                    with torch.no_grad():
                        objective.observe(*parts)
                objective.end_pass()
        assert_same(padded.state_dict(), plain.state_dict())
    assert learned


@every_case
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (0, 0), (3, 0)])
def test_nothing_but_padding_gives_a_loss_of_zero_to_go_back_from(case, shape):
    objective = make(case)
    objective.begin_epoch(0, 3)
    hidden = torch.full((*shape, HIDDEN), float("nan"), dtype=torch.float64, requires_grad=True)
    labels = torch.full(shape, -100)
    before = copy.deepcopy({name: value for name, value in objective.state_dict().items() if "steps" not in name})
    terms = objective(hidden, labels, torch.zeros_like(labels))
    assert {name: value.item() for name, value in terms._asdict().items()} == dict.fromkeys(terms._asdict(), 0.0)
    terms.total.backward()
    gradients = [value.grad for value in (hidden, *objective.parameters()) if value.grad is not None]
    assert all(not gradient.any() for gradient in gradients)
    after = objective.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


# ---- weight tying


class Words(nn.Module):
    """An encoder of tokens [B, T] whose hidden rows are made of its embedding [C, H]."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LABELS, HIDDEN)
        self.mixing = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, tokens):
        return torch.tanh(self.mixing(self.embedding(tokens)))


def is_tieable(case):
    return make(case).output_size == LABELS


TIED = [case for case in CASES if is_tieable(case)]


def tied_network(case, *, tied=True):
    objective = make(case)
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
    names = {CASES[case][0] for case in TIED}
    assert names == set(OBJECTIVES) - {"static_labels"}


@pytest.mark.parametrize("case", TIED)
def test_the_gradient_of_a_tied_weight_is_that_of_both_uses(case):
    tied, apart = tied_network(case), tied_network(case, tied=False)
    for network in (tied, apart):
        network.objective.begin_epoch(0, 3)
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
    network.objective.begin_epoch(0, 3)
    train(network, optimizer, range(2))
    save_checkpoint(tmp_path, Checkpoint(2, {"network": dict(network.state_dict())}))
    predicts = network.prediction_state()

    again = tied_network(case)
    checkpoint, damaged = load_newest(tmp_path)
    assert damaged == []
    again.load_state_dict(checkpoint.tensors["network"])
    assert again.objective.output.weight is again.encoder.embedding.weight
    again.objective.begin_epoch(0, 3)
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
