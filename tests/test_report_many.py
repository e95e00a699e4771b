"""A page of very many runs: what is drawn of them, what stays in the numbers, and what a run adds to the page."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest

from labelembed.lab.report import curves, load_comparison, verdict, write_report
from labelembed.lab.report.curves import CurveMetric, curve_data, curve_sketch
from labelembed.lab.report.drawing import line_style, series_number
from labelembed.lab.report.ranking import MOST_NAMED, best_method, by_weight, drawn_variants, series_positions
from tests.made_evidence import leave_errors
from tests.made_runs import make_comparison, run_path

BEST = "label_embedding"


def _many(folder, variants, *, seeds=1, epochs=10, evidence=False):
    """Makes a comparison whose method, and best variant, was asked for last."""
    names = ["one_hot", *(f"label_smoothing smoothing={nth}" for nth in range(variants - 2)), BEST]
    draws = np.random.default_rng(0)
    errors = {name: {seed: 0.2 + 0.1 * draws.random() for seed in range(seeds)} for name in names}
    errors[BEST] = dict.fromkeys(range(seeds), 0.1)
    curves = {
        name: {seed: [*(error + 0.3 * draws.random(epochs - 1)), error] for seed, error in by_seed.items()}
        for name, by_seed in errors.items()
    }
    make_comparison(folder, errors, curves=curves)
    if evidence:
        for name in names:
            leave_errors(run_path(folder, name, 0), [(0, 1, 3)], labels=4)
    return folder


def _unpacked(data):
    return json.loads(zlib.decompress(base64.b64decode(data["packed"])))


def test_of_many_variants_the_method_the_baseline_and_the_best_are_drawn(tmp_path):
    comparison = load_comparison(_many(tmp_path, 20))
    names = [variant.name for variant in comparison.variants]
    order = [variant.name for variant in by_weight(comparison)]
    errors = {variant.name: next(iter(variant.metrics("test", "error").values())) for variant in comparison.variants}
    assert order[:2] == [BEST, "one_hot"]
    assert order[2:] == sorted(set(names) - {BEST, "one_hot"}, key=errors.get)
    drawn = [variant.name for variant in drawn_variants(comparison)]
    assert drawn == [name for name in names if name in order[:MOST_NAMED]]
    places = series_positions(comparison)
    looks = {(series_number(places[name]), str(line_style(places[name]))) for name in drawn}
    assert len(looks) == MOST_NAMED
    assert places["one_hot"] == 0


def test_of_a_few_variants_all_are_drawn_in_the_order_asked_for(tmp_path):
    comparison = load_comparison(_many(tmp_path, MOST_NAMED))
    assert drawn_variants(comparison) == comparison.variants
    assert list(series_positions(comparison).values()) == list(range(MOST_NAMED))
    assert best_method(comparison).name == BEST
    assert verdict(comparison)[0].startswith("With the one seed they share, the test error of label_embedding")


def test_the_chart_has_the_numbers_of_every_run(tmp_path):
    comparison = load_comparison(_many(tmp_path, 20))
    metrics = [CurveMetric("test", "error"), CurveMetric("train", "total")]
    data = curve_data(comparison, metrics)
    assert sum(series["shown"] for series in data["series"]) == MOST_NAMED
    assert data["every"] == 1
    unpacked = _unpacked(data)
    assert unpacked["epochs"] == list(range(1, 11))
    for variant, runs in zip(comparison.variants, unpacked["metrics"][0]["runs"], strict=True):
        assert runs[0] == pytest.approx(variant.runs[0].curve("test", "error").tolist(), rel=5e-6)


def test_of_too_many_numbers_the_last_of_every_few_epochs_is_there(tmp_path, monkeypatch):
    comparison = load_comparison(_many(tmp_path, 4, epochs=10))
    monkeypatch.setattr(curves, "_MOST_NUMBERS", 15)
    data = curve_data(comparison, [CurveMetric("test", "error")])
    unpacked = _unpacked(data)
    assert data["every"] == 3
    assert unpacked["epochs"] == [1, 4, 7, 10]
    curve = comparison.variants[0].runs[0].curve("test", "error")
    assert unpacked["metrics"][0]["runs"][0][0] == pytest.approx(curve[[0, 3, 6, 9]].tolist(), rel=5e-6)


def test_curves_are_drawn_as_shades_where_lines_would_be_too_many(tmp_path):
    comparison = load_comparison(_many(tmp_path, 20))
    sketch = curve_sketch(comparison, CurveMetric("test", "error"))
    assert "Drawn are 12 of 20 variants, the best and the baseline; the 8 others" in sketch.caption
    assert 'id="curves-test-error-FillBetweenPolyCollection' not in sketch.inline_svg()
    lines = load_comparison(_many(tmp_path / "lines", 3, seeds=4))
    assert curve_sketch(lines, CurveMetric("test", "nll")).caption.startswith("Each run light")
    long = load_comparison(_many(tmp_path / "long", 3, seeds=4, epochs=300))
    sketch = curve_sketch(long, CurveMetric("test", "nll"))
    assert sketch.caption.startswith("The mean over seeds, shaded from the lowest to the highest run")
    assert sketch.inline_svg().count('id="curves-test-nll-FillBetweenPolyCollection') == 3


def test_a_run_adds_little_to_the_page(tmp_path):
    sizes = [
        write_report(_many(tmp_path / str(variants), variants, epochs=100, evidence=True)).stat().st_size
        for variants in (14, 22)
    ]
    added = (sizes[1] - sizes[0]) / 8
    # Its 600 numbers at four bytes each, and its lines in the tables; a curve drawn for it would be 8,000 more.
    assert added < 6_000, f"{added:.0f} bytes a run"
