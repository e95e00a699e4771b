"""From names and files, `--set` and `--data` to checked recipes, and back again; nothing in a YAML file is run."""

from __future__ import annotations

import re

import pytest
import yaml

from labelembed.lab.data import CORPORA
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import keys_of
from labelembed.lab.recipes.loading import load_recipe, read_recipe, recipe_heading, shipped_recipes
from labelembed.lab.recipes.schema import TABLES, DataCommon, Recipe
from labelembed.lab.recipes.variants import parse_variant, seeds_of, variants_of
from labelembed.lab.recipes.writing import full_recipe
from labelembed.lab.training.decoding import Decoding
from tests.made_cli import SMALL, succeed
from tests.made_data import write_idx_folder

pytestmark = pytest.mark.usefixtures("own_folder")
SHIPPED = sorted(shipped_recipes())
#: Those that follow a paper compare what the paper compares; the others of classification all compare the same.
OF_PAPERS = {
    *("cifar10-resnet8", "cifar100-resnet18", "cifar10-lwal", "cifar100-lwal", "digits-lwal"),
    *("imdb-features", "mnist-cnn", "mnist-mlp"),
}
SMALLEST = "data: digits\nmodel: mlp\nobjective: one_hot\nepochs: 1\nbatch_size: 10\n"


def written(text, name="my.yaml"):
    with open(name, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    return name


def loaded(*settings, recipe="digits-mlp", **options):
    return load_recipe(recipe, settings=settings, **options)[0]


def errors_of(*settings, recipe="digits-mlp", **options):
    with pytest.raises(RecipeError) as caught:
        loaded(*settings, recipe=recipe, **options)
    return caught.value.errors


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_says_what_it_is_and_compares(name):
    heading = recipe_heading(shipped_recipes()[name])
    assert heading[0].endswith(".")
    assert any(line.startswith(f"labelembed compare {name}") for line in heading)
    assert any("paper" in line for line in heading)
    assert any(line.startswith("Ours") for line in heading)
    values, found, _ = read_recipe(name)
    recipe, _ = load_recipe(name, data=None if values["data"]["name"] == "digits" else "somewhere")
    assert found == name
    variants = [variant.name for variant in variants_of(recipe, None)]
    assert len(seeds_of(recipe, None)) >= 3
    if recipe.of_sentences or name in OF_PAPERS:
        assert len(variants) >= 3
    else:
        strengths = [f"label_smoothing smoothing={strength}" for strength in (0.1, 0.3, 0.5)]
        assert variants == ["one_hot", *strengths, "online_label_smoothing", "label_embedding preset=mixture"]


@pytest.mark.parametrize("name", SHIPPED)
def test_full_recipe_has_every_key_with_a_comment_and_resolves_to_the_shipped_one(name):
    lines = full_recipe(name).splitlines()
    values = yaml.safe_load("\n".join(lines))
    of_sentences = values["data"]["name"] in CORPORA
    assert list(values) == [key for key in Recipe.model_fields if key != "decoding" or of_sentences]
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


def test_full_recipe_of_an_own_recipe_keeps_its_comments_and_values_and_passes_check():
    text = full_recipe(written("# Mine.\n" + SMALLEST.replace("epochs: 1", "epochs: 7")))
    assert text.startswith("# Mine.\n#\n# Every key")
    assert yaml.safe_load(text)["epochs"] == 7
    succeed("init", "my.yaml", "-o", "full.yaml")
    assert succeed("check", "full.yaml", "--json").json["recipe"] == "full"


def test_resolved_recipe_of_a_run_runs_to_an_equal_resolved_recipe(tmp_path):
    write_idx_folder(tmp_path / "mnist")
    one = succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "first", "--json").json
    two = succeed("train", "first/recipe.yaml", "--quiet", "--out", "second", "--json").json
    assert (tmp_path / "first/recipe.yaml").read_text() == (tmp_path / "second/recipe.yaml").read_text()
    assert one["test"] == two["test"]


@pytest.mark.parametrize(
    ("setting", "read", "value"),
    [
        ("optimizer.learning_rate=1e-3", lambda recipe: recipe.optimizer["learning_rate"], 1e-3),
        ("objective={name: one_hot, bias: no}", lambda recipe: recipe.objective["bias"], False),
        ("model.hidden_sizes=[4, 5]", lambda recipe: recipe.model["hidden_sizes"], [4, 5]),
        ("data.validation=", lambda recipe: recipe.data["validation"], None),
        (" epochs =4", lambda recipe: recipe.epochs, 4),
        ("comparison=null", lambda recipe: recipe.comparison, None),
    ],
)
def test_set_reads_its_value_as_yaml(setting, read, value):
    assert read(loaded(setting)) == value
    assert read(loaded("epochs=3", "seed=2", setting)) == value


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        *((setting, "key.key=value") for setting in ("epochs", "=3", "a..b=3")),
        ("epochs=" + "[" * 3000, "nested too deeply"),
        ("epochs.x=3", "no keys below"),
        ("model.hidden_sizes=[4", "no valid YAML"),
        ("epochs=&a [*a]", "references"),
    ],
)
def test_setting_that_is_none_is_refused(setting, word):
    (error,) = errors_of(setting)
    assert word in error
    assert len(error) < 250
    assert len(errors_of(setting, "model.dropout=2")) == 2  # and the others with it


