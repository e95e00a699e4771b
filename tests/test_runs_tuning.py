"""Tuning: what there is to tune, what is proposed and chosen, and that a stopped tuning ends as one that was not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import labelembed
from labelembed.lab.errors import TrainingError
from labelembed.lab.recipes.components import keys_of, resolve
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import variants_of
from labelembed.lab.runs import tuning
from labelembed.lab.runs.tuning import SEARCH_SPACES, Tuning, search_space, to_tune
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES
from tests.made_cli import call, listing, succeed
from tests.made_in_process import make_runs_here
from tests.made_training import train

pytest.importorskip("optuna", reason="optuna is not installed (extra `lab`)")

SMALL = ["model.hidden_sizes=[8]", "epochs=1", "batch_size=200"]
RATE = "optimizer.learning_rate"


def test_every_objective_but_one_hot_has_something_to_tune():
    assert SEARCH_SPACES.keys() == OBJECTIVES.keys()
    assert {name for name, space in SEARCH_SPACES.items() if not space} == {"one_hot"}


@pytest.mark.parametrize("name", SEARCH_SPACES)
@pytest.mark.parametrize("end", [0, 1])
def test_every_value_of_a_space_is_one_that_the_objective_takes(name, end):
    needed = {key: "somewhere" for key, field in keys_of(OBJECTIVES[name]).items() if field.is_required()}
    chosen = {key: part[end] for key, part in SEARCH_SPACES[name].items()}
    if end == 0 and name == "label_embedding":
        chosen["output_weight"] = 0.001  # some part has to learn
    assert resolve("objective", OBJECTIVES, {"name": name, **needed, **chosen})[1] == {}


@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "weight_decay"),
    [
        ("{name: adam, learning_rate: 0.001}", (1e-4, 1e-2), (1e-6, 1e-2)),
        ("{name: sgd, learning_rate: 0.1, weight_decay: 5e-4}", (0.01, 1.0), (5e-5, 5e-3)),
        ("{name: adamw, learning_rate: 0.002, weight_decay: 0}", (2e-4, 0.02), (1e-4, 1.0)),
    ],
)
def test_learning_rate_and_weight_decay_of_every_objective_are_tuned(optimizer, learning_rate, weight_decay):
    recipe, _ = load_recipe("digits-mlp", settings=[f"optimizer={optimizer}"])
    one_hot, smoothing = (search_space(variant, recipe) for variant in variants_of(recipe, "one_hot,label_smoothing"))
    own = {RATE: learning_rate, "optimizer.weight_decay": weight_decay}  # cross entropy has nothing else
    assert one_hot == {key: (*map(pytest.approx, ends), "log") for key, ends in own.items()}
    assert smoothing == one_hot | {"objective.smoothing": (0.02, 0.9)}


def plan_of(out, objectives="label_smoothing", *, count=3, settings=(), **how):
    recipe = load_recipe("digits-mlp", settings=[*SMALL, *settings])[0]
    return Tuning(recipe, Path(out), variants_of(recipe, objectives), trials=count, **how)


class Fake:
    """Runs nothing: a run's validation metric is what `score` says of its recipe."""

    def __init__(self, score, *, metric="error", test=0.5, stop_at=None):
        self.score, self.metric, self.test, self.stop_at, self.folders = score, metric, test, stop_at, []

    def __call__(self, todo, done=0, total=0):
        for job in todo:
            folder, values = RunFolder(job.folder), job.recipe.of_one_run()
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_recipe(values)
            measured = {"validation": {self.metric: self.score(values)}, "test": {self.metric: self.test}}
            folder.write("result.json", {"format": 1, "status": "finished", "seconds": 1.0, **measured})
            self.folders.append(folder.path)
            if len(self.folders) == self.stop_at:
                raise KeyboardInterrupt
        return {}


def distance(best):
    return lambda recipe: round(abs(recipe["objective"].get("smoothing", 0.9) - best), 6)


def tried(plan):
    """Returns the values of each trial's recipe that are tuned, by variant."""
    recipes = [[one.folder(number).recipe() for number in range(plan.trials)] for one in plan.variants]
    return [[(one["objective"].get("smoothing"), one["optimizer"]["learning_rate"]) for one in own] for own in recipes]


