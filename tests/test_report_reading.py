"""Reading comparison and run folders, one or several: what is there, what failed, what is damaged, what is missing."""

from __future__ import annotations

import re
import shutil

import pytest

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import comparison_rows, load_comparison, load_several, write_report
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_runs import ENVIRONMENT, fail_run, history_lines, make_comparison, make_run, metrics, run_path

SMOOTHING = "label_smoothing smoothing=0.4"
ERRORS = {"one_hot": {0: 0.05, 1: 0.06, 2: 0.07}, SMOOTHING: {0: 0.04, 1: 0.05, 2: 0.05}}


def _run(path, objective, seed=0, error=0.1, **more):
    make_run(path, objective=objective, seed=seed, test=metrics(error), history=history_lines([0.3, error]), **more)
    return path


def test_without_a_test_set_the_comparison_is_about_validation_examples(tmp_path):
    make_comparison(tmp_path, ERRORS)
    for name, by_seed in ERRORS.items():
        for seed in by_seed:
            folder = RunFolder(run_path(tmp_path, name, seed))
            folder.write("result.json", folder.result() | {"test": None})
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
        (lambda path: path.write_text("x"), "it is a file"),
        (lambda path: (_run(path, {"name": "one_hot"}) / "result.json").unlink(), "has not finished"),
        (lambda path: (_run(path, {"name": "one_hot"}) / "report.html").mkdir(), "is a folder; name a file with --out"),
    ],
)
def test_a_folder_in_which_nothing_can_be_shown_is_refused_in_one_message(make, said, tmp_path):
    make(tmp_path / "folder")
    called = call("report", tmp_path / "folder")
    assert (called.code, said in called.err, "Traceback" in called.err) == (2, True, False)
    assert len(called.err.splitlines()) <= 10


def test_runs_that_differ_by_their_seed_are_one_variant_and_all_else_is_another(tmp_path):
    paths = [_run(tmp_path / f"a{seed}", {"name": "one_hot"}, seed, 0.10 + 0.01 * seed) for seed in range(3)]
    paths += [_run(tmp_path / f"b{seed}", {"name": "label_embedding"}, seed, 0.08) for seed in range(3)]
    whole = load_several(paths)
    assert {variant.name: sorted(variant.runs) for variant in whole.variants} == {
        "one_hot": [0, 1, 2],
        "label_embedding": [0, 1, 2],
    }
    row = comparison_rows(whole).iloc[1]
    assert (whole.baseline, row["difference_n"], row["difference"]) == ("one_hot", 3, pytest.approx(0.08 - 0.11))
    # Trained longer, or the same seed once more: told apart by the folder.
    paths += [
        _run(tmp_path / "long", {"name": "label_embedding"}, recipe={"epochs": 99}),
        _run(tmp_path / "again", {"name": "one_hot"}),
    ]
    assert [one.name for one in load_several(paths).variants] == [
        f"{name} {tmp_path / folder}"
        for name, folder in (
            ("one_hot", "a0"),
            ("label_embedding", "b0"),
            ("label_embedding", "long"),
            ("one_hot", "again"),
        )
    ]


def test_a_comparison_and_a_run_stand_together_on_one_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_comparison(tmp_path / "c", {"one_hot": {0: 0.2, 1: 0.2}, "label_embedding": {0: 0.1, 1: 0.1}})
    extra = _run(tmp_path / "extra", {"name": "adaptive_labels"}, 1)
    whole = load_several([folder, extra])
    assert [variant.name for variant in whole.variants] == ["one_hot", "label_embedding", "adaptive_labels"]
    assert (whole.baseline, whole.recipe) == ("one_hot", "digits-mlp")
    assert load_several([folder, extra], baseline="adaptive_labels").baseline == "adaptive_labels"
    with pytest.raises(RunFolderError, match=r"--baseline: 'one_hott' .*did you mean 'one_hot'"):
        load_several([folder, extra], baseline="one_hott")
    assert succeed("report", folder, extra).out.strip() == "report.html"
    assert "3 variants, 2 seeds" in (tmp_path / "report.html").read_text()


def test_runs_of_different_data_are_refused_with_both_names(tmp_path):
    one, two = _run(tmp_path / "one", {"name": "one_hot"}), _run(tmp_path / "two", {"name": "label_embedding"})
    other = ENVIRONMENT | {"data": ENVIRONMENT["data"] | {"source": "letters", "fingerprint": "other"}}
    RunFolder(two).write("environment.json", other)
    called = call("report", one, two, "-o", tmp_path / "page.html")
    assert called.code == 2
    assert re.search(r"one and .*two are of different data.*'digits' and 'letters'", called.err, re.DOTALL)
    assert not (tmp_path / "page.html").exists()
    folder = make_comparison(tmp_path / "c", {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}})
    RunFolder(run_path(folder, "label_embedding", 0)).write("environment.json", other)
    with pytest.raises(RunFolderError, match="different data"):
        load_comparison(folder)
