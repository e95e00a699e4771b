"""Runs and comparisons from Python: made, read, with the numbers of their files to the last digit, in a notebook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import labelembed
from labelembed.lab import report
from tests.made_cli import call
from tests.made_in_process import make_runs_here
from tests.made_runs import fail_run, history_lines, make_comparison, make_run, metrics, run_path
from tests.made_texts import reviews, write_csv

DOCS = Path(__file__).parents[1] / "docs"
SHORT = {"epochs": 1, "data.train_examples": 200, "model.hidden_sizes": [8]}

ERRORS = {
    "one_hot": {0: 0.0213, 1: 0.0191, 2: 1 / 30},
    "label_embedding temperature=3": {0: 0.0171, 1: 0.02, 2: 1 / 70},
}


@pytest.fixture
def folder(tmp_path):
    """Returns a comparison with one failed run, and the CSV files beside it."""
    path = make_comparison(tmp_path / "compared", ERRORS)
    (run_path(path, "one_hot", 1) / "result.json").unlink()
    fail_run(run_path(path, "one_hot", 1), "the loss is not finite", seed=1)
    read = report.load_comparison(path)
    report.write_csv(report.comparison_rows(read), path / "comparison.csv")
    report.write_csv(report.runs_table(read), path / "runs.csv")
    return path


def as_written(value):
    """Returns a value as the CSV file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def test_rows_say_the_errors_that_went_in(folder):
    baseline, ours = labelembed.Comparison.load(folder).rows()
    assert (baseline["is_baseline"], ours["is_baseline"]) == (True, False)
    assert baseline["test_error_mean"] == pytest.approx((0.0213 + 1 / 30) / 2, rel=1e-15)
    assert ours["difference"] == pytest.approx((0.0171 - 0.0213 + 1 / 70 - 1 / 30) / 2, rel=1e-12)
    assert baseline["failed_seeds"] == "1"
    assert baseline["difference"] is None
    assert ours["temperature_mean"] is None
    json.dumps([baseline, ours], allow_nan=False)  # no NaN for a number that there is not


def test_comparison_gives_its_runs(folder):
    comparison = labelembed.Comparison.load(folder)
    assert comparison.variants == list(ERRORS)
    assert (comparison.seeds, comparison.baseline) == ([0, 1, 2], "one_hot")
    run = comparison.run("label_embedding temperature=3", 2)
    assert run.result["test"]["error"] == 1 / 70
    assert run.recipe["seed"] == 2
    with pytest.raises(ValueError, match=r"`variant` must be one of .*, got 'onehot' \(did you mean 'one_hot'\?\)"):
        comparison.run("onehot", 0)
    with pytest.raises(ValueError, match=r"\(0, 2\), got 1: the loss is not finite"):
        comparison.run("one_hot", 1)


def test_history_is_a_row_an_epoch(tmp_path):
    history = history_lines([0.5, None, 0.125])
    make_run(tmp_path / "run", history=history, test=metrics(0.125))
    run = labelembed.Run.load(tmp_path / "run")
    table = run.table()
    assert run.history == history
    assert table["train_output"].tolist() == [0.5, 0.25, 0.5 / 3]
    assert list(table)[:2] == ["seconds", "learning_rate"]
    assert table.loc[3, "validation_nll"] == 0.375
    assert table["test_error"].isna().tolist() == [False, True, False]
    assert table.index.tolist() == [1, 2, 3]


def test_run_that_still_goes_shows_its_history(tmp_path):
    make_run(tmp_path / "run", history=history_lines([0.5]), test=metrics(0.5))
    (tmp_path / "run" / "result.json").unlink()
    run = labelembed.Run.load(tmp_path / "run")
    assert (run.state, run.result, len(run.table())) == ("unfinished", {}, 1)
    assert "unfinished" in run._repr_html_()
    with pytest.raises(labelembed.RunFolderError, match="has not finished; labelembed resume"):
        run.probabilities(torch.zeros(1, 8))


