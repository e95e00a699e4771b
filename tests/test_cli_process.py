"""The program as a process of its own: imports, start-up, pipes; and a comparison over worker processes."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import labelembed
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import SMALL, call
from tests.made_data import write_idx_folder

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "timm", "transformers", "triton", "pandas", "accelerate")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def command(*words):
    return [sys.executable, "-m", "labelembed", *map(str, words)]


def ran(*words):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=120)


def compare_words(*more):
    write_idx_folder(Path("mnist"))
    variants = "one_hot,label_smoothing:smoothing=0.3"
    return ["compare", "mnist-mlp", "--data", Path("mnist").absolute(), *SMALL[:-1], "--objectives", variants, *more]


@pytest.mark.parametrize(
    "code",
    [
        "import labelembed",
        "from labelembed.lab.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass",
    ],
)
def test_package_and_help_import_nothing_heavy(code):
    code = f"import sys\n{code}\nprint('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.endswith("HEAVY []\n")


def test_public_names_are_listed_once_and_resolve():
    assert len(set(labelembed.__all__)) == len(labelembed.__all__)
    assert set(labelembed.__all__) <= set(dir(labelembed))
    assert [name for name in labelembed.__all__ if getattr(labelembed, name) is None] == []
    with pytest.raises(AttributeError, match="LabelEmbeding"):
        labelembed.LabelEmbeding  # noqa: B018
    assert labelembed.__getattr__("metrics") is labelembed.metrics


def test_closed_pipe_gives_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)  # before the first word is written
    try:
        called = subprocess.run(command("--help"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert called.stderr == ""
    assert called.returncode == 0


def test_comparison_is_made_once_and_then_reused(tmp_path):
    words = compare_words("--seeds", "0,4", "--baseline", "label_smoothing", "--jobs", 2)
    out = tmp_path / "comparisons" / "mnist-mlp"

    first = ran(*words)
    assert first.returncode == 0, first.stderr
    assert "\x1b" not in first.stdout + first.stderr
    assert re.findall(r"^\[\d/4\]", first.stderr, re.MULTILINE)[-1] == "[4/4]"
    assert first.stdout.splitlines()[-1].endswith("comparisons/mnist-mlp/report.html")
    assert len(first.stdout.splitlines()) <= 12
    runs = {str(path.parent.relative_to(out / "runs")) for path in out.rglob("result.json")}
    folders = ("label_smoothing-smoothing=0.3", "one_hot")
    assert runs == {f"{folder}/seed-{seed}" for folder in folders for seed in (0, 4)}
    errors = [RunFolder(out / "runs/one_hot" / f"seed-{seed}").result()["test"]["error"] for seed in (0, 4)]
    table = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert [row["seeds"] for row in table] == ["0 4", "0 4"]
    assert float(table[0]["test_error_mean"]) == pytest.approx(sum(errors) / 2, abs=1e-15)

    before = {path: path.read_bytes() for path in out.rglob("[!.]*") if path.is_file()}
    again = call(*words, "--json")
    assert again.err == "4 of 4 runs reused\n"
    rows = [(row["variant"], row["n"], row["is_baseline"]) for row in again.json]
    assert rows == [("one_hot", 2, False), ("label_smoothing smoothing=0.3", 2, True)]
    assert {path.name for path, content in before.items() if path.read_bytes() != content} <= {"comparison.json"}


def test_runs_that_fail_are_told_and_exit_with_1(tmp_path):
    words = compare_words("--seeds", 1, "--out", "out", "--quiet", "--json", "--jobs", 1)
    called = call(*words, "--set", "optimizer.learning_rate=1e30")
    assert (called.code, "Traceback" in called.err) == (1, False)
    for line in (r"error: 2 runs failed", r"label_smoothing smoothing=0\.3 seed 0: diverged at step 2"):
        assert re.search(f"^{line}", called.err, re.MULTILINE)
    assert (tmp_path / "out" / "report.html").exists()
    (tmp_path / "in/runs/one_hot").mkdir(parents=True)
    (tmp_path / "in/runs/one_hot/seed-0").write_text("in the way")
    called = call(*compare_words("--seeds", 1, "--out", "in", "--quiet", "--jobs", 1))
    assert (called.code, "one_hot seed 0: " in called.err, "cannot be written" in called.err) == (1, True, True)
