"""What the page says of labels, errors and sentences: lift, stability, confusions, and what is no label."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry, label_plane
from labelembed.lab.report import load_comparison, write_report
from labelembed.lab.report.error_analysis import confusion_similarity, error_analysis, error_section
from labelembed.lab.report.label_figures import map_stress
from labelembed.lab.report.label_matrix import Panel, label_matrix
from labelembed.lab.report.label_section import label_section
from labelembed.lab.report.reliability import calibration_gap
from labelembed.lab.report.sentences import sentence_section
from labelembed.lab.report.similarities import DRAWN_LABELS, label_similarities
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from tests.made_evidence import leave_errors, leave_examples, leave_sentences
from tests.made_runs import embedding_geometry, make_comparison, run_path

EMBEDDING = "label_embedding"
THREE = ("cat", "dog", "car")
# By seed: in the first dog is nearest to cat, in the others car; car is nearest to dog in all.
TABLES = [
    [[5.0, 2.0, 1.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 2.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 3.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
]


def _made(path, tables, names=THREE):
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
        assert found.relative[label, others].tolist() == pytest.approx(wanted, abs=1e-12)
        assert np.mean(found.relative[label, others]) == pytest.approx(1)
    assert np.isnan(np.diagonal(found.relative)).all()


def test_lift_is_over_all_labels_not_the_drawn_ones(tmp_path):
    names = tuple(f"label {number}" for number in range(DRAWN_LABELS + 500))
    found = label_similarities(_made(tmp_path, [torch.zeros(len(names), len(names)).tolist()], names))
    off_diagonal = ~np.eye(DRAWN_LABELS, dtype=bool)
    assert found.relative.shape == (DRAWN_LABELS, DRAWN_LABELS)
    assert found.relative[off_diagonal] == pytest.approx(1)


def test_vectors_have_a_relative_distance_with_a_colour_of_its_own_and_no_lift(tmp_path):
    geometry = {0: LabelGeometry(THREE, vectors=torch.tensor([[0.0], [1.0], [3.0]]))}
    tables = {0: LabelGeometry(THREE, similarities=torch.as_tensor(TABLES[0]))}
    errors = {"one_hot": {0: 0.25}, "adaptive_labels": {0: 0.25}, EMBEDDING: {0: 0.2}}
    make_comparison(tmp_path, errors, geometry={"adaptive_labels": geometry, EMBEDDING: tables})
    found = label_similarities(load_comparison(tmp_path).variants[1])
    assert found.measure == "relative distance"
    assert found.relative[0, 1:].tolist() == [0.5, 1.5]  # 1 and 3 over their mean
    section = label_section([(one, label_similarities(one)) for one in load_comparison(tmp_path).variants[1:]])
    first, second = section["nearest"]
    assert [text for _, _, text, _ in first["lines"][0][3]] == ["0.50", "1.50"]
    assert ("lift" in first["unit"], "lift" in second["unit"]) == (False, True)
    sketch = section["figures"]["heatmap"]
    assert sketch.numbers[1][:2] == ["adaptive_labels (relative distance)", "car"]
    assert sketch.inline_svg().count("<image") == 4  # two squares, and a scale each


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
    assert found.names == THREE
    assert found.skipped == 4
    # Class 4 is cat, class 1 is <unk>.
    leave_errors(run_path(tmp_path, EMBEDDING, 0), [(4, 5, 3), (1, 6, 1)], labels=7)
    section = error_section(
        load_comparison(tmp_path), variant, {EMBEDDING: error_analysis(variant)}, {EMBEDDING: found}
    )
    (one,) = section["detailed"]
    assert [(line.name, line.cells[0].text) for line in one["confused"].lines] == [("cat", "dog"), ("<unk>", "car")]
    assert one["labels"] == [(0, 1), (-3, 2)]


def test_distinct_examples_are_counted_not_predictions(tmp_path):
    variant = _made(tmp_path, TABLES)
    right = np.ones((3, 8), dtype=bool)
    right[:, 0] = False  # always wrong
    right[0, 1] = right[1, 2] = right[2, 2] = False
    for seed in range(3):
        leave_examples(run_path(tmp_path, EMBEDDING, seed), right[seed])
        leave_errors(run_path(tmp_path, EMBEDDING, seed), [(0, 1, 2)], labels=3)
    errors = error_analysis(variant)
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
    sketch = label_matrix(THREE, joined, [Panel("learned", table), Panel("confused", table, "confusions")])
    assert sketch.numbers[1] == ["learned", "car", pytest.approx(np.nan, nan_ok=True), 0.2, 1.8]
    svg = sketch.inline_svg()
    assert svg.count("<image") == 3  # two squares and the scale, each with transparent pixels
    assert all(f'id="matrix-row0-label-{label}"' in svg for label in range(3))


# ----------------------------------------------------------------------------------------- errors and sentences

NAMES = ("cat", "dog", "car", "bus")
# cat and dog are similar, so are car and bus.
TABLE = torch.tensor([[3.0, 2.0, 0.0, -1.0], [2.0, 3.0, -1.0, 0.0], [0.0, -1.0, 3.0, 2.0], [-1.0, 0.0, 2.0, 3.0]])


@pytest.fixture
def folder(tmp_path):
    geometry = {EMBEDDING: {seed: LabelGeometry(NAMES, similarities=TABLE) for seed in (0, 1)}}
    make_comparison(tmp_path, {"one_hot": {0: 0.2, 1: 0.2}, EMBEDDING: {0: 0.1, 1: 0.1}}, geometry=geometry)
    return tmp_path


def _variant(folder, name=EMBEDDING):
    return next(variant for variant in load_comparison(folder).variants if variant.name == name)


def test_mistakes_are_added_up_over_the_runs(folder):
    leave_errors(run_path(folder, EMBEDDING, 0), [(0, 1, 5), (2, 3, 1)], labels=4)
    leave_errors(run_path(folder, EMBEDDING, 1), [(1, 0, 4), (2, 3, 2), (0, 2, 1)], labels=4)
    errors = error_analysis(_variant(folder))
    assert (errors.runs, errors.mistakes) == (2, 13)
    assert errors.confused(2) == [(0, 1, 5), (1, 0, 4)]
    assert errors.of_label.tolist() == [10] * 4
    # 8 rows at 50 % of which 75 % are right, 12 at 98 % all right
    assert calibration_gap(errors.reliability) == pytest.approx((8 * 0.25 + 12 * 0.02) / 20)


def test_confused_labels_are_held_against_likeness(folder):
    leave_errors(run_path(folder, EMBEDDING, 0), [(0, 1, 6), (2, 3, 3), (0, 3, 1)], labels=4)
    variant = _variant(folder)
    alike = confusion_similarity(error_analysis(variant), label_similarities(variant))
    assert alike == {"nearest": 0.9, "chance": 1 / 3}  # of ten mistakes nine are with the nearest label
    found = error_section(
        load_comparison(folder), variant, {EMBEDDING: error_analysis(variant)}, {EMBEDDING: label_similarities(variant)}
    )
    assert "In 90.0 % of the mistakes" in found["detailed"][0]["sentences"][1]


def test_page_shows_errors_and_says_which_runs_left_none(folder):
    leave_errors(run_path(folder, EMBEDDING, 0), [(0, 1, 6)], labels=4)
    (run_path(folder, EMBEDDING, 1) / "diagnostics").mkdir()
    (run_path(folder, EMBEDDING, 1) / "diagnostics" / "errors.json").write_text('{"labels": 4}')
    text = write_report(folder).read_text(encoding="utf-8")
    assert "label_embedding, seed 1: diagnostics/errors.json: damaged" in text
    assert "one_hot: the runs left no evidence of their errors" in text
    assert "a picture of cat, predicted as dog" in text
    assert text.count('<img src="data:image/png;base64,') == 2


@pytest.mark.parametrize(
    "change",
    [
        {"labels": 0},
        {"labels": "4"},
        {"examples": -1},
        {"confusions": [[0, 9, 1]]},
        {"confusions": [[0, 1]]},
        {"of_label": [1, 2]},
        {"reliability": {"before": {"count": []}}},
        {"reliability": None},
        {"worst": [{"row": 1, "label": 0, "predicted": 1, "share": 0.1, "predicted_share": 0.2, "png": '"><script>'}]},
        {"worst": [{"row": 1, "label": 77, "predicted": 1, "share": 0.1, "predicted_share": 0.2, "png": "AAAA"}]},
        {"worst": [{"row": 1, "label": 0, "predicted": 1, "share": 0.1, "predicted_share": 0.2, "text": "x" * 1_001}]},
        {"worst": None},
    ],
)
def test_evidence_that_cannot_be_true_is_not_shown(folder, change):
    run = run_path(folder, EMBEDDING, 0)
    leave_errors(run, [(0, 1, 6)], labels=4)
    path = run / "diagnostics" / "errors.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert error_analysis(_variant(folder)) is None


def test_sentences_are_sorted_by_the_difference_of_their_scores(folder):
    leave_sentences(run_path(folder, "one_hot", 0), [("a", 0.5), ("b", 0.9), ("c", 0.2)])
    leave_sentences(run_path(folder, EMBEDDING, 0), [("A", 0.6), ("B", 0.3), ("<i>C</i>", 0.9)])
    comparison = load_comparison(folder)
    seen = sentence_section(comparison, comparison.variants[1])
    assert [(pair["baseline"], pair["output"]) for pair in seen["pairs"]] == [("c", "<i>C</i>"), ("a", "A"), ("b", "B")]
    assert seen["better"] == (2, 1)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "&lt;i&gt;C&lt;/i&gt;" in text
    assert "Attention in sentence 1" in text
    assert "x at a, y at b" in text


def test_sentences_of_which_the_baseline_has_none_are_left_out(folder):
    leave_sentences(run_path(folder, EMBEDDING, 0), [("A", 0.6)])
    comparison = load_comparison(folder)
    assert sentence_section(comparison, comparison.variants[1]) is None
    path = run_path(folder, "one_hot", 0) / "diagnostics"
    path.mkdir()
    (path / "sentences.json").write_text('{"sentences": [{"place": 0}]}')
    assert sentence_section(comparison, comparison.variants[1]) is None
