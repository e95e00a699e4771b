"""Runs and comparisons from Python: made, read, with the numbers of their files to the last digit, in a notebook."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import labelembed
from labelembed.lab.runs.results import best_run
from tests.made_cli import call, succeed
from tests.made_in_process import make_runs_here
from tests.made_runs import fail_run, history_lines, make_comparison, make_run, metrics, run_path
from tests.made_texts import reviews, write_csv

DOCS = Path(__file__).parents[1] / "docs"
ONE_EPOCH = {"objectives": "one_hot", "seeds": 1, "settings": {"epochs": 1, "batch_size": 10}, "quiet": True}
SHORT = {"epochs": np.int64(1), "data.train_examples": 200, "model.hidden_sizes": np.array([8])}

ERRORS = {
    "one_hot": {0: 0.0213, 1: 0.0191, 2: 1 / 30},
    "label_embedding temperature=3": {0: 0.0171, 1: 0.02, 2: 1 / 70},
}


@pytest.fixture
def folder(tmp_path):
    """A comparison with one failed run."""
    path = make_comparison(tmp_path / "compared", ERRORS)
    (run_path(path, "one_hot", 1) / "result.json").unlink()
    fail_run(run_path(path, "one_hot", 1), "the loss is not finite", seed=1)
    return path


def test_comparison_gives_rows_without_nan_its_finished_runs_and_names_those_that_failed(folder):
    comparison = labelembed.Comparison.load(folder)
    baseline, ours = comparison.rows()
    assert (baseline["failed_seeds"], baseline["difference"], ours["temperature_mean"]) == ("1", None, None)
    json.dumps([baseline, ours], allow_nan=False)
    assert comparison.variants == list(ERRORS)
    assert comparison.failed == {"one_hot seed 1": "the loss is not finite"}
    run = comparison.run("label_embedding temperature=3", 2)
    assert (run.result["test"]["error"], run.recipe["seed"]) == (1 / 70, 2)
    for variant, seed in (("onehot", 0), ("one_hot", 1)):
        with pytest.raises(ValueError, match=f"'{variant}', {seed}"):
            comparison.run(variant, seed)


def test_history_is_a_row_an_epoch_also_of_a_run_that_still_goes(tmp_path):
    history = history_lines([0.5, None, 0.125])
    make_run(tmp_path / "run", history=history, test=metrics(0.125))
    (tmp_path / "run" / "result.json").unlink()
    run = labelembed.Run.load(tmp_path / "run")
    table = run.table()
    assert (run.state, run.result, run.history) == ("unfinished", {}, history)
    assert table["train_output"].tolist() == [0.5, 0.25, 0.5 / 3]
    assert table["test_error"].isna().tolist() == [False, True, False]
    assert (table.index.tolist(), table.loc[3, "validation_nll"]) == ([1, 2, 3], 0.375)
    with pytest.raises(labelembed.RunFolderError, match="labelembed resume"):
        run.predict(torch.zeros(1, 8))


def test_best_run_of_a_comparison_is_that_of_the_lowest_validation_error(folder):
    assert best_run(folder) == run_path(folder, "label_embedding temperature=3", 2)
    assert best_run(folder, without="label_embedding").parent.name.startswith("one_hot")
    assert best_run(best_run(folder)) == best_run(folder)


def test_trained_run_predicts_as_saved_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    succeed("train", "digits-mlp", "--epochs", 1, "--set", "data.train_examples=200", "--out", "run", "--quiet")
    run = labelembed.Run.load("run")
    inputs = torch.randint(0, 17, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    rows = run.predict(inputs, ["a", "b", "c"])
    assert rows == labelembed.SavedRun.load("run").predict(inputs, ["a", "b", "c"])
    assert [row["input"] for row in run.predict(inputs)] == ["0", "1", "2"]
    assert run.labels.names == run.saved.names
    assert run.table()["validation_error"].tolist() == [run.result["validation"]["error"]]
    assert "test_error" not in run.table()  # measured once, not after each epoch


def test_what_cannot_be_read_is_refused_with_its_path(folder, tmp_path):
    (tmp_path / "file").write_text("text")
    make_run(tmp_path / "damaged", history=history_lines([0.5, 0.25])[::-1], test=metrics(0.25))
    for kind in (labelembed.Run, labelembed.Comparison):
        for name in ("absent", "file", "damaged" if kind is labelembed.Run else "."):
            with pytest.raises(labelembed.RunFolderError) as error:
                kind.load(tmp_path / name)
            assert str(error.value).startswith(f"{tmp_path / name}")
    with pytest.raises(labelembed.RunFolderError, match="its runs are below runs/"):
        labelembed.Run.load(folder)


def test_html_has_cells_and_figure_of_the_report_and_escapes(tmp_path):
    path = make_comparison(tmp_path / "marked", {"one_hot": {0: 0.02}, "<script>": {0: 0.01}})
    shown = labelembed.Comparison.load(path)._repr_html_()
    assert (shown.count("<svg"), "://" in shown.replace("http://www.w3.org", "")) == (1, False)
    assert ("<script>" in shown, "&lt;script&gt;" in shown, ">2.00</td>" in shown) == (False, True, True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, where runs are made in this process."""
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    return tmp_path