def test_trials_depend_on_the_seed_and_on_no_other_variant(tmp_path):
    def made(name, objectives="label_smoothing", **how):
        plan = plan_of(tmp_path / name, objectives, count=3, **how)
        plan.make(Fake(distance(0.4)))
        return tried(plan)

    once, beside = made("a"), made("b", "confidence_penalty,label_smoothing")
    assert beside[1] == once[0]
    others = (once[0], beside[0], made("c", settings=["seed=1"])[0])
    assert len({tuple(rate for _, rate in trials[1:]) for trials in others}) == 3


@pytest.mark.parametrize("stop_at", [1, 4, 7, 9])
def test_a_tuning_that_was_killed_anywhere_and_repeated_ends_as_one_that_was_not(tmp_path, stop_at):
    objectives = "label_smoothing,confidence_penalty"
    whole = plan_of(tmp_path / "whole", objectives, count=5)
    expected = whole.make(Fake(distance(0.4)))
    plan = plan_of(tmp_path / "killed", objectives, count=5)
    stopped, again = Fake(distance(0.4), stop_at=stop_at), Fake(distance(0.4))
    with pytest.raises(KeyboardInterrupt):
        plan.make(stopped)
    assert plan_of(tmp_path / "killed", objectives, count=5).make(again) == expected
    assert tried(plan) == tried(whole)
    assert len(stopped.folders) == stop_at
    assert len({*stopped.folders, *again.folders}) == len([*stopped.folders, *again.folders]) == 10  # each once


def test_a_trial_that_failed_for_want_of_room_is_made_again(tmp_path):
    plan, fake = plan_of(tmp_path, count=2), Fake(distance(0.4))
    job = plan.variants[0].job(0)
    fake([job])
    RunFolder(job.folder).write("result.json", {"format": 1, "status": "failed", "message": "No space left"})
    plan.make(fake)
    assert (len(fake.folders), [*plan.variants[0].scores]) == (3, [0, 1])


def test_every_objective_gets_the_same_number_of_trials_of_a_seed_the_comparison_lacks(tmp_path):
    fake = Fake(lambda recipe: recipe["seed"])
    plan = plan_of(tmp_path, "one_hot,label_smoothing,label_embedding", count=5, taken_seeds=[0, 1000])
    _, about = plan.make(fake)
    assert [one["trials"] for one in about["variants"]] == [5, 5, 5]
    assert len(fake.folders) == 15
    assert {one["score"] for one in about["variants"]} == {1001}


def test_variants_that_differ_only_in_what_is_tuned_are_tuned_once(capsys):
    recipe = load_recipe("digits-mlp")[0]

    def kept(objectives):
        return [one.name for one in to_tune(recipe, variants_of(recipe, objectives))]

    assert kept("label_smoothing,one_hot,label_smoothing:smoothing=0.4") == ["label_smoothing", "one_hot"]
    assert "label_smoothing smoothing=0.4 is left out" in capsys.readouterr().err
    assert len(kept("label_embedding:rank=4,label_embedding:rank=8")) == 2


def test_a_badly_set_learning_rate_does_not_decide(tmp_path):
    # Ten times as much as the recipe's would be best for both; smoothing makes no difference.
    plan = plan_of(tmp_path, "one_hot,label_smoothing", count=12)
    variants, about = plan.make(Fake(lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / 0.01))))
    for tuned, variant in zip(about["variants"], variants, strict=True):
        assert tuned["score"] < 0.3  # of the recipe as it stands 1
        assert variant.recipe_of(plan.recipe, 0).optimizer["learning_rate"] == tuned["arguments"][RATE]


@pytest.mark.parametrize(("metric", "settings"), [("error", []), ("nll", ["selection.by=validation_nll"])])
def test_the_best_on_the_validation_set_is_chosen_and_the_first_of_equals(tmp_path, metric, settings):
    plan = plan_of(tmp_path, "label_smoothing:smoothing=0.0", count=8, settings=settings)
    score = lambda recipe: round(abs(recipe["objective"]["smoothing"] - 0.5), 1)  # noqa: E731
    (variant,), about = plan.make(Fake(score, metric=metric))
    smoothing = [one for one, _ in tried(plan)[0]]
    scores = [round(abs(one - 0.5), 1) for one in smoothing]
    assert smoothing[0] == 0  # the objective as it was typed
    assert variant.objective["smoothing"] == smoothing[scores.index(min(scores))]
    assert (variant.name, about["variants"][0]["score"]) == ("label_smoothing smoothing=0.0 tuned", min(scores))


