"""Tuning: what is proposed, what is chosen, and that a tuning that was stopped ends as one that was not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from labelembed.errors import InterruptedTraining, RecipeError, RunFolderError
from labelembed.recipes.loading import load_recipe
from labelembed.recipes.variants import variants_of
from labelembed.runs.run import cached_data
from labelembed.training.run_folder import RunFolder
from labelembed.tuning import plan_tuning, run_tuning, trials, tuned_variants, write_tuning
from labelembed.tuning.pruning import Watch, limits_of
from labelembed.tuning.search_spaces import Choices, Range, Simplex
from labelembed.tuning.space import arguments_at, parse_space, recipe_with, space_of
from labelembed.tuning.study import JOURNAL, Trial, TrialStore, proposal, rounds
from tests.made_in_process import run_jobs_here

SMALL = ["model.hidden_sizes=[8]", "epochs=1", "batch_size=200", "checkpoints.time_share=1"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Makes the runs here, one after the other: worker processes have tests of their own."""

    monkeypatch.setattr(trials, "run_jobs", run_jobs_here)


def recipe_of(*settings):
    return load_recipe("digits-mlp", settings=[*SMALL, *settings])[0]


def plan_of(out, objectives="label_smoothing", *, count=3, settings=(), **how):
    recipe = recipe_of(*settings)
    return plan_tuning(recipe, "digits-mlp", Path(out), variants=variants_of(recipe, objectives), trials=count, **how)


def made(plan, **how):
    outcomes, problems = run_tuning(plan, fingerprint="of the digits", **how)
    assert problems == {}
    return outcomes


def faked(monkeypatch, score, *, epochs=1, test=0.5):
    """Runs nothing: a run's validation error is what `score` says of its recipe."""

    def run_job(payload, observe, stop):
        folder = RunFolder(payload["folder"])
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_recipe(payload["recipe"])
        found = score(payload["recipe"])
        folder.append_journal({"epoch": 1, "seconds": 1.0, "validation": {"error": found}, "test": {"error": test}})
        result = {"format": 1, "status": "finished", "validation": {"error": found}, "test": {"error": test}}
        folder.write_result(result | {"seconds": 1.0})
        return folder.result()

    monkeypatch.setattr(trials, "run_job", run_job)


def about(plan):
    return json.loads((plan.out / "tuning.json").read_text())


# ------------------------------------------------------------------------------------------------- the space


def test_typed_spaces_are_ranges_logarithms_and_choices():
    typed = ["objective.smoothing=0.05:0.6", "optimizer.learning_rate=1e-4:1e-1:log", "objective.preset=paper,mixture"]
    assert parse_space(typed) == {
        "objective.smoothing": Range(0.05, 0.6),
        "optimizer.learning_rate": Range(1e-4, 0.1, log=True),
        "objective.preset": Choices(("paper", "mixture")),
    }
    assert parse_space(["objective.target_warmup_steps=0,1e-1,20"])["objective.target_warmup_steps"].values == (
        0,
        0.1,
        20,
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("smoothing=0:1", "must be key=low:high"),
        ("objective.smoothing", "must be key=low:high"),
        ("objective.smoothing=0.6:0.1", "must be less than"),
        ("objective.smoothing=0:0.6:log", "> 0 for a logarithmic range"),
        ("objective.smoothing=0.1:0.6:lin", "key=low:high:log"),
        ("objective.smoothing=low:high", "must be numbers"),
        ("data.validation=1,2", "only keys of objective, optimizer, schedule"),
        ("optimiser.learning_rate=0.1:1", "did you mean 'optimizer'"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused(typed, said):
    with pytest.raises(RecipeError) as refused:
        parse_space([typed])
    assert "--space" in str(refused.value)
    assert said in str(refused.value)


def test_all_faults_of_spaces_are_said_at_once():
    with pytest.raises(RecipeError) as refused:
        parse_space(["objective.smoothing=2:1", "epochs=1:3", "objective.a=1:2", "objective.a=1:3"])
    assert len(refused.value.faults) == 3


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("objective.smoothing=0.05:1.6", "objective.smoothing: must be in [0, 1], got 1.6"),
        ("optimizer.learning_rate=-1:1", "optimizer.learning_rate: must be > 0, got -1"),
        ("objective.smothing=0.1:0.2", "did you mean 'smoothing'"),
        ("objective.preset=paper", "unknown key"),
    ],
)
def test_values_that_the_recipe_does_not_take_are_refused_before_any_run(tmp_path, space, said):
    with pytest.raises(RecipeError) as refused:
        plan_of(tmp_path, space=[space])
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_given_key_takes_the_place_of_the_objectives_own_and_of_weights_that_add_up_with_it():
    recipe = recipe_of()
    (variant,) = variants_of(recipe, "label_embedding")
    given = parse_space(["objective.output_weight=0.5", "objective.temperature=2:3", "objective.rank=10:20"])
    space = space_of(variant, recipe, given)
    assert set(space) == {
        "objective.temperature",
        "objective.embedding_learning_rate",
        "objective.output_weight",
        "objective.rank",
        "optimizer.learning_rate",
        "optimizer.weight_decay",
    }
    assert space["objective.temperature"] == Range(2, 3)
    assert space["objective.rank"] == Range(10, 20, whole=True)
    assert space["objective.output_weight"] == Choices((0.5,))


