"""Runs whose labels are split over two processes leave the run folder of one, and go on in another number of them."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from labelembed.errors import RecipeError
from labelembed.heads.label_shards import LabelShards
from labelembed.recipes.building import build_data, network_for
from labelembed.recipes.loading import load_recipe
from labelembed.training import precision
from tests.made_corpus import write_corpus
from tests.made_training import (
    CommandLines,
    assert_same_run,
    newest,
    one_thread,  # noqa: F401
    stop_after,
    train,
)
from tests.test_training_processes import start_two, train_words

gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")

LABEL_EMBEDDING = "{name: label_embedding, embedding: compressed, rank: 4, vocabulary_parallel: true}"
# The last of 9 batches has one row, so that one of the processes has none; the norm is small enough to cut gradients.
SETTINGS = [
    "data.train_rows=401",
    "model.hidden_sizes=[16]",
    "batch_size=50",
    "optimizer={name: sgd, learning_rate: 0.1, momentum: 0.9}",
    "max_gradient_norm=0.5",
    "epochs=3",
    "checkpoints={minimum_seconds: 0, time_share: 1}",
]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return CommandLines(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Returns the recipe of an objective, and the run folder that one process left without splitting anything."""
    folders = {}

    def folder_of(objective):
        if objective not in folders:
            folder = tmp_path_factory.mktemp("alone") / "run"
            recipe, _ = load_recipe("digits-mlp", settings=[*SETTINGS, f"objective={objective}"])
            train(recipe, folder)
            folders[objective] = recipe, folder
        return folders[objective]

    return folder_of


@pytest.mark.parametrize("objective", [LABEL_EMBEDDING, "{name: label_smoothing, vocabulary_parallel: true}"])
def test_split_labels_leave_the_run_folder_of_one_process(objective, commands, alone, tmp_path):
    _, single = alone(objective)
    settings = [*SETTINGS, f"objective={objective}"]
    for command in start_two(commands, *train_words(tmp_path / "two", settings)):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "two", single)
    # All ten labels are in the one file, and in the moments beside it.
    tensors = newest(tmp_path / "two").tensors
    assert tensors["network"]["objective.output.weight"].shape == (10, 16)
    assert {tuple(value.shape) for value in tensors["optimizer"].values()} >= {(10, 16), (10,)}
    assert tensors["best"].keys() == tensors["network"].keys()


def test_a_run_of_one_process_goes_on_with_its_labels_split(commands, alone, tmp_path):
    recipe, single = alone(LABEL_EMBEDDING)
    stop_after(recipe, tmp_path / "run", 12)  # 3 steps into the second epoch
    assert newest(tmp_path / "run").step == 12
    for command in start_two(commands, "resume", str(tmp_path / "run")):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "run", single)


def test_two_processes_with_split_labels_translate_what_one_does(commands, tmp_path):
    # Each step of a translation asks for logits, in both processes as often, or one would wait for the other.
    settings = [
        f"data.path={write_corpus(tmp_path).folder}",
        "model={name: attention_lstm, width: 12, embedding_size: 8, dropout: 0.0}",
        "optimizer={name: sgd, learning_rate: 0.1}",
        "batch_size=7",
        "epochs=2",
        f"objective={LABEL_EMBEDDING}",
    ]
    recipe, _ = load_recipe("translation-lstm", settings=settings)
    train(recipe, tmp_path / "one")
    for command in start_two(commands, *train_words(tmp_path / "two", settings, "translation-lstm")):
        assert command.code() == 0, command.output()
    assert_same_run(tmp_path / "two", tmp_path / "one")
    written = [(tmp_path / run / "translations" / "test.txt").read_text() for run in ("one", "two")]
    assert written[0] == written[1]


class NoAccelerator:
    """Stands for Accelerate and says what it was asked for."""

    mixed_precision = "no"

    def prepare_model(self, network, *, evaluation_mode):
        return "not averaged" if evaluation_mode else "averaged"

    def prepare_optimizer(self, optimizer):
        return optimizer

    def prepare(self, network, optimizer):
        return self.prepare_model(network, evaluation_mode=False), optimizer


def test_a_network_with_nothing_to_average_is_not_wrapped_and_fp16_is_refused(monkeypatch):
    network = nn.Linear(2, 2)  # the weight stands for what is split
    monkeypatch.setattr(precision, "split_parameters", lambda _: {"weight": (LabelShards(4, 0, 2), 0)})
    assert precision.prepared(NoAccelerator(), network, "optimizer") == ("averaged", "optimizer")
    network.bias.requires_grad_(False)
    assert precision.prepared(NoAccelerator(), network, "optimizer") == ("not averaged", "optimizer")
    monkeypatch.setattr(NoAccelerator, "mixed_precision", "fp16")
    with pytest.raises(RecipeError, match=r"'fp16' does not go with objective\.vocabulary_parallel"):
        precision.prepared(NoAccelerator(), network, "optimizer")
    monkeypatch.setattr(precision, "split_parameters", lambda _: {})
    assert precision.prepared(NoAccelerator(), network, "optimizer") == ("averaged", "optimizer")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("{name: label_embedding, vocabulary_parallel: true}", "objective.embedding: must be 'compressed' with vocab"),
        ("{name: one_hot, vocabulary_parallel: true, impl: reference}", "objective.impl: must be 'auto' or 'chunked'"),
        ("{name: retrospection, vocabulary_parallel: true}", "objective.vocabulary_parallel: unknown key"),
    ],
)
def test_what_cannot_be_split_is_refused_when_the_recipe_is_read(objective, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as refused:
        load_recipe("digits-mlp", settings=[f"objective={objective}"])
    assert len(refused.value.faults) == 1


def test_tied_weights_cannot_be_split(tmp_path):
    folder = write_corpus(tmp_path).folder
    model = "{name: sequence_transformer, width: 8, heads: 2, feedforward: 8, tied_output: true}"
    settings = [f"data.path={folder}", f"model={model}", f"objective={LABEL_EMBEDDING}"]
    recipe, _ = load_recipe("translation-transformer", settings=settings)
    with pytest.raises(RecipeError, match=r"model\.tied_output: must be false: .* objective\.vocabulary_parallel"):
        network_for(recipe, build_data(recipe), to_try=True)
