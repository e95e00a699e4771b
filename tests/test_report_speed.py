"""The second paper's measures of speed in a comparison: which rows, which runs, and who never got there."""

from __future__ import annotations

import csv
import math

import pytest
from rich.console import Console

from labelembed.errors import RunFolderError
from labelembed.report import (
    comparison_rows,
    load_comparison,
    rich_table,
    table_notes,
    write_csv,
    write_report,
    write_runs_csv,
)
from labelembed.report.catalogue import draw_figure
from labelembed.report.curves import curve_measures
from labelembed.report.speed import RunSpeed, run_speed
from tests.made_runs import describe_comparison, journal_lines, make_run, measures, run_path

OURS = "label_embedding"
# By variant and seed: (test errors, validation errors) over the epochs.
CURVES = {
    "one_hot": {
        0: ([0.9, 0.9, 0.9, 0.1], [0.5, 0.4, 0.3, 0.2]),
        1: ([0.9, 0.9, 0.9, 0.1], [0.5, 0.2, 0.3, 0.3]),
        2: ([0.9, 0.9, 0.9, 0.1], [0.5, 0.4, 0.4, 0.1]),
    },
    OURS: {
        0: ([0.8, 0.8, 0.8, 0.8], [0.4, 0.2, 0.1, 0.2]),
        1: ([0.8, 0.8, 0.8, 0.8], [0.4, 0.3, 0.2, 0.2]),
        2: ([0.8, 0.8, 0.8, 0.8], [0.4, 0.3, 0.2, 0.2]),
    },
}


def _make(path, curves=CURVES, *, validation=True):
    describe_comparison(path, [(name, {"name": name}) for name in curves], seeds=range(3))
    for name, by_seed in curves.items():
        for seed, (test, developed) in by_seed.items():
            make_run(
                run_path(path, name, seed),
                seed=seed,
                objective={"name": name},
                test=measures(0.1),
                validation=measures(0.1) if validation else None,
                journal=journal_lines(test, developed if validation else [None] * len(test)),
            )
    return path


def _rows(path, **settings):
    return comparison_rows(load_comparison(_make(path, **settings)))


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_speed_is_of_the_validation_rows_and_as_worked_by_hand(tmp_path):
    one_hot, ours = _rows(tmp_path)
    assert (ours.split, ours.speed_split) == ("test", "validation")
    # accuracies 0.6 0.8 0.9 0.8, and twice 0.6 0.7 0.8 0.8
    assert ours.measures["area_under_curve"].mean == pytest.approx((0.775 + 0.725 + 0.725) / 3, abs=1e-12)
    assert ours.measures["best_accuracy"].mean == pytest.approx((0.9 + 0.8 + 0.8) / 3, abs=1e-12)
    assert ours.measures["best_epoch"].mean == 3.0
    # 2 instead of 4 epochs, 3 instead of 2, and never at 0.1
    assert ours.measures["epochs_saved"][::2] == (pytest.approx((0.5 - 0.5) / 2, abs=1e-12), 2)
    assert ours.measures["epochs_saved"].standard_deviation == pytest.approx(math.sqrt(0.5), abs=1e-12)
    # 2 and 3 of the 4 epochs that the baseline had, as the second paper counts
    assert (ours.measures["epochs_saved_of_all"].mean, ours.measures["epochs_saved_of_all"].n) == (
        pytest.approx((0.5 + 0.25) / 2, abs=1e-12),
        2,
    )
    assert (ours.measures["epochs_to_baseline"].mean, ours.reached, ours.reachable) == (2.5, 2, 3)
    # The baseline saves nothing against itself.
    assert (one_hot.measures["epochs_saved"].mean, one_hot.measures["epochs_saved"].standard_deviation) == (0.0, 0.0)
    assert one_hot.measures["epochs_to_baseline"].mean == pytest.approx(10 / 3, abs=1e-12)
    assert one_hot.measures["best_epoch"].mean == pytest.approx(10 / 3, abs=1e-12)


def test_without_validation_rows_it_is_of_the_test_rows(tmp_path):
    one_hot, ours = _rows(tmp_path, validation=False)
    assert ours.speed_split == "test"
    assert ours.measures["area_under_curve"].mean == pytest.approx(0.2, abs=1e-12)
    assert one_hot.measures["best_epoch"].mean == 4.0
    assert any(note.startswith("Speed is read off the test error") for note in table_notes([one_hot, ours]))


def test_never_reached_is_a_dash_and_counted(tmp_path):
    curves = {"one_hot": CURVES["one_hot"], OURS: {seed: ([0.8], [0.6]) for seed in range(3)}}
    rows = _rows(tmp_path, curves=curves)
    assert rows[1].measures.get("epochs_saved") is None
    assert (rows[1].reached, rows[1].reachable) == (0, 3)
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    line = captured.get().splitlines()[-1]
    assert line.split()[-5:] == ["never", "-", "30", "±", "0"]
    cells = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    assert (cells["epochs_saved_mean"], cells["epochs_saved_n"], cells["epochs_to_baseline_of"]) == ("", "0", "3")


