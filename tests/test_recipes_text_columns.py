"""Runs on texts of several columns through the command line: train, predict, compare, and what is refused."""

from __future__ import annotations

import json

import pytest
import yaml

from labelembed.lab.recipes.loading import load_recipe
from tests.made_cli import call, succeed
from tests.made_texts import BAD, GOOD, PLAIN, reviews, write_columns, write_csv, write_json_lines

QUICK = ["--set", "batch_size=20", "--quiet"]
BOTH = ["--set", "data.text_column=[title, body]"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def write_posts(tmp_path, count=160, *, telling="title", lacking=False):
    """Writes posts of which one column tells the label; `lacking`: in every fourth row the other one is empty."""
    rows = []
    for n, (text, label) in enumerate(reviews(count, labels=("pos", "neg"))):
        plain = "" if lacking and n % 4 == 0 else " ".join(PLAIN[n % 7 : n % 7 + 6])
        rows.append((text, plain, label) if telling == "title" else (plain, text, label))
    return write_csv(tmp_path / "posts.csv", rows, "title", "body", "label")


def trained(tmp_path, *words, recipe="text-bag-small", **made):
    file = write_posts(tmp_path, **made)
    succeed("train", recipe, "--data", file, "--out", tmp_path / "run", *QUICK, *BOTH, *words)
    return tmp_path / "run"


@pytest.mark.parametrize("telling", ["title", "body"])
def test_a_run_learns_from_either_column(tmp_path, telling):
    run = trained(tmp_path, telling=telling, lacking=True)
    assert json.loads((run / "result.json").read_text())["test"]["error"] <= 0.05
    write_posts(tmp_path, 40, telling=telling)
    assert succeed("evaluate", run, "--data", tmp_path / "posts.csv", "--json").json["error"] <= 0.05
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["text_column"] == ["title", "body"]
    about = json.loads((run / "environment.json").read_text())["data"]
    assert about["notes"][0].startswith("labels are taken from column 'label': 2 labels, neg 64, pos 64; ")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose data are gone."""
    run = trained(tmp_path_factory.mktemp("trained"))
    (run.parent / "posts.csv").unlink()
    return run


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_new_files_are_predicted_by_the_same_columns(run, tmp_path, kind):
    rows = [(" ".join(GOOD), "the film"), (" ".join(BAD), ""), ("", " ".join(GOOD))]
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
        columns = {name: [row[place] or None for row in rows] for place, name in enumerate(("title", "body"))}
        file = write_columns(tmp_path / "new.parquet", columns)
    elif kind == "jsonl":
        file = write_json_lines(tmp_path / "new.jsonl", [(body, title) for title, body in rows], "body", "title")
    else:
        file = write_csv(tmp_path / f"new.{kind}", rows, "title", "body", delimiter="\t" if kind == "tsv" else ",")
    found = succeed("predict", run, file, "--json").lines
    assert [row["label"] for row in found] == ["pos", "neg", "pos"]
    assert len({row["input"] for row in found}) == 3


def test_hints_name_an_option_only_where_the_verb_has_it(tmp_path):
    run = trained(tmp_path, "--set", "epochs=1")
    named = write_csv(tmp_path / "windows.csv", [("a é", "b", "pos")] * 9, "title", "body", "label", encoding="cp1252")
    for verb in (["evaluate", run, "--data"], ["predict", run]):
        refused = call(*verb, named)
        assert refused.code == 2
        assert "name the file's encoding: data.encoding=cp1252" in refused.err
        assert "--set" not in refused.err
        assert refused.err.endswith("\n(a key of the recipe: change the file, or train with that key)\n")
    refused = call("check", "text-bag-small", "--data", named)
    assert "name the file's encoding: --set data.encoding=cp1252" in refused.err
    assert "a key of the recipe" not in refused.err
    told = call("evaluate", run)  # whose data are noted with hints
    assert (told.code, "data: labels are taken from column 'label'" in told.err) == (0, True)
    assert "--set" not in told.err


def test_a_new_file_without_one_of_the_columns_is_refused(run, tmp_path):
    file = write_csv(tmp_path / "new.csv", [(" ".join(GOOD),)], "titel")
    refused = call("predict", run, file)
    assert refused.code == 2
    assert refused.err == f"error: {file}: `text_column`: no column 'title' (did you mean 'titel'?); there are: titel\n"
    file = write_csv(tmp_path / "new.csv", [("a", "b"), ("", "")], "title", "body")
    refused = call("predict", run, file)
    assert refused.code == 2
    assert refused.err == (
        f"error: {file}: columns 'title' and 'body' have no text in 1 (row 3) of 2 examples; leave those out with "
        "data.skip_incomplete=true\n(a key of the recipe: change the file, or train with that key)\n"
    )


def test_a_run_of_other_columns_is_another_run(tmp_path):
    run = trained(tmp_path, "--set", "epochs=1")
    words = ["train", "text-bag-small", "--data", "posts.csv", "--out", run, *QUICK, "--set", "epochs=1"]
    assert succeed(*words, *BOTH).code == 0
    refused = call(*words, "--set", "data.text_column=title")
    assert refused.code == 2
    assert "data.text_column" in refused.err
    refused = call(*words, "--set", "data.text_column=[body, title]")
    assert refused.code == 2
    assert "data.text_column" in refused.err


def test_a_text_stays_a_text_and_a_list_a_list():
    for written, kept in (("title", "title"), ("[title]", ["title"]), ("[title, body]", ["title", "body"])):
        recipe, _ = load_recipe("text-bag", data="posts.csv", settings=[f"data.text_column={written}"])
        assert recipe.data["text_column"] == kept
        assert recipe.of_one_run()["data"]["text_column"] == kept
    assert load_recipe("text-bag", data="posts.csv")[0].data["text_column"] is None


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[title, title]", "data.text_column: must name each column once, got ['title', 'title']"),
        ("[]", "data.text_column: must name one column or more, got []"),
        ("[title, 3]", "data.text_column.1: must be a text, got 3"),
        ("3", "data.text_column: must be a text or a list, got 3"),
        ("{a: b}", "data.text_column: must be a text or a list, got {'a': 'b'}"),
    ],
)
def test_what_names_no_columns_is_refused_in_one_message(tmp_path, written, message):
    words = ["train", "text-bag", "--data", write_posts(tmp_path), "--out", "run", *QUICK]
    refused = call(*words, "--set", f"data.text_column={written}")
    assert refused.code == 2
    assert message in refused.err
    assert len(refused.err.strip().splitlines()) <= 2
    assert not (tmp_path / "run").exists()
