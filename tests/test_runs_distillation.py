"""`labelembed distill`: one network learns what the runs of a comparison predict together."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import labelembed
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.stored import stored_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_data import write_idx_folder
from tests.made_in_process import make_runs_here

NAMES = ["one_hot", "label_smoothing"]
STUDENT = "distilled from 2 label_smoothing"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A comparison of two epochs, two variants and two seeds, made once."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_runs_here(patch)
        write_idx_folder(folder / "mnist")
        words = ["compare", "mnist-mlp", "--data", str(folder / "mnist"), *SMALL, "--set", "epochs=2", "--out", "out"]
        succeed(*words, "--objectives", ",".join(NAMES), "--seeds", 2)
    return folder / "out"


@pytest.fixture
def comparison(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def described(comparison):
    return json.loads((comparison / "comparison.json").read_text())


def test_students_become_a_variant_and_learn_the_mean_prediction(comparison):
    before = listing(comparison / "runs")
    called = succeed("distill", comparison, "--variant", "label_smoothing", "--json")
    assert [(row["variant"], row["n"]) for row in called.json] == [(name, 2) for name in (*NAMES, STUDENT)]
    assert "teachers: 2 runs of label_smoothing" in called.err
    assert f"{STUDENT}: the 2 runs of label_smoothing that taught it took" in (comparison / "report.html").read_text()
    after = listing(comparison / "runs")
    assert {name: after[name] for name in before} == before
    runs = [SavedRun.load(comparison / "runs" / "label_smoothing" / f"seed-{seed}") for seed in (0, 1)]
    student = comparison / "runs" / "distilled-2-label_smoothing" / "seed-1"
    table = load_file(student / "teacher.safetensors")["logits"]
    recipe = labelembed.Run.load(student).recipe
    assert (recipe["objective"]["teacher_weight"], recipe["objective"]["uniform_weight"]) == (0.7, 0.15)
    inputs = build_data(stored_recipe(RunFolder(student))).train.inputs
    mean = torch.stack([run.network.objective.logits(run.network.hidden(inputs)).softmax(1) for run in runs]).mean(0)
    torch.testing.assert_close(table.softmax(1), mean, rtol=1e-5, atol=1e-6)


def test_again_reuses_the_students_and_names_no_time(comparison):
    succeed("distill", comparison, "--variant", "label_smoothing", "-q")
    before = listing(comparison / "runs")
    called = succeed("distill", comparison, "--variant", "label_smoothing")
    assert "2 of 2 runs reused" in called.err
    assert "teachers:" not in called.err
    assert listing(comparison / "runs") == before


def test_without_a_name_the_lowest_validation_error_teaches_and_no_student_does(comparison):
    read = labelembed.Comparison.load(comparison)
    errors = {name: sum(read.run(name, seed).result["validation"]["error"] for seed in (0, 1)) for name in NAMES}
    best = min(NAMES, key=lambda name: errors[name])
    found = labelembed.distill(comparison, quiet=True)
    assert found.variants[-1] == f"distilled from 2 {best}"
    again = labelembed.distill(comparison, settings={"objective.teacher_weight": 0.5}, quiet=True)
    assert again.variants[-1] == f"distilled from 2 {best} teacher_weight=0.5"


def test_the_table_follows_the_arguments_of_the_objective(comparison):
    labelembed.distill(comparison, variant="one_hot", quiet=True)
    found = labelembed.distill(comparison, variant="one_hot", settings={"objective.top_k": 3}, quiet=True)
    assert found.variants[-1] == "distilled from 2 one_hot top_k=3"


def test_a_comparison_keeps_its_tuning(comparison):
    about = described(comparison)
    tuning = {"trials": 2, "variants": []}
    (comparison / "comparison.json").write_text(json.dumps(about | {"tuning": tuning}))
    succeed("distill", comparison, "--variant", "label_smoothing")
    assert described(comparison)["tuning"] == tuning
    assert [variant["name"] for variant in described(comparison)["variants"]] == [*NAMES, STUDENT]


def test_teachers_that_underfit_are_named_before_the_students_begin(comparison):
    # two epochs of a made data set: nobody has learned it by heart
    assert "warning: the teachers still underfit" in succeed("distill", comparison, "--variant", "one_hot").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variant", "label_smooting"], "'label_smooting' is none of the variants (did you mean 'label_smoothing'?)"),
        (["--set", "epochs=3"], "epochs: the students have the recipe of their teachers"),
        (["--set", "objective.teacher_weigt=1"], "teacher_weight"),
        (["--set", "objective.teacher_weight=0.9"], "uniform_weight: must be in [0, 1 - teacher_weight], got 0.15"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(comparison, words, message):
    before = listing(comparison)
    called = call("distill", comparison, *words)
    assert called.code == 2
    assert message in called.err
    assert listing(comparison) == before


def test_unfinished_runs_are_named_and_left_out_when_asked(comparison):
    (comparison / "runs" / "label_smoothing" / "seed-1" / "result.json").unlink()
    called = call("distill", comparison, "--variant", "label_smoothing", "--finished-only")
    assert called.code == 2
    assert "fewer than two runs of 'label_smoothing' have finished" in called.err
    shutil.copytree(
        comparison / "runs" / "label_smoothing" / "seed-0", comparison / "runs" / "label_smoothing" / "seed-7"
    )
    (comparison / "comparison.json").write_text(json.dumps(described(comparison) | {"seeds": [0, 1, 7]}))
    called = call("distill", comparison, "--variant", "label_smoothing")
    assert called.code == 2
    assert "not finished: label_smoothing seed 1 (unfinished)" in called.err
    assert "--finished-only" in called.err
    called = succeed("distill", comparison, "--variant", "label_smoothing", "--finished-only", "--json")
    assert [row["n"] for row in called.json if row["variant"] == STUDENT] == [2]


def test_what_is_no_comparison_is_refused(tmp_path):
    called = call("distill", tmp_path / "nowhere")
    assert called.code == 2
    assert "nowhere" in called.err