@pytest.mark.parametrize(("epochs", "most"), [(30, 10), (4, 3), (2, None)])
def test_soft_labels_are_tuned_to_be_stored_before_the_last_epoch(epochs, most):
    recipe = recipe_of(f"epochs={epochs}")
    (variant,) = variants_of(recipe, "retrospection:store_every=1")
    found = space_of(variant, recipe, {}).get("objective.store_every")
    assert found == (None if most is None else Range(1, most, log=True, whole=True))


@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "weight_decay"),
    [
        (["optimizer={name: adam, learning_rate: 0.001}"], Range(1e-4, 1e-2, log=True), Range(1e-6, 1e-2, log=True)),
        (["optimizer={name: sgd, learning_rate: 0.3}"], Range(0.03, 3.0, log=True), Range(1e-6, 1e-2, log=True)),
        (
            ["optimizer={name: sgd, learning_rate: 0.1, weight_decay: 5e-4}"],
            Range(0.01, 1.0, log=True),
            Range(5e-5, 5e-3, log=True),
        ),
        (
            ["optimizer={name: adamw, learning_rate: 0.002, weight_decay: 0}"],
            Range(2e-4, 0.02, log=True),
            Range(1e-4, 1.0, log=True),
        ),
        (
            ["optimizer={name: adamw, learning_rate: 0.001, weight_decay: 1.0}"],
            Range(1e-4, 1e-2, log=True),
            Range(0.1, 10.0, log=True),
        ),
    ],
    ids=["adam", "sgd", "sgd with decay", "adamw", "adamw with decay"],
)
def test_learning_rate_and_weight_decay_of_every_objective_are_tuned(tmp_path, optimizer, learning_rate, weight_decay):
    objectives = "one_hot,label_smoothing,label_embedding"
    plan = plan_of(tmp_path, objectives, settings=optimizer)
    wanted = {"optimizer.learning_rate": learning_rate, "optimizer.weight_decay": weight_decay}
    for tuned in plan.tuned:
        found = {key: value for key, value in tuned.space.items() if not key.startswith("objective.")}
        assert found == wanted
    assert plan.tuned[0].space == wanted  # cross entropy has nothing else
    assert len({len(tuned.space) for tuned in plan.tuned}) == 3  # the others their own arguments
    # A given range takes the place of this one, and `objective` leaves the recipe's optimiser as it is.
    given = plan_of(tmp_path, "one_hot", settings=optimizer, space=["optimizer.learning_rate=1e-4:1e-3"])
    assert given.tuned[0].space == wanted | {"optimizer.learning_rate": Range(1e-4, 1e-3)}
    own = plan_of(tmp_path, objectives, settings=optimizer, space=["objective"])
    assert [{key.partition(".")[0] for key in tuned.space} for tuned in own.tuned] == [set(), *[{"objective"}] * 2]


def test_a_badly_set_learning_rate_does_not_decide(tmp_path, monkeypatch):
    # Ten times as much as the recipe's would be best for both; smoothing makes no difference.
    faked(monkeypatch, lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / 0.01)))
    plan = plan_of(tmp_path, "one_hot,label_smoothing", count=15)
    outcomes = made(plan)
    for outcome in outcomes:
        assert outcome.records[0].trial.score == pytest.approx(1)  # the recipe as it stands is the first trial
        assert outcome.best.trial.score < 0.15
    for outcome, variant in zip(outcomes, tuned_variants(plan, outcomes), strict=True):
        run = variant.recipe_of(plan.recipe, 0)
        assert run.optimizer["learning_rate"] == outcome.arguments["optimizer.learning_rate"]
        assert run.optimizer["weight_decay"] == outcome.arguments["optimizer.weight_decay"]


