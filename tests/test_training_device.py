"""Where the data lie, and compiled networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labelembed.lab.data import LabelledData, Split
from labelembed.lab.training.network import to_device_if_fits
from tests.made_training import small_recipe, train

pytestmark = pytest.mark.usefixtures("no_flush")


class NearlyFull:
    """Stands for a GPU with so many free bytes, whose memory is that of the CPU."""

    type = "cuda"


def test_data_lie_on_the_device_when_half_of_its_free_memory_holds_them(monkeypatch):
    split = Split(torch.zeros(20, 3, 16, 16, dtype=torch.uint8), torch.arange(20) % 3)
    form = {"names": ("a", "b", "c"), "input_shape": (3, 16, 16), "input_range": (0, 255), "source": "made"}
    data = LabelledData(train=split, validation=None, test=split.select(torch.arange(7)), **form)
    moved: list[object] = []
    monkeypatch.setattr(LabelledData, "to", lambda self, device: moved.append(device) or self)
    size = 27 * (3 * 16 * 16 + 8)  # bytes of an image and of its label
    for free, are_moved in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        moved.clear()
        to_device_if_fits(data, NearlyFull())
        assert bool(moved) == are_moved


def test_compiled_run_learns_what_the_plain_one_does(tmp_path, monkeypatch):
    compiled_by = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled_by(self, backend="eager"))  # no C++: a minute
    values = {"model": {"name": "mlp", "hidden_sizes": [6]}, "epochs": 1, "objective": {"name": "one_hot"}}
    plain, compiled = small_recipe(**values), small_recipe(**values, compile=True)
    results = [train(made, tmp_path / str(number)) for number, made in enumerate((plain, compiled))]
    for name in ("total", "output"):
        assert results[1]["train"][name] == pytest.approx(results[0]["train"][name], rel=1e-4)  # float32, five steps
