"""The wheel has all that the package needs: built, installed into an environment without the checkout, and tried."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a person tries first, in one process.
SCRIPT = """
import labelembed
from labelembed import cli
from labelembed.report import write_report

print(labelembed.__file__)
try:
    cli.main()
except SystemExit as left:
    assert not left.code, left.code
write_report("run")
"""


def ran(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=known | environment, capture_output=True, text=True, timeout=240)


def test_wheel_installs_and_trains(tmp_path):
    """Three processes: building, installing, trying. Nothing else says what a user's own environment has."""
    built = ran(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT, cwd=tmp_path)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, is not installed and cannot be downloaded")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("labelembed-*.whl")

    # The dependencies are those of this environment, by their folder: an editable checkout in it is not seen so.
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    packages = Path(
        ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).stdout.strip()
    )
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = ("-m", "pip", "install", "--no-deps", "--no-index", "--target", packages, wheel)
    installed = ran(sys.executable, *command, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr

    tried = ran(python, "-c", SCRIPT, "train", "digits-mlp", "--epochs", "1", "--out", "run", "--quiet", cwd=tmp_path)
    assert tried.returncode == 0, tried.stderr
    assert Path(tried.stdout.splitlines()[0]).is_relative_to(packages)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
