"""A full label embedding that the machine's memory cannot hold is refused before it is built."""

from __future__ import annotations

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.objectives import LabelEmbedding, label_embedding_arguments
from tests.made_cli import call

PLACE = "labelembed.objectives.label_embedding_arguments.machine_bytes"


@pytest.fixture
def memory(monkeypatch):
    """Returns a function that gives the machine so many bytes."""
    return lambda count: monkeypatch.setattr(PLACE, lambda: count)


def test_full_embedding_is_16_bytes_for_each_pair_of_labels(memory):
    memory(16 * 50**2)
    LabelEmbedding(4, 50)
    with pytest.raises(ValueError, match=r"`embedding` must be 'compressed' for 51 labels"):
        LabelEmbedding(4, 51)


def test_message_says_how_much_there_is_and_which_rank_fits(memory):
    memory(20_000_000_000)
    with pytest.raises(ValueError, match="100,000 labels") as caught:
        LabelEmbedding(4, 100_000)
    assert str(caught.value) == (
        "`embedding` must be 'compressed' for 100,000 labels: E, its gradient and Adam's moments take 160 GB and this "
        "machine has 20 GB; compressed with rank=100 they take 0.32 GB, and a rank of up to 6,250 fits, got 'full'"
    )


def test_sparse_gradients_need_E_alone_and_double_precision_twice_as_much(memory):
    memory(4 * 60**2)
    LabelEmbedding(4, 60, sparse_gradients=True)
    with pytest.raises(ValueError, match="for 61 labels: E alone takes"):
        LabelEmbedding(4, 61, sparse_gradients=True)
    memory(32 * 60**2)
    torch.set_default_dtype(torch.float64)
    try:
        LabelEmbedding(4, 60)
        with pytest.raises(ValueError, match="for 61 labels"):
            LabelEmbedding(4, 61)
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_holds_no_full_embedding_is_built_in_any_memory(memory):
    memory(1)
    LabelEmbedding(4, 50, embedding="compressed", rank=2)
    LabelEmbedding(4, 3, embedding=LabelGeometry("abc", vectors=torch.eye(3)))
    with torch.device("meta"):
        assert LabelEmbedding(4, 1_000_000).embedding.shape == (1_000_000, 1_000_000)
    memory(None)  # a system that does not tell
    LabelEmbedding(4, 50)


def test_memory_is_the_machines_or_the_containers(monkeypatch, tmp_path):
    whole = label_embedding_arguments.machine_bytes()
    assert whole is None or whole > 2**27
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(label_embedding_arguments, "CONTAINER_LIMIT", limit)
    limit.write_text("1000000\n")
    assert label_embedding_arguments.machine_bytes() == 1_000_000
    limit.write_text("max\n")
    free = label_embedding_arguments.machine_bytes()
    limit.unlink()
    assert label_embedding_arguments.machine_bytes() == free


@pytest.mark.parametrize("verb", ["check", "train"])
def test_command_line_refuses_it_with_2(verb, memory, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    memory(16 * 9**2)
    more = ["--out", "run", "--quiet"] if verb == "train" else []
    found = call(verb, "digits-mlp", "--set", "objective=label_embedding", *more)
    assert found.code == 2
    assert "objective.embedding: must be 'compressed' for 10 labels" in found.err
    assert not found.out
    assert len(found.err.splitlines()) <= 10