def test_compare_does_what_the_subcommand_does(here):
    objectives = ["one_hot", "label_smoothing:smoothing=0.2"]
    made = labelembed.compare("digits-mlp", objectives=objectives, seeds=2, settings=SHORT, out="one", quiet=True)
    words = ["--objectives", ",".join(objectives), "--seeds", 2, "--out", "other", "--quiet", "--json"]
    words += [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    rows = call("compare", "digits-mlp", *words).json
    columns = ("variant", "n", "test_error_mean", "nll_sd", "difference", "difference_n")
    assert [[row[name] for name in columns] for row in rows] == [[row[name] for name in columns] for row in made.rows()]
    assert made.verdict() == labelembed.Comparison.load("one").verdict()
    assert made.report("page.html").read_text() == Path("one/report.html").read_text()
    more = labelembed.compare("digits-mlp", objectives=["one_hot"], seeds=[5], settings=SHORT, out="one", quiet=True)
    assert more.variants == made.variants
    assert sorted(more.read.variants[0].runs) == [0, 1, 5]


def test_compare_takes_data_without_a_recipe_and_its_runs_read_texts(here):
    write_csv(here / "reviews.csv", reviews(60), "review", "stars")
    made = labelembed.compare(data="reviews.csv", **ONE_EPOCH)
    assert made.path == Path("comparisons/reviews-text-bag-small")
    run, texts = made.run("one_hot", 0), [text for text, _ in reviews(3)]
    rows = run.predict(texts)
    assert [row["input"] for row in rows] == texts
    Path("new.txt").write_text("".join(f"{text}\n" for text in texts))
    assert [row["probabilities"] for row in run.predict("new.txt")] == [row["probabilities"] for row in rows]
    assert run.predict(texts[0])[0]["label"] == rows[0]["label"]
    frame = pandas.DataFrame(reviews(60), columns=["review", "stars"])
    from_frame = labelembed.compare(data=frame, **ONE_EPOCH)
    assert from_frame.table()["nll_mean"].tolist() == made.table()["nll_mean"].tolist()
    assert labelembed.compare(data=frame, **ONE_EPOCH).path == from_frame.path
    assert labelembed.compare(data=frame[:50], **ONE_EPOCH).path != from_frame.path  # other data have another folder


def test_compare_of_runs_that_all_fail_raises(here):
    settings = SHORT | {"optimizer.learning_rate": 1e30}
    with pytest.raises(labelembed.TrainingError, match=r"one_hot seed 0: .*the loss is not finite"):
        labelembed.compare("digits-mlp", objectives=["one_hot"], seeds=1, settings=settings, quiet=True)


def test_a_script_without_a_main_guard_compares_and_goes_on_after_ctrl_c(tmp_path):
    """Real processes: a fork server's process would import the script and so call it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import labelembed\n"
        "print('begun', flush=True)\n"
        "settings = {'epochs': 150, 'model.hidden_sizes': [8]}\n"
        "made = labelembed.compare('digits-mlp', objectives=['one_hot'], seeds=2, settings=settings, jobs=2)\n"
        "print(made.variants, sorted(made.read.variants[0].runs))\n"
    )
    process = subprocess.Popen([sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(path.stat().st_size for path in tmp_path.rglob("history.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert "KeyboardInterrupt" in said
    assert list(tmp_path.rglob("checkpoints/step-*"))
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "begun\n['one_hot'] [0, 1]\n"), ran.stderr


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
    assert any("<svg" in html and "label smoothing" in html for html in shown)
    assert any("<table" in html and "validation_error" in html for html in shown)


@pytest.mark.parametrize(
    ("given", "said"), [({"track": "wanbd"}, "wandb"), ({"trials": 5}, "trials"), ({"device": "cuda:9"}, "cuda:9")]
)
def test_compare_from_python_refuses_what_it_would_ignore(given, said, here):
    with pytest.raises(labelembed.LabelEmbedError, match=said):
        labelembed.compare("digits-mlp", objectives="one_hot", seeds=1, settings={"epochs": 1}, out="out", **given)
    assert not Path("out").exists()
