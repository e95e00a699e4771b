"""`labelembed labels` of a run with many labels: how many are shown, and those that are asked for."""

from __future__ import annotations

import pytest
import torch

from labelembed.geometry import LabelGeometry

from .made_cli import call, succeed
from .made_runs import make_run, metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder whose geometry is of 300 words."""
    names = ["hund", "katze", *(f"wort{number}" for number in range(298))]
    table = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    geometry = LabelGeometry(names, vectors=table, metric="cosine", source="LabelEmbedding")
    folder = tmp_path_factory.mktemp("many") / "run"
    make_run(folder, test=metrics(0.1), geometry=geometry)
    return folder


def test_without_a_label_the_first_200_are_shown_and_it_is_said(run):
    called = succeed("labels", run, "-k", 1)
    lines = called.out.splitlines()
    assert len(lines) == 201
    assert lines[0] == "(in brackets: cosine of label vectors)"
    assert lines[1].startswith("hund: ")
    said = "note: the first 200 of 300 labels; name those you want"
    assert called.err.splitlines()[0] == said
    assert len(succeed("labels", run, "--json").json["nearest"]) == 200


def test_labels_asked_for_are_shown_and_no_more(run):
    geometry = LabelGeometry.load(run / "label_geometry.safetensors")
    called = succeed("labels", run, "katze", "hund", "-k", 2, "--json")
    assert list(called.json["nearest"]) == ["katze", "hund"]
    assert (called.json["scores"], called.err) == ([], "")
    expected = [{"name": near.name, "score": near.score} for near in geometry.neighbours("katze", k=2)]
    assert called.json["nearest"]["katze"] == expected
    refused = call("labels", run, "hund", "katse")
    assert (refused.code, refused.out) == (2, "")
    assert "no label 'katse' (did you mean 'katze'?)" in refused.err
