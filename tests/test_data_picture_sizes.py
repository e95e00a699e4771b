"""`data.image_size: auto`: which size pictures get, what is said of it, and that new pictures get the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labelembed.lab.data import ImageReader
from labelembed.lab.recipes.loading import load_recipe
from tests.made_cli import call, succeed
from tests.made_data import write_image
from tests.made_pictures import write_classes

FAST = ["--set", "model.channels=[2,2,4]", "--set", "epochs=1", "--set", "batch_size=8", "--quiet"]
MEDIAN = "the median of the training pictures' shorter sides"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_shape(folder, height, width, count=4):
    """Writes pictures of one shape for each of two classes."""
    generator = np.random.default_rng(height * 1000 + width)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            write_image(folder / name / f"{height}x{width}-{number}.png", pixels)
    return folder


@pytest.mark.parametrize(
    ("shapes", "side", "why"),
    [
        ([(28, 28)], 28, MEDIAN),
        ([(40, 60)], 40, MEDIAN),
        ([(20, 90), (33, 30), (50, 48)], 30, MEDIAN),
        ([(120, 200)], 64, f"the most that `auto` takes ({MEDIAN} is 120)"),
        ([(8, 8)], 16, f"the least that `auto` takes ({MEDIAN} is 8)"),
    ],
)
def test_size_follows_the_training_pictures(tmp_path, shapes, side, why):
    for height, width in shapes:
        write_shape(tmp_path / "train", height, width)
    write_shape(tmp_path / "test", 500, 500, count=1)  # takes no part
    note = f"pictures become {side} x {side}, {why}; another size: --set data.image_size=NUMBER"
    for _ in range(2):  # the second time from the cache
        raw = ImageReader(path=str(tmp_path), image_size="auto").read()
        assert raw.train.inputs.shape[1:] == (3, side, side)
        assert note in raw.notes
    assert torch.equal(raw.train.inputs, ImageReader(path=str(tmp_path), image_size=side).read().train.inputs)


def test_a_size_that_the_pictures_have_changes_no_pixel(tmp_path):
    write_shape(tmp_path, 28, 28)
    automatic, stored = (ImageReader(path=str(tmp_path), image_size=size).read() for size in ("auto", None))
    assert torch.equal(automatic.train.inputs, stored.train.inputs)
    assert not [note for note in stored.notes if "become" in note]
    with pytest.raises(ValueError, match="must be a whole number of 1 to 4096, or 'auto', got 'large'"):
        ImageReader(path=str(tmp_path), image_size="large").read()
    listed = ["path,label", *(f"{file},{file.parent.name}" for file in sorted(tmp_path.rglob("*.png")))]
    (tmp_path / "list.csv").write_text("\n".join(listed))
    raw = ImageReader(path=str(tmp_path / "list.csv"), image_size="auto").read()
    assert raw.train.inputs.shape[1:] == (3, 28, 28)


def test_many_extreme_shapes_are_noted_where_they_are_cut(tmp_path):
    write_shape(tmp_path, 20, 20, count=9)
    write_shape(tmp_path, 20, 60, count=1)  # three times as long is not more than that
    write_shape(tmp_path, 61, 20, count=1)
    cut = "pictures have a side more than 3 times as long as the other and are cut to their middle; to keep all of them"

    def told(**options):
        return [note for note in ImageReader(path=str(tmp_path), **options).read().notes if cut in note]

    assert told(image_size="auto") == []  # 2 of 22
    write_shape(tmp_path, 20, 61, count=1)
    for size in ("auto", 24):
        assert told(image_size=size) == [f"4 of 24 {cut}: --set data.fit=pad"]
        assert told(image_size=size, fit="pad") == []


def test_recipe_takes_auto_a_number_or_neither():
    assert load_recipe("images-resnet", data="x")[0].data["image_size"] == "auto"
    assert load_recipe("images-resnet", data="x", settings=["data.image_size=96"])[0].data["image_size"] == 96
    refused = call("check", "images-resnet", "--data", "x", "--set", "data.image_size=large")
    assert (
        refused.err
        == "error: recipe 'images-resnet' with --set: data.image_size: must be a whole number or 'auto', got 'large'\n"
    )


def test_a_run_shows_new_pictures_at_its_own_size(tmp_path):
    write_classes(tmp_path / "data", {"cat": 20, "dog": 20}, size=20)
    run = tmp_path / "run"
    called = succeed("train", "images-resnet", "--data", tmp_path / "data", *FAST, "--out", run)
    assert f"data: pictures become 20 x 20, {MEDIAN}" in called.err
    assert json.loads((run / "environment.json").read_text())["data"]["input_shape"] == [3, 20, 20]
    other = write_classes(tmp_path / "other", {"cat": 3, "dog": 3}, size=44, seed=5)
    assert succeed("evaluate", run, "--data", other).out.startswith(f"pictures in {other}, all 6 examples\n")
    predicted = succeed("predict", run, other / "cat" / "000.png", "--json")
    assert "resized from 44x44 to 20x20" in predicted.err
