"""Model cards: what they say is what the run folder says, whatever labels are called."""

from __future__ import annotations

import re

import pytest
import yaml

from labelembed.lab.report import write_report
from labelembed.lab.report.model_card import model_card, write_card
from tests.made_cli import call, succeed
from tests.made_runs import ENVIRONMENT, embedding_geometry, history_lines, make_comparison, make_run, metrics, run_path

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


def test_a_run_that_was_resumed_with_other_settings_says_so(tmp_path):
    run = made_run(tmp_path / "run")
    run.write("environment.json", run.environment() | {"changes": ["at step 46 (epoch 3): epochs 2 became 3"]})
    assert "epochs 2 became 3" in section(model_card(run.path), "How it was made")
    assert "epochs 2 became 3" in write_report(run.path).read_text("utf-8").partition("<h2>Reproduce")[2]


def header_of(card):
    (model,) = yaml.safe_load(card.split("---\n", 2)[1])["model-index"]
    return model["results"][0]


def section(card, name):
    return re.split(r"^## ", card, flags=re.MULTILINE)[[*titles(card)].index(name) + 1]


def titles(card):
    return re.findall(r"^## (.*)$", card, flags=re.MULTILINE)


def test_the_card_and_its_header_say_what_the_run_reached(tmp_path):
    card = model_card(made_run(tmp_path / "run").path)
    # error, NLL and ECE after temperature scaling, and the NLL before
    assert all(number in section(card, "Metrics") for number in ("20.00", "0.250", "3.1"))
    assert "0.700" in section(card, "Other metrics")
    assert "temperature 0.5000" in card
    assert all(
        part in section(card, "Data") for part in ("source: digits", "examples: train 1000, ", "fingerprint: 4567def")
    )
    assert re.search(r"\| 0 +\| [13] ", section(card, "Nearest labels"))
    parts = ("labelembed compare digits-mlp --seeds 8", "batch_size: 100", "650,000 trainable parameters")
    assert all(part in section(card, "How it was made") for part in parts)
    result = header_of(card)
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": 0.8, "nll": 0.25, "calibration_error": 0.031}
    assert result["task"] == {"type": "image-classification"}  # by its data, whatever shape the inputs have
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    # Nobody has said under which licence weights and data are.
    assert "license" not in card


@pytest.mark.parametrize("place", ["/home/me/private/mnist", "/home/me/private/more/mnist"])
def test_the_card_names_no_folder_of_the_machine(tmp_path, place):
    run = made_run(tmp_path / "run", recipe={"data": {"name": "mnist", "path": place}})
    data = ENVIRONMENT["data"] | {"source": f"idx files in {place}", "input_shape": [1, 2, 2]}
    command = ["labelembed", "train", "x", "--data", place, "--set", f"data.path={place}/", "--out", "../runs/first"]
    command += ["--objective", f"distillation:teacher={place}/teacher:temperature=3"]
    run.write("environment.json", ENVIRONMENT | {"data": data, "command": command})
    card = model_card(run.path)
    assert [part for part in ("/home", "private", "../", "runs/first") if part in card] == []
    assert header_of(card)["dataset"]["name"] == "idx files in mnist"
    made = section(card, "How it was made")
    assert "labelembed train x --data mnist --set data.path=mnist --out first" in made
    assert "distillation:teacher=teacher:temperature=3" in made


def test_the_card_of_a_comparisons_run_has_what_the_comparison_shows(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.20, 1: 0.22}, "label_smoothing": {0: 0.19, 1: 0.20}})
    run = run_path(tmp_path / "c", "label_smoothing", 1)
    assert "Too few seeds" in section(model_card(run), "The comparison that this run is part of")
    (tmp_path / "c" / "comparison.json").write_text("{")  # damaged, it keeps no card of a run from being written
    assert "The comparison that" not in model_card(run)


HOSTILE = ["a|b", "<script>alert(1)</script>", "`code`", "[x](http://y)", "# head\nline", "```", "---", "\x00"]


def test_labels_with_any_name_leave_the_card_whole(tmp_path):
    run = made_run(tmp_path / "run", geometry=embedding_geometry(HOSTILE[:-1]))
    data = ENVIRONMENT["data"] | {"names": HOSTILE, "source": "```\n# <b>|data|</b>\n---\n"}
    run.write("environment.json", ENVIRONMENT | {"data": data, "command": ["labelembed", "````", "; rm"]})
    card = model_card(run.path)
    assert [*titles(card)][-3:] == ["Nearest labels", "Limits", "How it was made"]
    assert re.search(r"(?<!\\)<(script|b|i)", card.split("\n---\n", 1)[1]) is None
    assert card.count("```") == 4 + header_of(card)["dataset"]["name"].count("```")


@pytest.mark.parametrize("lost", ["environment.json", "label_geometry.safetensors", "history.jsonl"])
def test_what_is_missing_in_a_run_folder_is_left_out(tmp_path, lost):
    run = made_run(tmp_path / "run")
    (run.path / lost).unlink()
    card = model_card(run.path)
    assert "20.00" in section(card, "Metrics")
    assert ("Nearest labels" in titles(card)) == (lost != "label_geometry.safetensors")


def test_the_subcommand_writes_the_card_where_it_is_asked_to_and_refuses_what_has_none(tmp_path):
    run = made_run(tmp_path / "run").path
    assert succeed("export", run, "--format", "card").out.strip() == str(run / "README.md")
    succeed("export", run, "--format", "card", "--out", tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == write_card(run).read_text() == model_card(run)
    for words, said in (
        ([tmp_path / "nowhere"], "no such folder"),
        ([tmp_path], "neither a comparison folder"),
        ([run, "--out", tmp_path], "is a folder; name a file with --out"),
        ([run, "--out", run / "result.json" / "card.md"], "cannot be written"),
    ):
        called = call("export", *words, "--format", "card")
        assert (called.code, said in called.err, "Traceback" in called.err) == (2, True, False)
