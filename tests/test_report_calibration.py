"""What a temperature and five labels change in table, files, page and print: numbers worked by hand."""

from __future__ import annotations

import csv
import json

import pytest
from rich.console import Console

from labelembed.report import (
    comparison_rows,
    load_comparison,
    rich_table,
    rows_as_json,
    table_notes,
    write_csv,
    write_report,
    write_runs_csv,
)
from labelembed.training.run_folder import RunFolder
from tests.made_runs import describe_comparison, journal_lines, make_comparison, make_run, run_path

LONG = "label_smoothing smoothing=0.4:similarity_weight=0.25"
# Test top-5 error, NLL before and after, calibration error before and after, temperature; by seed.
NUMBERS = {
    "one_hot": [(0.04, 0.80, 0.60, 0.10, 0.02, 1.5), (0.05, 0.90, 0.70, 0.12, 0.04, 1.7)],
    LONG: [(0.02, 1.20, 0.50, 0.40, 0.01, 0.4), (0.04, 1.40, 0.58, 0.44, 0.03, 0.6)],
}


def _make(path, numbers=NUMBERS, *, uncalibrated=(), top5=True):
    describe_comparison(path, [(name, {"name": name.split()[0]}) for name in numbers], seeds=range(2))
    for name, by_seed in numbers.items():
        for seed, (five, nll, calibrated_nll, calibration, calibrated, temperature) in enumerate(by_seed):
            plain = {"error": 0.1 + five, "nll": nll, "calibration_error": calibration, "brier": 0.2}
            plain |= {"top5_error": five} if top5 else {}
            after = plain | {"nll": calibrated_nll, "calibration_error": calibrated}
            both = {"temperature": temperature, "validation": after, "test": after}
            make_run(
                run_path(path, name, seed),
                seed=seed,
                objective={"name": name.split()[0]},
                test=plain,
                validation=plain,
                journal=journal_lines([0.5, 0.3, plain["error"]]),
                calibrated=None if (name, seed) in uncalibrated else both,
            )
    return path


