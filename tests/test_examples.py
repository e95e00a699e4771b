"""The scripts of examples/ run as a person runs them, learn, stay short, and stand in the docs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# The largest error in per cent that each may end with: guessing has 90.
LARGEST_ERROR = {
    "lightning_module": 10,
    "pytorch_loop": 5,
    "sklearn_pipeline": 6,
    "timm_finetune": 100,  # without ImageNet's weights it learns next to nothing
    "transformers_trainer": 30,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_learns(path, tmp_path):
    needed = re.findall(r"^(?:import|from) (timm|transformers|lightning|sklearn)", path.read_text(), re.MULTILINE)
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(path)]
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    errors = [float(found) for found in re.findall(r"error ([0-9.]+) %", ran.stdout)]
    assert errors[-1] <= LARGEST_ERROR[path.stem], ran.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_stands_in_the_docs(path):
    assert path.read_text().count("\n") <= 60
    assert f"{{literalinclude}} ../examples/{path.name}" in (ROOT / "docs" / "integrations.md").read_text()
