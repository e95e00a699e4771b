"""R1: wherever a run is broken off, of every objective and loader, it ends as the unbroken one to the last bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.schema import parse_recipe
from labelembed.lab.runs.task import build_task
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES, Objective
from tests.made_corpus_runs import OVER_TOKENS, over_tokens, sequence_recipe
from tests.made_pictures import write_classes
from tests.made_survival import SELDOM
from tests.made_texts import reviews, write_csv
from tests.made_training import (
    BATCHES,
    EPOCHS,
    STEPS,
    cached_data,
    contents,
    differences,
    kill_after,
    newest,
    objective_cases,
    small_recipe,
    stop_after,
    train,
    wait_until,
    with_saved_geometry,
)
from tests.reliability.figures import sized

CASES = objective_cases()
POLICY = {"minimum_seconds": 1_000.0}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What an unbroken run of a recipe leaves; each is made once."""

    @cache
    def left_by(recipe):
        folder = tmp_path_factory.mktemp("unbroken") / "run"
        train(parse_recipe(json.loads(recipe), source="test"), folder)
        return contents(folder)

    return lambda recipe: left_by(recipe.model_dump_json())


def stopped(recipe, folder, *steps):
    """Stops after so many steps of each process, as Ctrl-C does."""
    for made, number in enumerate(steps, start=1):
        assert stop_after(recipe, folder, number).exit_code == 130
        assert RunFolder(folder).state() == "unfinished"
        assert newest(folder).step == sum(steps[:made])


# What is changed in the recipe, and what breaks the run off.
POSITIONS = {
    "first step": ({}, lambda *run: stopped(*run, 1)),
    "mid epoch": ({}, lambda *run: stopped(*run, BATCHES + 3)),  # of sentences the end of an epoch
    "before an epoch's last batch": ({}, lambda *run: stopped(*run, BATCHES - 1)),
    "at the end of an epoch": ({}, lambda *run: stopped(*run, BATCHES)),
    "right after an evaluation": ({}, lambda *run: kill_after(*run, BATCHES + 1)),
    "between saves": ({"checkpoints": POLICY | {"every_steps": 2}}, lambda *run: kill_after(*run, 9)),
    "in micro-batches": (
        {"micro_batches": 3, "checkpoints": POLICY | {"every_steps": 3}},
        lambda *run: kill_after(*run, 8),
    ),
    "after two resumes": ({}, lambda *run: stopped(*run, 1, BATCHES - 2, 5)),
    "last step but one": ({}, lambda *run: stopped(*run, STEPS - 1)),
}


def texts_recipe(folder):
    write_csv(folder / "rows.csv", reviews(300), "text", "label")
    data = {"name": "texts", "path": str(folder / "rows.csv"), "validation": {"examples": 30}, "train_examples": 190}
    return small_recipe(data=data, model={"name": "bag_of_words", "embedding_size": 6, "dropout": 0.2})


def images_recipe(folder):
    if not (folder / "images").exists():
        write_classes(folder / "images", {"a": 150, "b": 150})
    data = {"name": "images", "path": str(folder / "images"), "image_size": 16, "train_examples": 190}
    data |= {"validation": {"examples": 30}, "augmentation": "crop_flip", "cutout": 4, "mixing": "cutmix"}
    model = {"name": "small_resnet", "channels": [4, 4, 6], "dropout": 0.2}
    return small_recipe(data=data, model=model, objective={"name": "label_smoothing"})


WAYS = {
    "chunked head": {"objective": {"name": "label_embedding", "impl": "chunked"}},
    "bf16, retrospection": {"precision": "bf16", "objective": {"name": "retrospection", "store_every": 1}},
    "adamw, cosine": {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "schedule": {"name": "cosine"}},
    "sgd, step": {
        "optimizer": {"name": "sgd", "momentum": 0.9, "head_weight_decay": 0.01},
        "schedule": {"name": "step", "epochs": [1, 2], "factor": 0.5},
    },
    "last epoch": {"selection": {"by": "last_epoch"}},
    "adam, likelihood": {"selection": {"by": "validation_nll", "patience": 2}},
    "no validation": {"data": {"name": "digits", "train_examples": 190, "scaling": "standard"}},
    "examples for each label": {"batch_size": {"per_label": 4}},
    "texts": texts_recipe,
    "images, augmented and mixed": images_recipe,
}
# 3 epochs of 8 steps, or of about as many batches of so many tokens.
SENTENCES = {f"sentences, {name}": {"objective": over_tokens(name)} for name in OVER_TOKENS} | {
    "sentences, batches of tokens": {"batch_size": {"tokens": 60}},
    "sentences, batches of tokens, micro-batches": {"batch_size": {"tokens": 60}, "micro_batches": 2},
    "sentences, bf16": {"micro_batches": 3, "precision": "bf16"},
}


def recipe_of(case, place):
    if case in CASES:
        return small_recipe(objective=with_saved_geometry(CASES[case], place))
    if case in SENTENCES:
        return sequence_recipe(place / "sentences", **SENTENCES[case])
    return WAYS[case](place) if callable(WAYS[case]) else small_recipe(**WAYS[case])


