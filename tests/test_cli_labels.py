"""`labelembed labels`: scores of runs and saved geometries, exported files, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from labelembed.geometry import LabelGeometry, WordNet, group_agreement, read_hierarchy

from .made_cli import call, succeed
from .made_runs import make_run, metrics
from .made_wordnet import write_wordnet
from .naive.geometry import naive_agreement

NAMES = ("dog", "cat", "lion", "polar_bear", "rex", "food")
FILES = {"tree.svg", "tree.pdf", "matrix.svg", "matrix.pdf", "distances.csv"}
GROUPS = '{"animals": ["dog", "cat", "lion", "polar_bear", "rex"], "things": ["food"]}'


def made_geometry(names=NAMES, seed=0):
    vectors = torch.randn(len(names), 4, generator=torch.Generator().manual_seed(seed))
    return LabelGeometry(names, vectors=vectors, source="made")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a saved geometry, a WordNet and a hierarchy; no other WordNet is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WNSEARCHDIR", str(write_wordnet(tmp_path / "wordnet")))
    made_geometry().save(tmp_path / "made.safetensors")
    Path("groups.json").write_text(GROUPS)
    return tmp_path


def test_scores_are_those_of_the_library(folder):
    distances = made_geometry().distances()
    wordnet = WordNet().distances(NAMES)
    groups = group_agreement(distances, read_hierarchy("groups.json", NAMES))
    (row,) = succeed("labels", "made.safetensors", "--reference", "wordnet", "--json").json["scores"]
    assert row["tau_b"] == pytest.approx(naive_agreement(distances.tolist(), wordnet.tolist())[0], abs=1e-12)
    assert (row["geometry"], row["source"]) == ("learned labels", "made")
    called = succeed("labels", "made.safetensors", "--reference", "groups.json", "--json")
    (row,) = called.json["scores"]
    assert (row["tau_b"], row["same_group"]) == (groups.kendall.mean, groups.same_group)
    assert set(row["left_out"]) == {"food"}
    said = succeed("labels", "made.safetensors", "--reference", "groups.json").out
    assert "by chance" in said
    assert "without food" in said
    assert "tau-b" not in succeed("labels", "made.safetensors").out


def test_matrix_of_confusions_is_a_reference_in_any_order_of_its_labels(folder):
    table = pd.DataFrame(torch.rand(6, 6, generator=torch.Generator().manual_seed(1)).numpy(), NAMES, NAMES)
    order = list(reversed(NAMES))
    table.loc[order, order].to_csv("people.csv")
    (row,) = succeed("labels", "made.safetensors", "--reference", "people.csv", "--json").json["scores"]
    confusions = table.to_numpy()
    expected = naive_agreement(made_geometry().distances().tolist(), (-confusions - confusions.T).tolist())[0]
    assert row["tau_b"] == pytest.approx(expected, abs=1e-12)


def test_names_that_wordnet_lacks_are_left_out_and_told(folder):
    made_geometry(("dog", "polar_baer", "cat", "lion", "rex")).save("typo.safetensors")
    called = succeed("labels", "typo.safetensors", "--reference", "wordnet", "--json", "--out", "out")
    assert called.json["scores"][0]["left_out"]["polar_baer"] == "not in the reference"


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("LabelSmoothing, class means", ["class means of the outputs"]),
        ("LabelEmbedding", ["learned labels", "class means of the outputs"]),
    ],
)
def test_a_run_is_scored_by_what_it_learned_and_by_its_class_means(source, called, tmp_path):
    means = made_geometry(seed=1)
    groups = tmp_path / "groups.json"
    groups.write_text(GROUPS)
    geometry = LabelGeometry(NAMES, vectors=means.vectors, source=source)
    run = make_run(tmp_path / "run", test=metrics(0.1), geometry=geometry)
    means.save(run.class_means_file)
    out = tmp_path / "out"
    told = succeed("labels", run.path, "--reference", groups, "--out", out, "--json").json
    assert [one["geometry"] for one in told["scores"]] == called
    assert {path.name for path in out.iterdir() if path.is_file()} == FILES


def test_exported_files_hold_the_geometry(folder):
    called = succeed("labels", "made.safetensors", "--reference", "wordnet", "--out", "out/deep")
    out = Path("out/deep")
    assert {path.name for path in out.iterdir()} == FILES
    assert "out/deep" in called.out
    geometry = made_geometry()
    rows = list(csv.reader((out / "distances.csv").read_text().splitlines()))
    assert rows[0] == ["label", *NAMES]
    table = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    assert np.array_equal(table, geometry.distances().numpy())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["made.safetensors", "--reference", "few.csv"], "few.csv: must hold a row and a column"),
        (["nowhere"], "no such folder"),
        (["nowhere.safetensors"], "no such file"),
        (["groups.json"], "no safetensors file"),
        (["."], "no run folder"),
        (["made.safetensors", "--reference", "absent.json"], "absent.json: cannot be read as JSON (No such file"),
        (["made.safetensors", "--reference", "old.yaml"], "old.yaml: cannot be read as JSON"),
        (
            ["made.safetensors", "--reference", "cifar100"],
            "cifar100: a hierarchy holds each of the 6 labels once missing (5): 'dog'",
        ),
        (["made.safetensors", "--reference", "missing.json"], "missing (4): 'lion', 'polar_bear', 'rex', 'food'"),
        (["made.safetensors", "--reference", "missing.json"], "repeated (1): 'cat'"),
        (["made.safetensors", "--out", "groups.json"], "cannot be written"),
        (["one.safetensors", "--out", "out"], "1 labels"),
        (["many.safetensors", "--reference", "wordnet"], "5,001 labels"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(folder, words, said):
    Path("missing.json").write_text('{"a": ["dog", "cat"], "b": ["cat"]}')
    Path("few.csv").write_text(",dog,cat\ndog,1,0\ncat,0,1\n")
    Path("old.yaml").write_text("a: [dog, cat]")
    LabelGeometry(("a",), vectors=torch.zeros(1, 2)).save("one.safetensors")
    LabelGeometry([str(number) for number in range(5001)], vectors=torch.zeros(5001, 1)).save("many.safetensors")
    called = call("labels", *words)
    assert called.code == 2
    assert said in " ".join(called.err.split())
    assert "Traceback" not in called.err
    assert called.out == ""
    assert not Path("out").exists()