def test_of_equal_errors_the_lowest_nll_is_chosen(tmp_path):
    plan = plan_of(tmp_path, "label_smoothing:smoothing=0.0", count=4)
    make_runs = Fake(lambda recipe: 0.25)

    def with_nll(jobs, *counts):
        lost = make_runs(jobs, *counts)
        for job in jobs:
            folder, smoothing = RunFolder(job.folder), job.recipe.objective["smoothing"]
            folder.write("result.json", folder.result() | {"validation": {"error": 0.25, "nll": 1 - smoothing}})
        return lost

    (variant,), _ = plan.make(with_nll)
    assert variant.objective["smoothing"] == max(one for one, _ in tried(plan)[0]) > 0


def test_what_a_teacher_weighs_leaves_room_for_a_uniform_part():
    recipe, _ = load_recipe("digits-mlp")
    (variant,) = variants_of(recipe, "distillation:teacher=run:teacher_weight=0.6:uniform_weight=0.3")
    assert search_space(variant, recipe)["objective.teacher_weight"][1] == 0.7


def test_test_scores_have_no_part_in_it(tmp_path):
    made = [plan_of(tmp_path / str(test), count=6).make(Fake(distance(0.3), test=test)) for test in (0.0, 0.9)]
    assert made[0] == made[1]


def test_a_trial_without_a_score_is_never_chosen(tmp_path, monkeypatch):
    # A learning rate that no network survives.
    def really(todo, *_):
        for job in todo:
            try:
                train(job.recipe, job.folder)
            except TrainingError:
                assert job.recipe.optimizer["learning_rate"] == 1e30
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "search_space", lambda *_: {RATE: [1e30]})
        _, about = plan_of(tmp_path / "some", "one_hot", count=3).make(really)
    assert about["variants"][0]["arguments"] == {}
    _, about = plan_of(tmp_path / "all", "one_hot", count=1, settings=[f"{RATE}=1e30"]).make(really)
    assert (about["variants"][0]["arguments"], about["variants"][0]["score"]) == ({}, None)  # its runs say why


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A tuned comparison whose runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return ["compare", "digits-mlp", *settings, "--seeds", 1, "--tuned", "--trials", 2, "--out", "out", "--quiet"]


def test_trials_of_another_tuning_that_was_stopped_are_refused_and_overwritten(words):
    plan_of("out/tuning", "one_hot", count=1, settings=["epochs=2"]).make(Fake(lambda recipe: 0.1))
    refused = call(*words, "--objectives", "one_hot").err
    assert ("another tuning" in refused, "  epochs: here 2, asked for 1" in refused) == (True, True)
    succeed(*words, "--objectives", "one_hot", "--overwrite")


def test_tuned_variants_are_added_with_equal_trials_and_none_is_dropped(words):
    succeed(*words, "--objectives", "one_hot")
    succeed(*words, "--objectives", "label_smoothing")
    read = labelembed.Comparison.load("out")
    assert read.variants == ["one_hot tuned", "label_smoothing tuned"]
    assert [one["trials"] for one in read.read.tuning["variants"]] == [2, 2]
    before = listing(Path("out"))
    assert call(*words, "--trials", 0).code == 2
    more = call(*words, "--objectives", "confidence_penalty", "--trials", 3)
    assert (more.code, "--trials 2" in more.err) == (2, True)
    assert listing(Path("out")) == before
    succeed(*words, "--objectives", "one_hot,label_smoothing", "--trials", 3)
    assert labelembed.Comparison.load("out").variants == ["one_hot tuned", "label_smoothing tuned"]
    untuned = [word for word in words if word not in ("--tuned", "--trials", 2)]
    refused = call(*untuned, "--objectives", "one_hot")
    assert (refused.code, "--tuned" in refused.err) == (2, True)
