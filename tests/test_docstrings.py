"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).parents[1] / "src"
# Of `results` a comparison of minutes, of `wordnet` what needs its files.
NOT_RUN = {"labelembed.lab.runs.comparison", "labelembed.geometry.wordnet"}
NAMES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text()
}


@pytest.mark.parametrize("name", sorted(NAMES - NOT_RUN))
def test_examples_of_a_module_run(name):
    torch.manual_seed(0)
    found = doctest.testmod(importlib.import_module(name))
    assert (found.failed, found.attempted > 0) == (0, True)