def test_trained_run_predicts_as_saved_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    called = call(
        "train", "digits-mlp", "--set", "epochs=1", "--set", "data.train_examples=200", "--out", "run", "--quiet"
    )
    assert called.code == 0, called.err
    run = labelembed.Run.load("run")
    inputs = torch.randint(0, 17, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = labelembed.SavedRun.load("run").predict(inputs, ["a", "b", "c"])
    assert run.predict(inputs, ["a", "b", "c"]) == expected
    assert [row["input"] for row in run.predict(inputs)] == ["0", "1", "2"]
    assert run.probabilities(inputs).tolist() == [list(row["probabilities"].values()) for row in expected]
    assert run.labels.names == run.saved.names
    assert run.table()["validation_error"].tolist() == [run.result["validation"]["error"]]
    assert "test_error" not in run.table()  # measured once, not after each epoch


@pytest.mark.parametrize("kind", [labelembed.Run, labelembed.Comparison])
def test_what_is_no_such_folder_is_said_with_its_path(kind, tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "other").mkdir()
    for name in ("absent", "file", "other"):
        with pytest.raises(labelembed.RunFolderError) as error:
            kind.load(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_comparison_folder_is_no_run(folder):
    with pytest.raises(labelembed.RunFolderError, match="it is a comparison folder, its runs are below runs/"):
        labelembed.Run.load(folder)


def test_damaged_history_is_refused(tmp_path):
    make_run(tmp_path / "run", history=history_lines([0.5, 0.25])[::-1], test=metrics(0.25))
    with pytest.raises(labelembed.RunFolderError, match=r"run/history.jsonl: damaged, epoch 1 stands after epoch 2"):
        labelembed.Run.load(tmp_path / "run")


def test_html_shows_the_reports_cells_and_escapes(tmp_path):
    path = make_comparison(tmp_path / "compared", {"one_hot": {0: 0.02}, "<script>": {0: 0.01}})
    shown = labelembed.Comparison.load(path)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert ">2.00</td>" in shown
    run = make_run(tmp_path / "run", objective={"name": "<b>"}, test=metrics(0.25), history=history_lines([0.25]))
    shown = labelembed.Run.load(run.path)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<th>test</th>" in shown
    assert "<td>0.25" in shown


def test_html_of_a_comparison_has_the_figure_of_the_report(folder):
    shown = labelembed.Comparison.load(folder)._repr_html_()
    assert shown.count("<svg") == 1
    assert "error minus that of cross entropy" in shown
    assert "://" not in shown.replace("http://www.w3.org", "")


# ----------------------------------------------------------------------------------------------------- compare


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, where runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    return tmp_path


def test_compare_does_what_the_verb_does(here):
    objectives = ["one_hot", "label_smoothing:smoothing=0.2"]
    made = labelembed.compare("digits-mlp", objectives=objectives, seeds=2, settings=SHORT, out="one", quiet=True)
    words = ["--objectives", ",".join(objectives), "--seeds", 2, "--out", "other", "--quiet", "--json"]
    words += [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    rows = call("compare", "digits-mlp", *words).json
    for row, ours in zip(rows, made.rows(), strict=True):
        assert row.keys() == ours.keys()
        for column in ("variant", "n", "test_error_mean", "nll_sd", "difference", "difference_n"):
            assert row[column] == ours[column]
    assert made.path == Path("one")
    assert made.table()["variant"].tolist() == ["one_hot", "label_smoothing smoothing=0.2"]
    assert made.verdict() == labelembed.Comparison.load("one").verdict()
    for file in ("comparison.csv", "runs.csv", "report.html"):
        assert Path("one", file).is_file()
    assert made.report("page.html").read_text() == Path("one/report.html").read_text()
    more = labelembed.compare("digits-mlp", objectives=["one_hot"], seeds=[5], settings=SHORT, out="one", quiet=True)
    assert more.variants == made.variants
    assert sorted(more.read.variants[0].runs) == [0, 1, 5]


def test_compare_takes_data_without_a_recipe_and_its_runs_read_texts(here, capsys):
    write_csv(here / "reviews.csv", reviews(60), "review", "stars")
    settings = {"epochs": 1, "batch_size": 10}
    made = labelembed.compare(data="reviews.csv", objectives="one_hot,label_embedding", seeds=1, settings=settings)
    assert made.path == Path("comparisons/reviews-text-bag-small")
    assert capsys.readouterr().err.startswith("60 texts, ")
    run = made.run("label_embedding", 0)
    texts = [text for text, _ in reviews(3)]
    rows = run.predict(texts)
    assert [row["input"] for row in rows] == texts
    Path("new.txt").write_text("".join(f"{text}\n" for text in texts))
    assert [row["probabilities"] for row in run.predict("new.txt")] == [row["probabilities"] for row in rows]
    assert run.labels.names == run.saved.names
    (alone,) = run.predict(texts[0])
    assert alone["label"] == rows[0]["label"]


def test_compare_takes_a_data_frame(here):
    import pandas

    frame = pandas.DataFrame(reviews(60), columns=["review", "stars"])
    asked = {"objectives": "one_hot", "seeds": 1, "settings": {"epochs": 1, "batch_size": 10}, "quiet": True}
    made = labelembed.compare(data=frame, **asked)
    write_csv(here / "reviews.csv", reviews(60), "review", "stars")
    from_file = labelembed.compare(data="reviews.csv", **asked)
    assert made.table()["nll_mean"].tolist() == from_file.table()["nll_mean"].tolist()
    assert labelembed.compare(data=frame, **asked).path == made.path
    assert labelembed.compare(data=frame[:50], **asked).path != made.path  # other data have a folder of their own


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({}, labelembed.RecipeError, "RECIPE: missing"),
        ({"recipe": "digits-mlp", "seeds": 0}, labelembed.RecipeError, "seeds"),
        ({"recipe": "digits-mlp", "objectives": []}, labelembed.RecipeError, "no objective to compare"),
        ({"recipe": "digits-mlp", "settings": {"epohcs": 3}}, labelembed.RecipeError, "did you mean 'epochs'"),
        ({"data": "nowhere"}, labelembed.DataError, "nowhere: does not exist"),
    ],
)
def test_compare_refuses_what_the_verb_refuses(here, wrong, error, said):
    with pytest.raises(error, match=re.escape(said)):
        labelembed.compare(**wrong)
    assert list(here.iterdir()) == []


def test_compare_of_runs_that_all_fail_raises(here):
    with pytest.raises(labelembed.TrainingError, match=r"one_hot seed 0: .*the loss is not finite"):
        labelembed.compare(
            "digits-mlp",
            objectives=["one_hot"],
            seeds=1,
            settings=SHORT | {"optimizer.learning_rate": 1e30},
            quiet=True,
        )


def test_a_script_without_a_main_guard_compares_and_goes_on_after_ctrl_c(tmp_path):
    """Real processes: a fork server's process would import the script and so call it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import labelembed\n"
        "print('begun', flush=True)\n"
        "settings = {'epochs': 60, 'model.hidden_sizes': [8]}\n"
        "made = labelembed.compare('digits-mlp', objectives=['one_hot'], seeds=2, settings=settings, jobs=2)\n"
        "print(made.variants, sorted(made.read.variants[0].runs))\n"
    )
    interrupted = (
        "import _thread, pathlib, runpy, threading, time\n"
        "def stop():\n"
        "    while not any(path.stat().st_size for path in pathlib.Path().rglob('history.jsonl')):\n"
        "        time.sleep(0.02)\n"
        "    _thread.interrupt_main()\n"
        "threading.Thread(target=stop, daemon=True).start()\n"
        "runpy.run_path('script.py', run_name='__main__')\n"
    )
    stopped = subprocess.run([sys.executable, "-c", interrupted], cwd=tmp_path, capture_output=True, text=True)
    assert stopped.returncode not in (0, 2), stopped.stderr
    assert "KeyboardInterrupt" in stopped.stderr
    assert "stopped; finished runs are kept. To go on, call the same again" in stopped.stderr
    assert list(tmp_path.rglob("checkpoints/step-*"))
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "begun\n['one_hot'] [0, 1]\n"
    assert "[2/2]" in ran.stderr
    assert time.perf_counter() - began < 120


# -------------------------------------------------------------------------------------------------- a notebook


def test_the_notebook_of_the_docs_runs(tmp_path):
    """The page's block, a cell for each paragraph, in a kernel of its own."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    from nbformat.v4 import new_code_cell, new_notebook

    block = re.findall(r"^```python\n(.*?)^```", (DOCS / "notebook.md").read_text(), flags=re.MULTILINE | re.DOTALL)[0]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in block.strip().split("\n\n")])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    shown = [output.get("data", {}).get("text/html", "") for cell in notebook.cells for output in cell.outputs]
    assert any("<progress value='1.0000'" in html for html in shown)  # the bar is full
    assert any("<svg" in html and "label smoothing" in html for html in shown)
    assert any("<table" in html and "validation_error" in html for html in shown)
    errors = "".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)
    assert "%|" not in errors
    assert "[1/" not in errors  # where there is a bar there are no lines
