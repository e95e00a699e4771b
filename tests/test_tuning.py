"""Tuning: what is proposed, what is chosen, and that a tuning that was stopped ends as one that was not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from labelembed.lab.runs.trials import STUDIES, Trials, run_trial, studies_in
from labelembed.lab.runs.tuning_plan import plan_tuning

from labelembed.lab.errors import InterruptedTraining, RunFolderError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import variants_of
from labelembed.lab.runs import machines, trials
from labelembed.lab.runs.search_spaces import recipe_with
from labelembed.lab.runs.tuning import run_tuning, tuned_variants
from labelembed.lab.training.run_folder import RunFolder
from tests.made_in_process import make_runs_here, sqlite_that_does_not_wait

optuna = pytest.importorskip("optuna", reason="the extra `tune` (optuna) is not installed")

SMALL = ["model.hidden_sizes=[8]", "epochs=1", "batch_size=200"]
RATE = "optimizer.learning_rate"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Makes the runs here, one after the other: worker processes have tests of their own."""
    make_runs_here(monkeypatch)
    with sqlite_that_does_not_wait():
        yield


def recipe_of(*settings):
    return load_recipe("digits-mlp", settings=[*SMALL, *settings])[0]


def plan_of(out, objectives="label_smoothing", *, count=3, settings=(), **how):
    recipe = recipe_of(*settings)
    return plan_tuning(recipe, "digits-mlp", Path(out), variants=variants_of(recipe, objectives), trials=count, **how)


def made(plan, **how):
    about, problems = run_tuning(plan, fingerprint="of the digits", **how)
    assert problems == {}
    return about["variants"]


def faked(monkeypatch, score, *, metric="error", test=0.5):
    """Runs nothing: a run's validation error is what `score` says of its recipe. Returns the folders of the runs."""
    folders = []

    def run_job(payload, observe, stop):
        folder = RunFolder(payload["folder"])
        folders.append(folder.path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_recipe(payload["recipe"])
        measured = {"validation": {metric: score(payload["recipe"])}, "test": {metric: test}}
        folder.append_history({"epoch": 1, "seconds": 1.0, **measured})
        folder.write("result.json", {"format": 1, "status": "finished", "seconds": 1.0, **measured})
        return folder.result()

    monkeypatch.setattr(trials, "run_job", run_job)
    return folders


def distance(best):
    return lambda recipe: round(abs(recipe["objective"].get("smoothing", 0.9) - best), 6)


# -------------------------------------------------------------------------------------------- what is proposed


def test_trials_move_to_where_scores_were_good(tmp_path, monkeypatch):
    faked(monkeypatch, distance(0.8))
    (tuned,) = made(plan_of(tmp_path, count=16, space=["objective"]))
    tried = [trial["arguments"].get("objective.smoothing") for trial in tuned["trials"]]
    assert tried[0] is None  # the objective as it was typed
    assert sum(abs(smoothing - 0.8) < 0.15 for smoothing in tried[8:]) >= 5


def test_the_same_seed_gives_the_same_trials_and_another_seed_or_variant_others(tmp_path, monkeypatch):
    faked(monkeypatch, distance(0.4))

    def tried(name, objectives="label_smoothing", **how):
        return [
            [trial["arguments"] for trial in one["trials"]] for one in made(plan_of(tmp_path / name, objectives, **how))
        ]

    once = tried("a", count=5)
    beside = tried("b", "confidence_penalty,label_smoothing", count=5)
    assert beside[1] == once[0]
    assert [trial.get(RATE) for trial in beside[0]][1:] != [trial.get(RATE) for trial in once[0]][1:]
    assert tried("c", count=2, settings=["seed=1"])[0] != once[0][:2]


def test_a_badly_set_learning_rate_does_not_decide(tmp_path, monkeypatch):
    # Ten times as much as the recipe's would be best for both; smoothing makes no difference.
    faked(monkeypatch, lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / 0.01)))
    plan = plan_of(tmp_path, "one_hot,label_smoothing", count=12)
    about, _ = run_tuning(plan, fingerprint="of the digits")
    for tuned, variant in zip(about["variants"], tuned_variants(plan, about), strict=True):
        assert tuned["first_score"] == pytest.approx(1)  # the recipe as it stands
        assert tuned["score"] < 0.3
        run = variant.recipe_of(plan.recipe, 0)
        assert run.optimizer["learning_rate"] == tuned["arguments"][RATE]
        assert run.optimizer["weight_decay"] == tuned["arguments"]["optimizer.weight_decay"]


