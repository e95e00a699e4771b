"""The numbers of the table, held to hand computation, and the files and the print they go into."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from rich.console import Console

from labelembed.errors import RunFolderError
from labelembed.report import (
    comparison_rows,
    load_comparison,
    print_comparison,
    rich_table,
    rows_as_json,
    table_notes,
    write_csv,
    write_report,
    write_runs_csv,
)
from tests.made_evidence import leave_examples
from tests.made_runs import fail_run, make_comparison, run_path

SMOOTHING = "label_smoothing smoothing=0.4"
EMBEDDING = "label_embedding preset=paper"
SIX = {
    "one_hot": dict(enumerate([0.20, 0.22, 0.21, 0.19, 0.23, 0.21])),
    SMOOTHING: dict(enumerate([0.18, 0.19, 0.20, 0.17, 0.20, 0.20])),
    EMBEDDING: dict(enumerate([0.19, 0.23, 0.20, 0.20, 0.22, 0.21])),
}


def _rows(path, errors=SIX, **settings):
    return comparison_rows(load_comparison(make_comparison(path, errors, **settings)))


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _printed(rows, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    return captured.get()


def test_means_and_deviations_are_those_worked_by_hand(tmp_path):
    one_hot, smoothing, _ = _rows(tmp_path)
    # 1.26 / 6; squares of the deviations from 0.21: 1, 1, 0, 4, 4, 0 in units of 1e-4
    assert one_hot.measures["test_error"].mean == pytest.approx(0.21, abs=1e-12)
    assert one_hot.measures["test_error"].standard_deviation == pytest.approx(math.sqrt(10e-4 / 5), abs=1e-12)
    assert one_hot.measures["test_error"].n == 6
    # 1.14 / 6 = 0.19; deviations -1, 0, 1, -2, 1, 1
    assert smoothing.measures["test_error"].mean == pytest.approx(0.19, abs=1e-12)
    assert smoothing.measures["test_error"].standard_deviation == pytest.approx(math.sqrt(8e-4 / 5), abs=1e-12)
    assert smoothing.measures["nll"].mean == pytest.approx(0.57, abs=1e-12)
    assert smoothing.measures["calibration_error"].mean == pytest.approx(0.095, abs=1e-12)
    assert smoothing.measures["brier"].mean == pytest.approx(0.285, abs=1e-12)
    assert smoothing.measures["seconds"].mean == pytest.approx(30.0, abs=1e-12)
    assert smoothing.measures.get("top5_error") is None
    # the made curves are 4 e, 2 e, e: 1 - 7 / 3 * 0.19 on average
    assert smoothing.measures["area_under_curve"].mean == pytest.approx(1 - 7 * 0.19 / 3, abs=1e-12)


def test_paired_differences_are_those_worked_by_hand(tmp_path):
    one_hot, smoothing, embedding = _rows(tmp_path)
    assert one_hot.differences.get("error") is None
    # differences -2, -3, -1, -2, -3, -1 points: mean -2, squares 0, 1, 1, 0, 1, 1, sd sqrt(4 / 5)
    difference = smoothing.differences.get("error")
    standard_error = math.sqrt(0.8e-4 / 6)
    assert difference.n == 6
    assert difference.difference == pytest.approx(-0.02, abs=1e-12)
    assert difference.interval_low == pytest.approx(-0.02 - 2.5705818356363155 * standard_error, abs=1e-12)
    assert difference.interval_high == pytest.approx(-0.02 + 2.5705818356363155 * standard_error, abs=1e-12)
    assert difference.p_value == 2 / 64
    # differences -1, 1, -1, 1, -1, 0: mean -1 / 6, |sum| is 1 or more in every flip of five ones
    assert embedding.differences["error"].difference == pytest.approx(-0.01 / 6, abs=1e-12)
    assert embedding.differences["error"].p_value == 1.0
    # Holm over the two: 2 * 2 / 64, and 1
    assert difference.p_holm == 4 / 64
    assert embedding.differences["error"].p_holm == 1.0
    assert smoothing.differences["nll"].difference == pytest.approx(-0.06, abs=1e-12)


def test_only_common_seeds_are_paired_and_the_others_are_named(tmp_path):
    errors = {name: dict(by_seed) for name, by_seed in SIX.items()}
    del errors["one_hot"][5]
    rows = _rows(tmp_path, errors)
    assert rows[0].missing == (5,)
    assert rows[1].n == 6
    assert rows[1].differences["error"].n == 5
    assert rows[1].differences["error"].difference == pytest.approx(-0.022, abs=1e-12)
    assert rows[1].unpaired == (5,)
    partner = next(note for note in table_notes(rows) if "partner" in note)
    assert "seed 5" in partner
    assert SMOOTHING in partner
    assert EMBEDDING in partner


def test_epochs_to_the_baselines_best_count_who_got_there(tmp_path):
    errors = {"one_hot": {0: 0.2, 1: 0.2, 2: 0.2}, SMOOTHING: {0: 0.1, 1: 0.1, 2: 0.3}}
    curves = {
        "one_hot": {0: [0.5, 0.2, 0.3], 1: [0.5, 0.3, 0.2], 2: [0.5, 0.25, 0.3]},
        SMOOTHING: {0: [0.2, 0.1, 0.1], 1: [0.3, 0.21, 0.2, 0.1], 2: [0.5, 0.4, 0.3]},
    }
    rows = _rows(tmp_path, errors, curves=curves)
    assert [row.measures["epochs_to_baseline"].mean for row in rows] == [pytest.approx(7 / 3), 2.0]
    assert [(row.reached, row.reachable) for row in rows] == [(3, 3), (2, 3)]
    assert rows[1].epochs == (3, 4)
    assert "2.0 ± 1.4 (2 of 3)" in " ".join(_printed(rows, 160).split())
    assert any("from 3 to 4 epochs" in note for note in table_notes(rows))


def test_a_gap_in_a_curve_is_said_and_left_out_of_the_area(tmp_path):
    curves = {SMOOTHING: {0: [0.5, float("nan"), 0.18], 1: [0.4, 0.4, 0.4]}}
    rows = _rows(tmp_path, {name: {seed: by[seed] for seed in (0, 1)} for name, by in SIX.items()}, curves=curves)
    assert rows[1].gaps == (0,)
    assert rows[1].measures["area_under_curve"][::2] == (pytest.approx(0.6, abs=1e-12), 1)
    # an epoch that was not measured reaches nothing: the third does, at 0.18 <= 0.20
    assert rows[1].reached == 1
    assert any("gap in the curve" in note and f"{SMOOTHING}, seed 0" in note for note in table_notes(rows))


def test_csv_has_the_rows_numbers_to_the_last_digit(tmp_path):
    rows = _rows(tmp_path)
    path = write_csv(rows, tmp_path / "comparison.csv")
    lines = _read(path)
    assert [line["variant"] for line in lines] == list(SIX)
    for row, line in zip(rows, lines, strict=True):
        assert float(line["test_error_mean"]) == row.measures["test_error"].mean
        assert float(line["test_error_sd"]) == row.measures["test_error"].standard_deviation
        assert int(line["test_error_n"]) == 6
        assert float(line["auac_mean"]) == row.measures["area_under_curve"].mean
        assert line["top5_error_mean"] == ""
        assert line["measured_on"] == "test"
    smoothing = lines[1]
    assert float(smoothing["difference"]) == rows[1].differences["error"].difference
    assert float(smoothing["interval_low"]) == rows[1].differences["error"].interval_low
    assert float(smoothing["interval_high"]) == rows[1].differences["error"].interval_high
    assert float(smoothing["p_value"]) == rows[1].differences["error"].p_value
    assert float(smoothing["p_holm"]) == rows[1].differences["error"].p_holm
    assert float(smoothing["detectable_difference"]) == rows[1].differences["error"].detectable
    assert float(smoothing["nll_difference"]) == rows[1].differences["nll"].difference
    assert lines[0]["difference"] == ""
    assert sorted(file.name for file in tmp_path.iterdir() if "writing" in file.name) == []


def _with_examples(path):
    """Makes the comparison with 100 examples a run, the first of which are right."""
    make_comparison(path, SIX)
    for name, by_seed in SIX.items():
        for seed, error in by_seed.items():
            leave_examples(run_path(path, name, seed), np.arange(100) < round(100 * (1 - error)))
    return comparison_rows(load_comparison(path))


def test_the_interval_over_seeds_and_examples_stands_in_every_table(tmp_path):
    rows = _with_examples(tmp_path)
    difference = rows[1].differences.get("error")
    # Wider than over seeds alone, around the same difference.
    assert difference.joint.low < difference.interval_low
    assert difference.joint.low + difference.joint.high == pytest.approx(2 * difference.difference, abs=1e-12)
    assert difference.joint.examples == 100
    line = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    assert float(line["joint_interval_low"]) == difference.joint.low
    assert float(line["joint_interval_high"]) == difference.joint.high
    assert float(line["nll_joint_interval_high"]) == rows[1].differences["nll"].joint.high
    assert line["calibrated_nll_joint_interval_low"] == line["top5_joint_interval_low"] == ""
    found = json.loads(json.dumps(rows_as_json(rows), allow_nan=False))[1]["error_difference"]
    assert found["joint"] == {"low": difference.joint.low, "high": difference.joint.high, "examples": 100}
    shown = f"{100 * difference.joint.low:.2f} to {100 * difference.joint.high:.2f}"
    printed = _printed(rows)
    assert "examples" in printed[printed.index("minus one_hot") - 200 :]
    assert shown in printed
    assert all(len(line.rstrip()) <= 100 for line in printed.splitlines())
    assert shown in write_report(tmp_path).read_text(encoding="utf-8").replace("\u2212", "-")


def test_without_outcomes_of_examples_the_other_tables_stay(tmp_path):
    rows = _rows(tmp_path)
    assert json.loads(json.dumps(rows_as_json(rows)))[1]["error_difference"]["joint"] is None
    assert _read(write_csv(rows, tmp_path / "comparison.csv"))[1]["joint_interval_low"] == ""
    assert "examples" not in _printed(rows)


def test_runs_csv_has_every_run_with_those_that_failed(tmp_path):
    make_comparison(tmp_path, SIX)
    fail_run(run_path(tmp_path, SMOOTHING, 3), "loss, with a comma\nand a second line", seed=3)
    comparison = load_comparison(tmp_path)
    lines = _read(write_runs_csv(comparison, tmp_path / "runs.csv"))
    assert len(lines) == 18
    by_run = {(line["variant"], int(line["seed"])): line for line in lines}
    assert float(by_run["one_hot", 4]["test_error"]) == 0.23
    assert float(by_run["one_hot", 4]["test_nll"]) == 3 * 0.23
    assert by_run["one_hot", 4]["parameters"] == "650000"
    failed = by_run[SMOOTHING, 3]
    assert (failed["status"], failed["message"]) == ("failed", "loss, with a comma\nand a second line")
    assert failed["test_error"] == ""


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path):
    rows = _rows(tmp_path / "made")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_csv(rows, tmp_path / "nowhere" / "comparison.csv")


def test_print_shows_per_cent_points_and_corrected_p(tmp_path):
    printed = _printed(_rows(tmp_path))
    assert "21.00 ± 1.41" in printed
    assert "-2.94 to -1.06" in printed
    assert "0.062" in printed
    assert all(len(line.rstrip()) <= 100 for line in printed.splitlines())


def test_print_is_whole_at_80_columns_and_holds_no_markup(tmp_path):
    name = "label_embedding embedding=[red]x"
    printed = _printed(_rows(tmp_path, {"one_hot": SIX["one_hot"], name: SIX[SMOOTHING]}), 80)
    assert "embedding=[red]x" in printed
    assert "…" not in printed
    assert "-0.060" in printed
    assert "\x1b" not in printed


def test_fewer_than_six_seeds_give_no_p_and_the_reason(tmp_path):
    rows = _rows(tmp_path, {name: {seed: by[seed] for seed in range(5)} for name, by in SIX.items()})
    assert rows[1].differences["error"].p_value is None
    assert any("with 5 seeds the exact sign-flip p cannot fall below 0.0625" in note for note in table_notes(rows))
    assert not any("Holm" in note for note in table_notes(rows))


def test_notes_say_what_holm_leaves_to_few_seeds(tmp_path):
    errors = SIX | {f"label_smoothing smoothing={s}": SIX[SMOOTHING] for s in (0.1, 0.2)}
    notes = table_notes(_rows(tmp_path, errors))
    assert any("corrected by Holm over 4 comparisons" in note for note in notes)
    assert any("cannot fall below 0.12," in note for note in notes)


def test_notes_name_the_smallest_difference_for_each_variant(tmp_path):
    rows = _rows(tmp_path)
    note = next(note for note in table_notes(rows) if note.startswith("Minimum detectable difference"))
    for row in rows[1:]:
        assert f"{100 * row.differences['error'].detectable:.2f} points ({row.name})" in note


def test_one_seed_has_no_spread_no_interval_and_says_so(tmp_path):
    rows = _rows(tmp_path, {name: {0: by[0]} for name, by in SIX.items()})
    assert math.isnan(rows[1].measures["test_error"].standard_deviation)
    assert "±" not in _printed(rows)
    assert any("one seed there is neither an interval nor a p" in note for note in table_notes(rows))
    line = _read(write_csv(rows, tmp_path / "c.csv"))[1]
    assert (line["test_error_sd"], line["interval_low"], line["p_value"]) == ("", "", "")
    assert float(line["difference"]) == pytest.approx(-0.02, abs=1e-12)


def test_rows_as_json_are_json(tmp_path):
    rows = _rows(tmp_path, {name: {0: by[0]} for name, by in SIX.items()})
    values = json.loads(json.dumps(rows_as_json(rows), allow_nan=False))
    assert values[1]["test_error"] == {"mean": 0.18, "standard_deviation": None, "n": 1}
    assert values[1]["error_difference"]["interval_low"] is None
    assert values[0]["is_baseline"] is True
    assert values[0]["n"] == 1


def test_print_comparison_into_a_pipe_is_100_columns_of_plain_text(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_comparison(_rows(tmp_path))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "label_smoothing" in printed
    assert "Minimum detectable difference" in printed
    assert max(len(line) for line in printed.splitlines()) <= 100
