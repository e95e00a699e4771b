"""R1: wherever a run is broken off, of every objective and loader, it ends as the unbroken one to the last bit."""

from __future__ import annotations

import pytest
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES, Objective
from tests.made_corpus import write_corpus
from tests.made_corpus_runs import OVER_TOKENS, over_tokens, sequence_recipe
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_csv
from tests.made_training import (
    BATCHES,
    STEPS,
    Killed,
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
from tests.reliability.figures import sized

pytestmark = pytest.mark.usefixtures("no_flush")

CASES = objective_cases()
EVERY_STEP = {"minimum_seconds": 0.0, "every_steps": 1, "time_share": 1.0}
FIGURE = "positions from which a resumed run is bit-equal"


def stopped(recipe, folder, *steps):
    """Stops after so many steps of each process, as Ctrl-C does."""
    made = 0
    for number in steps:
        message = stop_after(recipe, folder, number)
        made += number
        assert message.exit_code == 130
        assert f"labelembed resume {folder}" in str(message)
        assert RunFolder(folder).state() == "unfinished"
        assert newest(folder).step == made


def killed_between_micro_batches(recipe, folder):
    """Kills in the eighth step, after the gradients of the first of its parts."""
    calls: list[bool] = []
    made: list[bool] = []

    def kill(module, *_):
        if isinstance(module, Objective) and module.training and len(made) == 7:
            calls.append(True)
            if len(calls) == 3:  # of mixed rows there are two a part
                raise Killed

    handles = [
        register_module_forward_hook(kill),
        register_optimizer_step_post_hook(lambda *_: made.append(True)),
    ]
    try:
        with pytest.raises(Killed):
            train(recipe, folder)
    finally:
        for handle in handles:
            handle.remove()
    assert newest(folder).step == 7


def killed_after_an_evaluation(recipe, folder):
    kill_after(recipe, folder, BATCHES + 1)  # in the first step of the second epoch
    assert newest(folder).step == BATCHES


# What is changed in the recipe, and what breaks the run off.
POSITIONS = {
    "first step": ({}, lambda *run: stopped(*run, 1)),
    "mid epoch": ({}, lambda *run: stopped(*run, 7)),
    "before an epoch's last batch": ({}, lambda *run: stopped(*run, BATCHES - 1)),
    "at the end of an epoch": ({}, lambda *run: stopped(*run, BATCHES)),
    "right after an evaluation": ({}, killed_after_an_evaluation),
    "in accumulation": ({"micro_batches": 3, "checkpoints": EVERY_STEP}, killed_between_micro_batches),
    "after two resumes": ({}, lambda *run: stopped(*run, 1, BATCHES - 2, 5)),
    "last step but one": ({}, lambda *run: stopped(*run, STEPS - 1)),
}
# Some of the positions for each case in the short form, other ones for the next.
SHORT = {place: list(POSITIONS)[place % 8 :: 5] for place in range(8)}


def positions(names):
    return [
        (name, position)
        for place, name in enumerate(names)
        for position in sized(short=SHORT[place % 8], full=list(POSITIONS))
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What an unbroken run of a recipe leaves; each is made once."""
    return unbroken_runs(tmp_path_factory)


def hold(recipe, position, unbroken, folder, figure):
    """Breaks a run off at a position, resumes it, and holds it to the unbroken one."""
    changes, break_off = POSITIONS[position]
    recipe = recipe.model_copy(update={key: value for key, value in changes.items() if key == "micro_batches"})
    broken = recipe
    if "checkpoints" in changes:  # when it saves is no part of the numbers
        broken = recipe.model_copy(update={"checkpoints": type(recipe.checkpoints)(**changes["checkpoints"])})
    break_off(broken, folder)
    train(broken, folder)
    assert differences(contents(folder), unbroken(recipe)) == []
    figure.count(FIGURE, 1, 1)


def test_every_objective_is_here():
    assert {case["name"] for case in CASES.values()} == set(OBJECTIVES)
    assert set(OVER_TOKENS) == set(OBJECTIVES) - {"distillation", "static_labels"}  # with tests of their own


@pytest.mark.parametrize(("case", "position"), positions(CASES))
def test_resumed_run_of_every_objective_is_the_unbroken_one(
    case, position, unbroken, tmp_path, tmp_path_factory, figure
):
    geometry = tmp_path_factory.getbasetemp()  # one place, for one recipe in all tests
    recipe = small_recipe(objective=with_saved_geometry(CASES[case], geometry))
    hold(recipe, position, unbroken, tmp_path / "run", figure)


WAYS = {
    "chunked head": {"objective": {"name": "label_embedding", "impl": "chunked"}},
    "chunked head, compressed": {
        "objective": {"name": "label_embedding", "embedding": "compressed", "rank": 4, "impl": "chunked"}
    },
    "chunked head, one-hot": {"objective": {"name": "one_hot", "impl": "chunked"}},
    "bf16": {"precision": "bf16"},
    "bf16, retrospection": {"precision": "bf16", "objective": {"name": "retrospection", "store_every": 1}},
}


@pytest.mark.parametrize(("way", "position"), positions(WAYS))
def test_resumed_run_of_every_head_and_precision_is_the_unbroken_one(way, position, unbroken, tmp_path, figure):
    hold(small_recipe(**WAYS[way]), position, unbroken, tmp_path / "run", figure)


def texts_recipe(folder):
    if not (folder / "rows.csv").exists():
        write_csv(folder / "rows.csv", reviews(300), "text", "label")
    data = {"name": "texts", "path": str(folder / "rows.csv"), "validation": {"examples": 30}, "train_examples": 190}
    return small_recipe(data=data, model={"name": "bag_of_words", "embedding_size": 6, "dropout": 0.2})


def pictures_recipe(folder):
    if not (folder / "pictures").exists():
        write_classes(folder / "pictures", {"a": 150, "b": 150})
    data = {"name": "images", "path": str(folder / "pictures"), "image_size": 16, "train_examples": 190}
    data |= {"validation": {"examples": 30}, "augmentation": "crop_flip", "cutout": 4, "mixing": "cutmix"}
    model = {"name": "small_resnet", "channels": [4, 4, 6], "dropout": 0.2}
    return small_recipe(data=data, model=model, objective={"name": "label_smoothing"})


LOADERS = {
    "rows for each label": lambda folder: small_recipe(batch_size={"per_label": 4}),
    "texts": texts_recipe,
    "pictures, augmented and mixed": pictures_recipe,
}


@pytest.mark.parametrize(("loader", "position"), positions(LOADERS))
def test_resumed_run_of_every_loader_is_the_unbroken_one(
    loader, position, unbroken, tmp_path, tmp_path_factory, figure
):
    hold(LOADERS[loader](tmp_path_factory.getbasetemp()), position, unbroken, tmp_path / "run", figure)


# ---- sentences: 3 epochs of 8 steps


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


OF_SENTENCES = [
    *((objective, {}) for objective in OVER_TOKENS),
    ("label_embedding", {"batch_size": {"tokens": 60}}),
    ("one_hot", {"batch_size": {"tokens": 60}, "micro_batches": 2}),
    ("label_embedding", {"micro_batches": 3}),
    ("label_embedding", {"precision": "bf16"}),
]
BREAKS = [(11,), (8,), (1, 6, 5), (7,), (3,), (23,)]


@pytest.mark.parametrize(
    ("number", "steps"),
    [
        (number, steps)
        for number in sized(short=range(0, len(OF_SENTENCES), 3), full=range(len(OF_SENTENCES)))
        for steps in sized(short=BREAKS[number % 5 : number % 5 + 1], full=BREAKS)
    ],
)
def test_resumed_run_on_sentences_is_the_unbroken_one(number, steps, unbroken, corpus, tmp_path, figure):
    objective, changes = OF_SENTENCES[number]
    recipe = sequence_recipe(corpus, objective=over_tokens(objective), **changes)
    if steps == (23,) and "batch_size" in changes:  # as many tokens take fewer steps
        steps = (16,)
    for made in steps:
        stop_after(recipe, tmp_path, made)
    assert newest(tmp_path).step == sum(steps)
    train(recipe, tmp_path)
    assert differences(contents(tmp_path), unbroken(recipe)) == []
    figure.count(FIGURE, 1, 1)
