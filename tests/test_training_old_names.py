"""Recipes and run folders of version 0.1 say `development` where today's say `validation`."""

from __future__ import annotations

import json

import pytest
import yaml

from labelembed.recipes.loading import load_recipe
from labelembed.recipes.schema import parse_recipe
from labelembed.runs.stored import stored_recipe
from labelembed.training.run_folder import RunFolder
from tests.made_training import small_recipe, train

pytestmark = pytest.mark.usefixtures("no_flush")


def test_recipe_with_the_old_names_is_the_recipe_with_the_new_ones():
    new = small_recipe(data={"name": "digits", "validation": {"rows": 100}}, selection={"by": "validation_nll"})
    values = new.of_one_run()
    values["data"] = {"development" if key == "validation" else key: value for key, value in values["data"].items()}
    values["selection"] = {"by": "development_nll"}
    assert parse_recipe(values, source="old") == new


def test_old_name_on_the_command_line_takes_the_place_of_what_the_recipe_holds_out():
    recipe, _ = load_recipe("digits-mlp", settings=["data.development={fraction: 0.3}"])
    assert recipe.data["validation"]["fraction"] == 0.3


def old(value):
    """A JSON value with the keys and names of version 0.1."""
    return json.loads(json.dumps(value).replace("validation", "development"))


def test_run_folder_with_the_old_names_is_read_as_one_with_the_new_ones(tmp_path):
    recipe = small_recipe(data={"name": "digits", "validation": {"rows": 100}})
    train(recipe, tmp_path)
    folder = RunFolder(tmp_path)
    journal, result, environment = folder.journal(), folder.result(), folder.environment()
    assert {"validation"} <= journal[0].keys() & result.keys() & environment["data"]["rows"].keys()
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(old(line)) + "\n" for line in journal))
    (tmp_path / "result.json").write_text(json.dumps(old(result)))
    (tmp_path / "environment.json").write_text(json.dumps(old(environment)))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(old(recipe.of_one_run())))
    assert (folder.journal(), folder.result(), folder.environment()) == (journal, result, environment)
    assert stored_recipe(folder) == recipe
    assert train(recipe, tmp_path) == result  # found done
