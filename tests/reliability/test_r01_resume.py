"""R1: a run that was broken off and resumed is, to the last bit, the run that was not; positions are next door."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.task import build_task
from labelembed.objectives import OBJECTIVES, Objective
from tests.made_training import (
    EPOCHS,
    cached_data,
    checkpoint_names,
    contents,
    differences,
    kill_after,
    newest,
    objective_cases,
    small_recipe,
    stop_after,
    train,
    unbroken_runs,
    with_saved_geometry,
)

pytestmark = pytest.mark.usefixtures("no_flush")

CASES = objective_cases()
TRAINING = {
    "adamw, cosine": {
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "schedule": {"name": "cosine", "warmup_fraction": 0.3, "final_fraction": 0.1},
    },
    "sgd, step": {
        "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "schedule": {"name": "step", "epochs": [1, 2], "factor": 0.5},
    },
    "plain sgd, linear": {
        "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.01},
        "schedule": {"name": "linear"},
        "selection": {"by": "last_epoch"},
    },
    "adam, likelihood": {"selection": {"by": "validation_nll", "patience": 2}},
    "bf16": {"precision": "bf16"},
    "standard scaling, no validation": {
        "data": {"name": "digits", "train_examples": 190, "scaling": "standard"},
    },
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What an unbroken run of a recipe leaves; each is made once."""
    return unbroken_runs(tmp_path_factory)


@pytest.mark.parametrize("how", TRAINING)
def test_resumed_run_equals_unbroken_run_for_every_way_of_training(how, unbroken, tmp_path):
    recipe = small_recipe(**TRAINING[how])
    for steps in (4, 4):  # the end of the first epoch lies between them
        stop_after(recipe, tmp_path / "run", steps)
    train(recipe, tmp_path / "run")
    assert differences(contents(tmp_path / "run"), unbroken(recipe)) == []


def test_contents_compared_depend_on_every_step(unbroken):
    # A comparison that overlooked a group of tensors, or a run too short to move them, would pass every test above.
    expected = unbroken(small_recipe())
    other = unbroken(small_recipe(seed=1))
    differing = differences(expected, other)
    for group in ("network: encoder", "network: objective.output", "network: objective.embedding", "optimizer", "best"):
        assert any(name.startswith(f"checkpoint: {group}") for name in differing), group
    assert {
        "history",
        "result",
        "label_geometry: similarities",
        "checkpoint: position",
    } <= set(differing)
    assert any(name.startswith("model: ") for name in differing)


def test_run_killed_between_saves_goes_back_to_the_last_one(unbroken, tmp_path):
    policy = {"minimum_seconds": 1_000.0, "every_steps": 2}
    recipe = small_recipe(checkpoints=policy)
    kill_after(recipe, tmp_path / "run", 9)
    assert newest(tmp_path / "run").step == 8  # killed within the step, before its save
    train(recipe, tmp_path / "run")
    ended, expected = contents(tmp_path / "run"), unbroken(small_recipe())
    assert differences(ended, expected) == []  # when it saves is no part of the numbers


def test_run_refuses_to_go_on_with_another_recipe_or_other_data(tmp_path):
    recipe = small_recipe()
    stop_after(recipe, tmp_path / "run", 4)
    with pytest.raises(RunFolderError, match=r"optimizer.learning_rate: here 0.01, asked for 0.02"):
        train(small_recipe(optimizer={"name": "adam", "learning_rate": 0.02}), tmp_path / "run")
    data = cached_data(recipe)
    flipped = type(data)(**{name: getattr(data, name) for name in data.__dataclass_fields__} | {"train": data.test})
    with pytest.raises(RunFolderError, match="other data"):
        train(recipe, tmp_path / "run", data=flipped)


def test_checkpoint_of_another_network_is_refused_and_named(tmp_path):
    recipe = small_recipe()
    stop_after(recipe, tmp_path / "run", 4)
    other = small_recipe(model={"name": "mlp", "hidden_sizes": [13]})
    stop_after(other, tmp_path / "other", 4)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(RunFolderError, match="checkpoint of step 4 does not fit"):
        train(recipe, tmp_path / "run")


def start_of(name, seed, folder):
    recipe = small_recipe(objective=with_saved_geometry(CASES[name], folder), seed=seed)
    network = build_task(recipe, data=cached_data(recipe)).build_network()
    return {"encoder": network.encoder.state_dict(), "output": network.objective.output.state_dict()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_seed_gives_every_objective_the_same_start(name, tmp_path):
    one_hot = start_of("one_hot", 5, tmp_path)
    expected = start_of("one_hot", 5, tmp_path)
    if name == "adaptive_labels":  # whose output layer has no bias
        del expected["output"]["bias"]
    torch.testing.assert_close(start_of(name, 5, tmp_path), expected, rtol=0, atol=0)
    for part in ("encoder", "output"):
        for key, value in start_of("one_hot", 6, tmp_path)[part].items():
            assert not torch.equal(value, one_hot[part][key])


def rows_seen(recipe, folder):
    """Returns the rows each epoch trained on, in order."""
    seen = []

    def note(module, arguments):
        if isinstance(module, Objective):
            seen.append(arguments[2])

    handle = register_module_forward_pre_hook(note)
    try:
        train(recipe, folder)
    finally:
        handle.remove()
    return torch.cat(seen).view(EPOCHS, -1)


@pytest.mark.parametrize("name", ["label_embedding", "retrospection"])  # the second goes over all rows once more
def test_one_seed_gives_every_objective_the_same_order_of_rows(name, tmp_path):
    recipe = small_recipe(objective=with_saved_geometry(CASES[name], tmp_path))
    rows = rows_seen(recipe, tmp_path / name)
    torch.testing.assert_close(rows, rows_seen(small_recipe(objective="one_hot"), tmp_path / "one"), rtol=0, atol=0)
    assert all(sorted(epoch.tolist()) == list(range(190)) for epoch in rows)
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows, rows_seen(recipe.model_copy(update={"seed": 1}), tmp_path / "other seed"))


def test_run_folder_holds_no_leftovers_and_a_finished_run_is_left_alone(tmp_path):
    recipe = small_recipe()
    stop_after(recipe, tmp_path / "run", 7)
    result = train(recipe, tmp_path / "run")
    names = [".lock", "checkpoints", "class_means.safetensors", "diagnostics", "environment.json", "history.jsonl"]
    names += ["label_geometry.safetensors", "model.safetensors", "recipe.yaml", "result.json"]
    assert sorted(os.listdir(tmp_path / "run")) == names
    assert checkpoint_names(tmp_path / "run") == [f"step-{step:010d}" for step in (10, 15)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert train(recipe, tmp_path / "run") == result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
