"""Where the data lie, moments read from a file, the warm-up that changes nothing, compiled networks."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from labelembed import seeds
from labelembed.lab.data import LabelledData, Split
from labelembed.lab.models import SmallResNet
from labelembed.lab.training.network import Network, free_bytes, to_device_if_fits
from labelembed.lab.training.optimizers import load_state, state_tensors
from labelembed.objectives import LabelEmbedding
from tests.made_training import small_recipe, train

pytestmark = pytest.mark.usefixtures("no_flush")
CPU = torch.device("cpu")


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_moments_read_from_a_file_belong_to_their_weights_channels_last(make):
    inputs = torch.randn(5, 3, 8, 8)
    with seeds.seeded(0):
        unbroken = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    resumed = copy.deepcopy(unbroken)
    weights = []
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
        weights.append(layer.weight)
    assert torch.equal(*weights)


# ------------------------------------------------------------------------------------------ where the data lie


def made_data(rows: int = 20) -> LabelledData:
    split = Split(torch.randint(0, 256, (rows, 3, 16, 16), dtype=torch.uint8), torch.arange(rows) % 3)
    return LabelledData(
        train=split,
        validation=None,
        test=split.select(torch.arange(7)),
        names=("a", "b", "c"),
        input_shape=(3, 16, 16),
        input_range=(0, 255),
        source="made",
    )


def test_data_lie_on_the_device_when_half_of_its_free_memory_holds_them(monkeypatch):
    assert free_bytes(CPU) is None
    data = made_data()
    size = 27 * (3 * 16 * 16 + 8)  # bytes of a picture and of its label
    elsewhere = torch.device("meta")  # stands for a device of its own
    free = 2 * size
    monkeypatch.setattr("labelembed.lab.training.network.free_bytes", lambda device: free)
    assert to_device_if_fits(data, elsewhere).train.inputs.device == elsewhere
    free = None  # not known
    assert to_device_if_fits(data, elsewhere).test.labels.device == elsewhere
    free = 2 * size - 1
    assert to_device_if_fits(data, elsewhere) is data


# ------------------------------------------------------------------------------------------ warm-up, and compiling


def made_network() -> Network:
    with seeds.seeded(0):
        encoder = SmallResNet(input_shape=(3, 16, 16), channels=(4, 4, 6), dropout=0.2)
        return Network(nn.Identity(), encoder, LabelEmbedding(6, 3, target_warmup=0.5))


class Floats(nn.Module):
    def forward(self, inputs):
        return inputs.float() / 255


def test_compiled_run_learns_what_the_plain_one_does(tmp_path, monkeypatch):
    compiled_by = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled_by(self, backend="eager"))  # no C++: a minute
    values = {"model": {"name": "mlp", "hidden_sizes": [6]}, "epochs": 1, "objective": {"name": "one_hot"}}
    plain, compiled = small_recipe(**values), small_recipe(**values, compile=True)
    results = [train(made, tmp_path / str(number)) for number, made in enumerate((plain, compiled))]
    for name in ("total", "output"):
        assert results[1]["train"][name] == pytest.approx(results[0]["train"][name], rel=1e-4)  # float32, five steps
