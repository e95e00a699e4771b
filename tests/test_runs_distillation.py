"""The objective `distillation`: a run, or the runs of a comparison, teach; their predictions lie in the run folder."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import labelembed
from labelembed.lab.runs.saved_run import SavedRun
from tests.made_cli import SMALL, call, succeed
from tests.made_data import write_idx_folder
from tests.made_in_process import make_runs_here
from tests.made_training import small_recipe, stop_after, train

NAMES = ["one_hot", "label_smoothing"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison of two variants and two seeds, and the words that train on its data."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_runs_here(patch)
        write_idx_folder(folder / "mnist")
        words = ["mnist-mlp", "--data", str(folder / "mnist"), *SMALL, "--set", "epochs=2"]
        succeed("compare", *words, "--out", "out", "--objectives", ",".join(NAMES), "--seeds", 2)
    return folder / "out", words


def best_runs(comparison):
    """Returns the runs of the variant with the lowest mean validation error."""
    read = labelembed.Comparison.load(comparison)
    errors = {name: sum(read.run(name, seed).result["validation"]["error"] for seed in (0, 1)) for name in NAMES}
    best = min(NAMES, key=lambda name: errors[name])
    return [SavedRun.load(comparison / "runs" / best / f"seed-{seed}") for seed in (0, 1)]


def table(folder):
    return load_file(folder / "teacher.safetensors")["logits"]


def test_student_of_a_comparison_learns_the_mean_prediction_of_its_best_runs(comparison, tmp_path):
    folder, words = comparison
    succeed("train", *words, "--objective", f"distillation:teacher={folder}", "--out", tmp_path / "student")
    runs = best_runs(folder)
    inputs = runs[0].read_data().train.inputs
    mean = torch.stack([run.network.eval().logits(inputs).softmax(1) for run in runs]).mean(0)
    torch.testing.assert_close(table(tmp_path / "student").softmax(1), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("nowhere", "no such folder"),
        ("digits", "was trained on inputs [1, 8, 8]"),
        ("stopped", "has not finished"),
    ],
)
def test_teacher_that_does_not_fit_is_refused_before_there_is_a_folder(teacher, message, comparison, tmp_path):
    if teacher == "digits":
        train(small_recipe(objective="one_hot", epochs=1), tmp_path / "digits")
    if teacher == "stopped":
        stop_after(small_recipe(objective="one_hot"), tmp_path / "stopped", 3)
    objective = f"distillation:teacher={tmp_path / teacher}"
    called = call("train", *comparison[1], "--objective", objective, "--out", tmp_path / "student")
    assert called.code == 2
    assert "objective.teacher" in called.err
    assert message in called.err
    assert not (tmp_path / "student").exists()
