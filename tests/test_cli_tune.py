"""`tune` and `compare --tuned` on the command line: what they print, leave, refuse, and how they are stopped."""

from __future__ import annotations

import json
import signal
import sys
from types import SimpleNamespace

import pytest
import yaml

from labelembed.lab.report import load_comparison, verdict, write_report
from labelembed.lab.report.settings import tuning_entries, tuning_statement
from tests.made_cli import call, succeed
from tests.made_in_process import make_runs_here, run_jobs_here, sqlite_that_does_not_wait

pytest.importorskip("optuna", reason="the extra `tune` (optuna) is not installed")

SMALL = ["--set", "model.hidden_sizes=[8]", "--set", "epochs=1", "--set", "data.train_examples=200"]
SMALL += ["--set", "batch_size=200", "--device", "cpu", "-q"]
ALIKE = ["--tuned", "--objectives", "label_smoothing,label_smoothing:smoothing=0.4"]
TWO = ["--objectives", "one_hot,label_smoothing"]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Makes the runs in this process and counts them; `stop_after` sends Ctrl-C when so many are done."""
    monkeypatch.chdir(tmp_path)
    jobs_made, wishes = [], {"stop_after": None}

    def run_here(jobs, run, *, processes, gpus):
        for event in run_jobs_here(jobs, run):
            jobs_made.append(event.job)
            yield event
            if len(jobs_made) == wishes["stop_after"]:
                signal.raise_signal(signal.SIGINT)

    make_runs_here(monkeypatch, run_here)
    with sqlite_that_does_not_wait():
        yield jobs_made, wishes


def test_tune_prints_a_table_and_what_can_be_pasted(made):
    tune = ["tune", "digits-mlp", "--trials", 2, "--space", "objective", *TWO, *SMALL]
    shown = succeed(*tune).out
    assert "one_hot: nothing to tune" in shown
    assert "label_smoothing: 2 trials (seed 1000) over smoothing 0.02 to 0.9" in shown
    assert "as it was" in shown
    (best,) = [line.removeprefix("  best: ") for line in shown.splitlines() if line.startswith("  best: ")]
    about = succeed(*tune, "--json").json
    assert len(made[0]) == 2  # the second call has made none
    assert about["variants"][1]["variant"] == best
    assert about["seeds"] == [1000]
    assert {trial["state"] for trial in about["variants"][1]["trials"]} == {"finished"}
    assert succeed("compare", "digits-mlp", "--objectives", f"one_hot,{best}", "--seeds", 1, *SMALL).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--objectives", "label_smothing"], "did you mean 'label_smoothing'"),
        (["--trials", "0"], "--trials: must be from 1 to 10,000, got 0"),
        (["--space", "objective.smoothing=0:3"], "must be in [0, 1], got 3"),
        (["--space", "data.path=a,b"], "only keys of objective, optimizer, schedule"),
        (["--seeds", "none"], "--seeds"),
        (["--jobs", "2", "--cluster", "tcp://nowhere:1"], "--jobs: goes with one machine"),
        (["--set", "data.validation=null", "--set", "selection.by=last_epoch"], "needs a validation set"),
    ],
)
def test_what_cannot_be_tuned_is_refused_and_nothing_written(made, tmp_path, words, said):
    called = call("tune", "digits-mlp", *TWO, *SMALL, *words)
    assert called.code == 2
    assert said in called.err
    assert "Traceback" not in called.err
    assert list(tmp_path.iterdir()) == []


def test_another_recipes_folder_and_damaged_studies_are_refused(made, tmp_path):
    tune = ["tune", "digits-mlp", "--trials", 1, *TWO, *SMALL, "--out", "t"]
    succeed(*tune)
    called = call(*tune, "--set", "batch_size=100")
    assert called.code == 2
    assert "batch_size: here 200, asked for 100" in called.err
    (tmp_path / "t" / "optuna.db").write_text("no data base")
    called = call(*tune)
    assert called.code == 2
    assert "optuna.db: cannot be read or written" in called.err
    assert len(called.err.splitlines()) <= 10
    for made_folder, name in (("r", "recipe.yaml"), ("c", "comparison.json")):
        (tmp_path / made_folder).mkdir()
        (tmp_path / made_folder / name).write_text("{}")
        called = call(*tune, "--out", made_folder)
        assert called.code == 2
        assert "choose another folder with --out" in called.err


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(made, tmp_path):
    jobs, wishes = made
    tune = ["tune", "digits-mlp", "--trials", 5, *TWO, *SMALL, "--out", "t"]
    whole = succeed(*tune[:-1], "whole", "--json").json
    jobs.clear()
    wishes["stop_after"] = 3
    called = call(*tune)
    assert called.code == 130
    assert "finished runs are kept" in called.err
    assert "--out t" in called.err
    wishes["stop_after"] = None
    again = succeed(*tune, "--json").json
    assert len(jobs) == 2 * 5
    assert again == whole


def test_a_tuning_without_any_score_fails_with_the_reason(made):
    rate = ["--space", "optimizer.learning_rate=1e30", "--set", "optimizer.learning_rate=1e30"]
    called = call("tune", "digits-mlp", "--objectives", "one_hot", "--trials", 2, *rate, *SMALL)
    assert called.code == 1
    assert "no trial has a score" in called.err
    assert "not finite" in called.err


def test_a_tuned_comparison_gives_everybody_the_same_trials_and_says_so(made, tmp_path):
    objectives = ["--objectives", "one_hot,label_smoothing:smoothing=0.3", "--baseline", "label_smoothing"]
    how = ["--trials", 2, *objectives, "--seeds", "2", *SMALL[:-1], "--out", "c"]
    compare = ["compare", "digits-mlp", "--tuned", *how]
    called = succeed(*compare)
    shown = called.out
    assert len(made[0]) == 2 * 2 + 2 * 2
    assert "tuning first: 4 runs of trials, then 4 runs of the comparison\n" in called.err
    assert (
        "one_hot tuned and label_smoothing smoothing=0.3 tuned: 2 trials each (seed 1000) chose the learning rate, the "
        "weight decay and the objective's own arguments (where it has any)"
    ) in shown
    file = tmp_path / "c" / "comparison.json"
    about = json.loads(file.read_text())
    assert about["baseline"] == "label_smoothing smoothing=0.3 tuned"
    assert about["seeds"] == [0, 1]
    of_all = ("optimizer.learning_rate", "optimizer.weight_decay")
    assert {tuple(entry["space"]): entry["trials"] for entry in about["tuning"]["variants"]} == {
        of_all: 2,
        ("objective.smoothing", *of_all): 2,
    }
    for variant, entry in zip(about["variants"], about["tuning"]["variants"], strict=True):
        assert variant["name"] == entry["name"]
        run = tmp_path / "c" / "runs" / variant["folder"] / "seed-1"
        recipe = yaml.safe_load((run / "recipe.yaml").read_text())
        for key, value in entry["arguments"].items():
            block, name = key.split(".")
            assert recipe[block][name] == value
        assert (run / "result.json").is_file()
    # The trials' seed is none of the comparison's.
    assert {path.name for path in (tmp_path / "c" / "tuning" / "trials").glob("*/*/*")} == {"seed-1000"}
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Tuned with 2 trials each" in page
    before = len(made[0])
    rows = succeed(*compare, "--json").json
    assert len(made[0]) == before
    assert [row["variant"] for row in rows] == [variant["name"] for variant in about["variants"]]
    # Whatever is said of the tuning, the report stands.
    damaged = [[], {"variants": 3}, {"variants": [3, {}], "seeds": ["x"]}, {"variants": [{"space": 1, "score": "x"}]}]
    for tuning in damaged:
        file.write_text(json.dumps(about | {"tuning": tuning}))
        assert verdict(load_comparison(tmp_path / "c"))[0]
        assert len(tuning_entries(load_comparison(tmp_path / "c"))) <= 1
    assert write_report(tmp_path / "c").is_file()


@pytest.mark.parametrize("words", [["compare", "--tuned"], ["tune"]], ids=["compare", "tune"])
def test_tuning_without_optuna_is_refused(made, tmp_path, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    called = call(*words, "digits-mlp", *TWO, *SMALL)
    assert called.code == 2
    assert called.err.startswith("error: tuning needs the package optuna: pip install 'labelembed[tune]'")
    assert called.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trials", "3"], "--trials: goes with --tuned"),
        (["--space", "objective.smoothing=0.1:0.2"], "--space: goes with --tuned"),
        (["--tuned", "--trials", "0"], "must be from 1"),
        ([*ALIKE, "--baseline", "label_smoothing:smoothing=0.4"], "differs from another variant only in what is tuned"),
    ],
)
def test_what_cannot_be_compared_tuned_is_refused(made, tmp_path, words, said):
    called = call("compare", "digits-mlp", *TWO, *SMALL, *words)
    assert called.code == 2
    assert said in called.err
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_says_what_was_tuned_and_what_was_not():
    variants = [{"name": "a", "space": {"objective.x": "0 to 1"}}, {"name": "b", "space": {}}]
    said = tuning_statement(SimpleNamespace(tuning={"trials": 4, "variants": variants}))
    assert said == "Tuned with 4 trials each on validation examples: a (x). Not tuned: b."
    assert tuning_statement(SimpleNamespace(tuning={"trials": 4, "variants": variants[1:]})) == ""


def test_a_cluster_makes_the_trials_that_this_machine_makes(made, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` (distributed) is not installed")
    tune = ["tune", "digits-mlp", "--trials", 2, *TWO, *SMALL, "--json"]
    here = succeed(*tune, "--out", "here").json
    made[0].clear()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp://", host="127.0.0.1"
    ) as local:
        there = succeed(*tune, "--out", "there", "--cluster", local.scheduler_address).json
    assert there == here
    assert made[0] == []
    assert succeed(*tune, "--out", "there", "--cluster", "tcp://127.0.0.1:9").json == here  # nothing is left to do
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(
        path.name for path in (tmp_path / "here").iterdir()
    )