@pytest.mark.parametrize("order", [1, -1])
def test_another_objective_drops_the_arguments_of_the_old_one(order):
    path = written(SMALLEST.replace("one_hot", "{name: label_embedding, temperature: 3, preset: paper}"))
    settings = ["objective.name=label_smoothing", "objective.smoothing=0.3"][::order]
    objective = loaded(*settings, recipe=path).objective
    assert (objective["name"], objective["smoothing"]) == ("label_smoothing", 0.3)
    assert loaded("objective.name=label_embedding", recipe=path).objective["temperature"] == 3
    assert loaded("model.name=cnn").model["dropout"] == 0  # without the sizes of the recipe's own network


def test_data_is_put_in_whatever_form_the_block_has(tmp_path):
    for block in ("data: mnist", "data: {name: mnist}", "data: {name: mnist, path: other}"):
        path = written(SMALLEST.replace("data: digits", block))
        assert loaded(recipe=path, data="here").data["path"] == str(tmp_path / "here")
    assert loaded("data=mnist", data="here").data["path"] == str(tmp_path / "here")
    assert "data.path" in errors_of(data="here")[0]  # the digits need none
    assert "mapping" in errors_of(recipe=written(SMALLEST.replace("digits", "[digits]")), data="here")[0]


@pytest.mark.parametrize(
    ("recipe", "options", "block", "key", "whole"),
    [
        ("mnist-mlp", {}, "data", "path", "{}/some/where"),
        ("text-finetune", {"settings": ["data.encoder=models/bert"]}, "data", "encoder", "{}/models/bert"),
        ("mnist-mlp", {"objective": "distillation:teacher=run"}, "objective", "teacher", "{}/run"),
        ("mnist-mlp", {"objective": "static_labels:embedding=text:bert"}, "objective", "embedding", "text:{}/bert"),
    ],
)
def test_every_path_becomes_whole(recipe, options, block, key, whole, tmp_path):
    found, _ = load_recipe(recipe, data="some/where", **options)
    assert getattr(found, block)[key] == whole.format(tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *((text, "mapping") for text in ("# a comment\n", "- data\n", "words", "3")),
        ("data: [1,\nepochs: 3\n", "line 3, column 1"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: *nowhere\n", "line 1, column 4"),
        ("a: !!int x\n", "no valid YAML"),
        (b"epochs: \xff\xfe\n", "utf-8"),
        *((text, "nested too deeply") for text in ("[" * 3000, "- " * 3000 + "a")),
        ("x: 1\na: &a\n  b: {c: *a}\n", "references"),
        (b" " * 200_000, "larger than 100,000 bytes"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line_with_its_place(text, word):
    (error,) = errors_of(recipe=written(text))
    assert word in error
    assert "\n" not in error


@pytest.mark.parametrize("value", ["!!python/object/apply:os.system ['touch hacked']", "!mine {a: b}"])
def test_python_tags_are_refused_and_not_executed(value, tmp_path):
    (error,) = errors_of(recipe=written(f"{SMALLEST}x: {value}"))
    assert error.startswith("line 6, column 4")
    with pytest.raises(RecipeError, match="the tag"):
        loaded(f"objective.temperature={value}")
    with pytest.raises(RecipeError, match="the tag"):
        parse_variant(f"label_embedding:temperature={value}", source="--objectives")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("recipe", "setting", "key", "word"),
    [
        ("text-bag", "model=mlp", "model.name", "bag_of_words"),
        ("text-bag", "model=text_transformer", "model.name", "bag_of_words"),
        ("text-bag", "data.scaling=standard", "data.scaling", "'unit'"),
        ("text-bag", "data.encoder=bert", "data.encoder", "is for inputs"),
        ("text-bag", "data.text_column=[title, title]", "data.text_column", "once"),
        ("text-bag", "data.text_column=[]", "data.text_column", "one column or more"),
        ("text-bag", "data.text_column=[title, 3]", "data.text_column.1", "a text"),
        ("text-bag", "data.text_column={a: b}", "data.text_column", "a text or a list"),
        ("text-finetune", "model=mlp", "model.name", "text_transformer"),
        ("text-finetune", "model.dropout=1", "model.dropout", "[0, 1)"),
        ("digits-mlp", "model=bag_of_words", "model.name", "cnn"),
        ("digits-mlp", "batch_size={tokens: 100}", "batch_size", "tokens"),
        ("translation-lstm", "model=mlp", "model.name", "attention_lstm"),
        ("translation-lstm", "batch_size={per_label: 5}", "batch_size", "{tokens: TOKENS}"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, setting, key, word):
    (error,) = errors_of(setting, recipe=recipe, data=None if recipe == "digits-mlp" else "reviews.csv")
    assert error.startswith(f"{key}: ")
    assert word in error


def test_recipes_refuse_to_mix_where_an_example_must_have_one_label():
    for objective in ("adaptive_labels", "retrospection:preset=progressive"):
        with pytest.raises(RecipeError, match=r"data\.mixing"):
            load_recipe("digits-mlp", settings=["data.mixing=mixup"], objective=objective)
    for objective in ("label_embedding", "retrospection"):
        load_recipe("digits-mlp", settings=["data.mixing=mixup"], objective=objective)