@pytest.mark.parametrize(("good", "at_end"), [(1e-3, False), (0.1, True)])
def test_a_learning_rate_at_the_end_of_its_range_is_noted(tmp_path, monkeypatch, good, at_end):
    faked(monkeypatch, lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / good)))
    plan = plan_of(tmp_path, "one_hot", count=12, space=["optimizer.weight_decay=0"])  # the rate from 1e-4 to 1e-2
    assert [one["rate_at_end"] for one in made(plan)] == [at_end]


def test_variants_that_differ_only_in_what_is_tuned_are_tuned_once(tmp_path):
    plan = plan_of(tmp_path, "label_smoothing,one_hot,label_smoothing:smoothing=0.4")
    assert [variant.name for variant, _ in plan.spaces] == ["label_smoothing", "one_hot"]
    assert plan.left_out == ["label_smoothing smoothing=0.4"]
    assert len(plan_of(tmp_path, "label_embedding:rank=4,label_embedding:rank=8").spaces) == 2


# ---------------------------------------------------------------------------------------------- what is chosen


def test_the_lowest_validation_error_is_chosen_and_the_first_of_equals(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: round(abs(recipe["objective"]["smoothing"] - 0.5), 1))
    plan = plan_of(tmp_path, count=8)
    about, _ = run_tuning(plan, fingerprint="of the digits")
    (tuned,) = about["variants"]
    scores = [trial["score"] for trial in tuned["trials"]]
    assert len(scores) == 8
    assert tuned["chosen"] == scores.index(min(scores))
    assert tuned["arguments"] == tuned["trials"][tuned["chosen"]]["arguments"]
    (variant,) = tuned_variants(plan, about)
    assert variant.objective["smoothing"] == tuned["arguments"]["objective.smoothing"]
    assert variant.name == "label_smoothing tuned"


def test_of_bleu_the_highest_is_chosen(tmp_path, monkeypatch):
    faked(monkeypatch, distance(0.0), metric="bleu")
    (tuned,) = made(replace(plan_of(tmp_path, count=6), metric="bleu"))
    assert tuned["score"] == max(trial["score"] for trial in tuned["trials"])


def test_test_scores_have_no_part_in_it(tmp_path, monkeypatch):
    found, seen = [], []
    for place, test in enumerate((0.0, 0.9)):
        faked(monkeypatch, distance(0.3), test=test)
        found.append(made(plan_of(tmp_path / str(place), count=6), observe=seen.append))
    assert found[0] == found[1]
    # Nor do they reach whoever watches, or what is written.
    assert {event.result["test"] for event in seen} == {None}
    assert "test" not in (tmp_path / "0" / "tuning.json").read_text()


def test_every_objective_gets_the_same_number_of_trials(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.1)
    found = made(plan_of(tmp_path, "one_hot,label_smoothing,label_embedding", count=5))
    assert {one["name"]: len(one["trials"]) for one in found} == {
        "one_hot": 5,
        "label_smoothing": 5,
        "label_embedding": 5,
    }
    found = made(plan_of(tmp_path / "own", "one_hot,label_smoothing", count=5, space=["objective"]))
    assert [len(one["trials"]) for one in found] == [0, 5]


