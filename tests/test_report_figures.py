"""Figures as files, what is said where there is nothing to draw, and what the forest plot has."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from labelembed.geometry import LabelMap
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import comparison_rows, load_comparison
from labelembed.lab.report.catalogue import FIGURES, draw_figure
from labelembed.lab.report.curves import CurveMetric, curve_metrics, curve_sketch
from labelembed.lab.report.forest import forest_plot, forest_sketch
from labelembed.lab.report.label_figures import dendrogram, label_map
from tests.made_cli import call, succeed
from tests.made_evidence import leave_errors, leave_examples, leave_sentences
from tests.made_runs import embedding_geometry, history_lines, make_comparison, make_run, metrics, run_path

EMBEDDING = "label_embedding preset=paper"
NAMES = ("cat", "dog", "horse", "car", "bus")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    geometry = {EMBEDDING: {seed: embedding_geometry(NAMES, seed=seed) for seed in (0, 1)}}
    make_comparison(folder, {"one_hot": {0: 0.2, 1: 0.2}, EMBEDDING: {0: 0.1, 1: 0.1}}, geometry=geometry)
    leave_errors(run_path(folder, EMBEDDING, 0), [(0, 1, 3)], labels=5)
    for name in ("one_hot", EMBEDDING):
        leave_sentences(run_path(folder, name, 0), [("a", 0.2)])
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(folder, tmp_path, name):
    path = draw_figure(name, folder, tmp_path / f"{name}.svg")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    # nothing is left that only a page can say
    assert "var(--" not in text
    assert not re.search(r"#0102[0-9a-f]{2}", text)


def test_a_paper_gets_pdf_in_the_width_of_a_column(folder, tmp_path):
    path = draw_figure("curves", folder, tmp_path / "curves.pdf", width=3.25, metric="train-output", log=True)
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/MediaBox [ 0 0 234 " in content  # 3.25 inches of 72 points
    assert (
        draw_figure("curves", folder, tmp_path / "again.pdf", width=3.25, metric="train-output", log=True).read_bytes()
        == content
    )
    assert draw_figure("forest", folder, tmp_path / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_the_legend_of_a_column_leaves_the_axes_their_room(tmp_path):
    names = [f"label_smoothing smoothing={k / 10}" for k in range(1, 6)]
    make_comparison(tmp_path / "many", {name: {0: 0.2, 1: 0.3} for name in names})
    # matplotlib warns, which is an error here, where nothing is left for the axes
    assert draw_figure("curves", tmp_path / "many", tmp_path / "curves.png", width=3.3).is_file()


def test_groups_colour_tree_and_map_and_are_named(folder, tmp_path):
    groups = tmp_path / "groups.json"
    groups.write_text('{"animals": ["cat", "dog", "horse"], "vehicles": ["car", "bus"]}')
    plain = draw_figure("dendrogram", folder, tmp_path / "plain.svg").read_text(encoding="utf-8")
    coloured = draw_figure("dendrogram", folder, tmp_path / "coloured.svg", groups=groups).read_text(encoding="utf-8")
    for told in ("animals", "vehicles", "● cat", "■ car"):
        assert told in coloured
        assert told not in plain
    assert {"#0067a5", "#c04c00"} <= set(re.findall(r"#[0-9a-f]{6}", coloured))


def test_what_cannot_be_drawn_is_said(folder, tmp_path):
    make_comparison(tmp_path / "plain", {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}})
    for name, said in (
        ("confusion", "left no label geometry"),
        ("reliability", "needs diagnostics/errors.json"),
        ("attention", "needs diagnostics/sentences.json"),
    ):
        with pytest.raises(RunFolderError, match=said):
            draw_figure(name, tmp_path / "plain", tmp_path / "figure.pdf")
    with pytest.raises(RunFolderError, match=r"\.pdf, \.svg, \.png"):
        draw_figure("forest", folder, tmp_path / "forest.jpg")
    with pytest.raises(RunFolderError, match=r"--metric: no curves of 'test-eror' \(did you mean 'test-error'"):
        draw_figure("curves", folder, tmp_path / "curves.pdf", metric="test-eror")
    with pytest.raises(RunFolderError, match=r"--variant: 'label_embeding' is none of"):
        draw_figure("heatmap", folder, tmp_path / "map.pdf", variant="label_embeding")
    assert not (tmp_path / "curves.pdf").exists()


def test_command_writes_figures(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert succeed("figure", "curves", str(folder), "-o", "curves.svg").out.strip() == "curves.svg"
    assert "unknown figure 'curvs' (did you mean 'curves'?)" in call("figure", "curvs", str(folder)).err


def test_curves_are_of_what_is_ever_other_than_zero(folder):
    comparison = load_comparison(folder)
    keys = [metric.key for metric in curve_metrics(comparison)]
    assert keys[:2] == ["test-error", "validation-error"]
    assert keys[-2:] == ["train-total", "train-output"]
    assert curve_sketch(comparison, CurveMetric("train", "hinge")) is None


def test_tree_and_map_have_their_numbers():
    names, joined = ("cat", "dog", "ship"), np.array([[0.0, 1.0, 0.5, 2.0], [2.0, 3.0, 2.0, 3.0]])
    assert dendrogram(names, joined).numbers == [
        ["join", "one", "other", "distance", "labels"],
        [1, "cat", "dog", 0.5, 2],
        [2, "ship", "join 1", 2.0, 3],
    ]
    points = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    assert label_map(names, LabelMap([0, 1, 2], points)).numbers == [
        ["label", "x", "y"],
        ["cat", 0.0, 1.0],
        ["dog", 2.0, 3.0],
        ["ship", 4.0, 5.0],
    ]


# ------------------------------------------------------------------------------------------------- the forest plot

ERRORS = {
    "one_hot": {0: 0.20, 1: 0.22, 2: 0.21},
    "label_smoothing smoothing=0.4": {0: 0.18, 1: 0.19, 2: 0.20},
    "label_embedding": {0: 0.19, 1: 0.23},
}


def test_it_is_an_svg_of_its_own_dark_on_white(tmp_path):
    text = forest_plot(load_comparison(make_comparison(tmp_path, ERRORS)))
    ET.fromstring(text)
    assert "var(--" not in text
    assert "currentColor" not in text
    assert "one_hot (control)" in text
    assert "test error minus that of one_hot, points (lower is better)" in text


@pytest.mark.parametrize("narrow", [False, True])
def test_it_says_each_difference_and_has_each_seed_in_full(tmp_path, narrow):
    comparison = load_comparison(make_comparison(tmp_path, ERRORS))
    rows = comparison_rows(comparison)
    sketch = forest_sketch(comparison, rows, narrow=narrow)
    assert "label_smoothing smoothing=0.4 -2.00 points, 95 % interval over seeds -4.48 to 0.48" in sketch.description
    numbers = [(name, seed, value, difference) for name, seed, value, difference in sketch.numbers[1:]]
    assert ("label_embedding", 1, 0.23, pytest.approx(0.01, abs=1e-12)) in numbers
    assert len(numbers) == 8
    written = io.StringIO()
    csv.writer(written).writerows(sketch.numbers)
    assert written.getvalue().startswith("variant,seed,test error,difference")


def test_the_thin_bar_is_spoken_of_only_where_there_is_one(tmp_path):
    comparison = load_comparison(make_comparison(tmp_path, {name: dict.fromkeys((0, 1), 0.25) for name in ERRORS}))
    sketch = forest_sketch(comparison, comparison_rows(comparison))
    assert "test examples" not in sketch.caption
    for place, name in enumerate(ERRORS):
        for seed in (0, 1):
            leave_examples(run_path(tmp_path, name, seed), np.roll([True] * 15 + [False] * 5, place + 3 * seed))
    sketch = forest_sketch(comparison, comparison_rows(comparison))
    assert "over seeds and test examples" in sketch.caption


def test_nothing_compared_gives_no_plot(tmp_path):
    run = make_run(tmp_path / "run", test=metrics(0.1), history=history_lines([0.1]))
    assert forest_plot(load_comparison(run.path)) == ""
