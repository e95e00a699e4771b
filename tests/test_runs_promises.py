"""What runs and comparisons promise: their own data, nothing dropped, nothing given that is ignored without a word."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

import labelembed
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_corpus import write_corpus
from tests.made_data import write_idx_folder
from tests.made_in_process import make_runs_here
from tests.made_texts import reviews, write_csv, write_json_lines

SHORT = ["--epochs", 1, "--set", "batch_size=10", "--quiet"]
ONE_RUN = ["--objectives", "one_hot", "--seeds", 1]
OTHER = ("neg", "pos")
SMALL_LSTM = ["--set", "model={name: attention_lstm, width: 12, embedding_size: 8}", "--epochs", 2, "--batch-size", 8]


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
def test_finished_runs_are_not_given_out_for_those_of_other_data(words, here):
    words = [*words, "--out", "out", *SHORT]
    succeed(*words, "--data", "first.csv")
    before = listing(here / "out")
    edited = [reviews(60, labels=OTHER), [(text.replace("the", "that"), label) for text, label in reviews(60)]]
    for other, rows in [("second.jsonl", None), *(("first.csv", rows) for rows in edited)]:
        if rows is not None:  # edited in place
            write_csv(here / other, rows, "review", "stars")
        called = call(*words, "--data", other)
        assert (called.code, called.out) == (2, "")
        assert "other data" in called.err
        assert listing(here / "out") == before


@pytest.mark.parametrize("words", [["train"], ["compare", *ONE_RUN]], ids=lambda words: words[0])
def test_data_that_moved_or_were_only_touched_are_the_same(words, here):
    words = [*words, "--out", "out", *SHORT]
    succeed(*words, "--data", "first.csv")
    results = {path: path.stat().st_mtime_ns for path in (here / "out").rglob("result.json")}
    os.utime(here / "first.csv")
    succeed(*words, "--data", "first.csv")
    (here / "first.csv").rename(here / "moved.csv")
    succeed(*words, "--data", "moved.csv")
    assert {path: path.stat().st_mtime_ns for path in (here / "out").rglob("result.json")} == results


def test_default_folders_carry_the_name_of_the_data(here):
    succeed("compare", "--data", "first.csv", *ONE_RUN, *SHORT)
    succeed("compare", "--data", "second.jsonl", *ONE_RUN, *SHORT)
    succeed("train", "--data", "second.jsonl", "--objective", "one_hot", *SHORT)
    assert {path.name for path in Path("comparisons").iterdir()} == {"first-text-bag-small", "second-text-bag-small"}
    assert Path("runs/second-text-bag-small/one_hot/seed-0/result.json").is_file()
    write_idx_folder(here / "mnist")
    succeed("train", "mnist-mlp", "--data", "mnist", "--objective", "one_hot", *SMALL)
    assert Path("runs/mnist-mlp/one_hot/seed-0/result.json").is_file()  # the recipe names them already


# ------------------------------------------------------------------------------------------ one run


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """The words that train on 20 pictures with 2 steps an epoch."""
    monkeypatch.chdir(tmp_path)
    write_idx_folder(tmp_path / "mnist")
    return ["mnist-mlp", "--data", "mnist", "--objective", "one_hot", *SMALL, "--set", "optimizer.name=sgd"]


def test_run_that_patience_ended_goes_on_where_it_stopped(mnist):
    words = [*mnist, "--lr", 5, "--set", "selection.by=validation_nll"]
    ended = succeed("train", *words, "--epochs", 8, "--set", "selection.patience=2", "--out", "run", "--json").json
    assert ended["epochs"] == ended["selected_epoch"] + 2 < 8
    assert succeed("resume", "run", "--epochs", 7, "--quiet", "--json").json["epochs"] > ended["epochs"]
    succeed("resume", "run", "--epochs", 8, "--set", "selection.patience=8", "--quiet")
    succeed("train", *words, "--epochs", 8, "--out", "whole")
    losses = [labelembed.Run.load(folder).table()["train_total"].tolist() for folder in ("run", "whole")]
    assert losses[0] == losses[1]


def test_history_says_the_learning_rate_that_its_epoch_had(mnist):
    steps = ["--set", "schedule={name: step, epochs: [1, 3], factor: 0.1}"]
    succeed("train", *mnist, "--lr", 0.5, "--epochs", 4, *steps, "--out", "run")
    assert labelembed.Run.load("run").table()["learning_rate"].tolist() == pytest.approx([0.5, 0.05, 0.05, 0.005])


def test_data_that_cannot_be_read_any_more_are_named_and_the_run_can_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*("translation-lstm", "--data", write_corpus(tmp_path).folder, "--out", "run", "--quiet"), *SMALL_LSTM]
    pread, calls = os.pread, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 100:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", failing)
    called = call("train", *words)
    assert called.code in (1, 2)
    assert "corpus/train-" in called.err
    assert "cannot be read" in called.err
    assert "save" not in called.err
    assert succeed("resume", "run", "--quiet", "--json").json["epochs"] == 2


def test_log_of_a_run_never_leads_out_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outside, folder = tmp_path / "outside.txt", tmp_path / "out/runs/one_hot/seed-0"
    outside.write_text("of somebody else")
    folder.mkdir(parents=True)
    (folder / "worker.log").symlink_to(outside)
    words = ["compare", "digits-mlp", *ONE_RUN, "--epochs", 1, "--jobs", 1, "--out", "out", "--quiet"]
    called = call(*words)
    assert outside.read_text() == "of somebody else"
    assert "link" in called.err


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
        ({"track": ["tensorboard", "comet"]}, "comet"),
        ({"trials": 5}, "trials"),
        ({"device": "cuda:9"}, "cuda:9"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_compare_from_python_refuses_what_it_would_ignore(given, said, here):
    with pytest.raises(labelembed.LabelEmbedError, match=said):
        labelembed.compare("digits-mlp", objectives="one_hot", seeds=1, settings={"epochs": 1}, out="out", **given)
    assert not Path("out").exists()


def test_tracker_is_named_by_one_word_and_one_that_cannot_start_costs_no_report(here, capsys):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")
    asked = {"data": "first.csv", "objectives": "one_hot", "seeds": 1, "out": "out"}
    asked |= {"settings": {"epochs": 1, "batch_size": 10}, "quiet": True}
    labelembed.compare(**asked)
    folder = Path("out/runs/one_hot/seed-1/tensorboard")
    folder.parent.mkdir()
    folder.touch()  # in the way
    found = labelembed.compare(**asked | {"seeds": 2}, track="tensorboard")
    assert [len(variant.runs) for variant in found.read.variants] == [1]
    folder.unlink()
    labelembed.compare(**asked | {"seeds": 2}, track="tensorboard")
    assert list(folder.iterdir())
