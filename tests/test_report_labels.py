"""Labels on the page: lift, how stable the nearest are, what is no label, when there is a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry, label_plane
from labelembed.report import load_comparison, write_report
from labelembed.report.error_section import error_section
from labelembed.report.errors_seen import seen_errors
from labelembed.report.label_figures import map_stress
from labelembed.report.label_matrix import Panel, label_matrix
from labelembed.report.similarities import label_similarities
from labelembed.special_tokens import SPECIAL_TOKENS
from tests.made_evidence import leave_errors, leave_examples
from tests.made_runs import embedding_geometry, make_comparison, run_path

EMBEDDING = "label_embedding"
NAMES = ("cat", "dog", "car")
# By seed: in the first dog is nearest to cat, in the others car; car is nearest to dog in all.
TABLES = [
    [[5.0, 2.0, 1.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 2.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 3.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
]


def _made(path, tables, names=NAMES):
    geometry = {seed: LabelGeometry(names, similarities=torch.as_tensor(table)) for seed, table in enumerate(tables)}
    errors = {name: dict.fromkeys(geometry, error) for name, error in (("one_hot", 0.25), (EMBEDDING, 0.25))}
    make_comparison(path, errors, geometry={EMBEDDING: geometry})
    return load_comparison(path).variants[1]


def test_lift_is_the_share_over_an_even_share_of_what_is_given_away(tmp_path):
    found = label_similarities(_made(tmp_path, TABLES[:1]))
    shares = np.exp(np.array(TABLES[0]))
    shares /= shares.sum(axis=1, keepdims=True)
    for label in range(3):
        others = [other for other in range(3) if other != label]
        wanted = [shares[label, other] / ((1 - shares[label, label]) / 2) for other in others]
        assert found.lift[label, others].tolist() == pytest.approx(wanted, abs=1e-12)
        assert np.mean(found.lift[label, others]) == pytest.approx(1)
    assert np.isnan(np.diagonal(found.lift)).all()


def test_stability_is_counted_over_seeds(tmp_path):
    found = label_similarities(_made(tmp_path, TABLES))
    assert found.nearest_in.tolist() == [2, 3, 3]
    one = label_similarities(_made(tmp_path / "one", TABLES[:1]))
    assert np.isnan(one.agreement)
    same = label_similarities(_made(tmp_path / "same", [TABLES[0], TABLES[0]]))
    assert same.agreement == pytest.approx(1)
    assert 0 < found.agreement < 1
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<td>2 of 3</td>" in page
    assert "for 2 of 3 labels the nearest is the same in each" in page


def test_special_tokens_are_no_labels_but_count_as_classes(tmp_path):
    names = (*SPECIAL_TOKENS, "cat", "dog", "car")
    variant = _made(tmp_path, [embedding_geometry(names).similarities.tolist()], names)
    found = label_similarities(variant)
    assert found.names == NAMES
    assert found.skipped == 4
    # Class 4 is cat, class 1 is <unk>.
    leave_errors(run_path(tmp_path, EMBEDDING, 0), [(4, 5, 3), (1, 6, 1)], labels=7)
    section = error_section(load_comparison(tmp_path), variant, {EMBEDDING: seen_errors(variant)}, {EMBEDDING: found})
    (one,) = section.detailed
    assert [(line.name, line.cells[0].text) for line in one.confused.lines] == [("cat", "dog"), ("<unk>", "car")]
    assert one.labels == [(0, 1), (-3, 2)]


def test_distinct_examples_are_counted_not_predictions(tmp_path):
    variant = _made(tmp_path, TABLES)
    right = np.ones((3, 8), dtype=bool)
    right[:, 0] = False  # always wrong
    right[0, 1] = right[1, 2] = right[2, 2] = False
    for seed in range(3):
        leave_examples(run_path(tmp_path, EMBEDDING, seed), right[seed])
        leave_errors(run_path(tmp_path, EMBEDDING, seed), [(0, 1, 2)], labels=3)
    errors = seen_errors(variant)
    assert (errors.ever_wrong, errors.always_wrong, errors.mistakes) == (3, 1, 6)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "are wrong in at least one of 3 runs, 1 in every one; 2.0 in a run." in page


def test_a_map_is_drawn_only_where_a_plane_keeps_the_distances():
    flat = np.linalg.norm(
        np.array([[0, 0], [3, 4], [6, 0], [1, 7]])[:, None] - [[0, 0], [3, 4], [6, 0], [1, 7]], axis=-1
    )
    assert map_stress(flat, label_plane(flat)) == pytest.approx(0, abs=1e-9)
    apart = 1.0 - np.eye(9)  # all equally far: no plane has nine such points
    assert map_stress(apart, label_plane(apart)) > 0.2
    assert map_stress(7 * flat, label_plane(flat)) == pytest.approx(0, abs=1e-9)


def test_page_says_why_there_is_no_map(tmp_path):
    names = tuple(f"label {number}" for number in range(12))
    _made(tmp_path, [(5 * torch.eye(12)).tolist()], names)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No map: a plane keeps too little of the distances (stress " in page
    assert 'id="figure-labels-map"' not in page


def test_a_matrix_lies_on_any_paper(tmp_path):
    joined = np.array([[0.0, 1.0, 0.5, 2.0], [2.0, 3.0, 2.0, 3.0]])
    table = np.array([[np.nan, 1.9, 0.1], [1.0, np.nan, 1.0], [0.2, 1.8, np.nan]])
    sketch = label_matrix(NAMES, joined, [Panel("learned", table), Panel("confused", table, confusions=True)])
    assert sketch.numbers[1] == ["learned", "car", pytest.approx(np.nan, nan_ok=True), 0.2, 1.8]
    svg = sketch.inline_svg()
    assert svg.count("<image") == 3  # two squares and the scale, each with transparent pixels
    assert all(f'id="matrix-row0-label-{label}"' in svg for label in range(3))
