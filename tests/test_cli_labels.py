"""`labelembed labels`: scores of runs and saved geometries, exported files, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry, label_plane

from .made_cli import SMALL, call, succeed
from .made_data import write_idx_folder
from .made_runs import forget_checksums, make_run, metrics
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
    found, grouped = (
        succeed("labels", "made.safetensors", "--groups", against, "--json").json
        for against in ("wordnet", "groups.json")
    )
    from labelembed.geometry import WordNet, group_agreement, read_hierarchy

    distances = made_geometry().distances()
    mean, _ = naive_agreement(distances.tolist(), WordNet().distances(NAMES).tolist())
    (row,), (of_groups,) = found["scores"], grouped["scores"]
    assert row["wordnet"]["tau_b"] == pytest.approx(mean, abs=1e-12)
    assert row["wordnet"]["procrustes_disparity"] == label_plane(distances, WordNet().distances(NAMES)).disparity
    assert row["wordnet"]["labels"] == len(row["wordnet"]["per_label"])
    groups = group_agreement(distances, read_hierarchy("groups.json", NAMES))
    assert of_groups["hierarchy"]["same_group"] == groups.same_group
    assert of_groups["hierarchy"]["tau_b"] == groups.kendall.mean
    assert set(of_groups["hierarchy"]["left_out"]) == {"food"}
    assert (found["labels"], row["geometry"], row["source"]) == (6, "learned labels", "made")


def test_scores_in_words(folder):
    for against, said in (("wordnet", "WordNet: tau-b"), ("groups.json", "by chance")):
        called = succeed("labels", "made.safetensors", "--groups", against)
        assert said in called.out
        assert "nearest pairs (in brackets: distance): " in called.out
    assert "without food" in called.out
    assert "tau-b" not in succeed("labels", "made.safetensors").out


def test_nearest_pairs_are_the_smallest_distances(folder):
    LabelGeometry("abcd", vectors=torch.tensor([[0.0], [5.0], [5.5], [1.0]])).save("line.safetensors")
    (scores,) = succeed("labels", "line.safetensors", "--json").json["scores"]
    assert [(pair["labels"], pair["distance"]) for pair in scores["nearest"][:2]] == [
        (["b", "c"], 0.5),
        (["a", "d"], 1),
    ]
    assert len(scores["nearest"]) == 5  # of six pairs


def test_names_that_wordnet_lacks_are_left_out_and_told(folder):
    made_geometry(("dog", "polar_baer", "cat", "lion", "rex")).save("typo.safetensors")
    called = succeed("labels", "typo.safetensors", "--groups", "wordnet", "--json", "--out", "out")
    assert "note: " in called.err
    assert "WordNet lacks 1 of 5 names" in called.err
    found = called.json
    assert found["scores"][0]["wordnet"]["left_out"]["polar_baer"] == "not in the reference"
    made_geometry(("xqa", "xqb", "xqc")).save("none.safetensors")
    refused = call("labels", "none.safetensors", "--groups", "wordnet")
    assert (refused.code, "WordNet lacks 3 of 3 names" in refused.err) == (2, True)


def test_a_run_is_scored_with_its_class_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx_folder(Path("mnist"))
    succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "run")
    expected = ["learned labels"]
    if Path("run/class_means.safetensors").exists():
        expected.append("class means of the outputs")
    found = succeed("labels", "run", "--json", "--out", "labels").json
    assert [row["geometry"] for row in found["scores"]] == expected
    assert {path.name for path in Path("labels").iterdir() if path.is_file()} == FILES
    forget_checksums(Path("run"))
    # A run without learned labels of its own, and one whose class means are of other labels.
    made_geometry([str(number) for number in range(10)]).save("run/class_means.safetensors")
    found = succeed("labels", "run", "--json", "--out", "labels").json
    assert len(found["scores"]) == 2
    assert {path.name for path in Path("labels/class-means").iterdir()} == FILES
    made_geometry().save("run/class_means.safetensors")
    refused = call("labels", "run")
    assert refused.code == 2
    assert "run/class_means.safetensors: its 6 labels are not the 10" in refused.err


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("LabelSmoothing, class means", ["class means of the outputs"]),
        ("LabelEmbedding", ["learned labels", "class means of the outputs"]),
    ],
)
def test_class_means_are_not_called_learned_labels(source, called, tmp_path):
    means = made_geometry(seed=1)
    geometry = LabelGeometry(NAMES, vectors=means.vectors, source=source)
    run = make_run(tmp_path / "run", test=metrics(0.1), geometry=geometry)
    means.save(run.class_means_file)
    assert [one["geometry"] for one in succeed("labels", run.path, "--json").json["scores"]] == called
    found = succeed("labels", run.geometry_file, "--out", tmp_path / "out")
    assert called[0] in found.out


def test_exported_files_hold_the_geometry(folder):
    called = succeed("labels", "made.safetensors", "--groups", "wordnet", "--out", "out/deep")
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
        (["nowhere"], "no such folder"),
        (["nowhere.safetensors"], "no such file"),
        (["groups.json"], "no safetensors file"),
        (["."], "no run folder"),
        (["made.safetensors", "--groups", "absent.json"], "absent.json: cannot be read as JSON (No such file"),
        (["made.safetensors", "--groups", "old.yaml"], "old.yaml: cannot be read as JSON"),
        (
            ["made.safetensors", "--groups", "cifar100"],
            "cifar100: a hierarchy holds each of the 6 labels once missing (5): 'dog'",
        ),
        (["made.safetensors", "--groups", "missing.json"], "missing (4): 'lion', 'polar_bear', 'rex', 'food'"),
        (["made.safetensors", "--groups", "missing.json"], "repeated (1): 'cat'"),
        (["made.safetensors", "--out", "groups.json"], "cannot be written"),
        (["one.safetensors", "--out", "out"], "1 labels"),
        (["many.safetensors", "--groups", "wordnet"], "5,001 labels"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(folder, words, said):
    Path("missing.json").write_text('{"a": ["dog", "cat"], "b": ["cat"]}')
    Path("old.yaml").write_text("a: [dog, cat]")
    LabelGeometry(("a",), vectors=torch.zeros(1, 2)).save("one.safetensors")
    LabelGeometry([str(number) for number in range(5001)], vectors=torch.zeros(5001, 1)).save("many.safetensors")
    called = call("labels", *words)
    assert called.code == 2
    assert said in " ".join(called.err.split())
    assert "Traceback" not in called.err
    assert called.out == ""
    assert not Path("out").exists()
