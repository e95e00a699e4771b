"""The wheel has every file of the package, its command, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_wheel_has_every_file_of_the_package(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, is not installed and cannot be downloaded")
    assert built.returncode == 0, built.stderr
    (path,) = tmp_path.glob("labelembed-*.whl")
    wheel = zipfile.ZipFile(path)
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (ROOT / "src" / "labelembed").rglob("*")
    wanted = {str(file.relative_to(ROOT / "src")) for file in files if file.is_file() and file.suffix != ".pyc"}
    assert names == wanted
    assert {Path(name).suffix for name in names} >= {".py", ".yaml", ".typed"}
    (about,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "labelembed = labelembed.__main__:main" in wheel.read(about).decode()