@pytest.mark.parametrize(("good", "at_end"), [(1e-3, False), (3e-3, False), (0.1, True), (1e-5, True)])
def test_a_learning_rate_at_the_end_of_its_range_is_noted(tmp_path, monkeypatch, good, at_end):
    faked(monkeypatch, lambda recipe: abs(math.log10(recipe["optimizer"]["learning_rate"] / good)))
    plan = plan_of(tmp_path, "one_hot", count=15)  # from 1e-4 to 1e-2
    assert [variant["rate_at_end"] for variant in write_tuning(plan, made(plan))["variants"]] == [at_end]


def test_a_key_goes_to_the_variants_that_have_it(tmp_path):
    plan = plan_of(tmp_path, "one_hot,label_smoothing", space=["objective", "objective.smoothing=0.1:0.2"])
    assert [set(tuned.space) for tuned in plan.tuned] == [set(), {"objective.smoothing"}]
    plan = plan_of(tmp_path, "one_hot,label_smoothing", space=["objective", "optimizer.learning_rate=1e-4:1e-2:log"])
    assert [set(tuned.space) for tuned in plan.tuned] == [
        {"optimizer.learning_rate"},
        {"objective.smoothing", "optimizer.learning_rate"},
    ]


def test_variants_that_differ_only_in_what_is_tuned_are_tuned_once(tmp_path):
    plan = plan_of(tmp_path, "label_smoothing,one_hot,label_smoothing:smoothing=0.4")
    assert [tuned.variant.name for tuned in plan.tuned] == ["label_smoothing", "one_hot"]
    assert [variant.name for variant in plan.left_out] == ["label_smoothing smoothing=0.4"]
    plan = plan_of(tmp_path, "label_embedding:rank=4,label_embedding:rank=8")
    assert len(plan.tuned) == 2


# -------------------------------------------------------------------------------------------- what is proposed

SPACE = {"objective.a": Range(0.0, 1.0), "objective.weights": Simplex(("b", "c"), rest=True)}
SPACE |= {"objective.kind": Choices(("x", "y"))}


def proposed(number, before=(), *, seed=3, name="some", maximise=False):
    return proposal(SPACE, before, number, seed=seed, name=name, maximise=maximise)


def test_rounds_are_the_same_however_many_trials_are_asked_for():
    assert list(rounds(1)) == [(0, 1)]
    assert list(rounds(10)) == [(0, 5), (5, 8), (8, 10)]
    assert list(rounds(12))[:2] == list(rounds(10))[:2]


def test_the_first_round_stands_in_different_parts_of_every_range():
    found = [proposed(number) for number in range(1, 5)]
    for name in ("objective.a", "objective.weights.1", "objective.weights.2"):
        assert sorted(int(4 * point[name]) for point in found) == [0, 1, 2, 3]
    assert sorted(point["objective.kind"] for point in found) == ["x", "x", "y", "y"]


def scored(best, *, maximise=False):
    """Trials whose score falls with the distance of `a` from `best`."""
    sign = -1 if maximise else 1
    trials_before = []
    for number in range(8):
        parameters = {
            "objective.a": number / 7,
            "objective.weights.1": 0.5,
            "objective.weights.2": 0.5,
            "objective.kind": "x",
        }
        score = sign * abs(number / 7 - best)
        trials_before.append(Trial(number, parameters, {}, "finished", score))
    return trials_before


@pytest.mark.parametrize("maximise", [False, True])
def test_later_proposals_go_where_scores_were_good(maximise):
    for best in (0.0, 1.0):
        before = scored(best, maximise=maximise)
        near = [proposed(number, before, maximise=maximise)["objective.a"] for number in range(8, 28)]
        assert sum(abs(value - best) < 0.5 for value in near) >= 15


def test_proposals_follow_from_seed_name_number_and_scores_alone():
    before = scored(0.3)
    first = proposed(9, before)
    assert first == proposed(9, before)
    assert first != proposed(9, before, seed=4)
    assert first != proposed(9, before, name="other")
    assert first != proposed(10, before)
    assert first != proposed(9, scored(0.9))