def test_the_first_trial_is_the_objective_as_it_was_typed(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["objective"]["smoothing"])
    plan = plan_of(tmp_path, "label_smoothing:smoothing=0.0", count=5)
    about, _ = run_tuning(plan, fingerprint="of the digits")
    (tuned,) = about["variants"]
    assert tuned["chosen"] == 0
    assert tuned["arguments"] == {}
    assert tuned["variant"] == "label_smoothing:smoothing=0.0"
    assert tuned_variants(plan, about)[0].objective["smoothing"] == 0


def test_a_trial_without_a_score_is_never_chosen_and_says_why(tmp_path):
    # A learning rate that no network survives.
    plan = plan_of(tmp_path, "one_hot", count=3, space=["optimizer.learning_rate=1e-3,1e30"])
    (tuned,) = made(plan)
    failed = [trial for trial in tuned["trials"] if trial["arguments"].get(RATE) == 1e30]
    assert {trial["state"] for trial in failed} == {"failed"}
    assert all("not finite" in trial["message"] for trial in failed)
    assert tuned["score"] == min(trial["score"] for trial in tuned["trials"] if trial["state"] == "finished")
    assert made(plan) == [tuned]


def test_scores_are_means_over_the_seeds_of_a_trial_which_are_not_the_comparisons(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["seed"] / 10_000)
    plan = plan_of(tmp_path, count=2, seeds="3", taken_seeds=[0, 1, 1001])
    assert plan.seeds == [1000, 1002, 1003]
    assert made(plan)[0]["first_score"] == pytest.approx((0.1000 + 0.1002 + 0.1003) / 3)
    assert plan_of(tmp_path / "b", seeds="5,7").seeds == [5, 7]


# --------------------------------------------------------------------------------------- stopped and gone on with


class StoppedError(Exception):
    pass


def test_a_tuning_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path, monkeypatch):
    folders = faked(monkeypatch, distance(0.4))
    objectives = "label_smoothing,confidence_penalty"
    whole = made(plan_of(tmp_path / "whole", objectives, count=5))
    for stop_at in (1, 9):
        plan = plan_of(tmp_path / str(stop_at), objectives, count=5)
        folders.clear()

        def stop(event, stop_at=stop_at):
            if len(folders) == stop_at:
                raise StoppedError

        with pytest.raises(StoppedError):
            made(plan, observe=stop)
        assert made(plan) == whole
        assert len(folders) == len({*folders}) == 10  # each run was made once: a stop comes after a run is finished


def test_a_trial_that_a_kill_came_into_while_it_was_proposed_is_proposed_again(tmp_path, monkeypatch):
    faked(monkeypatch, distance(0.4))
    whole = made(plan_of(tmp_path / "whole", count=6))
    plan = plan_of(tmp_path / "torn", count=6)
    proposed = Trials.propose

    def killed(self, end, **how):
        proposed(self, min(end, 5), **how)
        if end > 5:
            self.study.ask({})  # begun, and nothing written of what was drawn
            raise StoppedError

    monkeypatch.setattr(Trials, "propose", killed)
    with pytest.raises(StoppedError):
        made(plan)
    monkeypatch.setattr(Trials, "propose", proposed)
    assert made(plan) == whole


def test_more_trials_go_on_where_fewer_ended(tmp_path, monkeypatch):
    folders = faked(monkeypatch, distance(0.6))
    whole = made(plan_of(tmp_path / "whole", count=6))
    for count in (4, 6):
        found = made(plan_of(tmp_path / "parts", count=count))
    assert found == whole
    assert len(folders) == 12
    # And fewer look at the first ones alone.
    assert made(plan_of(tmp_path / "whole", count=4))[0]["trials"] == whole[0]["trials"][:4]


