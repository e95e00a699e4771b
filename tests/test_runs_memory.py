"""Too little memory for a step is one message, with the way out; `check` says how long a run takes."""

from __future__ import annotations

import pytest
import torch

from labelembed.lab.training.trainer import Trainer
from tests.made_cli import call, succeed
from tests.made_training import small_recipe, train


def test_step_without_memory_ends_the_run_with_one_message_and_it_can_go_on(monkeypatch, tmp_path):
    with monkeypatch.context() as full:
        full.setattr(Trainer, "_step", lambda self, batch: torch.empty(2**50))
        called = call("train", "digits-mlp", "--set", "epochs=1", "--out", tmp_path / "run", "--quiet")
    assert (called.code, called.err.count("\n"), "micro_batches" in called.err) == (2, 1, True)
    succeed("resume", tmp_path / "run", "--quiet")


def test_another_error_of_torch_is_not_taken_for_want_of_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent"):
        train(small_recipe(), tmp_path / "run")


def test_check_says_how_long_a_run_takes():
    assert 0 < succeed("check", "digits-mlp", "--set", "epochs=2", "--json").json["seconds"] < 600
