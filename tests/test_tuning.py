"""Tuning: what is proposed, what is chosen, and that a tuning that was stopped ends as one that was not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import labelembed
from labelembed.lab.errors import RecipeError, RunFolderError, TrainingError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import variants_of
from labelembed.lab.runs.comparison import compare
from labelembed.lab.runs.tuning import plan_tuning, tune
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_in_process import HerePool, make_runs_here
from tests.made_training import train

pytest.importorskip("optuna", reason="optuna is not installed (extra `lab`)")

SMALL = ["model.hidden_sizes=[8]", "epochs=1", "batch_size=200"]
RATE = "optimizer.learning_rate"


def plan_of(out, objectives="label_smoothing", *, count=3, settings=(), **how):
    recipe = load_recipe("digits-mlp", settings=[*SMALL, *settings])[0]
    return plan_tuning(recipe, Path(out), variants=variants_of(recipe, objectives), trials=count, **how)


class Fake:
    """Runs nothing: a run's validation metric is what `score` says of its recipe. Keeps the folders of the runs."""

    def __init__(self, score, *, metric="error", test=0.5, stop_at=None):
        self.score, self.metric, self.test, self.stop_at, self.folders = score, metric, test, stop_at, []

    def __call__(self, todo):
        for _, recipe, path in todo:
            folder, values = RunFolder(path), recipe.of_one_run()
            path.mkdir(parents=True)
            folder.write_recipe(values)
            measured = {"validation": {self.metric: self.score(values)}, "test": {self.metric: self.test}}
            folder.write("result.json", {"format": 1, "status": "finished", "seconds": 1.0, **measured})
            self.folders.append(path)
            if len(self.folders) == self.stop_at:
                raise KeyboardInterrupt
        return {}


def distance(best):
    return lambda recipe: round(abs(recipe["objective"].get("smoothing", 0.9) - best), 6)


def tried(plan):
    """Returns the values of each trial's recipe that are tuned, by variant."""
    recipes = [
        [RunFolder(plan.folder_of(one, number)).recipe() for number in range(plan.trials)] for one, _ in plan.spaces
    ]
    return [[(one["objective"].get("smoothing"), one["optimizer"]["learning_rate"]) for one in own] for own in recipes]


# -------------------------------------------------------------------------------------------- what is proposed


def test_trials_move_to_where_scores_were_good(tmp_path):
    plan = plan_of(tmp_path, count=16, space=["objective"])
    tune(plan, Fake(distance(0.8)))
    smoothing = [one for one, _ in tried(plan)[0]]
    assert smoothing[0] == 0.1  # the objective as it was typed
    assert sum(abs(one - 0.8) < 0.15 for one in smoothing[8:]) >= 5


def test_the_same_seed_gives_the_same_trials_and_another_seed_or_variant_others(tmp_path):
    def made(name, objectives="label_smoothing", **how):
        plan = plan_of(tmp_path / name, objectives, **how)
        tune(plan, Fake(distance(0.4)))
        return tried(plan)

    once = made("a", count=5)
    beside = made("b", "confidence_penalty,label_smoothing", count=5)
    assert beside[1] == once[0]
    assert [rate for _, rate in beside[0]][1:] != [rate for _, rate in once[0]][1:]
    assert made("c", count=2, settings=["seed=1"])[0] != once[0][:2]


@pytest.mark.parametrize("stop_at", [1, 4, 7, 9])
def test_a_tuning_that_was_killed_anywhere_and_repeated_ends_as_one_that_was_not(tmp_path, stop_at):
    objectives = "label_smoothing,confidence_penalty"
    whole = plan_of(tmp_path / "whole", objectives, count=5)
    expected = tune(whole, Fake(distance(0.4)))
    plan = plan_of(tmp_path / "killed", objectives, count=5)
    stopped, again = Fake(distance(0.4), stop_at=stop_at), Fake(distance(0.4))
    with pytest.raises(KeyboardInterrupt):
        tune(plan, stopped)
    assert tune(plan, again) == expected
    assert tried(plan) == tried(whole)
    assert len(stopped.folders) == stop_at
    assert len({*stopped.folders, *again.folders}) == len([*stopped.folders, *again.folders]) == 10  # each once


