"""How much memory a step takes is known before it is made, and too little of it is one message."""

from __future__ import annotations

import re

import pytest
import torch

from labelembed.data import CorpusSettings, preprocess
from labelembed.recipes.loading import load_recipe
from labelembed.runs import estimate, memory
from labelembed.runs.build import build_data
from labelembed.runs.memory import in_gib, step_bytes
from labelembed.runs.training_network import network_for
from labelembed.training.trainer import Trainer
from tests.made_cli import call, succeed
from tests.made_corpus import made_pairs, write_pair_files
from tests.made_corpus_runs import sequence_recipe

TRANSFORMER = {"name": "sequence_transformer", "width": 16, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
LSTM = {"name": "attention_lstm", "width": 12, "embedding_size": 8}


def kept(network, batch):
    """Bytes of all that a forward pass keeps for the backward pass, weights left out, each storage once."""
    weights = {value.untyped_storage().data_ptr() for value in (*network.parameters(), *network.buffers())}
    storages = {}

    def pack(value):
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        network(batch.inputs, batch.labels, batch.indices)
    return sum(one.nbytes() for place, one in storages.items() if place not in weights)


def corpus_with_line(folder, length):
    """A made corpus with one training pair of so many tokens."""
    pairs = [*made_pairs(30), (" ".join(["w1"] * length), " ".join(["v1"] * length))]
    parts = {"train": pairs, "validation": made_pairs(6, seed=1), "test": made_pairs(6, seed=2)}
    files = {name: write_pair_files(folder / "text", name, part) for name, part in parts.items()}
    preprocess(**files, out=folder / "corpus", settings=CorpusSettings())


def weight_bytes(network):
    return 16 * sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("objective", ["one_hot", "label_embedding", "adaptive_labels"])
@pytest.mark.parametrize("size", [5, 200])
def test_a_large_step_is_foretold_from_small_ones(objective, size):
    recipe, _ = load_recipe("digits-mlp", settings=[f"batch_size={size}"], objective=objective)
    data = build_data(recipe)
    network = network_for(recipe, data).train()
    foretold = step_bytes(network, data, size)
    found = kept(network, next(data.train.batches(size))) + weight_bytes(network)
    assert foretold == pytest.approx(found, rel=0.05)
    halved = step_bytes(network, data, size, micro_batches=2)
    assert weight_bytes(network) < halved < foretold


@pytest.mark.parametrize(("model", "longest"), [(LSTM, 1_600), (TRANSFORMER, 1_020)], ids=["lstm", "transformer"])
def test_a_long_line_is_foretold_from_short_ones(model, longest, tmp_path):
    corpus_with_line(tmp_path, longest)
    recipe = sequence_recipe(tmp_path, model=model, batch_size=1, objective={"name": "label_embedding"})
    data = build_data(recipe)
    network = network_for(recipe, data).train()
    assert memory.longest_line(data) == longest
    batch = max(data.train.batches(1), key=lambda one: one.labels.shape[1])
    assert step_bytes(network, data, 1) == pytest.approx(kept(network, batch) + weight_bytes(network), rel=0.05)


def test_check_says_time_and_memory():
    shown = succeed("check", "digits-mlp", "--set", "epochs=2").out
    line = next(line for line in shown.splitlines() if line.startswith("  one run "))
    assert line.startswith("  one run     about ")
    assert " on one thread; memory " in line
    assert " MiB a step (" in line
    assert " runs at once" in shown.splitlines()[-1]
    facts = succeed("check", "digits-mlp", "--set", "epochs=2", "--json").json
    assert 0 < facts["seconds"] < 600
    assert facts["step_bytes"] > 16 * facts["parameters"]


def test_check_of_a_step_that_no_machine_holds_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "memory_of_device", lambda device: (2**20, 2**21))
    called = call("check", "digits-mlp", "--set", "model.hidden_sizes=[4000]")
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("error: a step takes about ")
    assert called.err.endswith(
        "this machine has 2 MiB: take a smaller batch_size, or micro_batches=N to make a step in N parts\n"
    )


def test_a_line_of_200_000_tokens_is_told_by_check(tmp_path):
    corpus_with_line(tmp_path, 200_000)
    words = ["translation-lstm", "--data", tmp_path / "corpus", "--set", "batch_size=8", "--set", "model.width=16"]
    called = call("check", *words)
    assert called.code == 2
    assert re.fullmatch(
        r"error: a step takes about [\d,]+ GiB of memory, this machine has [\d,]+ GiB: the longest training line has "
        r"200,000 tokens: leave such lines out \(labelembed preprocess --max-length\), or take a smaller batch_size\n",
        called.err,
    )


def test_a_step_without_memory_ends_the_run_with_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "_step", lambda self, batch: torch.empty(2**50))
    called = call("train", "digits-mlp", "--set", "epochs=1", "--out", "run", "--quiet")
    assert called.code == 2
    assert called.err == (
        "error: run: step 1 (epoch 1): there is not enough memory (4,194,304 GiB asked for at once); "
        "take a smaller batch_size, or micro_batches=N to make a step in N parts\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    succeed("resume", "run", "--quiet")


def test_another_error_of_torch_is_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory.memory_told(lambda: "here", None):
        raise RuntimeError("shapes cannot be multiplied")


def test_bytes_are_said_as_people_do():
    assert [in_gib(size) for size in (5, 640 * 2**20, 3 * 2**29, 149 * 2**30)] == [
        "1 MiB",
        "640 MiB",
        "1.5 GiB",
        "149 GiB",
    ]
