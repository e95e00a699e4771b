"""From names and files, `--set` and `--data` to checked recipes, and back again."""

from __future__ import annotations

import re

import pytest
import torch
import yaml

from labelembed.geometry import LabelGeometry
from labelembed.lab.data import CORPORA
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.blocks import DataCommon, checked_seeds
from labelembed.lab.recipes.loading import (
    load_recipe,
    read_recipe,
    recipe_heading,
    shipped_recipes,
)
from labelembed.lab.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.lab.recipes.signature import keys_of
from labelembed.lab.recipes.writing import full_recipe
from labelembed.lab.training.decoding import Decoding
from tests.made_cli import SMALL, call, succeed
from tests.made_data import write_idx_folder

SHIPPED = sorted(shipped_recipes())
SMALLEST = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 10\n"
# What `one_hot` has besides its name, as it stands when nobody says otherwise.
ONE_HOT = {"bias": True, "impl": "auto", "weight": None}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(text, name="my.yaml"):
    with open(name, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    return name


def settings_errors(*settings, recipe="digits-mlp"):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, settings=settings)
    return caught.value.errors


def loaded(*settings, recipe="digits-mlp", **options):
    return load_recipe(recipe, settings=settings, **options)[0]


# ------------------------------------------------------------------------------------------- recipes that ship


def test_the_second_papers_preset_is_50_rows_a_label_and_its_seeds():
    recipe, _ = load_recipe("digits-lwal")
    assert recipe.batch_size == {"per_label": 50}
    assert recipe.comparison.seeds == [12, 123, 1234]
    assert recipe.objective["name"] == "adaptive_labels"
    # 1,145 training rows, of ten labels: steps of 500
    assert succeed("check", "digits-lwal", "--json").json["steps_per_epoch"] == 3


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_begins_with_what_it_is_and_its_commands(name):
    heading = recipe_heading(shipped_recipes()[name])
    assert heading[0].endswith(".")
    assert any(line.startswith(f"labelembed compare {name}") for line in heading)
    assert any("paper" in line for line in heading)
    assert any(line.startswith("Ours") for line in heading)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_parses(name):
    values, found_name, _ = read_recipe(name)
    data = None if values["data"]["name"] == "digits" else "somewhere"
    recipe, found = load_recipe(name, data=data)
    assert found == found_name == name
    assert len(recipe.comparison.objectives) >= 3
    assert len(checked_seeds(recipe.comparison.seeds)) >= 3


@pytest.mark.parametrize("name", SHIPPED)
def test_full_recipe_has_every_key_with_a_comment_and_resolves_to_the_shipped_one(name):
    lines = full_recipe(name).splitlines()
    values = yaml.safe_load("\n".join(lines))
    of_sentences = values["data"]["name"] in CORPORA
    stands = {"decoding": of_sentences, "published": "published" in values}
    assert list(values) == [key for key in Recipe.model_fields if stands.get(key, True)]
    for kind, table in TABLES.items():
        expected = {"name", *keys_of(table[values[kind]["name"]])}
        common = kind == "data" and not of_sentences
        assert set(values[kind]) == expected | (set(DataCommon.model_fields) if common else set())
    for number, line in enumerate(lines):
        if re.match(r"\s*\w+:", line):  # a comment stands behind a key, or above it
            assert "  # " in line or lines[number - 1].lstrip().startswith("# "), line
    data = "somewhere" if "path" in values["data"] else None
    here, shipped = (load_recipe(which, data=data)[0] for which in (written("\n".join(lines)), name))
    if here.of_sentences and shipped.decoding is None:  # which means the defaults, that the full recipe spells out
        shipped = shipped.model_copy(update={"decoding": Decoding()})
    assert here == shipped


def test_full_recipe_of_an_own_recipe_keeps_its_comments_and_values():
    text = full_recipe(written("# Mine.\n" + SMALLEST.replace("epochs: 1", "epochs: 7")))
    assert text.startswith("# Mine.\n#\n# Every key")
    assert yaml.safe_load(text)["epochs"] == 7
    assert full_recipe(written(SMALLEST)).startswith("# Every key")


# -------------------------------------------------------------------------------------- resolved and run again


