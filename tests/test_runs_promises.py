"""What runs and comparisons promise: their own data, nothing dropped, nothing given that is ignored without a word."""

from __future__ import annotations

import sys
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


# ------------------------------------------------------------------------------------------ the data of a run


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


def test_default_folders_carry_the_name_of_the_data(here):
    succeed("compare", "--data", "second.jsonl", *ONE_RUN, *SHORT)
    succeed("train", "--data", "second.jsonl", "--objective", "one_hot", *SHORT)
    assert [path.name for path in Path("comparisons").iterdir()] == ["second-text-bag-small"]
    assert Path("runs/second-text-bag-small/one_hot/seed-0/result.json").is_file()


# ------------------------------------------------------------------------------------------ one run


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


def test_command_on_record_is_the_one_that_was_given(here, monkeypatch):
    asked = {"data": "first.csv", "objectives": "one_hot", "seeds": 1, "quiet": True}
    asked |= {"settings": {"epochs": 1, "batch_size": 10}}
    monkeypatch.setattr(sys, "argv", ["study.py", "--flavour", "plain"])
    command = labelembed.compare(**asked, out="out").run("one_hot", 0).environment["command"]
    assert command == ["python", "study.py", "--flavour", "plain"]
    succeed("train", "--data", "first.csv", "--out", "run", *SHORT)
    assert labelembed.Run.load("run").environment["command"][:3] == ["labelembed", "train", "--data"]


# ------------------------------------------------------------------------------------------ nothing given is ignored


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"track": "wanbd"}, "wandb"),
        ({"trials": 5}, "trials"),
        ({"device": "cuda:9"}, "cuda:9"),
    ],
)
def test_compare_from_python_refuses_what_it_would_ignore(given, said, here):
    with pytest.raises(labelembed.LabelEmbedError, match=said):
        labelembed.compare("digits-mlp", objectives="one_hot", seeds=1, settings={"epochs": 1}, out="out", **given)
    assert not Path("out").exists()


def test_tracker_is_named_by_one_word_and_one_that_cannot_start_costs_no_run(here, capsys):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")
    asked = {"data": "first.csv", "objectives": "one_hot", "seeds": 1, "out": "out"}
    asked |= {"settings": {"epochs": 1, "batch_size": 10}, "quiet": True}
    labelembed.compare(**asked)
    folder = Path("out/runs/one_hot/seed-1/tensorboard")
    folder.parent.mkdir()
    folder.touch()  # in the way
    found = labelembed.compare(**asked | {"seeds": 2}, track="tensorboard")
    assert [len(variant.runs) for variant in found.read.variants] == [2]
    labelembed.compare(**asked | {"seeds": 3}, track="tensorboard")
    assert list(folder.parents[1].glob("seed-2/tensorboard/*"))