def test_csv_says_which_rows_and_has_every_number(tmp_path):
    rows = _rows(tmp_path)
    cells = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    assert (cells["measured_on"], cells["speed_measured_on"]) == ("test", "validation")
    for column, summary in (
        ("auac", rows[1].measures.get("area_under_curve")),
        ("best_accuracy", rows[1].measures.get("best_accuracy")),
        ("best_epoch", rows[1].measures.get("best_epoch")),
        ("epochs_to_baseline", rows[1].measures.get("epochs_to_baseline")),
        ("epochs_saved", rows[1].measures.get("epochs_saved")),
        ("epochs_saved_of_all", rows[1].measures.get("epochs_saved_of_all")),
    ):
        assert float(cells[f"{column}_mean"]) == summary.mean
        assert float(cells[f"{column}_sd"]) == summary.standard_deviation
        assert int(cells[f"{column}_n"]) == summary.n
    assert cells["epochs_to_baseline_of"] == "3"


def test_runs_csv_has_the_speed_of_each_run(tmp_path):
    comparison = load_comparison(_make(tmp_path))
    lines = {(line["variant"], line["seed"]): line for line in _read(write_runs_csv(comparison, tmp_path / "runs.csv"))}
    first = lines[OURS, "0"]
    assert (first["best_accuracy"], first["best_epoch"]) == ("0.9", "3")
    assert (first["epochs_to_baseline"], first["epochs_saved"]) == ("2", "0.5")
    never = lines[OURS, "2"]
    assert (never["epochs_to_baseline"], never["epochs_saved"], never["best_epoch"]) == ("", "", "3")


def test_print_fits_100_columns_and_says_how_many_got_there(tmp_path):
    rows = _rows(tmp_path)
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    printed = captured.get()
    assert all(len(line.rstrip()) <= 100 for line in printed.splitlines())
    assert "Speed of learning" in printed
    assert "(validation error)" in printed
    words = " ".join(printed.split())
    assert "2.5 ± 0.7 (2 of 3) 0.0 ± 70.7 30 ± 0" in words
    assert any("over the runs that got there (k of n)" in note for note in table_notes(rows))


def test_a_single_run_has_its_own_speed_and_none_to_compare(tmp_path):
    folder = make_run(
        tmp_path / "one", test=measures(0.1), validation=measures(0.1), journal=journal_lines([0.4, 0.1, 0.3])
    )
    (row,) = comparison_rows(load_comparison(folder.path))
    assert (row.measures["best_accuracy"].mean, row.measures["best_epoch"].mean) == (0.9, 2.0)
    assert row.measures.get("epochs_saved") is row.measures.get("epochs_to_baseline") is None
    assert not any("Epochs to baseline" in note for note in table_notes([row]))


def test_a_run_without_a_curve_has_no_speed(tmp_path):
    make_run(tmp_path / "none", test=measures(0.1))
    comparison = load_comparison(tmp_path / "none")
    assert run_speed(comparison.variants[0].runs[0], None, "test") == RunSpeed()
    (row,) = comparison_rows(comparison)
    assert row.measures.get("area_under_curve") is row.measures.get("best_accuracy") is None


def _without_test_curves(path, *, validation):
    """Makes a comparison whose runs measured the test set once, at the end."""
    curves = {name: {seed: ([None] * 4, one[1]) for seed, one in by_seed.items()} for name, by_seed in CURVES.items()}
    return _make(path, curves, validation=validation)


def test_without_test_errors_over_the_epochs_curves_and_speed_are_of_the_validation_rows(tmp_path):
    folder = _without_test_curves(tmp_path / "compared", validation=True)
    comparison = load_comparison(folder)
    # The speed was never read off the test errors. As text, for an interval over equal differences is not a number.
    assert repr(comparison_rows(comparison)) == repr(_rows(tmp_path / "each"))
    assert [measure.key for measure in curve_measures(comparison)][:2] == ["validation-error", "validation-nll"]
    drawn = draw_figure("curves", folder, tmp_path / "curves.svg").read_text()
    assert "Lines of validation error over epochs" in drawn
    page = write_report(folder).read_text()
    assert "Validation error over epochs" in page
    assert "Test error over epochs" not in page
    assert "Speed of learning (validation error)" in page
    with pytest.raises(
        RunFolderError, match=r"of every epoch are there with `test_every_epoch: true` only\); there are"
    ):
        draw_figure("curves", folder, tmp_path / "curves.svg", measure="test-error")


def test_without_any_errors_over_the_epochs_no_speed_is_told_and_why(tmp_path):
    folder = _without_test_curves(tmp_path, validation=False)
    comparison = load_comparison(folder)
    rows = comparison_rows(comparison)
    assert (rows[0].split, rows[0].speed_split, rows[0].gaps, rows[0].epochs) == ("test", "test", (), (4, 4))
    assert not {"area_under_curve", "best_accuracy", "epochs_saved"} & rows[1].measures.keys()
    assert [note for note in table_notes(rows) if "test_every_epoch: true" in note] == [
        "No speed of learning: without a validation set it is read off the test error over the epochs, which runs "
        "measure with `test_every_epoch: true`."
    ]
    page = write_report(folder).read_text()
    assert "error over epochs" not in page
    assert "<summary>Speed</summary>" in page  # of it the seconds are left
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    assert "Speed of learning" not in captured.get()
    assert "Training term total over epochs" in page
    assert {line["auac"] for line in _read(write_runs_csv(comparison, tmp_path / "runs.csv"))} == {""}
    assert draw_figure("curves", folder, tmp_path / "curves.svg").exists()