def test_failed_trials_are_the_worst():
    before = [
        trial if trial.parameters["objective.a"] > 0.5 else Trial(trial.number, trial.parameters, {}, "failed")
        for trial in scored(0.0)
    ]
    near = [proposed(number, before)["objective.a"] for number in range(8, 28)]
    assert sum(value > 0.4 for value in near) >= 15


def test_arguments_are_rounded_and_weights_leave_their_rest():
    parameters = {"objective.a": 0.123456, "objective.weights.1": 0.25, "objective.weights.2": 1.0}
    found = arguments_at(SPACE, parameters | {"objective.kind": "y"})
    assert found == {"objective.a": 0.123, "objective.b": 0.5, "objective.c": 0.0, "objective.kind": "y"}


# ---------------------------------------------------------------------------------------------- what is chosen


def test_the_lowest_validation_error_is_chosen_and_the_first_of_equals(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: round(abs(recipe["objective"]["smoothing"] - 0.5), 1))
    plan = plan_of(tmp_path, count=8)
    (outcome,) = made(plan)
    scores = [record.trial.score for record in outcome.records]
    assert len(scores) == 8
    assert outcome.best.trial.number == scores.index(min(scores))
    assert outcome.arguments == outcome.best.trial.arguments
    (variant,) = tuned_variants(plan, [outcome])
    assert variant.objective["smoothing"] == outcome.arguments["objective.smoothing"]
    assert variant.name == "label_smoothing tuned"


def test_of_bleu_the_highest_is_chosen(tmp_path, monkeypatch):
    from dataclasses import replace

    def run_job(payload, observe, stop):
        folder = RunFolder(payload["folder"])
        folder.path.mkdir(parents=True)
        folder.write_recipe(payload["recipe"])
        folder.write_result({"status": "finished", "validation": {"bleu": payload["recipe"]["objective"]["smoothing"]}})
        return folder.result()

    monkeypatch.setattr(trials, "run_job", run_job)
    (outcome,) = made(replace(plan_of(tmp_path, count=5), measure="bleu"))
    tried = [record.trial.arguments.get("objective.smoothing", 0.1) for record in outcome.records]
    assert outcome.best.trial.score == max(tried)


def test_test_scores_have_no_part_in_it(tmp_path, monkeypatch):
    def score(recipe):
        return abs(recipe["objective"]["smoothing"] - 0.3)

    found = []
    for place, test in enumerate((0.0, 0.9)):
        faked(monkeypatch, score, test=test)
        plan = plan_of(tmp_path / str(place), count=9)
        found.append([(record.trial.arguments, record.trial.score) for record in made(plan)[0].records])
    assert found[0] == found[1]
    # Nor do they reach whoever watches, or what is written.
    seen = []
    plan = plan_of(tmp_path / "watched", count=2)
    write_tuning(plan, made(plan, observe=seen.append))
    assert [event.result["test"] for event in seen] == [None, None]
    assert "test" not in (plan.out / "tuning.json").read_text().replace('"tests"', "")


def test_every_objective_gets_the_same_number_of_trials(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.1)
    plan = plan_of(tmp_path, "one_hot,label_smoothing,label_embedding,confidence_penalty", count=7)
    write_tuning(plan, made(plan))
    trials_of = {variant["name"]: len(variant["trials"]) for variant in about(plan)["variants"]}
    assert trials_of == {"one_hot": 7, "label_smoothing": 7, "label_embedding": 7, "confidence_penalty": 7}
    plan = plan_of(tmp_path / "own", "one_hot,label_smoothing", count=6, space=["objective"])
    assert [len(outcome.records) for outcome in made(plan)] == [0, 6]


def test_the_first_trial_is_the_objective_as_it_was_asked_for(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["objective"]["smoothing"])
    plan = plan_of(tmp_path, "label_smoothing:smoothing=0.0", count=5)
    (outcome,) = made(plan)
    assert outcome.best.trial.number == 0
    assert outcome.arguments == {}
    (variant,) = tuned_variants(plan, [outcome])
    assert variant.objective["smoothing"] == 0
    assert outcome.variant_text() == "label_smoothing:smoothing=0.0"


