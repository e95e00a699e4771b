"""Reading comparison and run folders: what is there, what failed, what is damaged, what is missing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from labelembed.errors import RunFolderError
from labelembed.report import comparison_rows, load_comparison, table_notes
from labelembed.training.run_folder import RunFolder
from tests.made_runs import fail_run, journal_lines, make_comparison, make_run, measures, run_path

ERRORS = {
    "one_hot": {0: 0.05, 1: 0.06, 2: 0.07},
    "label_smoothing smoothing=0.4": {0: 0.04, 1: 0.05, 2: 0.05},
}


def test_comparison_holds_variants_seeds_and_measures(tmp_path):
    comparison = load_comparison(make_comparison(tmp_path, ERRORS))
    assert comparison.recipe == "digits-mlp"
    assert comparison.baseline == "one_hot"
    assert comparison.seeds == [0, 1, 2]
    assert [variant.name for variant in comparison.variants] == list(ERRORS)
    assert comparison.variants[1].objective == {"name": "label_smoothing"}
    assert comparison.variants[1].measures("test", "error") == ERRORS["label_smoothing smoothing=0.4"]
    assert comparison.variants[0].runs[1].folder == run_path(tmp_path, "one_hot", 1)
    assert comparison.split == "test"


def test_single_run_is_one_variant_without_a_baseline(tmp_path):
    make_run(tmp_path / "first", seed=7, test=measures(0.02), journal=journal_lines([0.1, 0.02]))
    comparison = load_comparison(tmp_path / "first")
    assert (comparison.recipe, comparison.baseline, comparison.seeds) == ("first", None, [7])
    assert list(comparison.variants[0].runs) == [7]
    np.testing.assert_array_equal(comparison.variants[0].runs[7].error_curve("test"), [0.1, 0.02])


def test_a_folder_that_is_neither_is_refused_with_the_reason(tmp_path):
    with pytest.raises(RunFolderError, match=r"no comparison\.json.*no recipe\.yaml"):
        load_comparison(tmp_path)
    with pytest.raises(RunFolderError, match="no such folder"):
        load_comparison(tmp_path / "nowhere")
    (tmp_path / "a-file").write_text("x")
    with pytest.raises(RunFolderError, match="it is a file"):
        load_comparison(tmp_path / "a-file")


def test_a_single_run_that_has_not_finished_is_refused_with_the_way_out(tmp_path):
    folder = make_run(tmp_path, test=measures(0.1))
    folder.forget_result()
    with pytest.raises(RunFolderError, match="labelembed resume"):
        load_comparison(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": "all"}, "`seeds`"),
        ({"baseline": "nothing"}, "baseline 'nothing' is none of the variants"),
        ({"variants": []}, "`variants`"),
        ({"variants": [{"name": "a", "folder": "../../elsewhere", "objective": {}}]}, "`variants`"),
        ({"variants": [{"name": "a", "folder": "..", "objective": {}}]}, "`variants`"),
        ({"format": 2}, "newer labelembed"),
    ],
)
def test_a_damaged_description_is_refused_with_what_is_wrong(tmp_path, change, message):
    make_comparison(tmp_path, ERRORS)
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunFolderError, match=message):
        load_comparison(tmp_path)


def test_a_description_cut_short_is_refused(tmp_path):
    make_comparison(tmp_path, ERRORS)
    file = tmp_path / "comparison.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(RunFolderError, match="damaged"):
        load_comparison(tmp_path)


def _cut_result(folder: RunFolder) -> str:
    (folder.path / "result.json").write_text('{"format": 1,')
    return "result.json: damaged"


def _error_as_per_cent(folder: RunFolder) -> str:
    folder.write_result(folder.result() | {"test": measures(5.0)})
    return "the test measure error is 5.0"


def _no_measures(folder: RunFolder) -> str:
    folder.write_result(folder.result() | {"test": None, "validation": None})
    return "neither validation nor test"


def _newer_result(folder: RunFolder) -> str:
    folder.write_result(folder.result() | {"format": 2})
    return "newer labelembed"


def _broken_journal_line(folder: RunFolder) -> str:
    (folder.path / "journal.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    return "journal.jsonl: line 2 is damaged"


def _huge_epoch(folder: RunFolder) -> str:
    (folder.path / "journal.jsonl").write_text('{"epoch": 1000000000000}\n')
    return "journal.jsonl: damaged"


def _journal_of_something_else(folder: RunFolder) -> str:
    (folder.path / "journal.jsonl").write_text('{"epoch": 1, "test": {"error": 40.0}}\n')
    return "no fraction"


@pytest.mark.parametrize(
    "damage",
    [
        _cut_result,
        _error_as_per_cent,
        _no_measures,
        _newer_result,
        _broken_journal_line,
        _huge_epoch,
        _journal_of_something_else,
    ],
)
def test_a_damaged_run_is_listed_and_the_others_are_shown(tmp_path, damage):
    make_comparison(tmp_path, ERRORS)
    expected = damage(RunFolder(run_path(tmp_path, "one_hot", 1)))
    variant = load_comparison(tmp_path).variants[0]
    assert sorted(variant.runs) == [0, 2]
    assert list(variant.failed) == [1]
    assert expected in variant.failed[1]
    assert str(tmp_path) not in variant.failed[1]
    assert variant.missing == []


def test_failed_missing_and_unfinished_runs_are_told_apart(tmp_path):
    make_comparison(tmp_path, ERRORS)
    fail_run(run_path(tmp_path, "one_hot", 0), "`output` is nan in step 12", seed=0)
    shutil.rmtree(run_path(tmp_path, "one_hot", 1))
    RunFolder(run_path(tmp_path, "one_hot", 2)).forget_result()
    comparison = load_comparison(tmp_path)
    baseline = comparison.variants[0]
    assert baseline.runs == {}
    assert baseline.failed == {0: "`output` is nan in step 12"}
    assert baseline.missing == [1, 2]
    notes = table_notes(comparison_rows(comparison))
    assert "Failed: one_hot, seed 0: `output` is nan in step 12" in notes
    assert any(note.startswith("Not finished: one_hot, seeds 1, 2") for note in notes)


def test_curve_has_gaps_where_the_journal_has_nothing_finite(tmp_path):
    journal = journal_lines([0.5, float("nan"), None, 0.2])
    del journal[1]["validation"]
    make_run(tmp_path, test=measures(0.2), journal=journal[:2] + journal[3:])
    run = load_comparison(tmp_path).variants[0].runs[0]
    np.testing.assert_array_equal(run.error_curve("test"), [0.5, np.nan, np.nan, 0.2])
    np.testing.assert_array_equal(run.error_curve("validation"), [0.5, np.nan, np.nan, 0.2])


def test_without_test_rows_the_comparison_is_about_validation_rows(tmp_path):
    make_comparison(tmp_path, ERRORS)
    for name, by_seed in ERRORS.items():
        for seed in by_seed:
            folder = RunFolder(run_path(tmp_path, name, seed))
            folder.write_result(folder.result() | {"test": None})
    comparison = load_comparison(tmp_path)
    rows = comparison_rows(comparison)
    assert comparison.split == "validation"
    assert rows[1].measures.get("test_error") is None
    assert rows[1].measures["validation_error"].n == 3
    assert rows[1].differences["error"].difference == pytest.approx(-0.04 / 3, abs=1e-12)