def test_without_its_studies_a_tuning_finds_its_runs_again(tmp_path, monkeypatch):
    folders = faked(monkeypatch, distance(0.6))
    plan = plan_of(tmp_path, count=5)
    before = made(plan)
    (plan.out / STUDIES).unlink()
    folders.clear()
    assert made(plan) == before
    assert folders == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"settings": ["epochs=2"]}, "epochs"),
        ({"settings": ["seed=3"]}, "seed"),
        ({"space": ["objective.smoothing=0.1:0.2"]}, "space objective.smoothing"),
        ({"space": ["objective"]}, "space optimizer.learning_rate"),
        ({"seeds": "2"}, "seeds of trials"),
        ({"prune": True}, "pruning"),
    ],
)
def test_a_folder_of_another_tuning_is_refused_with_the_difference(tmp_path, monkeypatch, change, key):
    faked(monkeypatch, lambda recipe: 0.1)
    made(plan_of(tmp_path, count=1))
    before = (tmp_path / STUDIES).read_bytes()
    with pytest.raises(
        RunFolderError, match="holds another tuning of label_smoothing; choose another --out"
    ) as refused:
        made(plan_of(tmp_path, "one_hot,label_smoothing", count=1, **change))
    assert f"  {key}: here " in str(refused.value)
    assert (tmp_path / STUDIES).read_bytes() == before


def test_other_data_are_refused(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.1)
    plan = plan_of(tmp_path, count=1)
    made(plan)
    with pytest.raises(RunFolderError, match="content of the data"):
        run_tuning(plan, fingerprint="of other digits")


@pytest.mark.parametrize("content", [b"no data base", b"SQLite format 3\0" + 4096 * b"x"])
def test_damaged_studies_are_refused_with_the_way_out(tmp_path, monkeypatch, content):
    faked(monkeypatch, lambda recipe: 0.1)
    (tmp_path / STUDIES).write_bytes(content)
    with pytest.raises(RunFolderError, match="take it away") as refused:
        made(plan_of(tmp_path, count=2))
    assert str(tmp_path / STUDIES) in str(refused.value)
    assert len(str(refused.value)) < 500


def test_runs_that_could_not_be_made_stay_open_and_are_tried_again(tmp_path, monkeypatch):
    faked(monkeypatch, distance(0.6))
    whole = made(plan_of(tmp_path / "b", count=6))
    fine, calls = trials.run_job, []

    def run_job(payload, observe, stop):
        calls.append(payload["folder"])
        if len(calls) == 2:
            raise MemoryError("no room")
        return fine(payload, observe, stop)

    monkeypatch.setattr(trials, "run_job", run_job)
    plan = plan_of(tmp_path / "a", count=6)
    about, problems = run_tuning(plan, fingerprint="of the digits")
    assert list(problems) == ["label_smoothing trial 1"]
    assert "no room" in problems["label_smoothing trial 1"]
    assert len(calls) == 4  # the next round waits
    assert about["variants"][0]["trials"][1]["state"] == "open"
    assert made(plan) == whole
    assert calls.count(calls[1]) == 2


# ------------------------------------------------------------------------------------------------------- pruning


def test_a_run_worse_than_the_median_is_given_up_and_not_made_again(tmp_path):
    plan = plan_of(tmp_path, settings=["epochs=5"])
    recipe = plan.recipe_of(plan.spaces[0][0], {}, 1000)
    payload = {"recipe": recipe.of_one_run(), "source": "a test", "folder": str(tmp_path / "run"), "device": "cpu"}
    payload |= {"track": [], "metric": "error", "epochs": 5, "curves": [dict.fromkeys(range(1, 6), 0.0)] * 4}
    result = run_trial(payload, lambda progress: None, lambda: False)
    assert result["pruned"]
    history = RunFolder(tmp_path / "run").history()
    assert len(history) == 2  # not in the first quarter of the epochs
    assert result["validation"] == history[1]["validation"]
    # Had it been killed before it could say so, it ends again without another step.
    assert run_trial(payload, lambda progress: None, lambda: False) == result
    # With fewer trials before there is no median, and a stop is no pruning.
    payload |= {"folder": str(tmp_path / "other"), "curves": payload["curves"][:3]}
    with pytest.raises(InterruptedTraining):
        run_trial(payload, lambda progress: None, lambda: True)