def test_a_trial_without_a_score_is_never_chosen_and_says_why(tmp_path):
    # A learning rate that no network survives.
    plan = plan_of(tmp_path, "one_hot", count=3, space=["optimizer.learning_rate=1e-3,1e30"])
    (outcome,) = made(plan)
    states = {record.trial.arguments.get("optimizer.learning_rate"): record for record in outcome.records}
    assert states[1e30].trial.state == "failed"
    assert "not finite" in states[1e30].message
    finished = [record.trial.score for record in outcome.records if record.trial.state == "finished"]
    assert outcome.best.trial.score == min(finished)
    assert outcome.best.trial.arguments.get("optimizer.learning_rate") != 1e30
    assert records(made(plan)) == records([outcome])


def test_equal_arguments_are_run_once(tmp_path, monkeypatch):
    runs = []
    faked(monkeypatch, lambda recipe: runs.append(recipe) or recipe["objective"]["rank"] / 10)
    space = ["objective.rank=1,2", "objective.temperature=2", "objective.embedding_learning_rate=1"]
    space += ["objective.output_weight=1", "objective"]
    plan = plan_of(tmp_path, "label_embedding", count=8, space=space)
    (outcome,) = made(plan)
    assert len(outcome.records) == 8
    assert len(runs) == 3  # as it was, and each of the two
    copies = [record for record in outcome.records if record.same_as is not None]
    assert len(copies) == 5
    assert {record.trial.score for record in copies} <= {0.1, 0.2}


def test_scores_are_means_over_the_seeds_of_a_trial_which_are_not_the_comparisons(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["seed"] / 10_000)
    plan = plan_of(tmp_path, count=2, seeds="3", taken_seeds=[0, 1, 1001])
    assert plan.seeds == [1000, 1002, 1003]
    (outcome,) = made(plan)
    assert outcome.records[0].trial.score == pytest.approx((0.1000 + 0.1002 + 0.1003) / 3)
    assert plan_of(tmp_path / "b", seeds="5,7").seeds == [5, 7]


# --------------------------------------------------------------------------------------- stopped and gone on with


class StoppedError(Exception):
    pass


def records(outcomes):
    return [[(record.trial, record.same_as) for record in outcome.records] for outcome in outcomes]


def test_a_tuning_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path, monkeypatch):
    def score(recipe):
        objective = recipe["objective"]
        return round(abs(objective.get("smoothing", objective.get("temperature", 0)) - 0.4) / 10, 5)

    faked(monkeypatch, score)
    objectives = "label_smoothing,label_embedding"
    whole = records(made(plan_of(tmp_path / "whole", objectives, count=9)))
    for stop_at in (1, 4, 11):
        plan = plan_of(tmp_path / str(stop_at), objectives, count=9)
        seen = []

        def stop(event, seen=seen, stop_at=stop_at):
            seen.append(event)
            if len(seen) == stop_at:
                raise StoppedError

        with pytest.raises(StoppedError):
            made(plan, observe=stop)
        again = []
        assert records(made(plan, observe=again.append)) == whole
        # Each of the 2 x 9 runs was made once: a stop comes after a run is finished.
        assert len(seen) + len(again) == 18
    assert records(made(plan_of(tmp_path / "4", objectives, count=9))) == whole


def test_more_trials_go_on_where_fewer_ended(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: abs(recipe["objective"]["smoothing"] - 0.6))
    whole = records(made(plan_of(tmp_path / "whole", count=11)))
    for count in (3, 6, 11):
        found = records(made(plan_of(tmp_path / "parts", count=count)))
    assert found == whole
    # And fewer look at the first ones alone.
    assert records(made(plan_of(tmp_path / "whole", count=4))) == [whole[0][:4]]


def test_without_its_journal_a_tuning_finds_its_runs_again(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: abs(recipe["objective"]["smoothing"] - 0.6))
    plan = plan_of(tmp_path, count=7)
    before = records(made(plan))
    (plan.out / JOURNAL).unlink()
    runs = []
    assert records(made(plan, observe=runs.append)) == before
    assert runs == []


