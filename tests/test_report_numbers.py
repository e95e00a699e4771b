"""The numbers of the comparison, held to hand computation, and the files, tables and print they go into."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import (
    comparison_rows,
    load_comparison,
    print_comparison,
    rich_table,
    table_notes,
    write_csv,
    write_report,
    write_runs_csv,
)
from labelembed.lab.report.columns import ALL_METRICS
from labelembed.lab.report.table import run_speed
from labelembed.lab.report.table_texts import latex_text, markdown_text
from labelembed.lab.report.tables import report_tables, speed_table
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import succeed
from tests.made_evidence import leave_examples
from tests.made_runs import (
    ENVIRONMENT,
    describe_comparison,
    fail_run,
    history_lines,
    make_comparison,
    make_run,
    metrics,
    run_path,
)

SMOOTHING = "label_smoothing smoothing=0.4"
EMBEDDING = "label_embedding preset=paper"
SIX = {
    "one_hot": dict(enumerate([0.20, 0.22, 0.21, 0.19, 0.23, 0.21])),
    SMOOTHING: dict(enumerate([0.18, 0.19, 0.20, 0.17, 0.20, 0.20])),
    EMBEDDING: dict(enumerate([0.19, 0.23, 0.20, 0.20, 0.22, 0.21])),
}
EXACT = {"abs": 1e-12}


def _rows(path, errors=SIX, **settings):
    return comparison_rows(load_comparison(make_comparison(path, errors, **settings)))


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _printed(rows, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(rows))
    assert all(len(line.rstrip()) <= width for line in captured.get().splitlines())
    return captured.get()


def _change(folder, name, seed, **changes):
    run = RunFolder(run_path(folder, name, seed))
    run.write_result(run.result() | changes)


# ------------------------------------------------------------------------------------------- means and differences


def test_means_and_deviations_are_those_worked_by_hand(tmp_path):
    one_hot, smoothing, _ = (row.metrics for row in _rows(tmp_path))
    # 1.26 / 6; squares of the deviations from 0.21: 1, 1, 0, 4, 4, 0 in units of 1e-4
    assert one_hot["test_error"] == (pytest.approx(0.21, **EXACT), pytest.approx(math.sqrt(10e-4 / 5), **EXACT), 6)
    # 1.14 / 6 = 0.19; deviations -1, 0, 1, -2, 1, 1
    assert smoothing["test_error"][:2] == (pytest.approx(0.19, **EXACT), pytest.approx(math.sqrt(8e-4 / 5), **EXACT))
    # the made curves are 4 e, 2 e, e: 1 - 7 / 3 * 0.19 on average
    expected = {"nll": 0.57, "calibration_error": 0.095, "brier": 0.285, "seconds": 30.0, "parameters": 650_000}
    expected |= {"auac": 1 - 7 * 0.19 / 3, "epoch_seconds": 2.0, "time_ratio": 1.0}
    assert {name: smoothing[name].mean for name in expected} == {name: pytest.approx(v) for name, v in expected.items()}
    assert "top5_error" not in smoothing


def test_paired_differences_are_those_worked_by_hand(tmp_path):
    one_hot, smoothing, embedding = (row.differences for row in _rows(tmp_path))
    assert one_hot == {}
    # differences -2, -3, -1, -2, -3, -1 points: mean -2, squares 0, 1, 1, 0, 1, 1, sd sqrt(4 / 5)
    found, half = smoothing["error"], 2.5705818356363155 * math.sqrt(0.8e-4 / 6)
    assert (found.n, found.difference) == (6, pytest.approx(-0.02, **EXACT))
    assert (found.interval_low, found.interval_high) == pytest.approx((-0.02 - half, -0.02 + half), **EXACT)
    # differences -1, 1, -1, 1, -1, 0: mean -1 / 6, |sum| is 1 or more in every flip of five ones
    assert embedding["error"].difference == pytest.approx(-0.01 / 6, **EXACT)
    # Holm over the two: 2 * 2 / 64, and 1
    assert [(one["error"].p_value, one["error"].p_holm) for one in (smoothing, embedding)] == [(2 / 64, 4 / 64), (1, 1)]
    assert smoothing["nll"].difference == pytest.approx(-0.06, **EXACT)


def test_only_common_seeds_are_paired_and_the_others_are_named(tmp_path):
    errors = {name: dict(by_seed) for name, by_seed in SIX.items()}
    del errors["one_hot"][5]
    rows = _rows(tmp_path, errors)
    assert (rows[0].variant.missing, rows[1].n, rows[1].unpaired) == ([5], 6, (5,))
    assert rows[1].differences["error"][:2] == (5, pytest.approx(-0.022, **EXACT))
    partner = next(note for note in table_notes(rows) if "partner" in note)
    assert all(part in partner for part in ("seed 5", SMOOTHING, EMBEDDING))


def test_temperature_and_topk_have_means_and_paired_differences_each_a_family_for_holm(tmp_path):
    make_comparison(tmp_path, {name: dict.fromkeys(range(6), 0.1 + 0.01 * nth) for nth, name in enumerate("abc")})
    for name in "abc":
        for seed in range(6):
            test = RunFolder(run_path(tmp_path, name, seed)).result()["test"] | {"top5_error": 0.05, "macro_f1": 0.5}
            # After temperature scaling only `b` differs from the baseline, always by the same.
            after = test | {"nll": 0.5 + (name == "b") * 0.1, "calibration_error": 0.02}
            _change(tmp_path, name, seed, test=test, temperature=2.0, calibrated={"temperature": 2.0, "test": after})
    rows = comparison_rows(load_comparison(tmp_path))
    assert rows[1].metrics["calibrated_nll"].mean == pytest.approx(0.6)
    assert rows[1].metrics["temperature"].mean == 2.0
    assert [row.differences["calibrated_nll"].p_holm for row in rows[1:]] == [2 * 2 / 64, 1.0]
    assert [row.differences["error"].p_holm for row in rows[1:]] == [2 * 2 / 64] * 2
    assert rows[1].differences["top5_error"].difference == 0
    printed = _printed(rows)
    assert "5.0 → 2.0" in printed
    assert "NLL after" in printed
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for heading in ("ECE before → after", "ECE after temperature scaling", "top-5 error", "macro-F1"):
        assert heading in page.replace("<wbr>", "")
    line = _read(tmp_path / write_runs_csv(load_comparison(tmp_path), tmp_path / "runs.csv").name)[6]
    assert (line["test_calibrated_nll"], line["temperature"], line["validation_macro_f1"]) == ("0.6", "2.0", "")


def test_a_missing_or_extreme_temperature_is_named(tmp_path):
    rows = _rows(tmp_path / "none")
    assert any(note.startswith("No temperature was fitted") for note in table_notes(rows))
    assert "→" not in _printed(rows)
    make_comparison(tmp_path / "some", {"one_hot": {0: 0.1, 1: 0.2}})
    after = {"temperature": 20.5, "test": metrics(0.1)}
    _change(tmp_path / "some", "one_hot", 0, temperature=20.5, calibrated=after)
    note = table_notes(comparison_rows(load_comparison(tmp_path / "some")))[1]
    assert "Not all runs have one: one_hot (1 of 2)." in note
    assert note.endswith("Extreme, outside 0.05 to 20: one_hot, seed 0; compare the NLL before and after.")


# ---------------------------------------------------------------------------------------------- speed of learning

CURVES = {  # by variant and seed: the validation errors over the epochs
    "one_hot": {0: [0.5, 0.4, 0.3, 0.2], 1: [0.5, 0.2, 0.3, 0.3], 2: [0.5, 0.4, 0.4, 0.1]},
    "label_embedding": {0: [0.4, 0.2, 0.1, 0.2], 1: [0.4, 0.3, 0.2, 0.2], 2: [0.4, 0.3, 0.2, 0.2]},
}


def _with_curves(path, curves=CURVES, *, test=0.9, validation=True):
    describe_comparison(path, [(name, {"name": name}) for name in curves], seeds=range(3))
    for name, by_seed in curves.items():
        for seed, errors in by_seed.items():
            make_run(
                run_path(path, name, seed),
                seed=seed,
                objective={"name": name},
                test=metrics(0.1),
                validation=metrics(0.1) if validation else None,
                history=history_lines([test] * len(errors), errors if validation else [None] * len(errors)),
            )
    return path


def test_speed_is_of_the_validation_examples_and_as_worked_by_hand(tmp_path):
    comparison = load_comparison(_with_curves(tmp_path))
    rows = comparison_rows(comparison)
    one_hot, ours = (row.metrics for row in rows)
    assert (rows[1].split, rows[1].speed_split) == ("test", "validation")
    # accuracies 0.6 0.8 0.9 0.8, and twice 0.6 0.7 0.8 0.8
    assert ours["auac"].mean == pytest.approx((0.775 + 0.725 + 0.725) / 3, **EXACT)
    assert ours["best_accuracy"].mean == pytest.approx((0.9 + 0.8 + 0.8) / 3, **EXACT)
    assert (ours["best_epoch"].mean, one_hot["best_epoch"].mean) == (3.0, pytest.approx(10 / 3, **EXACT))
    # 2 instead of 4 epochs, 3 instead of 2, and never at 0.1
    assert ours["epochs_saved"] == (pytest.approx(0, **EXACT), pytest.approx(math.sqrt(0.5), **EXACT), 2)
    # 2 and 3 of the 4 epochs that the baseline had, as the second paper counts
    assert ours["epochs_saved_of_all"][::2] == (pytest.approx((0.5 + 0.25) / 2, **EXACT), 2)
    assert (ours["epochs_to_baseline"].mean, rows[1].reached, rows[1].reachable) == (2.5, 2, 3)
    assert one_hot["epochs_saved"][:2] == (0.0, 0.0)
    reached = [cell.text for cell in speed_table(rows).lines[1].cells][-3:]
    assert reached[:2] == ["2.5 ± 0.7 (2 of 3)", "0.0 ± 70.7 (2 of 3)"]
    assert reached[2].endswith(" (2 of 3)")
    assert any("over the runs that got there (k of n)" in note for note in table_notes(rows))
    cells = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    assert (cells["speed_measured_on"], cells["epochs_to_baseline_of"], cells["epochs_saved_n"]) == (
        "validation",
        "3",
        "2",
    )
    first, _, never = _read(write_runs_csv(comparison, tmp_path / "runs.csv"))[3:]
    assert (first["best_accuracy"], first["best_epoch"], first["epochs_saved"]) == ("0.9", "3", "0.5")
    assert (never["epochs_to_baseline"], never["epochs_saved"], never["best_epoch"]) == ("", "", "3")


def test_never_reached_gaps_and_unequal_lengths_are_counted_and_named(tmp_path):
    curves = {"one_hot": CURVES["one_hot"], "label_embedding": {0: [0.6], 1: [0.5, float("nan"), 0.3], 2: [0.6]}}
    rows = comparison_rows(load_comparison(_with_curves(tmp_path, curves)))
    assert "epochs_saved" not in rows[1].metrics
    assert (rows[1].reached, rows[1].reachable, rows[1].epochs, rows[1].gaps) == (0, 3, (1, 3), (1,))
    assert rows[1].metrics["auac"].n == 2
    assert "never" in _printed(rows)
    assert any("from 1 to 4 epochs" in note for note in table_notes(rows))
    assert any("gap in the curve" in note and "label_embedding, seed 1" in note for note in table_notes(rows))


def test_without_a_validation_set_speed_is_of_the_test_examples_or_none_is_told_and_why(tmp_path):
    rows = comparison_rows(load_comparison(_with_curves(tmp_path / "test", validation=False)))
    assert rows[1].metrics["auac"].mean == pytest.approx(0.1, **EXACT)
    assert any(note.startswith("Speed is read off the test error") for note in table_notes(rows))
    folder = _with_curves(tmp_path / "none", test=None, validation=False)
    rows = comparison_rows(load_comparison(folder))
    assert not {"auac", "best_accuracy", "epochs_saved"} & rows[1].metrics.keys()
    assert any("`test_every_epoch: true`" in note for note in table_notes(rows))
    assert "Speed of learning" not in _printed(rows) + write_report(folder).read_text(encoding="utf-8")
    run = load_comparison(folder).variants[0].runs[0]
    assert run_speed(run, None, "test") == {}


# ------------------------------------------------------------------------------------------------------------ cost


def _timed(path, device="cpu", words=("labelembed", "compare", "digits-mlp"), **environment):
    make_comparison(path, {"one_hot": {0: 0.2, 1: 0.2}, "label_embedding": {0: 0.1, 1: 0.1}})
    for name, seconds in (("one_hot", {0: 2.0, 1: 4.0}), ("label_embedding", {0: 3.0, 1: 8.0})):
        for seed, value in seconds.items():
            run = RunFolder(run_path(path, name, seed))
            lines = [line | {"training_seconds": value} for line in run.history()]
            (run.path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            kind = "process" if name == "one_hot" else ("gpu", "process")[seed]
            _change(path, name, seed, peak_memory={"bytes": 2**20 * (seed + 1), "of": kind})
            run.write_environment(ENVIRONMENT | {"device": device, "command": list(words), **environment})
    return comparison_rows(load_comparison(path))


def test_cost_is_paired_by_seed_and_kinds_of_memory_are_not_mixed(tmp_path):
    one_hot, ours = (row.metrics for row in _timed(tmp_path))
    assert "time_ratio" not in one_hot
    assert ours["time_ratio"].mean == pytest.approx((1.5 + 2.0) / 2)
    assert one_hot["process_memory"].mean == 1.5 * 2**20
    assert [ours[name][::2] for name in ("gpu_memory", "process_memory")] == [(2**20, 1), (2 * 2**20, 1)]


@pytest.mark.parametrize(
    ("environment", "rough"),
    [
        ({}, True),  # as many at once as there are cores
        ({"words": ["labelembed", "compare", "digits-mlp", "--jobs", "1"]}, False),
        ({"device": "NVIDIA"}, False),
        ({"words": ["notebook"], "threads": 1}, True),  # compare() of Python
        ({"words": ["notebook"], "threads": 2}, False),
        ({"words": ["labelembed", "train", "digits-mlp"], "threads": 1}, False),
    ],
)
def test_ratios_of_runs_that_shared_the_machine_are_marked_everywhere(environment, rough, tmp_path):
    rows = _timed(tmp_path, **environment)
    assert rows[0].shared_machine is rough
    printed, page = _printed(rows), write_report(tmp_path).read_text(encoding="utf-8")
    verdict = page[page.index('id="verdict"') : page.index('id="metrics"')]
    assert ("≈1.75 ± 0.35" in printed) is rough
    assert ("≈1.75\u00d7" in verdict) is rough
    assert any(note.startswith("≈: runs shared the machine") for note in table_notes(rows)) is rough
    assert (r"$\approx$1.75" in write_report(tmp_path, format="latex").read_text()) is rough


# --------------------------------------------------------------------------------------------- files, tables, print


def test_csv_has_every_number_to_the_last_digit(tmp_path):
    rows = _rows(tmp_path)
    lines = _read(write_report(tmp_path, format="csv"))
    assert [line["variant"] for line in lines] == list(SIX)
    for row, line in zip(rows, lines, strict=True):
        for metric in ALL_METRICS:
            summary, column = row.metrics.get(metric.attribute), metric.attribute
            assert line[f"{column}_mean"] == ("" if summary is None else repr(summary.mean))
            assert line[f"{column}_n"] == ("0" if summary is None else str(summary.n))
    found = rows[1].differences
    for prefix, difference in (("", found["error"]), ("nll_", found["nll"])):
        assert float(lines[1][f"{prefix}interval_low"]) == difference.interval_low
        assert float(lines[1][f"{prefix}p_holm"]) == difference.p_holm
        assert float(lines[1][f"{prefix}detectable_difference"]) == difference.detectable
    assert lines[0]["difference"] == lines[1]["top5_difference"] == ""
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_csv(rows, tmp_path / "nowhere" / "comparison.csv")


def test_runs_csv_has_every_run_with_those_that_failed(tmp_path):
    make_comparison(tmp_path, SIX)
    fail_run(run_path(tmp_path, SMOOTHING, 3), "loss, with a comma\nand a second line", seed=3)
    lines = _read(write_runs_csv(load_comparison(tmp_path), tmp_path / "runs.csv"))
    by_run = {(line["variant"], int(line["seed"])): line for line in lines}
    assert len(by_run) == 18
    kept = by_run["one_hot", 4]
    assert (float(kept["test_error"]), float(kept["test_nll"]), kept["parameters"]) == (0.23, 3 * 0.23, "650000")
    failed = by_run[SMOOTHING, 3]
    assert (failed["status"], failed["message"]) == ("failed", "loss, with a comma\nand a second line")
    assert failed["test_error"] == ""


def test_the_interval_over_seeds_and_examples_stands_in_every_table(tmp_path):
    make_comparison(tmp_path, SIX)
    assert "examples" not in _printed(comparison_rows(load_comparison(tmp_path)))
    for name, by_seed in SIX.items():
        for seed, error in by_seed.items():
            leave_examples(run_path(tmp_path, name, seed), np.arange(100) < round(100 * (1 - error)))
    rows = comparison_rows(load_comparison(tmp_path))
    found = rows[1].differences["error"]
    # Wider than over seeds alone, around the same difference.
    assert found.joint.low < found.interval_low
    assert found.joint.low + found.joint.high == pytest.approx(2 * found.difference, **EXACT)
    line = _read(write_csv(rows, tmp_path / "comparison.csv"))[1]
    assert float(line["joint_interval_low"]) == found.joint.low
    assert float(line["nll_joint_interval_high"]) == rows[1].differences["nll"].joint.high
    shown = f"{100 * found.joint.low:.2f} to {100 * found.joint.high:.2f}"
    assert shown in _printed(rows)
    assert shown in write_report(tmp_path).read_text(encoding="utf-8").replace("\u2212", "-")


def _page_cells(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    tables = re.findall(r'<table[^>]* data-table="([\w-]+)">(.*?)</table>', html, flags=re.DOTALL)
    return {
        name: [
            [" ".join(re.sub("<[^>]+>", "", cell).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body.replace("\n", " "), flags=re.DOTALL)[1:]
        ]
        for name, body in tables
    }


def test_markdown_and_latex_have_the_cells_of_the_page(tmp_path, monkeypatch):
    folder = make_comparison(tmp_path, SIX)
    page, comparison = _page_cells(folder), load_comparison(folder)
    markdown = write_report(folder, format="markdown").read_text(encoding="utf-8")
    latex = write_report(folder, format="latex").read_text(encoding="utf-8")
    tables = report_tables(comparison, comparison_rows(comparison))
    assert [table.key for table in tables] == ["metrics", "differences", "other-metrics", "speed", "cost"]
    for table in tables:
        for line, shown in zip(table.lines, page[table.key], strict=True):
            cells = [line.name, *(cell.text for cell in line.cells)]
            assert [text.replace("\u2212", "-").replace("\u2013", "-") for text in shown] == cells
            assert f"| {' | '.join(map(markdown_text, cells))} |" in markdown
            assert " & ".join(map(latex_text, cells)) + r" \\" in latex
    assert "$-$2.94 to $-$1.06" in latex
    signs = r"a\_b 5 \% \& \$x\$ \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert latex_text("a_b 5 % & $x$ {c} ~^\\") == signs
    assert markdown_text("a|b <i> *c* `d`") == r"a\|b \<i\> \*c\* \`d\`"
    monkeypatch.chdir(tmp_path)
    assert succeed("report", folder, "--format", "markdown", "-o", "mine.md").out.strip() == "mine.md"
    with pytest.raises(RunFolderError, match=r"unknown format 'word'.*there are: csv, html, latex, markdown"):
        write_report(folder, format="word")


def test_print_is_whole_in_narrow_terminals_and_pipes_and_holds_no_markup(tmp_path, capsys, monkeypatch):
    printed = _printed(_rows(tmp_path / "six"))
    for said in ("21.00 ± 1.41", "-2.94 to -1.06", "0.062"):
        assert said in printed
    name = "label_embedding embedding=[red]x"
    make_comparison(tmp_path / "markup", {"one_hot": SIX["one_hot"], name: SIX[SMOOTHING]})
    comparison = load_comparison(tmp_path / "markup")
    printed = _printed(comparison_rows(comparison), 80)
    assert "embedding=[red]x" in printed
    assert "…" not in printed
    monkeypatch.delenv("COLUMNS", raising=False)
    print_comparison(comparison)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "Minimum detectable difference" in printed
    assert max(len(line) for line in printed.splitlines()) <= 100


def test_notes_say_what_so_few_seeds_cannot_show(tmp_path):
    def of(seeds, more=()):
        errors = SIX | {f"label_smoothing smoothing={s}": SIX[SMOOTHING] for s in more}
        chosen = {name: {seed: by[seed] for seed in range(seeds)} for name, by in errors.items()}
        return _rows(tmp_path / f"{seeds} {len(more)}", chosen)

    five = of(5)
    assert five[1].differences["error"].p_value is None
    assert any("with 5 seeds the exact sign-flip p cannot fall below 0.0625" in note for note in table_notes(five))
    assert not any("Holm" in note for note in table_notes(five))
    many = table_notes(of(6, (0.1, 0.2)))
    assert any("corrected by Holm over 4 comparisons" in note for note in many)
    assert any("cannot fall below 0.12," in note for note in many)
    six = of(6)
    note = next(note for note in table_notes(six) if note.startswith("Minimum detectable difference"))
    for row in six[1:]:
        assert f"{100 * row.differences['error'].detectable:.2f} points ({row.name})" in note
    one = of(1)
    assert math.isnan(one[1].metrics["test_error"].standard_deviation)
    assert "±" not in _printed(one)
    assert any("one seed there is neither an interval nor a p" in note for note in table_notes(one))
    line = _read(write_csv(one, tmp_path / "c.csv"))[1]
    assert (line["test_error_sd"], line["interval_low"], line["p_value"]) == ("", "", "")


def test_translations_are_decided_by_bleu_and_their_notes_are_of_it(tmp_path):
    make_comparison(tmp_path, {"one_hot": {0: 0.4, 1: 0.4}, "label_embedding": {0: 0.4, 1: 0.3}})
    for name in ("one_hot", "label_embedding"):
        for seed in (0, 1):
            test = {"error": 0.4, "bleu": 0.2 + 0.01 * seed, "brevity_penalty": 0.9, "length_ratio": 0.95, "chrf": 0.4}
            _change(tmp_path, name, seed, test=test, calibration="none, for a corpus")
    rows = comparison_rows(load_comparison(tmp_path))
    printed, notes = _printed(rows), table_notes(rows)
    for heading in ("BLEU", "brevity", "length", "token"):
        assert heading in printed
    assert any(note.startswith("Differences are test BLEU minus that of one_hot") for note in notes)
    assert any(note.startswith("Speed is read off the validation token error") for note in notes)
    assert "Temperature scaling is for classifiers; the tokens of a corpus take none." in notes