def test_resolved_recipe_of_a_run_runs_to_an_equal_resolved_recipe(tmp_path):
    write_idx_folder(tmp_path / "mnist")
    succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "first")
    succeed("train", "first/recipe.yaml", "--quiet", "--out", "second")
    first, second = ((tmp_path / name / "recipe.yaml").read_text() for name in ("first", "second"))
    assert first == second
    assert first.startswith("# The resolved recipe of this run")
    one, two = (yaml.safe_load((tmp_path / name / "result.json").read_text()) for name in ("first", "second"))
    assert one["test"] == two["test"]


def test_resolved_recipe_with_a_saved_geometry_runs_from_anywhere(tmp_path, monkeypatch):
    write_idx_folder(tmp_path / "mnist")
    geometry = LabelGeometry(tuple("0123456789"), similarities=torch.eye(10))
    geometry.save(tmp_path / "mine.safetensors")
    variant = "label_embedding:embedding=mine.safetensors"
    succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--objective", variant, "--out", "first")
    (tmp_path / "mine.safetensors").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    succeed("train", "../first/recipe.yaml", "--quiet", "--out", "second")
    kept = [folder / "embedding.safetensors" for folder in (tmp_path / "first", tmp_path / "elsewhere" / "second")]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    recipes = [path.with_name("recipe.yaml").read_text() for path in kept]
    assert recipes[0] == recipes[1]


# ------------------------------------------------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("setting", "read", "value"),
    [
        ("optimizer.learning_rate=1e-3", lambda recipe: recipe.optimizer["learning_rate"], 1e-3),
        ("optimizer.learning_rate=1", lambda recipe: recipe.optimizer["learning_rate"], 1.0),
        ("objective=one_hot", lambda recipe: recipe.objective, {"name": "one_hot"} | ONE_HOT),
        (
            "objective={name: one_hot, bias: no}",
            lambda recipe: recipe.objective,
            {"name": "one_hot"} | ONE_HOT | {"bias": False},
        ),
        ("model.hidden_sizes=[4, 5]", lambda recipe: recipe.model["hidden_sizes"], [4, 5]),
        ("data.validation=null", lambda recipe: recipe.data["validation"], None),
        ("data.validation=", lambda recipe: recipe.data["validation"], None),
        ("data.validation={examples: 9}", lambda recipe: recipe.data["validation"]["examples"], 9),
        ("objective.hinge_reduction=sum", lambda recipe: recipe.objective["hinge_reduction"], "sum"),
        ("selection.by=last_epoch", lambda recipe: recipe.selection.by, "last_epoch"),
        (" epochs =4", lambda recipe: recipe.epochs, 4),
        ("comparison.seeds=[3, 5]", lambda recipe: recipe.comparison.seeds, [3, 5]),
        ("comparison=null", lambda recipe: recipe.comparison, None),
    ],
)
def test_set_reads_its_value_as_yaml(setting, read, value):
    assert read(loaded(setting)) == value


def test_set_makes_the_blocks_that_are_missing():
    path = written(SMALLEST)
    recipe = loaded("data.validation.examples=5", "checkpoints.keep=3", "comparison.seeds=2", recipe=path)
    assert (recipe.data["validation"]["examples"], recipe.checkpoints.keep, recipe.comparison.seeds) == (5, 3, 2)


def test_the_last_of_two_settings_holds():
    assert loaded("epochs=3", "epochs=5").epochs == 5
    assert loaded("objective=label_smoothing", "objective.smoothing=0.3").objective["smoothing"] == 0.3


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        *(
            (setting, f"{setting!r}: must be key.key=value, for instance optimizer.learning_rate=0.01")
            for setting in ("epochs", "", "=3", "objective.=3", "a..b=3")
        ),
        ("epochs=" + "[" * 3000, f"epochs: '{'[' * 56}... cannot be read: nested too deeply"),
        ("epochs.x=3", "epochs.x: 'epochs' has no keys below it"),
        ("comparison.objectives.0=x", "comparison.objectives.0: 'objectives' has no keys below it"),
        ("model.hidden_sizes=[4", "model.hidden_sizes: '[4' cannot be read: line 1, column 3: no valid YAML ("),
        (
            "epochs=&a [*a]",
            "epochs: '&a [*a]' cannot be read: line 1, column 5: no valid YAML (references are not",
        ),
        ("epochs=2020-13-45", "epochs: '2020-13-45' cannot be read: line 1, column 1: no valid YAML ("),
        ("epochs=3 # three\n---\n4", "epochs: '3 # three\\n---\\n4' cannot be read: line 2, column 1: "),
    ],
)
def test_setting_that_is_none_is_refused(setting, error):
    (found,) = settings_errors(setting)
    assert found.startswith(error)


