"""Every benchmark can be imported: it is run by hand, so that nothing else would say that a name has moved."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in (Path(__file__).parents[1] / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_can_be_imported(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert name in ("gradient_histograms", "pretrained_features", "made_data", "timing", "readme_pictures") or callable(
        module.run
    )
