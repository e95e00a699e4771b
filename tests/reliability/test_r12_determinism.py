"""R12: the same comparison gives the same bytes, in however many processes; what is kept is found by content alone."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
import torch

from labelembed.lab.data import ImageReader, prepare
from labelembed.lab.data.cache import cache_folder
from tests.made_cli import succeed
from tests.made_data import made_colours, write_image
from tests.made_in_process import make_runs_here
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
            one, other = (folder / run / name for folder in (first, second))
            if one.exists() or other.exists():  # of sentence pairs there are no outcomes of examples
                wrong += [f"{run}: bytes of {name}"] if one.read_bytes() != other.read_bytes() else []
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


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_image_files_are_found_by_content(tmp_path, figure):
    root = tmp_path / "pictures"
    for number, pixels in enumerate(made_colours(12)):
        folder = root / ("test" if number % 3 == 0 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{number:02}.png", pixels)
    one, other = (root / "train" / "dog" / name for name in ("01.png", "05.png"))

    def read(root, **how):
        inputs = prepare(ImageReader(path=str(root), **how).read(), validation=None).train.inputs
        return inputs, {path.name for path in cache_folder().glob("*.npy")}

    def change_a_pixel():
        pixels = made_colours(12)[1]
        pixels[0, 0, 0] ^= 1
        write_image(one, pixels)

    def swap_two():
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])

    first, kept = read(root)
    shutil.copytree(root, tmp_path / "moved")
    assert read(tmp_path / "moved")[1] == kept  # found again
    changes = {"one pixel": change_a_pixel, "two exchanged": swap_two, "one less": one.unlink}
    for name, change in changes.items():
        change()
        found, now = read(root)
        assert now > kept, name
        assert not torch.equal(found, first), name
        first, kept = found, now
    assert read(root, image_size=8)[1] > kept
    figure.count("real changes that make a cache anew", len(changes) + 1, len(changes) + 1)
