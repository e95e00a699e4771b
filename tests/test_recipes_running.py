"""What a run refuses before it begins: labels in another order, checkpoints of nobody knows what."""

from __future__ import annotations

import torch

from labelembed.data import DATA, RawData
from labelembed.geometry import LabelGeometry
from tests.made_cli import call, succeed

ONE_EPOCH = ["--set", "epochs=1", "--set", "data.train_rows=100", "--quiet"]
DIGITS = tuple(str(digit) for digit in range(10))
NAMED = tuple(f"digit {digit}" for digit in DIGITS)


def train_with(names, folder):
    path = LabelGeometry(names, similarities=torch.eye(10)).save(folder / "geometry.safetensors")
    return call(
        "train", "digits-mlp", "--objective", f"label_embedding:embedding={path}", "--out", folder / "run", *ONE_EPOCH
    )


def test_fixed_embedding_of_the_same_labels_trains(tmp_path):
    assert train_with(DIGITS, tmp_path).code == 0


def test_fixed_embedding_with_labels_in_another_order_is_refused(tmp_path, monkeypatch):
    # The digits' own names are their numbers, which fit any names; here the data are named, too.
    read = DATA["digits"]

    def named(*, test_fraction: float = 0.25) -> RawData:
        raw = read(test_fraction=test_fraction)
        return RawData(train=raw.train, test=raw.test, names=NAMED, input_range=raw.input_range, source=raw.source)

    monkeypatch.setitem(DATA, "digits", named)
    refused = train_with(NAMED[::-1], tmp_path)
    assert refused.code == 2
    assert "label 0 is 'digit 9' in" in refused.err
    assert not (tmp_path / "run").exists()
    assert train_with(NAMED, tmp_path).code == 0


def test_checkpoints_without_a_recipe_are_not_gone_on_with(tmp_path):
    (tmp_path / "run" / "checkpoints" / "step-0000000001").mkdir(parents=True)
    called = call("train", "digits-mlp", "--out", tmp_path / "run", *ONE_EPOCH)
    assert called.code == 2
    assert "holds checkpoints but no recipe.yaml" in called.err


def test_equal_runs_leave_equal_models(tmp_path):
    for name in ("first", "second"):
        succeed("train", "digits-mlp", "--out", tmp_path / name, "--threads", 1, *ONE_EPOCH)
    assert (tmp_path / "first" / "model.safetensors").read_bytes() == (
        tmp_path / "second" / "model.safetensors"
    ).read_bytes()
