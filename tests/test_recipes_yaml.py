"""YAML files: missing, broken, hostile; nothing in them is run, and each is refused in one line."""

from __future__ import annotations

import os
import re
import time

import pytest

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe, parse_variant

SMALLEST = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 10\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(text, name="my.yaml"):
    with open(name, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    return name


def error_of(text):
    """The one error of a recipe file."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(text))
    (error,) = caught.value.errors
    assert caught.value.source == "my.yaml"
    return error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits-mpl", "unknown recipe 'digits-mpl' (did you mean 'digits-mlp'?); `labelembed recipes` lists "),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("mine.yaml", "mine.yaml: no such file (did you mean 'mein.yaml'?)"),
        ("", "unknown recipe ''; `labelembed recipes` lists "),
    ],
)
def test_recipe_that_is_not_there(name, message):
    written(SMALLEST, "mein.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".txt", ""])
def test_recipe_is_any_file_that_is_there(suffix):
    recipe, name = load_recipe(written(SMALLEST, f"mine{suffix}"))
    assert (recipe.epochs, name) == (1, "mine")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "nothing"),
        ("# only a comment\n", "nothing"),
        ("---\n", "nothing"),
        ("- data\n- model\n", "a list: ['data', 'model']"),
        ("just words", "a text: 'just words'"),
        ("3", "a number: 3"),
        ("true", "a truth value: True"),
        ("2020-01-01", "a date: datetime.date(2020, 1, 1)"),
    ],
)
def test_yaml_that_is_no_mapping(text, found):
    expected = f"must be a mapping with data, model, objective, ...; got {found}; `labelembed init` writes one"
    assert error_of(text) == expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("data: [1,\nepochs: 3\n", "line 3, column 1: no valid YAML ("),
        ("data: {a: b\n", "line 2, column 1: no valid YAML ("),
        ("a: 1\n  b: 2\n", "line 2, column 4: no valid YAML ("),
        ("a: 'b\n", "line 2, column 1: no valid YAML ("),
        ("a:\n\t- b\n", "line 2, column 1: no valid YAML ("),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: no valid YAML (found another document)"),
        ("a: *nowhere\n", "line 1, column 4: no valid YAML ("),
        ("a: 2020-13-45\n", "line 1, column 4: no valid YAML ('2020-13-45' is no value)"),
        ("a: !!int x\n", "line 1, column 4: no valid YAML ('x' is no value)"),
        ("a: [1, !!bool x]\n", "line 1, column 8: no valid YAML ('x' is no value)"),
        ("a: !!timestamp x\n", "line 1, column 4: no valid YAML ('x' is no value)"),
        ("? [a]\n: b\n", "line 1, column 3: no valid YAML ("),
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "line 4: the key 'c' occurs twice; keep one"),
        (SMALLEST + "epochs: 2\n", "line 6: the key 'epochs' occurs twice; keep one"),
    ],
)
def test_invalid_yaml_is_refused_with_its_place(text, where):
    error = error_of(text)
    assert error.startswith(where)
    assert "\n" not in error


@pytest.mark.parametrize("content", [b"epochs: \xff\xfe\n", "epochs: 3".encode("utf-16")])
def test_file_that_is_no_utf8(content):
    assert error_of(content).startswith("cannot be read ('utf-8' codec can't decode byte")


def test_huge_file_is_refused_without_being_read():
    path = written("")
    os.truncate(path, 10_000_000)
    began = time.perf_counter()
    with pytest.raises(RecipeError, match=r"my\.yaml: larger than 100,000 bytes"):
        load_recipe(path)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("text", ["[" * 3000, "{a: " * 3000, "- " * 3000 + "a", "a: " + "[" * 3000])
def test_deep_nesting_is_refused(text):
    assert error_of(text) == "nested too deeply"


@pytest.mark.parametrize("text", ["x: 1\na: &a\n  b: {c: *a}\n", "x: 1\na: &a {x: 1}\nb: {<<: *a}\n"])
def test_references_are_refused_with_their_place(text):
    assert "no valid YAML (references are not allowed; write the value out)" in error_of(text)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/object/new:os.system ['touch hacked']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!mine {a: b}",
    ],
)
def test_python_tags_are_refused_and_not_executed(value, tmp_path):
    error = error_of(f"{SMALLEST}x: {value}")
    assert re.fullmatch(r"line 6, column 4: no valid YAML \(the tag '.*' is not allowed\)", error)
    with pytest.raises(RecipeError, match="is not allowed"):
        load_recipe("digits-mlp", settings=[f"objective.temperature={value}"])
    with pytest.raises(RecipeError, match="is not allowed"):
        parse_variant(f"label_embedding:temperature={value}", source="--objectives")
    assert not (tmp_path / "hacked").exists()
