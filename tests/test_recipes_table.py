"""Runs on tables through the command line: train, evaluate, predict on new rows."""

from __future__ import annotations

import json
import random

from tests.made_cli import call, succeed
from tests.made_texts import write_csv

QUICK = ["--set", "epochs=40", "--set", "batch_size=20", "--set", "model.hidden_sizes=[16]", "--quiet"]
HEADING = ("temperature", "cough", "diagnosis")


def write_table(file, count=200, *, seed=0):
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        ill = number % 2
        fever = "" if draw.random() < 0.1 else round(36.5 + 2 * ill + draw.random(), 1)
        rows.append((fever, draw.choice(["dry", "wet"] if ill else ["none", "none", "dry"]), ("well", "ill")[ill]))
    return write_csv(file, rows, *HEADING)


def test_a_run_learns_predicts_new_rows_and_evaluates_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_table(tmp_path / "table.csv")
    succeed("train", "table-mlp", "--data", file, "--out", "run", *QUICK)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["error"] <= 0.1
    measured = succeed("evaluate", "run", "--data", write_table(tmp_path / "other.csv", seed=1), "--json").json
    assert (measured["examples"], measured["split"]) == (200, "all")
    assert measured["error"] <= 0.15
    ill = write_csv(tmp_path / "ill.csv", [(39.0, "wet", "ill"), (38.9, "dry", "ill")], *HEADING)
    assert succeed("evaluate", "run", "--data", ill, "--json").json["examples"] == 2
    refused = call("evaluate", "run", "--data", write_csv(tmp_path / "c.csv", [(37.0, "wet", "cold")] * 3, *HEADING))
    assert refused.code == 2
    assert "does not know: cold (3 examples)" in refused.err
    file.unlink()
    new = write_csv(tmp_path / "new.csv", [("snoring", 39.2), ("none", 36.6)], "cough", "temperature")
    rows = succeed("predict", "run", new, "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [(f"{new} row 2", "ill"), (f"{new} row 3", "well")]
    refused = call("predict", "run", write_csv(tmp_path / "less.csv", [("dry",)], "cough"))
    assert refused.code == 2
    assert "has no column 'temperature'" in refused.err
    (tmp_path / "run" / "columns.json").write_text("{")
    refused = call("predict", "run", new)
    assert refused.code == 2
    assert "columns.json: damaged" in refused.err
