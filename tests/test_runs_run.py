"""A run folder holds the run of its own data, and a run that patience ended can go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import labelembed
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_data import write_idx_folder
from tests.made_in_process import make_runs_here
from tests.made_texts import reviews, write_csv, write_json_lines

SHORT = ["--epochs", 1, "--set", "batch_size=10", "--quiet"]
ONE_RUN = ["--objectives", "one_hot", "--seeds", 1]
OTHER = ("neg", "pos")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with two data sets that differ in their labels; runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    write_csv(tmp_path / "first.csv", reviews(60), "review", "stars")
    write_json_lines(tmp_path / "second.jsonl", reviews(60, labels=OTHER), "review", "stars")
    return tmp_path


@pytest.mark.parametrize("words", [["train"], ["compare", *ONE_RUN]], ids=lambda words: words[0])
def test_finished_runs_stay_those_of_their_data_and_of_no_other(words, here):
    words = [*words, "--out", "out", *SHORT]
    succeed(*words, "--data", "first.csv")
    before = listing(here / "out")
    edited = [reviews(60, labels=OTHER), [(text.replace("the", "that"), label) for text, label in reviews(60)]]
    content = Path("first.csv").read_bytes()
    for other, rows in [("second.jsonl", None), *(("first.csv", rows) for rows in edited)]:
        if rows is not None:  # edited in place
            write_csv(here / other, rows, "review", "stars")
        called = call(*words, "--data", other)
        assert (called.code, called.out, "other data" in called.err) == (2, "", True)
        assert listing(here / "out") == before
    Path("moved.csv").write_bytes(content)
    results = {path: path.stat().st_mtime_ns for path in (here / "out").rglob("result.json")}
    succeed(*words, "--data", "moved.csv")
    assert {path: path.stat().st_mtime_ns for path in (here / "out").rglob("result.json")} == results


def test_run_that_patience_ended_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx_folder(tmp_path / "mnist")
    words = ["mnist-mlp", "--data", "mnist", "--objective", "one_hot", *SMALL, "--set", "optimizer.name=sgd"]
    words += ["--lr", 5, "--set", "selection.by=validation_nll"]
    ended = succeed("train", *words, "--epochs", 8, "--set", "selection.patience=2", "--out", "run", "--json").json
    assert ended["epochs"] == ended["selected_epoch"] + 2 < 8
    assert succeed("resume", "run", "--epochs", 7, "--quiet", "--json").json["epochs"] > ended["epochs"]
    succeed("resume", "run", "--epochs", 8, "--set", "selection.patience=8", "--quiet")
    succeed("train", *words, "--epochs", 8, "--out", "whole")
    losses = [labelembed.Run.load(folder).table()["train_total"].tolist() for folder in ("run", "whole")]
    assert losses[0] == losses[1]
    # Of a run with all its epochs another rate would change the recipe and nothing else.
    called, before = call("resume", "run", "--set", "optimizer.learning_rate=0.5"), listing(tmp_path / "run")
    assert (called.code, "9 or more" in called.err, listing(tmp_path / "run")) == (2, True, before)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert "the run starts over" in succeed("resume", "run", "--epochs", 9, "--quiet").err