def test_runs_below_the_median_are_pruned_and_never_chosen(tmp_path):
    settings = ["epochs=4", "data.train_examples=300"]
    space = ["objective.smoothing=0:1", "optimizer.learning_rate=1e-5:1e-1:log", "optimizer.weight_decay=0"]
    plan = plan_of(tmp_path, count=8, settings=settings, prune=True, space=space)
    (tuned,) = made(plan)
    states = [trial["state"] for trial in tuned["trials"]]
    assert states[:4] == ["finished"] * 4
    assert "pruned" in states
    assert states[tuned["chosen"]] == "finished"
    for trial in tuned["trials"]:
        folder = RunFolder(plan.out / trial["folders"][0])
        assert (folder.state() == "unfinished") == (trial["state"] == "pruned") == (len(folder.history()) < 4)
    assert made(plan) == [tuned]


# ------------------------------------------------------------------------------------------------- real runs, files


def test_what_is_written_runs_again_as_the_best_trial(tmp_path):
    plan = plan_of(tmp_path / "tuning", "label_smoothing,one_hot", count=2, settings=["objective=one_hot"])
    tuned = made(plan)
    assert json.loads((plan.out / "tuning.json").read_text())["variants"] == tuned
    recipe, _ = load_recipe(str(plan.out / "best" / "label_smoothing.yaml"))
    assert recipe.objective == recipe_with(plan.recipe, plan.spaces[0][0], tuned[0]["arguments"]).objective
    assert recipe.data == plan.recipe.data
    lines = (plan.out / "trials.csv").read_text().splitlines()
    keys = "objective.smoothing,optimizer.learning_rate,optimizer.weight_decay"
    assert lines[0] == f"variant,trial,state,score,chosen,{keys}"
    assert len(lines) == 1 + 2 * 2
    (pasted,) = variants_of(recipe_of(), tuned[0]["variant"])
    assert pasted.objective == recipe.objective
    # A trial is an ordinary run, whose folder says what it reached.
    folder = RunFolder(plan.out / tuned[0]["trials"][tuned[0]["chosen"]]["folders"][0])
    assert folder.result()["validation"]["error"] == tuned[0]["score"]
    assert yaml.safe_load((folder.path / "recipe.yaml").read_text())["seed"] == 1000


def test_settings_of_the_optimiser_go_into_variant_folder_and_recipe(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["optimizer"]["learning_rate"])
    plan = plan_of(tmp_path, "one_hot", count=5, space=["objective", "optimizer.learning_rate=1e-5:1e-4:log"])
    about, _ = run_tuning(plan, fingerprint="of the digits")
    rate = about["variants"][0]["arguments"][RATE]
    assert about["variants"][0]["settings"] == {RATE: rate}
    assert rate < 1e-4
    (variant,) = tuned_variants(plan, about)
    assert variant.recipe_of(plan.recipe, 5).optimizer["learning_rate"] == rate
    assert variant.folder.startswith("one_hot-optimizer.learning_rate=")
    # Written as YAML reads it: 1e-05 would be a text there.
    assert load_recipe(str(plan.out / "best" / "one_hot.yaml"))[0].optimizer["learning_rate"] == rate


def test_the_studies_are_those_that_optuna_reads(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.25)
    made(plan_of(tmp_path, count=3))
    with studies_in(tmp_path) as storage:
        study = optuna.load_study(storage=storage, study_name="label_smoothing")
        assert [trial.value for trial in study.trials] == [0.25] * 3
        # The recipe's weight decay is 0, which no range by its logarithm holds.
        assert study.trials[0].params == {"objective.smoothing": 0.1, RATE: 0.001}


@pytest.mark.parametrize(("device", "gpus"), [(None, ["0", "1"]), ("cpu", [])])
def test_trials_are_made_on_the_gpus_that_there_are(tmp_path, monkeypatch, device, gpus):
    told = []
    monkeypatch.setattr(machines, "run_jobs", lambda jobs, run, **how: (event for event in told.append(how) or ()))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run_tuning(plan_of(tmp_path, count=1), fingerprint="of the digits", jobs=3, device=device)
    assert told == [{"processes": 3, "gpus": gpus}]
