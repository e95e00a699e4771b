"""The training loop: what it writes down, what it selects, and what it does without memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from labelembed.lab.runs.task import Classification, build_task
from labelembed.lab.training import evaluation
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer
from labelembed.objectives import LabelEmbedding
from tests.made_cli import call, succeed
from tests.made_objectives import build
from tests.made_training import BATCHES, cached_data, newest, small_recipe, stop_after, train

PLAIN = {"name": "mlp", "hidden_sizes": [12]}  # no dropout


def terms_of(name):
    terms = build(name, 2, 2)(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0]))
    return list(terms._asdict())


def test_history_has_the_keys_and_units_of_the_contract(tmp_path):
    recipe = small_recipe(optimizer={"name": "adam", "learning_rate": 0.02})
    result = train(recipe, tmp_path / "run")
    history = RunFolder(tmp_path / "run").history()
    assert [line["epoch"] for line in history] == [1, 2, 3]
    for line in history:
        assert line.keys() == {"epoch", "seconds", "training_seconds", "learning_rate", "train", "validation", "test"}
        assert 0 < line["training_seconds"] <= line["seconds"] < 60
        assert line["learning_rate"] == 0.02
        assert list(line["train"]) == terms_of("label_embedding")
        assert line["test"] is None  # measured once, at the end
    best = history[result["selected_epoch"] - 1]
    assert result == result | {
        "format": 1,
        "status": "finished",
        "epochs": 3,
        "selected_epoch": best["epoch"],
        "selected_by": "validation error",
        "seconds": pytest.approx(sum(line["seconds"] for line in history), abs=1e-3),
        "parameters": 64 * 12 + 12 + 2 * (12 * 10 + 10) + 100,
        "batch_size": 40,
        "train": best["train"],
        "validation": best["validation"],
    }
    assert RunFolder(tmp_path / "run").result() == result


def test_terms_of_the_history_are_means_over_the_rows_of_the_epoch(tmp_path):
    # With a rate this small the network is the same for all batches; the last has 30 rows, the others 40.
    recipe = small_recipe(
        objective={"name": "label_smoothing", "smoothing": 0.25},
        model=PLAIN,
        optimizer={"name": "sgd", "learning_rate": 1e-12},
        epochs=1,
    )
    train(recipe, tmp_path / "run")
    data = cached_data(recipe)
    network = build_task(recipe, data=data).build_network()
    with torch.no_grad():
        logits = network.logits(data.train.inputs).double().numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    by_row = -logs[np.arange(190), data.train.labels.numpy()]
    output, uniform = by_row.mean(), -logs.mean()
    terms = RunFolder(tmp_path / "run").history()[0]["train"]
    # Float32 terms of single batches.
    expected = {"total": 0.75 * output + 0.25 * uniform, "output": output, "uniform": uniform}
    assert terms == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("data", [{"examples": 100}, None], ids=["validation set", "no validation set"])
def test_test_measures_are_those_of_the_selected_epoch_however_often_they_are_made(data, tmp_path, monkeypatch):
    measured = []
    evaluate = Classification.evaluate

    def counted(task, network, split):
        measured.append(split)
        return evaluate(task, network, split)

    monkeypatch.setattr(Classification, "evaluate", counted)
    # With so large a rate the error goes up and down: the last epoch is not the best one.
    fast = {"name": "sgd", "learning_rate": 3.0}
    settings = {"data": {"name": "digits", "train_examples": 190, "validation": data}, "optimizer": fast, "epochs": 6}
    recipes = [small_recipe(objective="retrospection", test_every_epoch=every, **settings) for every in (False, True)]
    once = train(recipes[0], tmp_path / "once")
    assert measured.count("test") == 1
    each = train(recipes[1], tmp_path / "each")
    assert measured.count("test") == 1 + 6
    history = RunFolder(tmp_path / "each").history()
    assert all(line["test"] for line in history)
    assert once["test"] == each["test"] == history[each["selected_epoch"] - 1]["test"]  # to the last bit
    assert (each["selected_epoch"] < 6) == (data is not None)
    assert once["files"] == each["files"]  # the weights are the same


def script_metrics(monkeypatch, errors, nlls=None):
    """Makes the validation set's error and NLL follow a script; without `nlls` the NLL falls as the error rises."""
    epoch = 0

    def evaluate(task, network, split):
        nonlocal epoch
        if split == "test":
            return {"error": 0.5, "nll": 1.0}
        epoch += 1
        return {"error": errors[epoch - 1], "nll": nlls[epoch - 1] if nlls else 2 - errors[epoch - 1]}

    monkeypatch.setattr(Classification, "evaluate", evaluate)


