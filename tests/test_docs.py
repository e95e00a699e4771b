"""Every code block of the README and the docs runs, and what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelembed.recipes.loading import read_recipe
from labelembed.recipes.schema import Recipe, parse_recipe
from labelembed.runs import tuning
from labelembed.training.plain_yaml import plain_values
from tests.made_cli import call
from tests.made_corpus import write_example_text
from tests.made_data import write_idx_folder
from tests.made_in_process import run_jobs_here
from tests.made_texts import reviews, write_csv

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# What a block may use and an installation may lack.
OPTIONAL = ("transformers", "lightning", "timm")
# Shorter than a reader would run it, with the same words before.
SHORT = {
    "digits": ["--set", "epochs=1", "--set", "data.train_rows=200", "--seeds", "1"],
    "reviews": ["--set", "epochs=1", "--set", "batch_size=10", "--seeds", "1"],
    "mine": ["--set", "epochs=1", "--seeds", "1"],
    "mnist": ["--set", "epochs=1", "--set", "batch_size=10", "--set", "data.validation.first=10"],
    "corpus": ["--set", "epochs=1", "--set", "model.width=16", "--set", "model.embedding_size=16", "--seeds", "1"],
}


def blocks(kind):
    found = []
    for page in PAGES:
        if page.name == "results.md":  # hours of training; its commands are parsed below
            continue
        for number, (language, text) in enumerate(BLOCK.findall(page.read_text()), start=1):
            if language == kind:
                found.append(pytest.param(text, id=f"{page.name}-{number}"))
    return found


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")  # both of Lightning
@pytest.mark.parametrize("text", blocks("python"))
def test_python_block_runs(text, tmp_path, monkeypatch):
    for package in OPTIONAL:
        if re.search(rf"^(import|from) ({package}|labelembed\.integrations\.{package})\b", text, flags=re.MULTILINE):
            pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "the block", "exec"), {"__name__": "block"})


def shortened(words):
    """Returns a command's words, made to take a second; options that stand already are left as they are."""
    if words[0] not in ("train", "compare", "check", "tune"):
        return words
    kind = "mnist" if "--data" in words else "digits"
    if "corpus" in words:
        kind = "corpus"
    if "mine.npz" in words:
        kind = "mine"
    if "reviews.csv" in words or "table.csv" in words:
        kind = "reviews"
    extra = SHORT[kind]
    if words[0] != "compare":
        extra = extra[: extra.index("--seeds")] if "--seeds" in extra else extra
    return [*words, *extra, *(["--trials", "1"] if words[0] == "tune" or "--tuned" in words else [])]


@pytest.mark.parametrize("text", blocks("sh"))
def test_shell_block_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "run_jobs", run_jobs_here)
    write_idx_folder(tmp_path / "mnist")
    write_example_text(tmp_path)
    write_csv(tmp_path / "reviews.csv", reviews(60), "review", "stars")
    write_csv(tmp_path / "new.csv", [(text,) for text, _ in reviews(3)], "review")
    write_csv(tmp_path / "other.csv", reviews(8, seed=1), "review", "stars")
    table = [(n % 7 + 0.5, ("red", "blue")[n % 3 % 2], ("low", "high")[n % 2]) for n in range(60)]
    write_csv(tmp_path / "table.csv", table, "length", "colour", "outcome")
    write_csv(tmp_path / "other-rows.csv", table[:5], "length", "colour", "outcome")
    write_csv(tmp_path / "new-rows.csv", [row[:2] for row in table[:3]], "length", "colour")
    inputs = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")
    np.savez(tmp_path / "mine.npz", inputs=inputs, labels=np.arange(300) % 3, names=["low", "middle", "high"])
    Image.fromarray(np.zeros((5, 4), dtype=np.uint8)).save(tmp_path / "picture.png")
    for line in text.splitlines():
        words = shlex.split(line.replace("path/to/mnist", "mnist"), comments=True)
        if words[:1] == ["make"]:
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
            continue
        assert words[:1] == ["labelembed"], f"what is {line!r}?"
        called = call(*shortened(words[1:]))
        assert called.code == 0, f"{line}\n{called.out}{called.err}"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_block_is_part_of_a_recipe(text):
    values, _, _ = read_recipe("digits-mlp")
    part = plain_values(text)
    assert part.keys() <= Recipe.model_fields.keys()
    parse_recipe(values | part, source="the block")


def test_there_are_blocks_to_run():
    assert len(blocks("python")) >= 5
    assert len(blocks("sh")) >= 4
    assert len(blocks("yaml")) >= 5


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
