"""Training on changed pictures with batch normalisation: resumed to the last bit, and evaluated on unchanged ones."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from labelembed.seeds import seeded
from labelembed.training.optimizers import load_state, state_tensors
from tests.made_data import write_arrays
from tests.made_training import (
    contents,
    differences,
    no_flush,  # noqa: F401
    one_thread,  # noqa: F401
    small_recipe,
    stop_after,
    train,
)

pytestmark = pytest.mark.usefixtures("no_flush")


@pytest.fixture
def recipe(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (90, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(90) % 3
    path = write_arrays(
        tmp_path / "pictures.npz",
        train_inputs=pictures,
        train_labels=labels,
        test_inputs=pictures[:20],
        test_labels=labels[:20],
    )
    data = {"name": "arrays", "path": str(path), "scaling": "standard", "validation": {"fraction": 0.2}}

    def recipe(augmentation: str):
        model = {"name": "small_resnet", "channels": [4, 4, 6]}
        return small_recipe(data=data | {"augmentation": augmentation}, model=model)

    return recipe


def test_resumed_run_on_changed_pictures_equals_unbroken_run(recipe, tmp_path):
    changed = recipe("crop_flip")
    train(changed, tmp_path / "unbroken")
    for steps in (1, 1, 2):  # of 6: within an epoch, at its end, and at the next one's
        stop_after(changed, tmp_path / "run", steps)
    train(changed, tmp_path / "run")
    assert differences(contents(tmp_path / "run"), contents(tmp_path / "unbroken")) == []


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_moments_read_from_a_file_belong_to_their_weights_channels_last(make):
    inputs = torch.randn(5, 3, 8, 8)
    with seeded(0):
        unbroken = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    resumed = copy.deepcopy(unbroken)
    weights = []
    for layer in (unbroken, resumed):
        optimizer = make(layer.parameters(), lr=0.1, fused=True)
        for step in range(4):
            if layer is resumed and step == 2:
                tensors, values = state_tensors(optimizer)
                by_rows = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
                optimizer = make(layer.parameters(), lr=0.1, fused=True)
                load_state(optimizer, by_rows, values)
            layer(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights.append(layer.weight)
    assert torch.equal(*weights)


def test_changed_pictures_give_another_network(recipe, tmp_path):
    for kind in ("none", "flip", "crop_flip"):
        train(recipe(kind), tmp_path / kind)
    found = {kind: contents(tmp_path / kind) for kind in ("none", "flip", "crop_flip")}
    assert differences(found["none"], found["flip"]) != []
    assert differences(found["flip"], found["crop_flip"]) != []
