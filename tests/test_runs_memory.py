"""Too little memory for a step is one message, with the way out; `check` says how long a run takes."""

from __future__ import annotations

import pytest
import torch

from labelembed.lab.training.trainer import Trainer
from tests.made_cli import call, succeed
from tests.made_training import small_recipe, train


@pytest.fixture
def full(monkeypatch):
    """Every step asks for more memory than there is."""
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: torch.empty(2**50))
    return monkeypatch


def test_step_without_memory_ends_the_run_with_one_message_and_it_can_go_on(full, tmp_path):
    full.chdir(tmp_path)
    called = call("train", "digits-mlp", "--set", "epochs=1", "--out", "run", "--quiet")
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert all(word in called.err for word in ("run: step 1 (epoch 1)", "memory", "batch_size", "micro_batches"))
    full.undo()
    full.chdir(tmp_path)
    succeed("resume", "run", "--quiet")


def test_another_error_of_torch_is_not_taken_for_want_of_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent"):
        train(small_recipe(), tmp_path / "run")


def test_check_says_how_long_a_run_takes():
    facts = succeed("check", "digits-mlp", "--set", "epochs=2", "--json").json
    assert 0 < facts["seconds"] < 600
    assert " on one thread" in succeed("check", "digits-mlp", "--set", "epochs=2").out
