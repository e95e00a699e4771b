"""What the page says of labels, errors and sentences: lift, stability, confusions, and what is no label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.report import load_comparison, write_report
from labelembed.lab.report.error_analysis import error_analysis, sentence_pairs
from labelembed.lab.report.labels import MOST_DRAWN, MOST_LABELS, groups_for, label_figure, label_similarities
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from labelembed.lab.training.run_folder import RunFolder
from tests.made_evidence import leave_errors, leave_examples, leave_sentences
from tests.made_runs import embedding_geometry, make_comparison, run_path

EMBEDDING, THREE = "label_embedding", ("cat", "dog", "car")
# By seed: in the first dog is nearest to cat, in the others car; car is nearest to dog in all.
TABLES = [
    [[5.0, 2.0, 1.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 2.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
    [[5.0, 1.0, 3.0], [0.0, 5.0, 2.0], [1.0, 2.0, 5.0]],
]


def made(path, tables, names=THREE):
    geometry = {seed: LabelGeometry(names, similarities=torch.as_tensor(table)) for seed, table in enumerate(tables)}
    errors = {name: dict.fromkeys(geometry, 0.25) for name in ("one_hot", EMBEDDING)}
    make_comparison(path, errors, geometry={EMBEDDING: geometry})
    return load_comparison(path).variants[1]


def test_lift_is_the_mean_share_over_an_even_share_of_what_is_given_away(tmp_path):
    found = label_similarities(made(tmp_path, TABLES[:2]))
    shares = np.mean([np.exp(table) / np.exp(table).sum(axis=1, keepdims=True) for table in TABLES[:2]], axis=0)
    wanted = shares / ((1 - np.diagonal(shares)) / 2)[:, None]
    apart = ~np.eye(3, dtype=bool)
    assert found.relative[apart].tolist() == pytest.approx(wanted[apart].tolist(), abs=1e-12)
    assert np.isnan(np.diagonal(found.relative)).all()
    line = found.table().frame.iloc[1].tolist()
    assert line == ["dog", f"car ({wanted[1, 2]:.2f}\u00d7)", f"cat ({wanted[1, 0]:.2f}\u00d7)", "2 of 2"]


def test_lift_is_over_all_labels_not_the_drawn_ones(tmp_path):
    names = tuple(f"label {number}" for number in range(MOST_LABELS + 500))
    found = label_similarities(made(tmp_path, [torch.zeros(len(names), len(names)).tolist()], names))
    assert found.relative.shape == (MOST_LABELS, MOST_LABELS)
    assert found.relative[~np.eye(MOST_LABELS, dtype=bool)] == pytest.approx(1)


def test_vectors_have_a_relative_distance(tmp_path):
    geometry = {0: LabelGeometry(THREE, vectors=torch.tensor([[0.0], [1.0], [3.0]]))}
    make_comparison(tmp_path, {"one_hot": {0: 0.25}, "a": {0: 0.2}}, geometry={"a": geometry})
    found = label_similarities(load_comparison(tmp_path).variants[1])
    assert found.relative[0, 1:].tolist() == [0.5, 1.5]  # 1 and 3 over their mean
    assert found.table().frame.iloc[0].tolist() == ["cat", "dog (0.50)", "car (1.50)"]
    assert "relative distance" in write_report(tmp_path).read_text()


def test_stability_is_counted_over_seeds_and_special_tokens_are_no_labels(tmp_path):
    found = label_similarities(made(tmp_path, TABLES))
    assert found.nearest_in.tolist() == [2, 3, 3]
    assert "for 2 of 3 labels" in found.stability()
    names = (*SPECIAL_TOKENS, *THREE)
    tables = [embedding_geometry(names).similarities.tolist()]
    assert label_similarities(made(tmp_path / "tokens", tables, names)).names == THREE


def test_a_damaged_geometry_and_one_of_other_labels_are_left_out_with_the_reason(tmp_path):
    made(tmp_path, TABLES)
    RunFolder(run_path(tmp_path, EMBEDDING, 1)).geometry_file.write_bytes(b"nothing")
    embedding_geometry(("a", "b")).save(RunFolder(run_path(tmp_path, EMBEDDING, 2)).geometry_file)
    found = label_similarities(load_comparison(tmp_path).variants[1])
    assert (len(found.each), sorted(found.left_out)) == (1, [1, 2])
    page = write_report(tmp_path).read_text()
    assert all(f"seed {seed}: {why}" in page for seed, why in found.left_out.items())


@pytest.mark.parametrize("count", [2, 10, 60, MOST_DRAWN + 20])
def test_the_figure_of_labels_names_those_it_draws(count):
    names = [f"label {number}" for number in range(count)]
    places = np.random.default_rng(0).normal(size=(count, 2))
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    squares = {"lift": 2 - distances / distances.max(), "confusion matrix": np.eye(count)}
    for drawn in (squares, {}):
        svg = label_figure(names, distances, drawn, groups=["even", "odd"] * (count // 2)).svg()
        assert svg.count("<image") == len(drawn)
        assert all(f"{name} (" in svg for name in names[:MOST_DRAWN])
        assert f"{names[-1]} (" in svg or count > MOST_DRAWN
    assert groups_for(THREE) is None


def test_distinct_examples_and_mistakes_with_the_nearest_label_are_counted(tmp_path):
    variant = made(tmp_path, TABLES)
    right = np.ones((3, 8), dtype=bool)
    right[:, 0] = False  # always wrong
    right[0, 1] = right[1, 2] = right[2, 2] = False
    for seed in range(3):
        leave_examples(run_path(tmp_path, EMBEDDING, seed), right[seed])
        leave_errors(run_path(tmp_path, EMBEDDING, seed), [(1, 2, 3), (0, 1, 1)], labels=3)
    errors = error_analysis(variant)
    first, second = errors.lines(label_similarities(variant).nearest)
    assert "3 of 8 test examples are wrong in at least one of 3 runs, 1 in every one" in first
    assert "75 % of the mistakes" in second  # car is nearest to dog
    assert replace(errors, runs=1).lines(None) == ["3 of 8 test examples are wrong."]
    assert errors.confused(THREE).frame.iloc[0].tolist() == ["dog", "car", "3.0", "30.0"]
    # In each run 4 examples at 50 % of which 75 % are right, 6 at 98 % all right.
    assert errors.reliability[:, 7].tolist() == [12, 0.5, 0.75]
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "a picture of cat, predicted as dog" in text
    assert text.count('<img src="data:image/png;base64,') == 2


EXAMPLE = {"row": 1, "label": 0, "predicted": 1, "share": 0.1, "predicted_share": 0.2}


def test_sentences_are_sorted_by_the_difference_of_their_scores(tmp_path):
    method = made(tmp_path, TABLES[:2])
    reference = load_comparison(tmp_path).variants[0]
    leave_sentences(run_path(tmp_path, EMBEDDING, 0), [("A", 0.6), ("B", 0.3), ("<i>C</i>", 0.9)])
    assert sentence_pairs(method, reference) is None  # the reference left none
    leave_sentences(run_path(tmp_path, "one_hot", 0), [("a", 0.5), ("b", 0.9), ("c", 0.2)])
    found = sentence_pairs(method, reference)
    assert [[one.output for one in pair] for pair in found["pairs"]] == [["c", "<i>C</i>"], ["a", "A"], ["b", "B"]]
    assert (found["better"], found["worse"], found["writers"]) == (2, 1, ["cross entropy", "label embedding"])
    assert "&lt;i&gt;C&lt;/i&gt;" in write_report(tmp_path).read_text(encoding="utf-8")


def test_confusions_of_tokens_are_matched_to_them_after_the_special_tokens(tmp_path):
    variant = made(tmp_path, TABLES[:1], names=THREE)
    leave_errors(run_path(tmp_path, EMBEDDING, 0), [(4, 5, 3), (0, 5, 2)], labels=7)  # cat as dog, padding as dog
    analysis = error_analysis(variant)
    assert analysis.counts(3, len(SPECIAL_TOKENS)).tolist() == [[0, 3, 0], [0, 0, 0], [0, 0, 0]]
    assert "In 100 % of the mistakes" in analysis.lines(label_similarities(variant).nearest)[-1]
    assert all(name in write_report(tmp_path).read_text() for name in ("&lt;pad&gt;", "cat"))