@pytest.mark.parametrize(
    "change",
    [
        {"settings": ["epochs=2"]},
        {"settings": ["optimizer.learning_rate=0.5"]},
        {"space": ["objective.smoothing=0.1:0.2"]},
        {"seeds": "2"},
        {"pruning": "median"},
    ],
    ids=str,
)
def test_a_folder_of_another_tuning_is_refused_with_the_difference(tmp_path, monkeypatch, change):
    faked(monkeypatch, lambda recipe: 0.1)
    made(plan_of(tmp_path, count=1))
    with pytest.raises(RunFolderError) as refused:
        made(plan_of(tmp_path, count=1, **change))
    assert "another tuning" in str(refused.value)
    assert "--out" in str(refused.value)
    assert "here" in str(refused.value).splitlines()[1]


def test_a_tuning_of_the_objectives_own_arguments_is_refused_before_anything_is_added(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.1)
    objectives = "one_hot,label_smoothing"  # of which the first had no study
    before = records(made(plan_of(tmp_path, objectives, space=["objective"])))
    journal = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(RunFolderError) as refused:
        made(plan_of(tmp_path, objectives))
    heading, *lines = str(refused.value).splitlines()
    assert "another tuning of label_smoothing; choose another --out, or go on" in heading
    assert "by --space objective" in heading
    assert lines == [
        "  space optimizer.learning_rate: here not tuned, asked for '0.0001 to 0.01 (log)'",
        "  space optimizer.weight_decay: here not tuned, asked for '1e-06 to 0.01 (log)'",
    ]
    assert (tmp_path / JOURNAL).read_bytes() == journal
    assert records(made(plan_of(tmp_path, objectives, space=["objective"]))) == before


def test_other_data_are_refused(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: 0.1)
    plan = plan_of(tmp_path, count=1)
    made(plan)
    with pytest.raises(RunFolderError, match="content of the data"):
        run_tuning(plan, fingerprint="of other digits")


def test_a_line_that_a_kill_cut_short_is_forgotten(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: abs(recipe["objective"]["smoothing"] - 0.6))
    whole = records(made(plan_of(tmp_path / "whole", count=6)))
    plan = plan_of(tmp_path / "torn", count=6)
    made(plan)
    journal = plan.out / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])
    assert records(made(plan)) == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("{", "", 1),
        lambda text: "\n" + text,
        lambda text: text.replace('"op_code":0', '"op_code":4', 1),
        lambda text: text.replace('"arguments"', '"argument"'),
        lambda text: '["a list"]\n' + text,
        lambda text: "\x00\xff" * 30 + "\n" + text,
    ],
)
def test_a_damaged_journal_is_refused_with_the_way_out(tmp_path, monkeypatch, damage):
    faked(monkeypatch, lambda recipe: 0.1)
    plan = plan_of(tmp_path, count=2)
    made(plan)
    journal = plan.out / JOURNAL
    journal.write_text(damage(journal.read_text()))
    with pytest.raises(RunFolderError) as refused:
        made(plan)
    assert str(journal) in str(refused.value)
    assert "damaged" in str(refused.value)
    assert "take the file away" in str(refused.value)
    assert len(str(refused.value)) < 500


def test_runs_that_could_not_be_made_stay_open_and_are_tried_again(tmp_path, monkeypatch):
    calls = []

    def run_job(payload, observe, stop):
        calls.append(payload["folder"])
        if len(calls) == 2:
            raise MemoryError("no room")
        return fine(payload, observe, stop)

    faked(monkeypatch, lambda recipe: abs(recipe["objective"]["smoothing"] - 0.6))
    fine = trials.run_job
    monkeypatch.setattr(trials, "run_job", run_job)
    plan = plan_of(tmp_path / "a", count=6)
    outcomes, problems = run_tuning(plan, fingerprint="of the digits")
    assert list(problems) == ["label_smoothing trial 1"]
    assert "no room" in problems["label_smoothing trial 1"]
    assert len(calls) == 5  # the next round waits
    assert outcomes[0].records[1].trial.state == "open"
    again = records(made(plan))
    assert calls.count(calls[1]) == 2
    assert again == records(made(plan_of(tmp_path / "b", count=6)))


# ------------------------------------------------------------------------------------------------------- pruning


def journal_of(errors):
    return [{"epoch": epoch, "seconds": 1.0, "validation": {"error": error}} for epoch, error in enumerate(errors, 1)]


