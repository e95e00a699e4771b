"""A comparison in a folder that holds one: variants and seeds are added, finished runs reused, others refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import labelembed
from labelembed.lab.runs import pools
from labelembed.lab.runs.comparison import _epochs_made
from labelembed.lab.runs.pools import default_jobs, visible_gpus
from labelembed.lab.training.reporter import Progress
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_data import write_idx_folder
from tests.made_in_process import HerePool, make_runs_here


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A comparison of one epoch, whose runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    write_idx_folder(tmp_path / "mnist")
    return ["compare", "mnist-mlp", "--data", "mnist", *SMALL, "--set", "epochs=1", "--out", "out", "--json"]


def test_variants_are_added_and_those_before_stay_in_table_and_page(words, tmp_path):
    succeed(*words, "--objectives", "one_hot,label_smoothing:smoothing=0.2", "--seeds", 2)
    before = listing(tmp_path / "out" / "runs")
    called = succeed(*words, "--objectives", "label_smoothing:smoothing=0.2,confidence_penalty", "--seeds", 2)
    names = ["one_hot", "label_smoothing smoothing=0.2", "confidence_penalty"]
    assert [(row["variant"], row["n"]) for row in called.json] == [(name, 2) for name in names]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(title in page for title in ("cross entropy", "label smoothing", "confidence penalty"))
    after = listing(tmp_path / "out" / "runs")
    assert {name: after[name] for name in before} == before  # not one file was written again


def test_seeds_are_added_and_no_run_is_missing_that_nobody_asked_for(words, tmp_path):
    succeed(*words, "--objectives", "one_hot,label_smoothing", "--seeds", 1)
    rows = succeed(*words, "--objectives", "label_smoothing", "--seeds", "3,0").json
    found = [(row["variant"], row["n"], row["failed_seeds"]) for row in rows]
    assert found == [("one_hot", 1, ""), ("label_smoothing", 2, "")]
    read = labelembed.Comparison.load(tmp_path / "out").read
    assert [(sorted(one.runs), one.missing) for one in read.variants] == [([0], []), ([0, 3], [])]
    again = succeed(*words, "--objectives", "one_hot,label_smoothing", "--seeds", "0,3").json
    assert [row["n"] for row in again] == [2, 2]


@pytest.mark.parametrize("objective", ["one_hot", "confidence_penalty"])
def test_another_recipe_is_refused_with_the_difference(words, objective, tmp_path):
    succeed(*words, "--objectives", "one_hot", "--seeds", 1)
    before = listing(tmp_path)
    other = [*words, "--objectives", objective, "--set", "epochs=3", "--set", "optimizer.learning_rate=0.5"]
    called = call(*other, "--seeds", 1)
    assert called.code == 2
    assert called.err.startswith("error: out/runs/one_hot/seed-0: holds the run of another recipe")
    assert "epochs: here 1, asked for 3" in called.err
    assert "optimizer.learning_rate: here 0.001, asked for 0.5" in called.err
    assert listing(tmp_path) == before
    mine = shutil.copytree(Path("out/runs/one_hot"), Path("out/runs/mine/one_hot"))  # of `train`, say
    rows = succeed(*other, "--seeds", 1, "--overwrite").json
    assert (mine / "seed-0" / "result.json").is_file()
    shutil.rmtree(mine.parent)
    assert [(row["variant"], row["n"]) for row in rows] == [(objective, 1)]
    assert {path.parent.parent.name for path in tmp_path.rglob("result.json")} == {objective}


def test_overwrite_keeps_the_comparison_where_the_new_one_cannot_begin(words, tmp_path):
    succeed(*words, "--objectives", "one_hot", "--seeds", 1)
    before = listing(tmp_path)
    assert call(*words, "--overwrite", "--objectives", "one_hot", "--set", "data.train_examples=999").code == 2
    assert call(*words, "--overwrite", "--objectives", "label_embedding:embedding=no").code == 2
    assert listing(tmp_path) == before


def test_a_failure_of_a_run_that_never_began_stays_noted_beside_new_variants(words, monkeypatch):
    class Dying(HerePool):
        def poll(self, seconds):
            return [(job, "its process died twice") for job in [self.waiting.pop(0)]]

    with monkeypatch.context() as patch:
        make_runs_here(patch, Dying)
        assert call(*words, "--objectives", "one_hot", "--seeds", 1).code == 1
    called = call(*words, "--objectives", "confidence_penalty", "--seeds", 1)
    assert (called.code, "one_hot seed 0: its process died twice" in called.err) == (1, True)
    assert [row["failed_seeds"] for row in called.json] == ["0", ""]
    assert [row["n"] for row in succeed(*words, "--objectives", "one_hot", "--seeds", 1).json] == [1, 1]


def test_a_run_of_another_process_says_how_far_it_is_until_it_ends(tmp_path, monkeypatch):
    def run(recipe, folder, *, options, reporter):
        reporter.progress(Progress(2, 4, 5, 10, None))
        assert _epochs_made(RunFolder(folder)) == 2.5

    monkeypatch.setattr("labelembed.lab.runs.run.run_recipe", run)
    elsewhere, folder = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    (folder / pools.PROGRESS_FILE).symlink_to(elsewhere)  # of a folder from somebody else
    assert pools.attempt(pools.Job("one_hot seed 0", None, folder)) == ""
    assert (list(folder.iterdir()), _epochs_made(RunFolder(folder)), elsewhere.exists()) == ([], 0, False)


def test_by_default_one_run_a_gpu_is_made_at_a_time(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pools.os, "sched_getaffinity", lambda process: range(16), raising=False)
    assert (visible_gpus(None), default_jobs(None)) == (["0", "1"], 2)
    assert (visible_gpus("cpu"), default_jobs("cpu")) == ([], 16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")  # of those that this process sees
    assert visible_gpus(None) == ["3", "GPU-5f"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (visible_gpus(None), default_jobs(None)) == ([], 16)