@pytest.mark.parametrize(
    ("selection", "epochs", "selected"),
    [
        ({}, 6, 2),
        ({"by": "validation_nll"}, 6, 5),
        ({"by": "last_epoch", "patience": 1}, 6, 6),
        ({"by": "validation_nll", "patience": 2}, 6, 5),
    ],
)
def test_first_of_the_lowest_is_selected_and_patience_ends_the_run(selection, epochs, selected, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        script_metrics(patched, [0.4, 0.3, 0.5, 0.3, 0.6, 0.55])
        recipe = small_recipe(epochs=6, selection=selection, objective="one_hot")
        result = train(recipe, tmp_path / "run")
    assert (result["epochs"], result["selected_epoch"]) == (epochs, selected)
    assert len(RunFolder(tmp_path / "run").history()) == epochs
    # The weights are those of the selected epoch: a run of so many epochs ends with them.
    shorter = small_recipe(epochs=selected, selection={"by": "last_epoch"}, objective="one_hot")
    train(shorter, tmp_path / "shorter")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("run", "shorter")]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


TIED = [0.5, 0.2, 0.3, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("nlls", "patience", "selected"),
    [([1.0, 0.8, 0.1, 0.7, 0.9, 0.7], None, 4), ([1.0, 0.8, 0.1, 0.9, 0.8, 0.6], 3, 2)],
)
def test_ties_of_the_error_are_broken_by_the_nll_also_across_a_resume(nlls, patience, selected, tmp_path, monkeypatch):
    recipe = small_recipe(epochs=6, selection={"patience": patience}, objective="one_hot")
    script_metrics(monkeypatch, TIED, nlls)
    assert train(recipe, tmp_path / "whole")["selected_epoch"] == selected
    script_metrics(monkeypatch, TIED, nlls)
    stop_after(recipe, tmp_path / "stopped", 2 * BATCHES + 1)  # in the third epoch
    assert newest(tmp_path / "stopped").values["best_tie"] == 0.8
    assert train(recipe, tmp_path / "stopped")["selected_epoch"] == selected


def test_compiled_run_learns_what_the_plain_one_does(tmp_path, monkeypatch):
    compiled_by = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled_by(self, backend="eager"))  # no C++: a minute
    recipes = [small_recipe(model=PLAIN, epochs=1, objective="one_hot", compile=compiled) for compiled in (False, True)]
    plain, compiled = (train(recipe, tmp_path / str(recipe.compile))["train"] for recipe in recipes)
    assert compiled == pytest.approx(plain, rel=1e-4)  # float32, five steps


def test_bf16_trains_in_bf16_keeps_weights_in_float32_and_is_measured_in_it(hooks, tmp_path):
    kinds = set()

    def note(module, arguments, output):
        if isinstance(module, nn.Linear):
            kinds.add((module.training, output.dtype))

    hooks.append(register_module_forward_hook(note))
    result = train(small_recipe(precision="bf16"), tmp_path / "run")
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}  # what `evaluate` and `predict` give
    weights = load_file(tmp_path / "run" / "model.safetensors").values()
    assert {value.dtype for value in weights} <= {torch.float32, torch.int64}
    exact = train(small_recipe(), tmp_path / "full")["train"]
    # bf16 has 8 bits: near the numbers of float32, and not the same.
    assert result["train"] == pytest.approx(exact, rel=0.05)
    assert result["train"]["output"] != exact["output"]


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_those_of_evaluation_mode_and_the_mode_is_put_back(training, monkeypatch):
    encoder = nn.Sequential(nn.Linear(4, 30), nn.Dropout(0.5), nn.Linear(30, 3))
    network = Network(nn.Identity(), encoder, LabelEmbedding(3, 5))
    inputs = torch.randn(23, 4)
    expected = network.eval().logits(inputs).detach()
    network.train(training)
    monkeypatch.setattr(evaluation, "_EXAMPLES_AT_ONCE", 10)  # the last piece has 3 rows
    found = evaluation.predicted_logits(network, inputs)
    torch.testing.assert_close(found, expected)
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    assert network.training is training


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
