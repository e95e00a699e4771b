"""Runs on tables through the command line: train, evaluate, predict on new rows."""

from __future__ import annotations

import json
import random

import pytest

from tests.made_cli import call, succeed
from tests.made_texts import write_csv

QUICK = ["--set", "epochs=40", "--set", "batch_size=20", "--set", "model.hidden_sizes=[16]", "--quiet"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_table(file, count=200, *, seed=0):
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        ill = number % 2
        fever = "" if draw.random() < 0.1 else round(36.5 + 2 * ill + draw.random(), 1)
        rows.append((fever, draw.choice(["dry", "wet"] if ill else ["none", "none", "dry"]), ("well", "ill")[ill]))
    return write_csv(file, rows, "temperature", "cough", "diagnosis")


def test_a_run_learns_predicts_new_rows_and_measures_others(tmp_path):
    file = write_table(tmp_path / "table.csv")
    succeed("train", "table-mlp", "--data", file, "--out", "run", *QUICK)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["error"] <= 0.1
    kept = json.loads((tmp_path / "run" / "columns.json").read_text())
    assert [column["name"] for column in kept["numeric"]] == ["temperature"]
    other = write_table(tmp_path / "other.csv", seed=1)
    measured = succeed("evaluate", "run", "--data", other, "--json").json
    assert (measured["examples"], measured["split"]) == (200, "all")
    assert measured["error"] <= 0.15
    heading = ("temperature", "cough", "diagnosis")
    ill = write_csv(tmp_path / "ill.csv", [(39.0, "wet", "ill"), (38.9, "dry", "ill")], *heading)
    assert succeed("evaluate", "run", "--data", ill, "--json").json["examples"] == 2
    cold = write_csv(tmp_path / "cold.csv", [(37.0, "wet", "cold")] * 3, *heading)
    refused = call("evaluate", "run", "--data", cold)
    assert refused.code == 2
    assert refused.err == (
        f"error: table {cold}: has labels that the run does not know: cold (3 examples); its 2 labels are ill, well\n"
    )
    file.unlink()
    new = write_csv(tmp_path / "new.csv", [("snoring", 39.2), ("none", 36.6)], "cough", "temperature")
    rows = succeed("predict", "run", new, "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [(f"{new} row 2", "ill"), (f"{new} row 3", "well")]
    refused = call("predict", "run", write_csv(tmp_path / "less.csv", [("dry",)], "cough"))
    assert refused.code == 2
    assert "less.csv: has no column 'temperature', which the training examples had; it has cough" in refused.err


def test_a_run_whose_columns_are_damaged_says_so(tmp_path):
    succeed("train", "table-mlp", "--data", write_table(tmp_path / "table.csv"), "--out", "run", *QUICK)
    (tmp_path / "run" / "columns.json").write_text("{")
    refused = call("predict", "run", tmp_path / "table.csv")
    assert refused.code == 2
    assert "columns.json: damaged" in refused.err
