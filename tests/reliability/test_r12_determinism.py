"""R12: the same comparison gives the same bytes, in however many processes; what is kept is found by content alone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil

import pytest
import torch

from labelembed.lab.data import ImageReader, prepare
from labelembed.lab.data.cache import cache_folder
from tests.made_cli import succeed
from tests.made_corpus import write_corpus
from tests.made_data import made_colours, write_image
from tests.made_in_process import make_runs_here
from tests.made_training import contents, differences, timeless
from tests.reliability.figures import FULL, sized

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


@pytest.mark.skipif(not FULL, reason="in the full form only: starting the workers takes 20 seconds")
def test_comparison_of_sentences_is_the_same_in_any_number_of_processes(tmp_path, figure):
    write_corpus(tmp_path)
    words = ["translation-lstm", "--data", tmp_path / "corpus", "--objectives", "one_hot,label_embedding", "--seeds", 2]
    words += ["--set", "model={name: attention_lstm, width: 12, embedding_size: 8, dropout: 0.3}", "--set", "epochs=2"]
    words += ["--set", "objective.rank=4", "--set", "batch_size=8"]
    one, other = (compare(words, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert unlike(one, other) == []
    figure.count("comparisons equal to the one made by one process, bit for bit", 1, 1)


# ---------------------------------------------------------------------------------------------- caches


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_image_files_are_found_by_content(tmp_path, figure, monkeypatch):
    root = [tmp_path / "pictures"]
    for number, pixels in enumerate(made_colours(12)):
        split, label = ("test" if number % 3 == 0 else "train"), ("cat", "dog")[number % 2]
        (root[0] / split / label).mkdir(parents=True, exist_ok=True)
        write_image(root[0] / split / label / f"{number:02}.png", pixels)

    def read(**how):
        return prepare(ImageReader(path=str(root[0]), **how).read(), validation=None).train.inputs

    def move():
        shutil.move(root[0], tmp_path / "moved")
        root[0] = tmp_path / "moved"

    def touch():
        for path in root[0].rglob("*.png"):
            os.utime(path, (1, 1))

    def rename_class():
        for split in ("train", "test"):
            (root[0] / split / "dog").rename(root[0] / split / "hound")

    def change_a_pixel():
        pixels = made_colours(12)[1]
        pixels[0, 0, 0] ^= 1
        write_image(root[0] / "train" / "hound" / "01.png", pixels)

    def swap_two():
        one, other = (root[0] / "train" / "hound" / name for name in ("01.png", "05.png"))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)

    def of_other_proportions():
        write_image(root[0] / "train" / "cat" / "20.png", made_colours(1)[0][:8])
        return {"image_size": 8, "fit": "pad"}

    harmless = {"moved": move, "touched": touch, "a label's name": rename_class}
    real = {
        "one pixel": change_a_pixel,
        "two pictures exchanged": swap_two,
        "one picture less": lambda: (root[0] / "train" / "cat" / "02.png").unlink(),
        "another size": lambda: {"image_size": 8},
        "another fit": of_other_proportions,
    }
    read()
    for name, change in (harmless | real).items():  # a change may return arguments, and the harmless ones add up
        given, before = change() or {}, {path.name for path in cache_folder().glob("*.npy")}
        found, is_real = read(**given), name in real
        is_new = {path.name for path in cache_folder().glob("*.npy")} > before
        assert is_new == is_real, f"{name}: {'found all the same' if is_real else 'made anew'}"
        with monkeypatch.context() as other:  # what is read where nothing is kept
            other.setenv("LABELEMBED_CACHE", str(tmp_path / f"empty-{len(list(tmp_path.iterdir()))}"))
            assert torch.equal(found, read(**given)), f"{name}: what was found is stale"
    figure.count("harmless changes that find what is kept", len(harmless), len(harmless))
    figure.count("real changes that make it anew", len(real), len(real))
