"""What a run refuses before it begins: labels in another order, an objective that would do nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.data import DATA, DigitsReader, RawData
from tests.made_cli import call

ONE_EPOCH = ["--set", "epochs=1", "--set", "data.train_examples=100", "--quiet"]
DIGITS = tuple(str(digit) for digit in range(10))
NAMED = tuple(f"digit {digit}" for digit in DIGITS)


def train_with(names, folder):
    path = LabelGeometry(names, similarities=torch.eye(10)).save(folder / "geometry.safetensors")
    return call(
        "train", "digits-mlp", "--objective", f"label_embedding:embedding={path}", "--out", folder / "run", *ONE_EPOCH
    )


def test_fixed_embedding_with_labels_in_another_order_is_refused(tmp_path, monkeypatch):
    # The digits' own names are their numbers, which fit any names; here the data are named, too.
    class Named(DigitsReader):
        def read(self, **how) -> RawData:
            return replace(super().read(**how), names=NAMED)

    monkeypatch.setitem(DATA, "digits", Named)
    refused = train_with(NAMED[::-1], tmp_path)
    assert (refused.code, "label 0 is 'digit 9' in" in refused.err) == (2, True)
    assert not (tmp_path / "run").exists()
    assert train_with(NAMED, tmp_path).code == 0


@pytest.mark.parametrize("subcommand", ["check", "train", "compare"])
def test_retrospection_that_would_never_read_what_it_stores_is_refused(subcommand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--objectives", "one_hot,retrospection:store_every=2"]
    words = words if subcommand == "compare" else ["--set", "objective={name: retrospection, store_every: 2}"]
    called = call(subcommand, "digits-mlp", *words, "--set", "epochs=2")
    assert (called.code, "objective.store_every" in called.err) == (2, True)
    assert list(tmp_path.iterdir()) == []
