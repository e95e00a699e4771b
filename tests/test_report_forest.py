"""The forest plot: one SVG of its own, with every variant, every seed and both intervals."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from labelembed.report import comparison_rows, load_comparison
from labelembed.report.forest import forest_plot, forest_sketch
from tests.made_evidence import leave_examples
from tests.made_runs import journal_lines, make_comparison, make_run, measures, run_path

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
    sketch = forest_sketch(comparison, rows, "forest", narrow=narrow)
    assert "label_smoothing smoothing=0.4 -2.00 points, 95 % interval over seeds -4.48 to 0.48" in sketch.description
    numbers = [(name, seed, value, difference) for name, seed, value, difference in sketch.numbers[1:]]
    assert ("label_embedding", 1, 0.23, pytest.approx(0.01, abs=1e-12)) in numbers
    assert len(numbers) == 8
    written = io.StringIO()
    csv.writer(written).writerows(sketch.numbers)
    assert written.getvalue().startswith("variant,seed,test error,difference")


def test_the_thin_bar_is_spoken_of_only_where_there_is_one(tmp_path):
    comparison = load_comparison(make_comparison(tmp_path, {name: dict.fromkeys((0, 1), 0.25) for name in ERRORS}))
    sketch = forest_sketch(comparison, comparison_rows(comparison), "forest")
    assert "test examples" not in sketch.caption
    for place, name in enumerate(ERRORS):
        for seed in (0, 1):
            leave_examples(run_path(tmp_path, name, seed), np.roll([True] * 15 + [False] * 5, place + 3 * seed))
    sketch = forest_sketch(comparison, comparison_rows(comparison), "forest")
    assert "over seeds and test examples" in sketch.caption


def test_nothing_compared_gives_no_plot(tmp_path):
    run = make_run(tmp_path / "run", test=measures(0.1), journal=journal_lines([0.1]))
    assert forest_plot(load_comparison(run.path)) == ""
