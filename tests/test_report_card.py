"""Model cards: what they say is what the run folder says, whatever labels are called."""

from __future__ import annotations

import re

import pytest
import yaml

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import model_card, write_card
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


def test_the_card_says_what_the_run_reached(tmp_path):
    card = model_card(made_run(tmp_path / "run").path)
    # error, NLL and ECE after temperature scaling, and the NLL before
    assert all(number in section(card, "Metrics") for number in ("20.00", "0.250", "3.1"))
    assert "0.700" in section(card, "Other metrics")
    assert "temperature 0.5000" in card
    data = section(card, "Data")
    assert all(part in data for part in ("source: digits", "'train': 1000", "fingerprint: 4567def"))
    assert re.search(r"- 0: [13] \(", section(card, "Nearest labels"))
    made = section(card, "How it was made")
    parts = ("labelembed compare digits-mlp --seeds 8", "batch_size: 100", "650,000 trainable parameters")
    assert all(part in made for part in parts)


def test_the_header_is_that_of_a_model_card(tmp_path):
    header = header_of(model_card(made_run(tmp_path / "run").path))
    assert (header["library_name"], header["tags"]) == ("labelembed", ["labelembed", "label_embedding"])
    (model,) = header["model-index"]
    (result,) = model["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": 0.8, "nll": 0.7, "calibration_error": 0.1}
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    # Nobody has said under which licence weights and data are.
    assert "license" not in header


@pytest.mark.parametrize("place", ["/home/me/private/mnist", "/home/me/private/more/mnist"])
def test_the_card_names_no_folder_of_the_machine(tmp_path, place):
    run = made_run(tmp_path / "run", recipe={"data": {"name": "mnist", "path": place}})
    notes = [f"{place}/train.csv: read without quotation marks", "a/b left aside: 3/4 of them"]
    data = ENVIRONMENT["data"] | {"source": f"idx files in {place}", "notes": notes, "input_shape": [1, 2, 2]}
    command = ["labelembed", "train", "x", "--data", place, "--set", f"data.path={place}/", "--out", "../runs/first"]
    command += ["--objective", f"distillation:teacher={place}/teacher:temperature=3"]
    run.write("environment.json", ENVIRONMENT | {"data": data, "command": command})
    card = model_card(run.path)
    assert [part for part in ("/home", "private", "../", "runs/first") if part in card] == []
    assert header_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "idx files in mnist"
    assert "- train.csv: read without quotation marks" in card
    assert "- a/b left aside: 3/4 of them" in card
    made = section(card, "How it was made")
    assert "labelembed train x --data mnist --set data.path=mnist --out first" in made
    assert "distillation:teacher=teacher:temperature=3" in made


def test_without_a_test_set_the_validation_set_speaks(tmp_path):
    card = model_card(made_run(tmp_path / "run", test=None, calibrated=None).path)
    assert "No temperature was fitted" in card
    (result,) = header_of(card)["model-index"][0]["results"]
    assert (result["metrics"][0]["value"], result["dataset"]["split"]) == (0.9, "validation")


def test_the_card_of_a_comparisons_run_has_what_the_comparison_shows(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.20, 1: 0.22}, "label_smoothing": {0: 0.19, 1: 0.20}})
    run = run_path(tmp_path / "c", "label_smoothing", 1)
    assert "Too few seeds" in section(model_card(run), "The comparison that it is one run of")
    (tmp_path / "c" / "comparison.json").write_text("{")  # damaged, it keeps no card of a run from being written
    assert "The comparison that" not in model_card(run)


HOSTILE = ["a|b", "<script>alert(1)</script>", "`code`", "[x](http://y)", "# head\nline", "```", "---", "\x00"]


def test_labels_with_any_name_leave_the_card_whole(tmp_path):
    run = made_run(tmp_path / "run", geometry=embedding_geometry(HOSTILE[:-1]))
    data = ENVIRONMENT["data"] | {"names": HOSTILE, "source": "```\n# <b>|data|</b>\n---\n", "notes": ["*<i>*|"]}
    run.write("environment.json", ENVIRONMENT | {"data": data, "command": ["labelembed", "````", "; rm"]})
    card = model_card(run.path)
    assert [*titles(card)][-4:] == ["Nearest labels", "Limits", "How it was made", "Citation"]
    assert re.search(r"(?<!\\)<(script|b|i)", card.split("\n---\n", 1)[1]) is None
    assert card.count("```") == 4 + header_of(card)["model-index"][0]["results"][0]["dataset"]["name"].count("```")
    assert write_card(run.path).read_text(encoding="utf-8")


@pytest.mark.parametrize("lost", ["environment.json", "label_geometry.safetensors", "history.jsonl"])
def test_what_is_missing_in_a_run_folder_is_left_out(tmp_path, lost):
    run = made_run(tmp_path / "run")
    (run.path / lost).unlink()
    card = model_card(run.path)
    assert "20.00" in section(card, "Metrics")
    assert ("nothing about its labels" in card) == (lost == "label_geometry.safetensors")


def test_the_subcommand_writes_the_card_where_it_is_asked_to(tmp_path):
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
