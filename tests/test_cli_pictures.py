"""One's own pictures through the command line: check, train, predict, compare, and what is said of the data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.made_cli import call, succeed
from tests.made_data import write_image
from tests.made_pictures import write_classes

FAST = ["--set", "data.image_size=16", "--set", "model.channels=[2,2,4]", "--set", "epochs=1", "--set", "batch_size=8"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    place = write_classes(tmp_path / "pictures", {"cat": 20, "dog": 16, "emu": 4}, size=20)
    write_image(place / "cat" / "grey.png", np.full((30, 25), 90, np.uint8))
    (place / "cat" / "notes.txt").write_text("x")
    return place


NOTES = [
    "files that are no pictures skipped: 1 (cat/notes.txt)",
    "no test set: 8 of 41 examples held out for it, stratified and always the same (test_fraction 0.2)",
    "pictures converted: grey used for red, green and blue: 1 (of 41)",
]


def test_check_says_what_was_found(folder):
    facts = succeed("check", "images-resnet", "--data", folder, *FAST, "--json").json
    assert facts["notes"][:3] == NOTES
    assert facts["notes"][3].startswith(
        "unbalanced labels: cat has 14 training examples, emu has 3 (4.7 times as many)"
    )
    assert (facts["labels"], facts["input_shape"], facts["examples"]["test"]) == (3, [3, 16, 16], 8)
    printed = succeed("check", "images-resnet", "--data", folder, *FAST).out
    for note in NOTES:
        assert f"  note        {note}\n" in printed


def test_train_tells_keeps_and_predicts_as_in_training(folder, tmp_path):
    run = tmp_path / "run"
    called = succeed("train", "images-resnet", "--data", folder, *FAST, "--out", run)
    assert [line for line in called.err.splitlines() if line.startswith("data: ")][:3] == [f"data: {n}" for n in NOTES]
    about = json.loads((run / "environment.json").read_text())["data"]
    assert about["notes"][:3] == NOTES
    wide = write_image(tmp_path / "wide.png", np.zeros((20, 60, 3), np.uint8))
    predicted = succeed("predict", run, wide, "--json")
    assert predicted.err == "note: resized from 60x20 to 16x16, of its middle only\n"
    assert set(predicted.lines[0]["probabilities"]) == {"cat", "dog", "emu"}
    evaluated = succeed("evaluate", run)
    assert f"data: {NOTES[1]}" in evaluated.err
    other = write_classes(tmp_path / "other", {"dog": 7, "emu": 3}, size=20)
    assert succeed("evaluate", run, "--data", other).out.startswith(f"pictures in {other}, all 10 examples\n")
    (other / "emu").rename(other / "eel")
    refused = call("evaluate", run, "--data", other)
    assert refused.code == 2
    assert "has labels that the run does not know: eel (3 examples); its 3 labels are cat, dog, emu" in refused.err
    refused = call("predict", run, "-")
    assert refused.code == 2
    assert "only texts are read from standard input" in refused.err


def test_compare_tells_once(folder, tmp_path):
    command = ["compare", "images-resnet", "--data", folder, *FAST, "--objectives", "one_hot,label_smoothing"]
    called = succeed(*command, "--seeds", 1, "--jobs", 1, "--out", tmp_path / "c")
    assert called.err.count(NOTES[1]) == 1


def test_errors_of_a_folder_are_one_message(folder, tmp_path):
    for number in range(12):
        (folder / "dog" / f"bad{number:02}.png").write_bytes(b"x")
    called = call("train", "images-resnet", "--data", folder, *FAST, "--out", tmp_path / "run")
    assert (called.code, called.out) == (2, "")
    assert "12 of 53 pictures cannot be read" in called.err
    assert "Traceback" not in called.err
    assert len(called.err.splitlines()) <= 10
    called = call("check", "images-resnet", "--data", folder, *FAST, "--set", "data.fit=squash")
    assert called.code == 2
    assert "data.fit: must be 'crop', 'stretch' or 'pad', got 'squash'" in called.err
    called = call("check", "images-resnet", "--data", folder, *FAST, "--set", "data.progress=1")
    assert "data.progress: unknown key" in called.err
    called = succeed("check", "images-resnet", "--data", folder, *FAST, "--set", "data.skip_unreadable=true")
    assert "unreadable pictures left out: 12 of 53: dog/bad00.png" in called.out


def test_list_of_pictures_and_labels_of_cifar(folder, tmp_path):
    names = [f"{file.relative_to(folder.parent)},{file.parent.name}" for file in sorted(folder.rglob("*.png"))]
    (folder.parent / "list.csv").write_text("\n".join(["path,label", *names]))
    settings = ["--set", "data.name=images"]
    facts = succeed("check", "images-resnet", "--data", folder.parent / "list.csv", *settings, *FAST, "--json").json
    assert facts["examples"]["test"] == 8
    called = call(
        "check", "images-resnet", "--data", folder.parent / "list.csv", *settings, "--set", "data.labels=kind"
    )
    assert called.code == 2
    assert "`labels`: no column 'kind'; there are: path, label" in called.err
