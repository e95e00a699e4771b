"""`labelembed labels`: scores of runs and saved geometries, nearest labels, exported files, and what is refused."""

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


def score_by(reference):
    (row,) = succeed("labels", "made.safetensors", "--reference", reference, "--json").json["scores"]
    return row


def test_scores_are_those_of_the_library_for_every_kind_of_reference(folder):
    distances = made_geometry().distances()
    wordnet = WordNet().distances(NAMES)
    row = score_by("wordnet")
    assert row["tau_b"] == pytest.approx(naive_agreement(distances.tolist(), wordnet.tolist())[0], abs=1e-12)
    assert (row["geometry"], row["source"]) == ("learned labels", "made")
    groups = group_agreement(distances, read_hierarchy("groups.json", NAMES))
    row = score_by("groups.json")
    assert (row["tau_b"], row["same_group"]) == (groups.kendall.mean, groups.same_group)
    assert set(row["left_out"]) == {"food"}
    # a matrix of confusions, its labels in any order
    table = pd.DataFrame(torch.rand(6, 6, generator=torch.Generator().manual_seed(1)).numpy(), NAMES, NAMES)
    order = list(reversed(NAMES))
    table.loc[order, order].to_csv("people.csv")
    confusions = table.to_numpy()
    expected = naive_agreement(distances.tolist(), (-confusions - confusions.T).tolist())[0]
    assert score_by("people.csv")["tau_b"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("LabelSmoothing, class means", ["class means of the outputs"]),
        ("LabelEmbedding", ["learned labels", "class means of the outputs"]),
    ],
)
def test_a_run_is_scored_by_what_it_learned_and_by_its_class_means(source, called, folder):
    means = made_geometry(seed=1)
    geometry = LabelGeometry(NAMES, vectors=means.vectors, source=source)
    run = make_run(folder / "run", test=metrics(0.1), geometry=geometry)
    means.save(run.class_means_file)
    told = succeed("labels", run.path, "--reference", "groups.json", "--out", "out/deep", "--json").json
    assert [one["geometry"] for one in told["scores"]] == called
    out = folder / "out/deep"
    assert {path.name for path in out.iterdir() if path.is_file()} == FILES
    rows = list(csv.reader((out / "distances.csv").read_text().splitlines()))
    assert rows[0] == ["label", *NAMES]
    table = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    assert np.array_equal(table, geometry.distances().numpy())


def test_of_many_labels_the_first_200_are_shown_or_those_asked_for(folder):
    geometry = made_geometry(["hund", "katze", *(f"wort{number}" for number in range(298))])
    geometry.save("words.safetensors")
    called = succeed("labels", "words.safetensors", "-k", 1, "--json")
    assert len(called.json["nearest"]) == 200
    assert "the first 200 of 300 labels" in called.err
    called = succeed("labels", "words.safetensors", "katze", "hund", "-k", 2, "--json")
    assert list(called.json["nearest"]) == ["katze", "hund"]
    expected = [{"name": near.name, "score": near.score} for near in geometry.neighbours("katze", k=2)]
    assert called.json["nearest"]["katze"] == expected
    refused = call("labels", "words.safetensors", "hund", "katse")
    assert (refused.code, "'katze'?" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["made.safetensors", "--reference", "few.csv"], "few.csv"),
        (["nowhere.safetensors"], "no such file"),
        (["groups.json"], "no safetensors file"),
        (["cut.safetensors"], "cut.safetensors"),
        (["made.safetensors", "--reference", "absent.json"], "absent.json: cannot be read as JSON"),
        (["made.safetensors", "--reference", "cifar100"], "missing (5): 'dog'"),
        (["made.safetensors", "--reference", "missing.json"], "repeated (1): 'cat'"),
        (["made.safetensors", "--out", "groups.json"], "cannot be written"),
        (["one.safetensors", "--out", "out"], "1 labels"),
        (["many.safetensors", "--reference", "wordnet"], "5,001 labels"),
    ],
)
def test_what_a_user_gets_wrong_is_one_message(folder, words, said):
    Path("missing.json").write_text('{"a": ["dog", "cat"], "b": ["cat"]}')
    Path("few.csv").write_text(",dog,cat\ndog,1,0\ncat,0,1\n")
    made_geometry(("a",)).save("one.safetensors")
    Path("cut.safetensors").write_bytes(Path("made.safetensors").read_bytes()[:-9])
    made_geometry([str(number) for number in range(5001)]).save("many.safetensors")
    called = call("labels", *words)
    assert (called.code, called.out) == (2, "")
    assert said in " ".join(called.err.split())
    assert not Path("out").exists()
