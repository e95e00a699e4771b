"""Reading comparison and run folders: what is there, what failed, what is damaged, what is missing."""

from __future__ import annotations

import shutil

import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import comparison_rows, load_comparison, write_report
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_runs import (
    ENVIRONMENT,
    change_result,
    fail_run,
    history_lines,
    make_comparison,
    make_run,
    metrics,
    run_path,
)

SMOOTHING = "label_smoothing smoothing=0.4"
ERRORS = {"one_hot": {0: 0.05, 1: 0.06, 2: 0.07}, SMOOTHING: {0: 0.04, 1: 0.05, 2: 0.05}}


def _run(path, objective, seed=0, error=0.1, **more):
    make_run(path, objective=objective, seed=seed, test=metrics(error), history=history_lines([0.3, error]), **more)
    return path


def test_without_a_test_set_the_comparison_is_about_validation_examples(tmp_path):
    make_comparison(tmp_path, ERRORS)
    for name, by_seed in ERRORS.items():
        for seed in by_seed:
            change_result(tmp_path, name, seed, test=None)
    comparison = load_comparison(tmp_path)
    rows = comparison_rows(comparison)
    assert (comparison.split, rows["test_error_n"].sum(), rows["validation_error_n"][1]) == ("validation", 0, 3)
    assert rows["difference"][1] == pytest.approx(-0.04 / 3, abs=1e-12)


def _result(change):
    return lambda folder: folder.write("result.json", folder.result() | change)


def _write(name, text):
    return lambda folder: (folder.path / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_write("result.json", '{"format": 1,'), "result.json: damaged"),
        (_result({"test": metrics(5.0)}), "no fraction"),
        (_result({"test": None, "validation": None}), "neither validation nor test"),
        (_result({"format": 2}), "newer labelembed"),
        (_result({"calibrated": [1]}), "damaged"),
        (_result({"calibrated": {"test": {"nll": 1.0}}}), "no fraction"),
        (_write("history.jsonl", '{"epoch": 1}\n{"epo\n{"epoch": 3}\n'), "history.jsonl: damaged"),
        (_write("history.jsonl", '{"epoch": 1000000000000}\n'), "history.jsonl: damaged"),
        (_write("history.jsonl", '{"epoch": 1, "test": {"error": 40.0}}\n'), "no fraction"),
        (_write("history.jsonl", '{"epoch": 1, "test": [40.0]}\n'), "no fraction"),
    ],
)
def test_a_damaged_run_is_listed_and_the_others_are_shown(tmp_path, damage, said):
    make_comparison(tmp_path, ERRORS)
    damage(RunFolder(run_path(tmp_path, "one_hot", 1)))
    variant = load_comparison(tmp_path).variants[0]
    assert (sorted(variant.runs), list(variant.failed), variant.missing) == ([0, 2], [1], [])
    assert said in variant.failed[1]
    assert str(tmp_path) not in variant.failed[1]


def test_failed_missing_and_unfinished_runs_are_told_apart_on_the_page_too(tmp_path):
    make_comparison(tmp_path, ERRORS | {"label_embedding": {0: 0.04}})
    fail_run(run_path(tmp_path, "one_hot", 0), "`output` is nan in step 12", seed=0)
    shutil.rmtree(run_path(tmp_path, "one_hot", 1))
    (run_path(tmp_path, "one_hot", 2) / "result.json").unlink()
    (run_path(tmp_path, SMOOTHING, 1) / "result.json").write_text("{")
    baseline = load_comparison(tmp_path).variants[0]
    assert (baseline.runs, baseline.failed, baseline.missing) == ({}, {0: "`output` is nan in step 12"}, [1, 2])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    for said in (
        "Failed: cross entropy, seed 0: `output` is nan in step 12",
        "Not finished: cross entropy, seeds 1, 2",
        "Failed: label smoothing 0.4, seed 1: result.json: damaged",
        "2 of 3 seeds",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: fail_run(path, "the loss is nan"), "the loss is nan"),
        (lambda path: path.mkdir(), "neither a comparison folder"),
        (lambda path: path.write_text("x"), "neither a comparison folder"),
        (lambda path: (_run(path, {"name": "one_hot"}) / "result.json").unlink(), "has not finished"),
        (lambda path: (_run(path, {"name": "one_hot"}) / "report.html").mkdir(), "is a folder; name a file with --out"),
    ],
)
def test_a_folder_in_which_nothing_can_be_shown_is_refused_in_one_message(make, said, tmp_path):
    make(tmp_path / "folder")
    called = call("report", tmp_path / "folder")
    assert (called.code, said in called.err, "Traceback" in called.err) == (2, True, False)
    assert len(called.err.splitlines()) <= 10


def test_the_baseline_is_a_variant_or_an_objective_of_the_comparison(tmp_path):
    folder = make_comparison(tmp_path, {"one_hot": {0: 0.2, 1: 0.2}, "label_embedding": {0: 0.1, 1: 0.1}})
    assert load_comparison(folder).baseline == "one_hot"
    assert load_comparison(folder, baseline="label_embedding").baseline == "label_embedding"
    with pytest.raises(RunFolderError, match=r"--baseline: 'one_hott' .*did you mean 'one_hot'"):
        load_comparison(folder, baseline="one_hott")


def test_runs_of_different_data_are_refused(tmp_path):
    other = ENVIRONMENT | {"data": ENVIRONMENT["data"] | {"source": "letters", "fingerprint": "other"}}
    folder = make_comparison(tmp_path / "c", {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}})
    RunFolder(run_path(folder, "label_embedding", 0)).write("environment.json", other)
    with pytest.raises(RunFolderError, match=r"different data.*'digits' and 'letters'"):
        load_comparison(folder)
