"""The numbers of the comparison, held to hand computation, and the files, tables and print they go into."""

from __future__ import annotations

import json
import math

import pytest
from scipy.stats import ttest_1samp

from labelembed.lab.report import comparison_rows, load_comparison, print_comparison, write_report
from labelembed.lab.report.formatting import markdown_text, typeset
from labelembed.lab.report.tables import differences_to_baseline, report_tables, runs_table
from labelembed.lab.training.run_folder import RunFolder
from tests.made_runs import change_result, fail_run, make_comparison, run_path

SMOOTHING, EMBEDDING = "label_smoothing smoothing=0.4", "label_embedding preset=paper"
SIX = {
    "one_hot": dict(enumerate([0.20, 0.22, 0.21, 0.19, 0.23, 0.21])),
    SMOOTHING: dict(enumerate([0.18, 0.19, 0.20, 0.17, 0.20, 0.20])),
    EMBEDDING: dict(enumerate([0.19, 0.23, 0.20, 0.20, 0.22, 0.21])),
}
EXACT = {"abs": 1e-12}


def rows_of(path, errors=SIX, **settings):
    """Returns the lines of the comparison by variant."""
    return comparison_rows(load_comparison(make_comparison(path, errors, **settings))).set_index("variant")


def tables_of(folder):
    comparison = load_comparison(folder)
    return {key: table.frame for key, table in report_tables(comparison, comparison_rows(comparison)).items()}


def test_means_deviations_and_paired_differences_are_those_worked_by_hand(tmp_path):
    rows = rows_of(tmp_path)
    # 1.26 / 6; squares of the deviations from 0.21: 1, 1, 0, 4, 4, 0 in units of 1e-4; of 0.19: 1, 0, 1, 4, 1, 1
    assert rows["test_error_mean"].tolist()[:2] == pytest.approx([0.21, 0.19], **EXACT)
    assert rows["test_error_sd"].tolist()[:2] == pytest.approx([math.sqrt(2e-4), math.sqrt(1.6e-4)], **EXACT)
    expected = {"nll": 0.57, "calibration_error": 0.095, "brier": 0.285, "seconds": 30.0, "parameters": 650_000}
    expected |= {"epoch_seconds": 2.0, "time_ratio": 1.0}
    found = {name: rows[f"{name}_mean"][SMOOTHING] for name in expected}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}
    assert rows["top5_error_n"].tolist() == [0, 0, 0]
    # differences -2, -3, -1, -2, -3, -1 points: mean -2, squares 0, 1, 1, 0, 1, 1, sd sqrt(4 / 5)
    found, half = rows.loc[SMOOTHING], 2.5705818356363155 * math.sqrt(0.8e-4 / 6)
    assert (found["difference_n"], found["difference"]) == (6, pytest.approx(-0.02, **EXACT))
    assert (found["interval_low"], found["interval_high"]) == pytest.approx((-0.02 - half, -0.02 + half), **EXACT)
    # Holm over the two: twice the smaller, and the other as it is
    p_values, twice = rows["p_value"].tolist()[1:], 2 * ttest_1samp([2, 3, 1, 2, 3, 1], 0).pvalue
    assert rows["p_holm"].tolist()[1:] == [pytest.approx(twice, **EXACT), p_values[1]]
    assert found["nll_difference"] == pytest.approx(-0.06, **EXACT)
    assert (rows["difference_n"]["one_hot"], math.isnan(rows["difference"]["one_hot"])) == (0, True)


def test_only_common_seeds_are_paired_and_the_others_are_named(tmp_path):
    errors = {name: dict(by_seed) for name, by_seed in SIX.items()}
    del errors["one_hot"][5]
    rows = rows_of(tmp_path, errors)
    assert rows["missing_seeds"]["one_hot"] == rows["unpaired_seeds"][SMOOTHING] == "5"
    assert (rows["difference_n"][SMOOTHING], rows["difference"][SMOOTHING]) == (5, pytest.approx(-0.022, **EXACT))
    assert "smoothing 0.4: cross entropy, seeds 5" in write_report(tmp_path).read_text(encoding="utf-8")


def test_metrics_after_temperature_scaling_are_families_of_their_own_for_holm(tmp_path):
    errors = {
        name: {seed: 0.1 + 0.01 * nth + 0.001 * (seed % (nth + 2)) for seed in range(6)}
        for nth, name in enumerate("abc")
    }
    make_comparison(tmp_path, errors)
    for name in "abc":
        for seed in range(6):
            test = RunFolder(run_path(tmp_path, name, seed)).result()["test"] | {"top5_error": 0.05, "macro_f1": 0.5}
            # After temperature scaling only `b` differs from the baseline.
            nll = 0.5 + (name == "b") * (0.1 + 0.01 * seed)
            after = {"temperature": 2.0, "test": test | {"nll": nll, "calibration_error": 0.02}}
            change_result(tmp_path, name, seed, test=test, temperature=2.0, calibrated=after)
    comparison = load_comparison(tmp_path)
    rows, differences = comparison_rows(comparison), differences_to_baseline(comparison)
    assert (rows["calibrated_nll_mean"][1], rows["temperature_mean"][1]) == (pytest.approx(0.625), 2.0)
    alone, *others = (differences[name][metric] for metric in ("calibrated_nll", "error") for name in "bc")
    assert (alone.p_holm, others[0].p_value) == (
        alone.p_value,
        None,
    )  # without a spread there is nothing to correct for
    assert min(one.p_holm for one in others[1:]) == 2 * min(one.p_value for one in others[1:])
    tables = tables_of(tmp_path)
    assert list(tables["metrics"]) == [
        *("variant", "test error (%)", "NLL after temperature scaling (nats)", "ECE after temperature scaling (%)"),
        *("top-5 error (%)", "time ratio"),
    ]
    assert "macro-F1 (%)" in tables["other-metrics"]