def test_a_run_is_given_up_at_the_first_epoch_that_is_above_its_limit():
    watch = Watch([float("inf"), 0.5, 0.4, 0.3], "error")
    found = []
    for line in journal_of([0.9, 0.5, 0.6, 0.2]):
        watch.see(line)
        found.append(watch.gives_up)
    # The lowest so far counts: 0.5 after the second epoch is not above 0.5, after the third it is above 0.4.
    assert found == [False, False, True, True]
    last = Watch([0.1], "error")
    last.see(journal_of([0.9])[0])
    assert not last.gives_up
    bleu = Watch([-0.2, -0.2], "bleu")
    bleu.see({"epoch": 1, "validation": {"bleu": 0.1}})
    assert bleu.gives_up


def test_limits_are_medians_of_the_lowest_errors_so_far_and_begin_after_a_quarter(tmp_path):
    plan = plan_of(tmp_path, settings=["epochs=8"], pruning="median")
    (tuned,) = plan.tuned
    curves = [[0.9, 0.8, 0.85, 0.3], [0.9, 0.6, 0.5, 0.5], [0.7, 0.7, 0.2, 0.9], [0.5, 0.4, 0.4, 0.4]]
    for number, errors in enumerate(curves):
        folder = plan.folder_of(tuned, number, 1000)
        folder.path.mkdir(parents=True)
        for line in journal_of(errors):
            folder.append_journal(line)
    before = [Trial(number, {}, {}, "finished", 0.5) for number in range(4)]
    limits = limits_of(plan, tuned, before)[1000]
    # The lowest so far after the second epoch: 0.8, 0.6, 0.7, 0.4; later on the runs that have ended early keep theirs.
    expected = [float("inf"), 0.65, 0.45, 0.35, 0.35, 0.35, 0.35, 0.35]
    assert limits == pytest.approx(expected)
    assert limits_of(plan, tuned, before[:3]) is None  # too few for a median
    assert limits_of(plan_of(tmp_path, settings=["epochs=8"]), tuned, before) is None  # not asked for


def test_runs_below_the_median_are_given_up_and_resumed_alike(tmp_path):
    settings = ["epochs=4", "optimizer.learning_rate=0.01"]
    plan = plan_of(tmp_path, count=8, settings=settings, pruning="median", space=["objective.smoothing=0.0:1.0"])
    (outcome,) = made(plan)
    states = [record.trial.state for record in outcome.records]
    assert states[:5] == ["finished"] * 5
    # What is chosen is a trial that was run to its end.
    assert outcome.best.trial.state == "finished"
    assert records(made(plan)) == records([outcome])
    given_up = [record for record in outcome.records if record.trial.state == "pruned"]
    for record in given_up:
        assert record.folders[0].state() == "unfinished"
        assert 1 <= len(record.folders[0].journal()) < 4


def test_a_worker_gives_up_by_its_limits_and_says_what_it_had_reached(tmp_path):
    plan = plan_of(tmp_path, settings=["epochs=5"])
    recipe = plan.recipe_of(plan.tuned[0], {}, 1000)
    payload = {"recipe": recipe.of_one_run(), "source": "a test", "folder": str(tmp_path / "run"), "device": "cpu"}
    payload |= {"measure": "error", "limits": [1.0, 0.0, 0.0, 0.0, 0.0]}
    result = trials.run_trial(payload, lambda progress: None, lambda: False)
    assert result["given_up"]
    assert len(RunFolder(tmp_path / "run").journal()) == 2
    assert result["validation"] == RunFolder(tmp_path / "run").journal()[1]["validation"]
    # Had it been killed before it could say so, it gives up again without another step.
    assert trials.run_trial(payload, lambda progress: None, lambda: False) == result
    # Asked to stop by others it is no run that was given up.
    with pytest.raises(InterruptedTraining):
        trials.run_trial(
            payload | {"folder": str(tmp_path / "other"), "limits": [1.0] * 5},
            lambda progress: None,
            lambda: True,
        )


# ------------------------------------------------------------------------------------------------- real runs, files


