"""R7: runs that are killed cost nothing but themselves, are told with their last words, and alone are made again."""

from __future__ import annotations

import csv
import json
import os
import time

import pytest

from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.runs.comparison import _settings
from labelembed.lab.runs.pools import LOG_FILE, Job, LocalPool
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_failing_jobs import HARMS
from tests.made_training import contents, differences, fork_server, train
from tests.reliability.figures import sized

SETTINGS = {"data.train_examples": 190, "model.hidden_sizes": [12], "batch_size": 40, "epochs": 3}
SETTINGS |= {"checkpoints": {"minimum_seconds": 0}}
SEEDS = sized(short=4, full=8)
PATIENCE_SECONDS = 100.0  # within which everything here has come to its end, on a machine with much else to do


@pytest.fixture(autouse=True)
def harm():
    """Harm comes to the runs of comparisons that ask for it."""
    fork_server()


def words(out, objectives, seeds):
    settings = [word for setting in _settings(SETTINGS) for word in ("--set", setting)]
    rest = ["--objectives", objectives, "--seeds", seeds, "--out", out, "--jobs", 2, "--device", "cpu"]
    return ["compare", "digits-mlp", *settings, *rest, "--quiet"]


TWICE = "its process died twice "
OWN_FAULT = "RuntimeError: the job's own error"
# What happens to runs and how often, how they are told then, and what else the message says.
LOST = {
    "one_hot/seed-1": (["killed", 2], TWICE + "(Killed; is there enough memory?)", "the last word"),
    "label_smoothing/seed-2": (["killed", 2], TWICE, "the last word"),
    "label_embedding/seed-0": (["raises", 1], OWN_FAULT, OWN_FAULT),
    "label_embedding/seed-1": (["a crash", 2], TWICE + "(Segmentation fault", LOG_FILE),
    "label_embedding/seed-2": (["ended", 2], TWICE + "(exit code 7)", "the last word"),
}
ONCE = {"one_hot/seed-0": ["killed", 1], "label_embedding/seed-3": ["killed", 1]}


def test_lost_runs_of_a_comparison_cost_themselves_alone_and_are_told(tmp_path, figure):
    out, objectives = tmp_path / "comparison", "one_hot,label_smoothing,label_embedding"
    out.mkdir()
    (out / HARMS).write_text(json.dumps({run: harm for run, (harm, *_) in LOST.items()} | ONCE))
    called = call(*words(out, objectives, SEEDS))
    assert called.code == 1
    folders = [RunFolder(path.parent) for path in out.rglob("result.json")]
    results = {one.path: (one.path / "result.json").read_bytes() for one in folders if one.state() == "finished"}
    figure.count("results kept", len(results), 3 * SEEDS - len(LOST))
    # Killed once, a run goes on from its checkpoint; one that raises is not made again.
    attempts = {run: (out / f"attempts-{run.replace('/', '-')}").read_text() for run in (*LOST, *ONCE)}
    assert attempts == dict.fromkeys(attempts, "xx") | {"label_embedding/seed-0": "x"}
    with (out / "runs.csv").open(newline="") as file:
        lines = {f"{line['variant']}/seed-{line['seed']}": line for line in csv.DictReader(file)}
    told = 0
    for run, (_, reason, end) in LOST.items():
        messages = [lines[run]["message"], RunFolder(out / "runs" / run).result()["message"]]
        messages += [line for line in called.err.splitlines() if line.startswith(run.replace("/seed-", " seed "))]
        told += sum(reason in text and end in text for text in messages)
        assert lines[run]["status"] == "failed"
    figure.count("places that tell of a lost run with its last words", told, 3 * len(LOST))
    assert "in _harm" in (out / "runs" / "label_embedding/seed-0" / LOG_FILE).read_text()  # where it was raised

    again = call(*words(out, objectives, SEEDS))
    assert again.code == 0, again.err
    assert {folder: (folder / "result.json").read_bytes() for folder in results} == results
    figure.count("runs made again, the lost ones alone", len([*out.rglob("result.json")]) - len(results), len(LOST))
    # And they end as runs to which nothing happened, those too that were killed once.
    for run in (*LOST, *ONCE):
        folder = RunFolder(out / "runs" / run)
        train(stored_recipe(folder), tmp_path / "here" / run)
        assert differences(contents(folder.path), contents(tmp_path / "here" / run)) == []


# ---- processes: how they begin, die, are told to leave and are left alone


@pytest.mark.parametrize("gpus", [["4", "GPU-7"], []])
def test_each_run_has_a_process_a_thread_and_a_gpu_of_its_own(gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", "here")  # the fork server is older than this
    pool, errors, until = LocalPool(2, gpus=gpus), {}, time.monotonic() + PATIENCE_SECONDS
    for name in "abcde":
        (tmp_path / name).mkdir()
        pool.submit(Job(name, {"do": "work"}, tmp_path / name))
    while len(errors) < 5:
        assert time.monotonic() < until
        errors |= {job.name: error for job, error in pool.poll(1.0)}
    assert errors == dict.fromkeys("abcde", "")
    facts = [json.loads((tmp_path / name / "facts.json").read_text()) for name in "abcde"]
    assert len({one["pid"] for one in facts} - {os.getpid()}) == 5
    assert {(one["threads"], one["LABELEMBED_CACHE"]) for one in facts} == {(1, "here")}
    assert {one["CUDA_VISIBLE_DEVICES"] for one in facts} == set(gpus or [os.environ.get("CUDA_VISIBLE_DEVICES")])