def test_cost_is_paired_by_seed_and_memory_is_that_of_a_gpu(tmp_path):
    make_comparison(tmp_path, {"one_hot": {0: 0.2, 1: 0.2}, "label_embedding": {0: 0.1, 1: 0.1}})
    for name, seconds in (("one_hot", (2.0, 4.0)), ("label_embedding", (3.0, 8.0))):
        for seed, value in enumerate(seconds):
            run = RunFolder(run_path(tmp_path, name, seed))
            lines = [json.dumps(line | {"training_seconds": value}) for line in run.history()]
            (run.path / "history.jsonl").write_text("\n".join(lines))
            kind = "process" if name == "one_hot" else ("gpu", "process")[seed]
            change_result(tmp_path, name, seed, peak_memory={"bytes": 2**20 * (seed + 1), "of": kind})
    one_hot, ours = (row for _, row in comparison_rows(load_comparison(tmp_path)).iterrows())
    assert (one_hot["time_ratio_mean"], ours["time_ratio_mean"]) == (1, pytest.approx((1.5 + 2.0) / 2))
    assert (one_hot["gpu_memory_n"], ours["gpu_memory_mean"]) == (0, 2**20)


def test_tables_of_page_markdown_and_latex_have_the_same_numbers(tmp_path):
    make_comparison(tmp_path, SIX)
    page, markdown, latex = (write_report(tmp_path, format=one).read_text() for one in ("html", "markdown", "latex"))
    comparison = load_comparison(tmp_path)
    for table in report_tables(comparison, comparison_rows(comparison)).values():
        part = page[page.index(f'" data-table="{table.key}"') :].split("</table>")[0]
        for cell in table.frame.to_numpy().ravel():
            assert typeset(cell) in part
            assert markdown_text(cell) in markdown
            written = typeset(cell).replace("\u00b1", r"$\pm$").replace("%", r"\%").replace("\u2212", "$-$")
            assert written in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\toprule") == markdown.count("## ")


def test_runs_table_has_a_line_for_every_run(tmp_path):
    make_comparison(tmp_path, SIX)
    fail_run(run_path(tmp_path, "one_hot", 2), "the loss is nan", seed=2)
    (run_path(tmp_path, SMOOTHING, 1) / "result.json").unlink()
    table = runs_table(load_comparison(tmp_path))
    assert table["status"].value_counts().to_dict() == {"finished": 16, "failed": 1, "missing": 1}
    assert (table.loc[2, "message"], table.loc[0, "test_error"]) == ("the loss is nan", 0.20)


@pytest.mark.parametrize("variants", [3, 40])
def test_the_terminal_gets_twelve_lines_with_answer_table_and_page(variants, tmp_path, capsys):
    errors = {f"label_smoothing smoothing={nth / 100}": SIX[SMOOTHING] for nth in range(1, variants - 1)}
    make_comparison(tmp_path, {"one_hot": SIX["one_hot"], EMBEDDING: SIX[EMBEDDING]} | errors)
    about = json.loads((tmp_path / "comparison.json").read_text())
    (tmp_path / "comparison.json").write_text(json.dumps(about | {"notes": ["A note.", "Another."]}))
    print_comparison(load_comparison(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 12
    assert lines[0].startswith(("No ", "Label embedding"))
    assert str(tmp_path / "report.html") in lines[-1]
    assert any(line.startswith("cross entropy") and "21.00" in line for line in lines)
    assert "A note." in write_report(tmp_path).read_text()  # the page has what was said before the runs


def test_translations_have_bleu_lengths_and_token_errors(tmp_path):
    make_comparison(tmp_path, {"one_hot": {0: 0.4, 1: 0.4}, "label_embedding": {0: 0.4, 1: 0.3}})
    for name in ("one_hot", "label_embedding"):
        for seed in (0, 1):
            test = {"error": 0.4, "bleu": 0.2 + 0.01 * seed, "brevity_penalty": 0.9, "length_ratio": 0.95, "chrf": 0.4}
            change_result(tmp_path, name, seed, test=test, calibration="none, for a corpus")
    frame = tables_of(tmp_path)["metrics"]
    assert list(frame) == ["variant", "BLEU", "length ratio", "chrF", "test token error (%)", "time ratio"]
    assert frame.iloc[0].tolist()[1:4] == ["20.50 ± 0.71", "0.950 ± 0.000", "40.00 ± 0.00"]
