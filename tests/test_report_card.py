"""Model cards: what they say is what the run folder says, whatever labels are called."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import model_card, write_card
from labelembed.lab.report.model_card import citations_of
from labelembed.objectives import OBJECTIVES
from tests.made_cli import call, succeed
from tests.made_runs import (
    ENVIRONMENT,
    embedding_geometry,
    history_lines,
    make_comparison,
    make_run,
    metrics,
    run_path,
)

CALIBRATED = {
    "temperature": 0.5,
    "validation": metrics(0.1, nll=0.2),
    "test": metrics(0.2, nll=0.25) | {"calibration_error": 0.031},
}


def made_run(path, **more):
    how = {
        "objective": {"name": "label_embedding", "temperature": 3},
        "test": metrics(0.2, nll=0.7),
        "validation": metrics(0.1),
        "history": history_lines([0.3, 0.2]),
        "geometry": embedding_geometry(["0", "1", "2", "3"]),
        "calibrated": CALIBRATED,
    }
    return make_run(path, **how | more)


def header_of(card):
    _, header, _ = card.split("---\n", 2)
    return yaml.safe_load(header)


def section(card, name):
    return re.split(r"^## ", card, flags=re.MULTILINE)[[*titles(card)].index(name) + 1]


def titles(card):
    return re.findall(r"^## (.*)$", card, flags=re.MULTILINE)


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("| ") and line != "| | |"]
    return [[cell.strip() for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")] for line in lines]


def test_the_card_says_what_the_run_reached(tmp_path):
    card = model_card(made_run(tmp_path / "run").path)
    found = {cells[0]: cells[1:] for cells in rows_of(section(card, "Metrics"))}
    assert found["error (%)"] == ["10.00", "20.00", "20.00"]
    assert found["NLL (nats)"] == ["0.300", "0.700", "0.250"]
    assert "temperature 0.5000" in section(card, "Calibration")
    assert "from 10.0 % to 3.1 %" in section(card, "Calibration")
    data = dict(rows_of(section(card, "Data")))
    assert data["source"] == "digits"
    assert data["examples"] == "train 1,000, test 360"
    assert data["fingerprint of the content"] == "4567def"
    nearest = dict(rows_of(section(card, "Nearest labels")))
    assert nearest["0"].startswith(("1 (", "3 ("))
    assert "labelembed compare digits-mlp --seeds 8" in section(card, "How it was made")
    assert "batch_size: 100" in section(card, "How it was made")
    assert "torch 2.6.0" in section(card, "How it was made")
    assert dict(rows_of(section(card, "Cost")))["trainable parameters"] == "650,000"
    assert "Sun, Wei, Ren, Ma 2017" in section(card, "Citation")
    assert "how much of its numbers is chance" in section(card, "Limits")


def test_the_header_is_that_of_a_model_card(tmp_path):
    header = header_of(model_card(made_run(tmp_path / "run").path))
    assert header["library_name"] == "labelembed"
    assert header["tags"] == ["labelembed", "label_embedding"]
    (model,) = header["model-index"]
    (result,) = model["results"]
    accuracy = next(metric for metric in result["metrics"] if metric["type"] == "accuracy")
    assert accuracy == {"type": "accuracy", "name": "test accuracy", "value": 0.8}
    assert result["dataset"] == {"name": "digits", "type": "digits"}
    assert {metric["type"] for metric in result["metrics"]} == set(header["metrics"])
    # Nobody has said under which licence weights and data are.
    assert "license" not in header


def test_numbers_have_the_digits_of_the_tables(tmp_path):
    test = metrics(1 - 0.7424999999999999, nll=0.69314718) | {"calibration_error": 0.0123456}
    header = header_of(model_card(made_run(tmp_path / "run", test=test).path))
    found = {one["type"]: one["value"] for one in header["model-index"][0]["results"][0]["metrics"]}
    assert found == {"accuracy": 0.7425, "nll": 0.693, "calibration_error": 0.012}


@pytest.mark.parametrize("place", ["/home/me/private/mnist", "/home/me/my own data/mnist"])
def test_the_card_names_no_folder_of_the_machine(tmp_path, place):
    run = made_run(tmp_path / "run", recipe={"data": {"name": "idx", "path": place}})
    notes = [f"{place}/train.csv: read without quotation marks", "a/b left aside: 3/4 of them"]
    data = ENVIRONMENT["data"] | {"source": f"idx files in {place}", "notes": notes, "input_range": [-1.0, 0.123456789]}
    command = ["labelembed", "train", "x", "--data", place, "--set", f"data.path={place}/", "--out", "../runs/first"]
    command += ["--objective", f"distillation:teacher={place}/teacher:temperature=3"]
    changes = [f"at step 3: data.path '{place}' became '{place}-2'"]
    run.write_environment(
        ENVIRONMENT | {"data": data | {"input_shape": [1, 2, 2]}, "command": command, "changes": changes}
    )
    card = model_card(run.path)
    assert [part for part in ("/home", "private", "my own", "../", "runs/first") if part in card] == []
    assert header_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "idx files in mnist"
    assert dict(rows_of(section(card, "Data")))["source"] == "idx files in mnist"
    assert "- mnist/train.csv: read without quotation marks" in card
    assert "- a/b left aside: 3/4 of them" in card
    assert "values from -1 to 0.123457" in card
    made = section(card, "How it was made")
    assert "labelembed train x --data mnist --set data.path=mnist --out first" in made
    assert "distillation:teacher=teacher:temperature=3" in made
    assert "\n  path: mnist\n" in made


def test_without_a_test_set_the_validation_set_speaks_and_that_is_said(tmp_path):
    card = model_card(made_run(tmp_path / "run", test=None, calibrated=None).path)
    assert "There are no test examples" in section(card, "Metrics")
    assert "No temperature was fitted" in section(card, "Calibration")
    (result,) = header_of(card)["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "name": "validation accuracy", "value": 0.9}


def test_the_card_of_a_comparisons_run_has_the_measures_over_its_seeds(tmp_path):
    errors = {"one_hot": {0: 0.20, 1: 0.22, 2: 0.24}, "label_smoothing": {0: 0.19, 1: 0.20, 2: 0.21}}
    make_comparison(tmp_path / "c", errors)
    card = model_card(run_path(tmp_path / "c", "label_smoothing", 1))
    assert "### Over 3 seeds" in card
    over = dict(rows_of(card[card.index("### Over") : card.index("## Calibration")]))
    assert over["test error (%)"] == "20.00 ± 1.00"
    assert "seeds 0, 1, 2 of `label_smoothing`" in card
    assert "against one\\_hot" in card or "and one\\_hot" in card
    assert "Its arguments were chosen" not in card
    file = tmp_path / "c" / "comparison.json"
    entry = {"name": "label_smoothing", "space": {"objective.smoothing": "0.02 to 0.9"}, "trials": 7}
    tuning = {"metric": "validation error", "trials": 7, "seeds": [1000], "variants": [entry]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tuning": tuning}))
    card = model_card(run_path(tmp_path / "c", "label_smoothing", 1))
    assert "chosen on validation examples by 7 trials over smoothing: 0.02 to 0.9" in card
    # A comparison that is damaged keeps no card of a run from being written.
    file.write_text("{")
    assert "### Over" not in model_card(run_path(tmp_path / "c", "label_smoothing", 1))


HOSTILE = ["a|b", "<script>alert(1)</script>", "`code`", "[x](http://y)", "# head\nline", "```", "---", "\x00"]


def test_labels_with_any_name_leave_the_card_whole(tmp_path):
    run = made_run(tmp_path / "run", geometry=embedding_geometry(HOSTILE[:-1]))
    data = ENVIRONMENT["data"] | {"names": HOSTILE, "source": "```\n# <b>|data|</b>\n---\n", "notes": ["*<i>*|"]}
    run.write_environment(ENVIRONMENT | {"data": data, "command": ["labelembed", "````", "; rm"]})
    card = model_card(run.path)
    assert titles(card) == [
        "Data",
        "Metrics",
        "Calibration",
        "Nearest labels",
        "Use",
        "Limits",
        "Cost",
        "How it was made",
        "Citation",
    ]
    lines = rows_of(section(card, "Nearest labels"))
    assert {len(cells) for cells in lines} == {2}
    assert len(lines) == 1 + len(HOSTILE) - 1
    outside = card.split("\n---\n", 1)[1]
    assert re.search(r"(?<!\\)<(script|b|i)", outside) is None
    assert "`````sh\nlabelembed '````'" in card
    assert header_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "``` # <b>|data|</b> ---"
    assert write_card(run.path).read_text(encoding="utf-8")


@pytest.mark.parametrize("lost", ["environment.json", "label_geometry.safetensors", "history.jsonl"])
def test_what_is_missing_in_a_run_folder_is_left_out(tmp_path, lost):
    run = made_run(tmp_path / "run")
    (run.path / lost).unlink()
    card = model_card(run.path)
    assert "error (%) | 10.00" in card
    if lost == "label_geometry.safetensors":
        assert "nothing about its labels" in card
    if lost == "environment.json":
        assert dict(rows_of(section(card, "Data")))["source"] == "not known"


def test_every_objective_of_a_paper_is_cited():
    assert {name for name in OBJECTIVES if len(citations_of(name)) == 1} == {"one_hot"}


def test_the_verb_writes_the_card_where_it_is_asked_to(tmp_path):
    run = made_run(tmp_path / "run").path
    assert succeed("export", run, "--format", "card").out.strip() == str(run / "README.md")
    succeed("export", run, "--format", "card", "--out", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == (run / "README.md").read_text() == model_card(run)


def test_what_has_no_card_is_refused(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.2}})
    with pytest.raises(RunFolderError, match=r"a card is of one run, for instance .*one_hot/seed-0"):
        model_card(tmp_path / "c")
    for words, said in (
        ([tmp_path / "nowhere"], "no such folder"),
        ([tmp_path], "neither a comparison folder"),
        ([run_path(tmp_path / "c", "one_hot", 0), "--out", tmp_path], "is a folder; name a file with --out"),
        ([run_path(tmp_path / "c", "one_hot", 0), "--out", tmp_path / "no" / "card.md"], "cannot be written"),
    ):
        called = call("export", *words, "--format", "card")
        assert called.code == 2
        assert said in called.err
        assert "Traceback" not in called.err