def test_errors_of_settings_and_recipe_are_told_together():
    assert settings_errors("epochs", "model.dropout=2", "objective.temperture=3", "=1") == [
        "'epochs': must be key.key=value, for instance optimizer.learning_rate=0.01",
        "'=1': must be key.key=value, for instance optimizer.learning_rate=0.01",
        "model.dropout: must be in [0, 1), got 2.0",
        "objective.temperture: unknown key of 'label_embedding' (did you mean 'temperature'?)",
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_another_objective_drops_the_arguments_of_the_old_one_and_says_so(order):
    said = []
    path = written(SMALLEST.replace("one_hot", "{name: label_embedding, temperature: 3, preset: paper}"))
    settings = ["objective.name=label_smoothing", "objective.smoothing=0.3"][::order]
    objective = loaded(*settings, recipe=path, say=said.append).objective
    assert said == ["objective.name=label_smoothing: dropped temperature, preset of label_embedding"]
    assert (objective["name"], objective["smoothing"]) == ("label_smoothing", 0.3)
    assert loaded(recipe=path, objective="one_hot", say=said.append).objective == {"name": "one_hot"} | ONE_HOT
    assert said[1:] == []  # the whole objective was given
    # the same objective keeps them, an unknown one is refused as ever
    assert loaded("objective.name=label_embedding", recipe=path, say=said.append).objective["temperature"] == 3
    (error,) = settings_errors("objective.name=one_hat", recipe=path)
    assert error.startswith("objective.name: unknown objective 'one_hat' (did you mean 'one_hot'?)")
    (error,) = settings_errors("objective.name=label_smoothing", "objective.temperature=2", recipe=path)
    assert error.startswith("objective.temperature: unknown key of 'label_smoothing'")
    assert len(said) == 1


# ------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("recipe", "options", "block", "key", "whole"),
    [
        ("mnist-mlp", {}, "data", "path", "{}/some/where"),
        ("text-finetune", {"settings": ["data.encoder=models/bert"]}, "data", "encoder", "{}/models/bert"),
        ("images-backbone", {"settings": ["model.weights=net.pth"]}, "model", "weights", "{}/net.pth"),
        ("mnist-mlp", {"objective": "distillation:teacher=run"}, "objective", "teacher", "{}/run"),
        ("mnist-mlp", {"objective": "static_labels:embedding=text:bert"}, "objective", "embedding", "text:{}/bert"),
        ("mnist-mlp", {"objective": "static_labels:embedding=text"}, "objective", "embedding", "text"),
    ],
)
def test_every_path_becomes_whole(recipe, options, block, key, whole, tmp_path):
    found, _ = load_recipe(recipe, data="some/where", **options)
    assert getattr(found, block)[key] == whole.format(tmp_path)


# ------------------------------------------------------------------------------------------------------ --data


def test_data_is_put_in_whatever_form_the_block_has(tmp_path):
    block_forms = ["data: mnist", "data: {name: mnist}", "data: {name: mnist, path: other}"]
    for block in block_forms:
        path = written(SMALLEST.replace("data: digits", block))
        assert loaded(recipe=path, data="here").data["path"] == str(tmp_path / "here")
    assert loaded("data=mnist", data="here").data["path"] == str(tmp_path / "here")


def test_data_that_cannot_be_used_is_refused():
    with pytest.raises(RecipeError, match=r"data\.path: unknown key of 'digits'"):
        load_recipe("digits-mlp", data="here")
    with pytest.raises(RecipeError, match="--data: is empty; name the place of the data"):
        load_recipe("mnist-mlp", data=" ")
    with pytest.raises(RecipeError, match="data: must be a mapping with a name, got a list"):
        load_recipe(written(SMALLEST.replace("digits", "[digits]")), data="here")


def test_check_says_what_a_recipe_would_do():
    checked = call("check", "digits-mlp", "--json")
    facts = checked.json
    assert facts["examples"] == {"train": 1146, "validation": 202, "test": 449}
    assert facts["steps_per_epoch"] == 23
    assert facts["labels"] == 10
    assert facts["comparison"] == ["one_hot", "label_smoothing", "label_embedding"]
    expected = parse_recipe(read_recipe("digits-mlp")[0], source="test")
    assert facts["objective"] == expected.objective["name"]