def test_more_trials_go_on_where_fewer_ended(tmp_path):
    whole, fake = plan_of(tmp_path / "whole", count=6), Fake(distance(0.6))
    tune(whole, fake)
    for count in (4, 6):
        tune(plan_of(tmp_path / "parts", count=count), fake)
    assert tried(plan_of(tmp_path / "parts", count=6)) == tried(whole)
    assert len(fake.folders) == 12


def test_every_objective_gets_the_same_number_of_trials_of_a_seed_the_comparison_lacks(tmp_path):
    plan, fake = plan_of(tmp_path, "one_hot,label_smoothing,label_embedding", count=5, taken_seeds=[0, 1000]), None
    fake = Fake(lambda recipe: recipe["seed"])
    _, about = tune(plan, fake)
    assert [one["trials"] for one in about["variants"]] == [5, 5, 5]
    assert len(fake.folders) == 15
    assert {one["score"] for one in about["variants"]} == {1001}
    _, about = tune(plan_of(tmp_path / "own", "one_hot,label_smoothing", count=5, space=["objective"]), fake)
    assert [one["trials"] for one in about["variants"]] == [0, 5]


def test_variants_that_differ_only_in_what_is_tuned_are_tuned_once(tmp_path):
    plan = plan_of(tmp_path, "label_smoothing,one_hot,label_smoothing:smoothing=0.4")
    assert [variant.name for variant, _ in plan.spaces] == ["label_smoothing", "one_hot"]
    assert plan.left_out == ["label_smoothing smoothing=0.4"]
    assert len(plan_of(tmp_path, "label_embedding:rank=4,label_embedding:rank=8").spaces) == 2


# ---------------------------------------------------------------------------------------------- what is chosen


def test_a_badly_set_learning_rate_does_not_decide(tmp_path):
    # Ten times as much as the recipe's would be best for both; smoothing makes no difference.
    plan = plan_of(tmp_path, "one_hot,label_smoothing", count=12)
    variants, about = tune(plan, Fake(lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / 0.01))))
    for tuned, variant in zip(about["variants"], variants, strict=True):
        assert tuned["first_score"] == pytest.approx(1)  # the recipe as it stands
        assert tuned["score"] < 0.3
        run = variant.recipe_of(plan.recipe, 0)
        assert run.optimizer["learning_rate"] == tuned["arguments"][RATE]
        assert f"{RATE}=" in variant.folder


@pytest.mark.parametrize(("good", "at_end"), [(1e-3, False), (0.1, True)])
def test_a_learning_rate_at_the_end_of_its_range_is_noted(tmp_path, good, at_end):
    plan = plan_of(tmp_path, "one_hot", count=12, space=["optimizer.weight_decay=0"])  # the rate from 1e-4 to 1e-2
    _, about = tune(plan, Fake(lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / good))))
    assert [one["rate_at_end"] for one in about["variants"]] == [at_end]


def test_the_best_on_the_validation_set_is_chosen_and_the_first_of_equals(tmp_path):
    plan = plan_of(tmp_path / "error", count=8)
    (variant,), about = tune(plan, Fake(lambda recipe: round(abs(recipe["objective"]["smoothing"] - 0.5), 1)))
    scores = [round(abs(smoothing - 0.5), 1) for smoothing, _ in tried(plan)[0]]
    first = scores.index(min(scores))
    assert (variant.objective["smoothing"], variant.name) == (tried(plan)[0][first][0], "label_smoothing tuned")
    assert about["variants"][0]["score"] == min(scores)
    plan = replace(plan_of(tmp_path / "bleu", count=6), metric="bleu")
    _, about = tune(plan, Fake(distance(0.0), metric="bleu"))
    assert about["variants"][0]["score"] == max(smoothing for smoothing, _ in tried(plan)[0])  # the highest


def test_test_scores_have_no_part_in_it(tmp_path):
    made = [tune(plan_of(tmp_path / str(test), count=6), Fake(distance(0.3), test=test)) for test in (0.0, 0.9)]
    assert made[0] == made[1]


def test_the_first_trial_is_the_objective_as_it_was_typed(tmp_path):
    plan = plan_of(tmp_path, "label_smoothing:smoothing=0.0", count=5)
    (variant,), about = tune(plan, Fake(lambda recipe: recipe["objective"]["smoothing"]))
    assert about["variants"][0]["arguments"] == {}
    assert variant.objective["smoothing"] == 0