def _rows(path, **settings):
    return comparison_rows(load_comparison(_make(path, **settings)))


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _printed(rows, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    return captured.get()


def test_means_before_and_after_stand_side_by_side(tmp_path):
    one_hot, smoothing = _rows(tmp_path)
    assert smoothing.measures["nll"].mean == pytest.approx(1.3, abs=1e-12)
    assert smoothing.measures["calibrated_nll"].mean == pytest.approx(0.54, abs=1e-12)
    assert smoothing.measures["calibration_error"].mean == pytest.approx(0.42, abs=1e-12)
    assert smoothing.measures["calibrated_calibration_error"].mean == pytest.approx(0.02, abs=1e-12)
    assert one_hot.measures["temperature"][::2] == (pytest.approx(1.6, abs=1e-12), 2)
    assert smoothing.measures["top5_error"].mean == pytest.approx(0.03, abs=1e-12)


def test_differences_after_calibration_and_of_top5_are_paired(tmp_path):
    one_hot, smoothing = _rows(tmp_path)
    assert one_hot.differences.get("calibrated_nll") is one_hot.differences.get("top5_error") is None
    # -0.10 and -0.12: mean -0.11, sd sqrt(2e-4), t of one degree of freedom 12.706
    after = smoothing.differences.get("calibrated_nll")
    assert after.difference == pytest.approx(-0.11, abs=1e-12)
    assert after.interval_high == pytest.approx(-0.11 + 12.706204736 * (2e-4**0.5) / 2**0.5, abs=1e-9)
    assert smoothing.differences["nll"].difference == pytest.approx(0.45, abs=1e-12)
    assert smoothing.differences["top5_error"].difference == pytest.approx(-0.015, abs=1e-12)


def test_each_difference_is_a_family_of_its_own_for_holm(tmp_path):
    names = ["one_hot", "a", "b"]
    errors = {name: dict.fromkeys(range(6), 0.1 + 0.01 * place) for place, name in enumerate(names)}
    make_comparison(tmp_path, errors)
    for name, by_seed in errors.items():
        for seed in by_seed:
            folder = RunFolder(run_path(tmp_path, name, seed))
            result = folder.result()
            # After calibration only `a` differs from the baseline, always by the same.
            after = result["test"] | {"nll": 0.5 + (name == "a") * 0.1}
            folder.write_result(result | {"temperature": 2.0, "calibrated": {"temperature": 2.0, "test": after}})
    _, first, second = comparison_rows(load_comparison(tmp_path))
    assert first.differences["calibrated_nll"].p_holm == 2 * 2 / 64
    assert second.differences["calibrated_nll"].p_holm == 1.0
    assert first.differences["error"].p_holm == second.differences["error"].p_holm == 2 * 2 / 64


def test_csv_and_json_have_them_to_the_last_digit(tmp_path):
    rows = _rows(tmp_path)
    line = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    smoothing = rows[1]
    for column, attribute in (
        ("top5_error", "top5_error"),
        ("calibrated_nll", "calibrated_nll"),
        ("calibrated_calibration_error", "calibrated_calibration_error"),
        ("temperature", "temperature"),
    ):
        assert float(line[f"{column}_mean"]) == smoothing.measures[attribute].mean
        assert float(line[f"{column}_sd"]) == smoothing.measures[attribute].standard_deviation
        assert line[f"{column}_n"] == "2"
    for prefix, difference in (
        ("", smoothing.differences.get("error")),
        ("top5_", smoothing.differences.get("top5_error")),
        ("nll_", smoothing.differences.get("nll")),
        ("calibrated_nll_", smoothing.differences.get("calibrated_nll")),
    ):
        assert float(line[f"{prefix}difference"]) == difference.difference
        assert float(line[f"{prefix}interval_low"]) == difference.interval_low
        assert float(line[f"{prefix}interval_high"]) == difference.interval_high
    values = json.loads(json.dumps(rows_as_json(rows), allow_nan=False))[1]
    assert values["calibrated_nll"]["mean"] == smoothing.measures["calibrated_nll"].mean
    assert values["calibrated_nll_difference"]["difference"] == smoothing.differences["calibrated_nll"].difference
    assert values["top5_difference"]["interval_low"] == smoothing.differences["top5_error"].interval_low


def test_runs_csv_has_each_run_before_and_after(tmp_path):
    comparison = load_comparison(_make(tmp_path, uncalibrated={("one_hot", 1)}))
    lines = {(line["variant"], line["seed"]): line for line in _read(write_runs_csv(comparison, tmp_path / "runs.csv"))}
    line = lines[LONG, "1"]
    assert (line["test_nll"], line["test_calibrated_nll"], line["temperature"]) == ("1.4", "0.58", "0.6")
    assert (line["test_calibration_error"], line["validation_calibrated_calibration_error"]) == ("0.44", "0.03")
    assert lines["one_hot", "1"]["temperature"] == lines["one_hot", "1"]["test_calibrated_nll"] == ""


def test_print_has_them_in_100_columns(tmp_path):
    rows = _rows(tmp_path)
    printed = _printed(rows)
    assert all(len(line.rstrip()) <= 100 for line in printed.splitlines())
    assert "42.0 → 2.0" in printed
    assert "0.540 ± 0.057" in printed
    assert "3.00 ± 1.41" in printed
    assert "-0.110" in printed


def test_page_has_them(tmp_path):
    page = write_report(_make(tmp_path)).read_text(encoding="utf-8")
    rows = comparison_rows(load_comparison(tmp_path))
    for heading in ("NLL after temperature scaling", "ECE after temperature scaling", "top-5 error", "epochs saved"):
        assert heading in page
    for name in ("calibrated_nll", "calibrated_calibration_error", "top5_error"):
        assert f'<data value="{rows[1].measures[name].mean!r}">' in page
    for name in ("error", "top5_error", "nll", "calibrated_nll"):
        assert f'<data value="{rows[1].differences[name].difference!r}">' in page


def test_without_any_temperature_table_and_notes_say_so(tmp_path):
    every = {(name, seed) for name in NUMBERS for seed in range(2)}
    rows = _rows(tmp_path, uncalibrated=every)
    assert not {"calibrated_nll", "temperature"} & rows[1].measures.keys()
    assert "calibrated_nll" not in rows[1].differences
    assert any(note.startswith("No temperature was fitted") for note in table_notes(rows))
    printed = _printed(rows)
    assert "→" not in printed
    assert "temperature" not in printed
    assert "0.450" in printed[printed.index("minus") :]  # the plain NLL takes the place
    assert _read(write_csv(rows, tmp_path / "c.csv"))[1]["calibrated_nll_mean"] == ""


def test_a_run_without_a_temperature_is_left_out_and_counted(tmp_path):
    rows = _rows(tmp_path, uncalibrated={("one_hot", 1)})
    assert rows[0].measures["calibrated_nll"].n == 1
    assert rows[1].differences["calibrated_nll"].n == 1
    note = next(note for note in table_notes(rows) if note.startswith("After temperature scaling"))
    assert note.endswith("Not all runs have one: one_hot (1 of 2).")
    assert rows[0].extreme_temperatures == ()


def test_extreme_temperatures_are_named(tmp_path):
    _make(tmp_path)
    for seed, temperature in ((0, 20.5), (1, 0.05)):
        folder = RunFolder(run_path(tmp_path, "one_hot", seed))
        folder.write_result(folder.result() | {"temperature": temperature})
    rows = comparison_rows(load_comparison(tmp_path))
    note = next(note for note in table_notes(rows) if note.startswith("After temperature scaling"))
    assert note.endswith("Extreme, outside 0.05 to 20: one_hot, seed 0; compare the NLL before and after.")


def test_macro_f1_and_balanced_accuracy_stand_in_files_and_page(tmp_path):
    _make(tmp_path)
    for seed, value in enumerate((0.5, 0.7)):
        folder = RunFolder(run_path(tmp_path, "one_hot", seed))
        result = folder.result()
        result["test"] |= {"macro_f1": value, "balanced_accuracy": value / 2, "top2_error": value / 4}
        folder.write_result(result)
    comparison = load_comparison(tmp_path)
    first, second = _read(write_csv(comparison_rows(comparison), tmp_path / "comparison.csv"))[:2]
    assert float(first["macro_f1_mean"]) == pytest.approx(0.6, abs=1e-12)
    assert float(first["balanced_accuracy_mean"]) == pytest.approx(0.3, abs=1e-12)
    assert second["macro_f1_mean"] == second["top2_error_mean"] == ""  # runs of a version that did not measure them
    run = _read(write_runs_csv(comparison, tmp_path / "runs.csv"))[0]
    assert (run["test_macro_f1"], run["test_balanced_accuracy"], run["validation_macro_f1"]) == ("0.5", "0.25", "")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "top-2 error" in page
    assert "macro-F1" in page


def test_differences_of_few_labels_are_of_the_top2_error(tmp_path):
    _make(tmp_path, top5=False)
    for variant in load_comparison(tmp_path).variants:
        for seed, run in variant.runs.items():
            folder = RunFolder(run.folder)
            result = folder.result()
            result["test"]["top2_error"] = 0.3 + 0.1 * seed - (0.02 if variant.name != "one_hot" else 0)
            folder.write_result(result)
    one_hot, smoothing = comparison_rows(load_comparison(tmp_path))[:2]
    assert one_hot.differences.get("top2_error") is smoothing.differences.get("top5_error") is None
    assert smoothing.differences["top2_error"].difference == pytest.approx(-0.02, abs=1e-12)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "top-2 error" in page
    assert "top-5" not in page


def test_five_labels_or_fewer_have_no_top5(tmp_path):
    rows = _rows(tmp_path, top5=False)
    assert rows[1].measures.get("top5_error") is rows[1].differences.get("top5_error") is None
    assert "top-5" not in _printed(rows)
    assert "top-5" not in write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("calibrated", "message"),
    [
        ([1], "the calibrated measures are"),
        ({"test": {"nll": 1.0}}, "has no calibrated test error"),
        ({"test": {"error": 0.1, "calibration_error": 4.0}}, "the calibrated test measure calibration_error is 4.0"),
        ({"validation": {"error": 0.1, "nll": "low"}}, "the calibrated validation measure nll is 'low'"),
    ],
)
def test_damaged_calibrated_measures_are_a_failed_run(tmp_path, calibrated, message):
    folder = RunFolder(run_path(_make(tmp_path), "one_hot", 0))
    folder.write_result(folder.result() | {"calibrated": calibrated})
    assert message in load_comparison(tmp_path).variants[0].failed[0]
