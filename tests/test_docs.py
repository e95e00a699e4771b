"""Every example of the README, the docs and the docstrings runs, and what the pages name is there."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from labelembed.lab.cli import app
from labelembed.lab.cli.preprocess import parse_settings
from labelembed.lab.recipes.loading import load_recipe, read_recipe, recipe_heading, shipped_recipes
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.training.files import plain_values
from tests.made_cli import call
from tests.made_corpus import write_example_text
from tests.made_data import write_idx_folder
from tests.made_in_process import make_runs_here
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_csv

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|sh|yaml)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# Its Python runs in a kernel, in tests/test_runs_results.py.
ELSEWHERE = "notebook.md"
# What an example may import and an installation may lack.
OPTIONAL = re.compile(r"^(?:import|from) (?:labelembed\.integrations\.)?(transformers|lightning|timm)\b", re.MULTILINE)
# Shorter than a reader would run it, with the same words before.
SHORT = {
    "digits": ["--set", "epochs=1", "--set", "data.train_examples=200"],
    "texts": ["--set", "epochs=1", "--set", "batch_size=10"],
    "corpus": ["--set", "epochs=1", "--set", "model.width=16", "--set", "model.embedding_size=16"],
}
SHORT["photos"] = ["--set", "epochs=1", "--set", "data.image_size=32", "--set", "batch_size=8"]
SHORT |= {"reviews.csv": SHORT["texts"], "table.csv": SHORT["texts"], "mine.npz": ["--set", "epochs=1"]}


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that every page's examples run in, with the files they name."""
    here = tmp_path_factory.mktemp("reader")
    write_idx_folder(here / "mnist")
    write_example_text(here)
    write_csv(here / "reviews.csv", reviews(60), "review", "stars")
    write_csv(here / "new.csv", [(text,) for text, _ in reviews(3)], "review")
    write_csv(here / "other.csv", reviews(8, seed=1), "review", "stars")
    table = [(n % 7 + 0.5, ("red", "blue")[n % 3 % 2], ("low", "high")[n % 2]) for n in range(60)]
    write_csv(here / "table.csv", table, "length", "colour", "outcome")
    write_csv(here / "new-rows.csv", [row[:2] for row in table[:3]], "length", "colour")
    Image.fromarray(np.zeros((5, 4), dtype=np.uint8)).save(here / "picture.png")
    write_classes(here / "photos", {"cat": 12, "dog": 12})
    return here


@pytest.fixture(scope="module")
def done():
    """The commands that have run: several pages begin with the same training."""
    return set()


def shortened(words: list[str]) -> list[str]:
    """Returns a command's words, made to take a second."""
    if words[0] not in ("train", "compare", "check"):
        return words
    data = words[words.index("--data") + 1] if "--data" in words else "digits"
    extra = [*words, *SHORT[data]]
    if words[0] == "compare" and "--seeds 2" not in " ".join(words):
        extra += ["--seeds", "1"]
    return [*extra, "--trials", "1"] if "--tuned" in words else extra


def run_shell(text: str, done: set[str]) -> None:
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if line in done or not words:
            continue
        done.add(line)
        if words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        elif words[:2] != ["pip", "install"]:
            assert words[0] == "labelembed", f"what is {line!r}?"
            called = call(*shortened(words[1:]))
            assert called.code == 0, f"{line}\n{called.out}{called.err}"


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")  # both of Lightning
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_examples_of_page_run(page, folder, done, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LABELEMBED_CACHE", str(folder / "cache"))
    make_runs_here(monkeypatch)
    lacking = set()
    for kind, text in blocks_of(page):
        if kind == "sh":
            run_shell(text, done)
        elif kind == "yaml":
            values, _, _ = read_recipe("digits-mlp")
            part = plain_values(text)
            assert part.keys() <= Recipe.model_fields.keys()
            parse_recipe(values | part, source=page.name)
        elif page.name != ELSEWHERE:
            absent = {name for name in OPTIONAL.findall(text) if importlib.util.find_spec(name) is None}
            lacking |= absent
            if not absent:
                exec(compile(text, page.name, "exec"), {"__name__": "block"})
    if lacking:
        pytest.skip(f"not installed: {', '.join(sorted(lacking))}; the page's other examples ran")


def exists(name: str) -> bool:
    """Whether a dotted name can be imported or, where a package for it is not installed, may be."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        needs = OPTIONAL.findall(f"import {name}")
        return bool(needs) and importlib.util.find_spec(needs[0]) is None
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_the_package_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    names = {name for name in re.findall(r"\blabelembed(?:\.\w+)+", text) if name != "labelembed.json"}  # a file
    for module, imported in re.findall(r"from (labelembed[\w.]*) import ([\w, ]+)", text):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    assert sorted(name for name in names if not exists(name)) == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        linked = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
        for target, _, part in (link.partition("#") for link in linked if "://" not in link):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name} links to {target}"
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE) if part else []
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not part or part in anchors, f"{page.name} links to {target}#{part}"


def test_page_of_the_command_line_is_what_the_program_says():
    lines = []
    for name, command in typer.main.get_command(app).commands.items():
        if command.hidden:
            continue
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        typed = [one.metavar.replace("|", "\\|") + "..." * (one.nargs != 1) for one in arguments]
        typed = [word if one.required else f"[{word}]" for word, one in zip(typed, arguments, strict=True)]
        lines.append(f"| `{' '.join([name, *typed])}` | {command.help.splitlines()[0]} |")
    table = "\n".join(lines)
    assert table in (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8"), f"docs/command-line.md:\n{table}"


COMMANDS = [
    pytest.param(line, id=f"{name}-{line.split()[1]}")
    for name, text in shipped_recipes().items()
    for line in re.sub(r"\\\n", "", "\n".join(recipe_heading(text))).splitlines()
    if line.startswith("labelembed ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_above_a_recipe_are_understood(line):
    name, *words = shlex.split(line)[1:]
    given = typer.main.get_command(app).commands[name].make_context(name, words).params
    if name == "preprocess":
        assert {len(given[part]) for part in ("train", "validation", "test") if given[part]} == {2}
        parse_settings(given["settings"])
    else:
        load_recipe(given["recipe"], settings=given["settings"] or [], data=given["data"])


# Of `results` a comparison of minutes, of `wordnet` what needs its files.
NOT_RUN = {"labelembed.lab.runs.comparison", "labelembed.geometry.wordnet"}
NAMES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for path in (ROOT / "src").rglob("*.py")
    if ">>> " in path.read_text()
}


@pytest.mark.parametrize("name", sorted(NAMES - NOT_RUN))
def test_examples_of_a_module_run(name):
    torch.manual_seed(0)
    found = doctest.testmod(importlib.import_module(name))
    assert (found.failed, found.attempted > 0) == (0, True)