def test_a_trial_without_a_score_is_never_chosen(tmp_path):
    # A learning rate that no network survives.
    def really(todo):
        for _, recipe, path in todo:
            try:
                train(recipe, path)
            except TrainingError:
                assert recipe.optimizer["learning_rate"] == 1e30
        return {}

    plan = plan_of(tmp_path / "some", "one_hot", count=3, space=[f"{RATE}=1e-3,1e30"])
    _, about = tune(plan, really)
    assert about["variants"][0]["without_score"] >= 1
    assert about["variants"][0]["arguments"].get(RATE) != 1e30
    with pytest.raises(TrainingError, match=r"no trial has a score\none_hot: "):
        tune(plan_of(tmp_path / "all", "one_hot", count=1, settings=[f"{RATE}=1e30"]), really)


# ------------------------------------------------------------------------------------ in the folder of a comparison


def test_trials_of_another_tuning_are_refused_with_the_difference(tmp_path):
    tune(plan_of(tmp_path, count=3), Fake(lambda recipe: 0.1))
    for change, key in (({"settings": ["epochs=2"]}, "epochs"), ({"space": [f"{RATE}=0.1:0.2"]}, RATE)):
        with pytest.raises(RunFolderError, match=rf"another tuning[\s\S]*  {key}: here "):
            tune(plan_of(tmp_path, count=3, **change), Fake(lambda recipe: 0.1))


def test_runs_that_could_not_be_made_stay_open_and_are_tried_again(tmp_path):
    fake = Fake(distance(0.6))
    expected = tune(plan_of(tmp_path / "b", count=6), fake)
    plan = plan_of(tmp_path / "a", count=6)

    def failing(todo):
        fake([one for one in todo if "trial 1" not in one[0]])
        return {"label_smoothing trial 1": "no room"}

    with pytest.raises(TrainingError, match=r"label_smoothing trial 1: no room"):
        tune(plan, failing)
    assert len(fake.folders) == 6 + 3  # the next round waits
    assert tune(plan, fake) == expected


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A tuned comparison whose runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return ["compare", "digits-mlp", *settings, "--seeds", 1, "--tuned", "--trials", 2, "--out", "out", "--quiet"]


def variants(out="out"):
    return labelembed.Comparison.load(out).variants


def test_tuned_variants_are_added_with_equal_trials_and_none_is_dropped(words):
    succeed(*words, "--objectives", "one_hot")
    succeed(*words, "--objectives", "label_smoothing")
    assert variants() == ["one_hot tuned", "label_smoothing tuned"]
    assert [one["trials"] for one in labelembed.Comparison.load("out").read.tuning["variants"]] == [2, 2]
    before = {path: path.read_bytes() for path in Path("out").rglob("result.json")}
    more = call(*words, "--objectives", "confidence_penalty", "--trials", 3)
    assert (more.code, "--trials 2" in more.err) == (2, True)
    assert {path: path.read_bytes() for path in Path("out").rglob("result.json")} == before
    succeed(*words, "--objectives", "one_hot,label_smoothing", "--trials", 3)
    assert variants() == ["one_hot tuned", "label_smoothing tuned"]
    untuned = [word for word in words if word not in ("--tuned", "--trials", 2)]
    refused = call(*untuned, "--objectives", "one_hot")
    assert (refused.code, "give --tuned" in refused.err) == (2, True)


def test_a_tuned_comparison_that_was_interrupted_ends_as_one_that_was_not(words, monkeypatch):
    class Stopping(HerePool):
        made = 0

        def poll(self, seconds):
            Stopping.made += 1
            if Stopping.made in (2, 6):
                raise KeyboardInterrupt
            return super().poll(seconds)

    words = [*words, "--objectives", "one_hot,label_smoothing"]
    with monkeypatch.context() as patch:
        make_runs_here(patch, Stopping)
        assert [call(*words).code for _ in range(2)] == [130, 130]
    succeed(*words)
    succeed(*words[: words.index("--out")], "--out", "whole", *words[words.index("--out") + 2 :])
    results = [
        {path.relative_to(out): RunFolder(path.parent).result()["test"] for path in Path(out).rglob("result.json")}
        for out in ("out", "whole")
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 2 * 2 + 2


def test_no_trials_at_all_are_refused_and_not_taken_for_the_default(tmp_path):
    for asked in ({"tuned": True, "trials": 0}, {"trials": 0}):
        with pytest.raises(RecipeError, match="--trials"):
            compare("digits-mlp", out=tmp_path / "out", quiet=True, **asked)
    assert not (tmp_path / "out" / "runs").exists()
