"""R12: the same comparison gives the same bytes, in however many processes; what is kept is found by content alone."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest

from labelembed.lab.data import ImageReader, prepare
from labelembed.lab.data.cache import cache_folder
from tests.made_cli import succeed
from tests.made_in_process import make_runs_here
from tests.made_pictures import write_classes
from tests.made_training import contents, differences, timeless
from tests.reliability.figures import sized

DIGITS = ["digits-mlp", "--objectives", "one_hot,label_smoothing,label_embedding,adaptive_labels", "--seeds", "2"]
DIGITS += ["--set", "model.hidden_sizes=[16]", "--set", "model.dropout=0.2", "--set", "epochs=2"]
DIGITS += ["--set", "data.train_examples=300", "--set", "batch_size=50"]


def compare(words, out, *, jobs):
    succeed("compare", *words, "--out", out, "--jobs", jobs, "--device", "cpu", "--quiet")
    return out


def tables(out):
    """Returns the comparison's files for machines, without columns of time and memory."""
    found = {}
    for name in ("comparison.csv", "runs.csv"):
        with (out / name).open(newline="") as file:
            found[name] = [
                {column: cell for column, cell in line.items() if not re.search("seconds|time|memory", column)}
                for line in csv.DictReader(file)
            ]
    about = timeless(json.loads((out / "comparison.json").read_text()))
    found["comparison.json"] = {key: value for key, value in about.items() if key not in ("reused", "made")}
    return found


def unlike(first, second):
    """Returns what is not the same, to the last bit, in two comparisons: tables, and all that their runs left."""
    wrong = [name for name, table in tables(first).items() if table != tables(second)[name]]
    runs = sorted(path.parent.relative_to(first) for path in first.glob("runs/*/*/result.json"))
    assert runs == sorted(path.parent.relative_to(second) for path in second.glob("runs/*/*/result.json"))
    assert len(runs) > 1
    for run in runs:
        wrong += [f"{run}: {name}" for name in differences(contents(first / run), contents(second / run))]
        for name in ("model.safetensors", "diagnostics/examples.safetensors"):
            if (first / run / name).read_bytes() != (second / run / name).read_bytes():
                wrong.append(f"{run}: bytes of {name}")
    return wrong


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A comparison made in this process, one run after the other."""
    with pytest.MonkeyPatch.context() as patch:
        make_runs_here(patch)
        return compare(DIGITS, tmp_path_factory.mktemp("digits") / "one", jobs=1)


@pytest.mark.parametrize("jobs", sized(short=[2], full=[1, 2, 4]))
def test_comparison_is_the_same_in_any_number_of_processes(jobs, digits, tmp_path, figure):
    found = unlike(digits, compare(DIGITS, tmp_path / "other", jobs=jobs))
    assert found == []
    figure.count("comparisons equal to the one made by one process, bit for bit", 1, 1)


def test_comparison_is_one_run_after_the_other_by_hand(digits, tmp_path):
    words = [*DIGITS[:1], *DIGITS[5:], "--set", "seed=1", "--device", "cpu", "--quiet"]
    succeed("train", *words, "--objective", "label_embedding", "--out", tmp_path / "alone")
    (of_comparison,) = digits.glob("runs/label_embedding*/seed-1")
    # What the comparison says besides of a run is its recipe's own comparison block, and where the run lies.
    assert differences(contents(tmp_path / "alone"), contents(of_comparison)) == []


def test_decoded_pictures_are_kept_by_content(tmp_path, monkeypatch, figure):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    root = write_classes(tmp_path / "pictures", {"cat": 6, "dog": 6})
    one, other = root / "cat" / "000.png", root / "dog" / "001.png"
    first, second = one.read_bytes(), other.read_bytes()

    def kept(folder, **how):
        prepare(ImageReader(path=str(folder), **how).read(), validation=None)
        return {path.name for path in cache_folder().glob("*.npy")}

    before = kept(root)
    shutil.copytree(root, tmp_path / "moved")
    assert kept(tmp_path / "moved") == before
    changes = [lambda: one.write_bytes(second), lambda: other.write_bytes(first), one.unlink]
    for change in changes:
        change()
        now = kept(root)
        assert now > before
        before = now
    assert kept(root, image_size=8) > before
    figure.count("real changes that make a cache anew", len(changes) + 1, len(changes) + 1)
