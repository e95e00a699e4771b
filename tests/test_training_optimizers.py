"""Optimisers and schedules: the rates of every step, weight decay, moments that come back, what is refused."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from labelembed import seeds
from labelembed.lab.models.mlp import MLP
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES, load_state, state_tensors
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import LabelEmbedding, OneHot
from tests.made_training import STEPS, small_recipe, train


def factors(name, steps, steps_per_epoch=4, **arguments):
    schedule = SCHEDULES[name](**arguments)
    return [schedule(step, steps_per_epoch, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("constant", {}, [1.0] * 8),
        ("constant", {"warmup_fraction": 0.5}, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("step", {"epochs": [1], "factor": 0.2}, [1.0] * 4 + [0.2] * 4),
        ("step", {"epochs": [1, 1], "factor": 0.5, "warmup_fraction": 0.25}, [0.5, 1.0, 1.0, 1.0] + [0.25] * 4),
        (
            "cosine",
            {"warmup_fraction": 0.5, "final_fraction": 0.2},
            [0.25, 0.5, 0.75, 1.0, *(0.2 + 0.8 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4))],
        ),
    ],
)
def test_schedule_gives_the_factors_worked_out_by_hand(name, arguments, expected):
    assert factors(name, 8, **arguments) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer_steps_with_the_rates_of_the_schedule(optimizer, hooks, tmp_path):
    rates = []
    note = register_optimizer_step_pre_hook
    hooks.append(note(lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])))
    schedule = {"warmup_fraction": 0.2, "final_fraction": 0.1}
    changes = {"optimizer": {"name": optimizer, "learning_rate": 0.5}, "schedule": {"name": "cosine"} | schedule}
    train(small_recipe(objective="one_hot", **changes), tmp_path / "run")
    expected = [0.5 * factor for factor in factors("cosine", STEPS, **schedule)]
    assert rates == [pytest.approx([rate, rate]) for rate in expected]


def test_the_history_has_the_learning_rate_of_the_recipe(monkeypatch, tmp_path):
    slow = {"learning_rate_factor": 0.02}
    monkeypatch.setattr(MLP, "parameter_groups", lambda one: [{"params": one.parameters()} | slow], raising=False)
    train(small_recipe(optimizer={"name": "sgd", "learning_rate": 0.5}), tmp_path / "run")
    assert {line["learning_rate"] for line in RunFolder(tmp_path / "run").history()} == {0.5}


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


def test_the_output_layer_may_have_a_weight_decay_of_its_own():
    network = Network(nn.Identity(), nn.Linear(4, 4), LabelEmbedding(4, 5))
    head = {id(value) for name, value in network.objective.named_parameters() if "embedding" not in name}
    for given, of_head in ((None, 0.25), (0.5, 0.5), (0.0, 0.0)):
        optimizer = OPTIMIZERS["sgd"](network, weight_decay=0.25, head_weight_decay=given)
        decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
        assert {decays[id(value)] for value in network.encoder.parameters()} == {0.25}
        assert {decays[one] for one in head} == {of_head}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"learning_rate": 0.0}),
        ("adam", {"betas": (0.9, 1.0)}),
        ("constant", {"warmup_fraction": 1.0}),
        ("step", {"epochs": [0]}),
        ("cosine", {"final_fraction": 1.5}),
    ],
)
def test_optimisers_and_schedules_refuse_what_is_out_of_range(name, arguments):
    network = Network(nn.Identity(), nn.Linear(4, 3), OneHot(3, 5))
    make = SCHEDULES[name] if name in SCHEDULES else partial(OPTIMIZERS[name], network)
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` .*got"):
        make(**arguments)