def positions(names):
    """Gives each case some of the positions in the short form, other ones to the next."""
    every = list(POSITIONS)
    return [(name, one) for place, name in enumerate(names) for one in sized(short=every[place % 9 :: 5], full=every)]


@pytest.mark.parametrize(
    ("case", "position"), positions([*CASES, *WAYS, *sized(short=list(SENTENCES)[::3], full=SENTENCES)])
)
def test_resumed_run_is_the_unbroken_one(case, position, unbroken, tmp_path, tmp_path_factory, figure):
    changes, break_off = POSITIONS[position]
    recipe = recipe_of(case, tmp_path_factory.getbasetemp())  # one place, for one recipe in all tests
    recipe = recipe.model_copy(update={key: value for key, value in changes.items() if key == "micro_batches"})
    broken = recipe
    if "checkpoints" in changes:  # when it saves is no part of the numbers
        broken = recipe.model_copy(update={"checkpoints": type(recipe.checkpoints)(**changes["checkpoints"])})
    break_off(broken, tmp_path / "run")
    train(broken, tmp_path / "run")
    assert differences(contents(tmp_path / "run"), unbroken(recipe)) == []
    figure.count("positions from which a resumed run is bit-equal", 1, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server")
@pytest.mark.parametrize("name", sized(short=[], full=list(OBJECTIVES)))
def test_two_processes_go_on_as_if_they_had_not_been_stopped(name, commands, kinds, tmp_path, figure):
    # With dropout: of the 51 examples of a step one has 26, so that they draw unlike.
    objective = with_saved_geometry(CASES[name], tmp_path)
    text = ", ".join(f"{key}: {value}" for key, value in objective.items())
    case = kinds["rows, two processes"]
    case = replace(case, settings=[*case.settings, f"objective={{{text}}}", "micro_batches=2", "batch_size=51"])
    folder = tmp_path / "run"
    started = case.start(commands, case.train(folder, saves=SELDOM))
    wait_until(lambda: len(RunFolder(folder).history()) >= 2, started[0])
    for command in started:
        command.signal(signal.SIGTERM)
    assert [command.code() for command in started] == [143, 143], started[0].output()
    assert 16 <= newest(folder).step < case.steps
    case.finish(commands, folder)
    assert differences(contents(folder), case.unbroken(commands, tmp_path / "unbroken")) == []
    figure.count("objectives of which two processes resume bit-equal", 1, 1)


def test_contents_compared_depend_on_every_step(unbroken):
    # A comparison that overlooked a group of tensors, or a run too short to move them, would pass every test above.
    differing = " ".join(differences(unbroken(small_recipe()), unbroken(small_recipe(seed=1))))
    for group in ("network: encoder", "network: objective.embedding", "optimizer", "best", "model: ", "history"):
        assert group in differing, group


def test_run_refuses_another_recipe_and_the_checkpoint_of_another_network(tmp_path):
    recipe, other = small_recipe(), small_recipe(model={"name": "mlp", "hidden_sizes": [13]})
    stop_after(recipe, tmp_path / "run", 4)
    stop_after(other, tmp_path / "other", 4)
    with pytest.raises(RunFolderError, match="hidden_sizes: here"):
        train(other, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(RunFolderError, match="checkpoint of step 4 does not fit"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_seed_gives_every_objective_the_same_start(name, tmp_path):
    def start_of(name, seed):
        recipe = small_recipe(objective=with_saved_geometry(CASES[name], tmp_path), seed=seed)
        network = build_task(recipe, data=cached_data(recipe)).build_network()
        return {"encoder": network.encoder.state_dict(), "output": network.objective.output.weight}

    expected, other = start_of("one_hot", 5), start_of("one_hot", 6)
    assert not torch.equal(expected["output"], other["output"])
    torch.testing.assert_close(start_of(name, 5), expected, rtol=0, atol=0)


def test_one_seed_gives_every_objective_the_same_order_of_examples(tmp_path):
    def seen(folder, **changes):
        indices: list[torch.Tensor] = []
        handle = register_module_forward_pre_hook(
            lambda module, arguments: indices.append(arguments[2]) if isinstance(module, Objective) else None
        )
        train(small_recipe(**changes), folder)
        handle.remove()
        return torch.cat(indices).view(EPOCHS, -1)

    order = seen(tmp_path / "one", objective="one_hot")
    assert torch.equal(order, seen(tmp_path / "two", objective={"name": "retrospection", "store_every": 1}))
    assert all(sorted(epoch.tolist()) == list(range(190)) for epoch in order)
    assert not torch.equal(order, seen(tmp_path / "three", objective="one_hot", seed=1))


def test_run_folder_holds_no_leftovers_and_a_finished_run_is_left_alone(tmp_path):
    recipe = small_recipe()
    stop_after(recipe, tmp_path / "run", 7)
    result = train(recipe, tmp_path / "run")
    assert [path for path in (tmp_path / "run").rglob(".*") if path.name != ".lock"] == []
    assert len(os.listdir(tmp_path / "run" / "checkpoints")) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("[!.]*")}
    assert train(recipe, tmp_path / "run") == result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("[!.]*")} == before