def test_what_is_written_runs_again_as_the_best_trial(tmp_path):
    plan = plan_of(tmp_path / "tuning", "label_smoothing,one_hot", count=2, settings=["objective=one_hot"])
    outcomes = made(plan)
    written = write_tuning(plan, outcomes)
    assert about(plan) == written
    best = outcomes[0].best
    recipe, _ = load_recipe(str(plan.out / "best" / "label_smoothing.yaml"))
    assert recipe.objective == recipe_with(plan.recipe, plan.tuned[0].variant, best.trial.arguments).objective
    assert recipe.data == plan.recipe.data
    lines = (plan.out / "trials.csv").read_text().splitlines()
    assert (
        lines[0]
        == "variant,trial,state,score,chosen,objective.smoothing,optimizer.learning_rate,optimizer.weight_decay"
    )
    assert len(lines) == 1 + 2 * 2
    text = written["variants"][0]["variant"]
    (pasted,) = variants_of(recipe_of(), text)
    assert pasted.objective == recipe.objective
    # A trial is an ordinary run, whose folder says what it reached.
    folder = best.folders[0]
    assert folder.result()["validation"]["error"] == best.trial.score
    assert yaml.safe_load((folder.path / "recipe.yaml").read_text())["seed"] == 1000


def test_settings_of_the_optimiser_go_into_variant_folder_and_recipe(tmp_path, monkeypatch):
    faked(monkeypatch, lambda recipe: recipe["optimizer"]["learning_rate"])
    plan = plan_of(tmp_path, "one_hot", count=5, space=["objective", "optimizer.learning_rate=1e-5:1e-4:log"])
    (outcome,) = made(plan)
    rate = outcome.arguments["optimizer.learning_rate"]
    assert rate < 1e-4
    (variant,) = tuned_variants(plan, [outcome])
    assert variant.settings["optimizer"]["learning_rate"] == rate
    assert variant.recipe_of(plan.recipe, 5).optimizer["learning_rate"] == rate
    assert variant.folder.startswith("one_hot-optimizer.learning_rate=")
    written = write_tuning(plan, [outcome])
    assert written["variants"][0]["settings"] == {"optimizer.learning_rate": rate}
    # Written as YAML reads it: 1e-05 would be a text there.
    assert load_recipe(str(plan.out / "best" / "one_hot.yaml"))[0].optimizer["learning_rate"] == rate


def test_the_journal_is_one_that_optuna_reads(tmp_path, monkeypatch):
    import optuna

    faked(monkeypatch, lambda recipe: 0.25)
    plan = plan_of(tmp_path, count=3)
    made(plan)
    backend = optuna.storages.journal.JournalFileBackend(str(plan.out / JOURNAL))
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="label_smoothing")
    assert [trial.value for trial in study.trials] == [0.25] * 3
    # The recipe's weight decay is 0, which no range by its logarithm holds.
    assert study.trials[0].params == {"objective.smoothing": 0.1, "optimizer.learning_rate": 0.001}


def test_trials_of_a_store_are_those_that_were_added(tmp_path):
    store = TrialStore(tmp_path / JOURNAL)
    study = store.study("some", {"a": 1}, maximise=False)
    point = {"objective.a": 0.5, "objective.weights.1": 0.1, "objective.weights.2": 0.2, "objective.kind": "y"}
    store.add(study, SPACE, {}, {})
    store.add(study, SPACE, point, {"objective.a": 0.5})
    store.settle(study, 0, "failed", None)
    store.settle(study, 1, "finished", 0.125)
    again = TrialStore(tmp_path / JOURNAL)
    found = again.trials(again.study("some", {"a": 1}, maximise=False))
    assert found == [Trial(0, {}, {}, "failed"), Trial(1, point, {"objective.a": 0.5}, "finished", 0.125)]


def test_data_without_validation_rows_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"data\.validation\.fraction"):
        plan_of(tmp_path, settings=["data.validation=null", "selection.by=last_epoch"])


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_numbers_of_trials_that_are_none_are_refused(tmp_path, count):
    with pytest.raises(RecipeError, match=f"--trials: must be from 1 to 10,000, got {count}"):
        plan_of(tmp_path, count=count)


@pytest.mark.parametrize(("device", "gpus"), [(None, ["0", "1"]), ("cpu", [])])
def test_trials_are_made_on_the_gpus_that_there_are(tmp_path, monkeypatch, device, gpus):
    told = []
    monkeypatch.setattr(trials, "run_jobs", lambda jobs, run, **how: (event for event in told.append(how) or ()))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run_tuning(plan_of(tmp_path, count=1), fingerprint="of the digits", jobs=3, device=device)
    assert told == [{"processes": 3, "gpus": gpus}]


def test_the_data_are_read_with_the_recipe(tmp_path):
    # The fingerprint that a tuning is held to is that of the rows which its runs train on.
    assert cached_data(plan_of(tmp_path).recipe).fingerprint() == cached_data(recipe_of()).fingerprint()
