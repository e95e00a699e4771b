"""The library without the lab: its own tests pass where nothing is installed but what it requires."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The library's tests, but for those that compile, start processes or talk to them.
TESTS = ["test_losses.py", "test_seeds.py", "test_geometry_*.py", "test_metrics_*.py", "test_objectives_*.py"]
LEFT_OUT = {"test_objectives_processes.py"}

# A finder that finds nothing but the standard library, this package without its lab, the tests, and what the four
# requirements and pytest require themselves.
ALONE = r"""
import importlib.abc, importlib.metadata as metadata, re, sys

allowed, waiting = set(), ["torch", "numpy", "scipy", "safetensors", "pytest", "pytest-timeout", "hypothesis"]
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    if name in allowed:
        continue
    allowed.add(name)
    try:
        required = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of another platform
        continue
    waiting += [re.match(r"[\w.-]+", one)[0] for one in required if "extra ==" not in one]
packages = metadata.packages_distributions()
names = {
    module for module, owners in packages.items()
    if any(re.sub(r"[-_.]+", "-", owner).lower() in allowed for owner in owners)
}

class Alone(importlib.abc.MetaPathFinder):
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in names | set(sys.stdlib_module_names) | {"labelembed", "tests", "conftest"} or top[0] == "_"
        if f"{name}.".startswith("labelembed.lab.") or not known:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec is not None), None)

sys.meta_path = [Alone(sys.meta_path)]
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_the_librarys_own_tests_pass_with_its_four_requirements_alone():
    files = sorted({path for pattern in TESTS for path in (ROOT / "tests").glob(pattern) if path.name not in LEFT_OUT})
    options = ["-q", "-x", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    options += ["-k", "not compiled and not process_group", *map(str, files)]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", ALONE, *options]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout


def test_the_command_says_in_one_line_what_the_lab_needs():
    blocked = "import sys; sys.modules['typer'] = None\nfrom labelembed.__main__ import main\nmain()"
    ran = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "pip install 'labelembed[lab]'" in ran.stderr
