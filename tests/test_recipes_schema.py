"""What a recipe may say: unknown keys, wrong types, values out of range, all told at once."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch

from labelembed.lab.data import Split
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.blocks import (
    ComparisonBlock,
    DataCommon,
    ValidationBlock,
)
from labelembed.lab.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.lab.recipes.signature import described_arguments, keys_of, summary
from labelembed.lab.training.settings import CheckpointPolicy, Selection

SMALLEST = {
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "objective": {"name": "one_hot"},
    "epochs": 1,
    "batch_size": 10,
}
THERE = ", ".join(sorted(TABLES["objective"]))
COMPONENTS = [(kind, name) for kind, table in TABLES.items() for name in table]


def with_changes(*changes):
    """The smallest recipe with `a.b` set to a value, for each (key, value)."""
    values = copy.deepcopy(SMALLEST)
    for path, value in changes:
        block = values
        *parents, last = path.split(".")
        for parent in parents:
            block = block.setdefault(parent, {})
        block[last] = value
    return values


def errors_of(*changes):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*changes), source="test")
    return caught.value.errors


# ---------------------------------------------------------------------------------------------- what is filled in


def test_smallest_recipe_gets_every_key():
    recipe = parse_recipe(SMALLEST, source="test")
    sizes = {"hidden_sizes": [500, 500], "batch_norm": False, "dropout": 0.0, "initialization": "pytorch"}
    assert recipe.model == {"name": "mlp", **sizes}
    assert recipe.optimizer["name"] == "adam"
    assert recipe.schedule == {"name": "constant", "warmup_fraction": 0.0}
    assert recipe.data == {"name": "digits", "test_fraction": 0.25, **DataCommon().model_dump()}
    assert (recipe.seed, recipe.precision, recipe.selection.by, recipe.comparison) == (0, "float32", "auto", None)
    by_name = SMALLEST | {"objective": "one_hot", "data": "digits", "optimizer": "adam"}
    assert parse_recipe(by_name, source="test") == recipe


def test_resolved_recipe_resolves_to_itself():
    values = with_changes(("objective.name", "label_embedding"), ("data.validation", {"first": 5}))
    before = copy.deepcopy(values)
    once = parse_recipe(values, source="test")
    assert parse_recipe(once.of_one_run(), source="test") == once
    assert values == before


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_key_of_every_component_is_described_and_nothing_else(kind, name):
    component = TABLES[kind][name]
    assert summary(component)
    assert {key for key, field in keys_of(component).items() if not field.description} == set()
    # a description of an argument that there is not, or no longer, would never be shown
    assert set(described_arguments(inspect.getdoc(component))) <= set(inspect.signature(component).parameters)


def test_every_key_of_every_block_is_described():
    for block in (Recipe, DataCommon, Selection, CheckpointPolicy, ComparisonBlock, ValidationBlock):
        assert {name for name, field in block.model_fields.items() if not field.description} == set()


# ------------------------------------------------------------------------------------------------- unknown keys


@pytest.mark.parametrize(
    ("key", "of", "near"),
    [
        ("bach_size", "", "batch_size"),
        ("objective.bais", " of 'one_hot'", "bias"),
        ("model.hiden_sizes", " of 'mlp'", "hidden_sizes"),
        ("data.validatoin", " of 'digits'", "validation"),
        ("data.test_fractoin", " of 'digits'", "test_fraction"),
        ("data.validation.frist", "", "first"),
        ("selection.patients", "", "patience"),
    ],
)
def test_unknown_key_names_the_nearest_at_every_level(key, of, near):
    assert f"{key}: unknown key{of} (did you mean {near!r}?)" in errors_of((key, 3))


def test_unknown_key_with_no_near_one_lists_what_there_is():
    # what the run supplies is no key
    assert errors_of(("objective.num_labels", 3)) == [
        "objective.num_labels: unknown key of 'one_hot'; its keys: impl, weight, bias"
    ]
    assert errors_of(("data", {"name": "mnist"})) == ["data.path: missing; give it with --data PATH"]
    assert errors_of(("objective.zzz", 1)) == ["objective.zzz: unknown key of 'one_hot'; its keys: impl, weight, bias"]
    assert errors_of(("selection.zzz", 1)) == ["selection.zzz: unknown key; there are: by, patience"]
    assert errors_of(("data.zzz", 1)) == [
        "data.zzz: unknown key of 'digits'; its keys: test_fraction, validation, train_examples, scaling, "
        "augmentation, cutout, mixing, mixing_alpha"
    ]


@pytest.mark.parametrize("key", [1, None, ("a", "b")])
def test_key_that_is_no_text_is_refused(key):
    for values in (SMALLEST | {key: 2}, SMALLEST | {"objective": {"name": "one_hot", key: 2}}):
        with pytest.raises(RecipeError, match="unknown key"):
            parse_recipe(values, source="test")
    with pytest.raises(RecipeError, match=r"selection\..*: unknown key"):
        parse_recipe(SMALLEST | {"selection": {key: 2}}, source="test")


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        ("objective", "one_ht", "unknown objective 'one_ht' (did you mean 'one_hot'?); there are: "),
        ("model", "lstm", "unknown model 'lstm'; there are: attention_lstm, bag_of_words, cnn, "),
        ("objective", ["one_hot"], f"must be one of {THERE}, got ['one_hot']"),
        ("objective", {"one_hot": 1}, f"must be one of {THERE}, got {{'one_hot': 1}}"),
    ],
)
def test_unknown_name_is_refused(kind, name, error):
    (found,) = errors_of((f"{kind}.name", name))
    assert found.startswith(f"{kind}.name: {error}")


def test_missing_parts_are_all_named():
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"objective": {}}, source="test")
    assert caught.value.errors == [
        f"objective.name: missing; there are: {THERE}",
        "data: missing",
        "model: missing",
        "epochs: missing",
        "batch_size: missing",
    ]


@pytest.mark.parametrize(
    ("epochs", "examples", "wanted"),
    [
        *(
            (7, 100, 7),
            ({"steps": 30}, 100, 3),
            ({"steps": 31}, 100, 4),
            ({"steps": 31}, 95, 4),
            ({"steps": 30}, 5000, 1),
        ),
        *(({"steps": 30, "at_least": 5}, 100, 5), ({"steps": 30, "at_least": 2}, 100, 3)),
    ],
)
def test_epochs_given_as_steps_are_as_many_as_have_them(epochs, examples, wanted):
    recipe = parse_recipe(with_changes(("epochs", epochs)), source="test")
    train = Split(torch.zeros(examples, 1, 8, 8), torch.zeros(examples, dtype=torch.int64))
    assert recipe.number_of_epochs(SimpleNamespace(train=train, num_labels=10)) == wanted
    assert recipe.of_one_run()["epochs"] == epochs


# ------------------------------------------------------------------------------------- wrong types, wrong values


@pytest.mark.parametrize("values", [None, [], "text", 3, 2.5, True, [("data", 1)]])
def test_recipe_that_is_no_mapping_is_refused(values):
    with pytest.raises(RecipeError, match=r"must be a mapping with data, model, objective"):
        parse_recipe(values, source="test")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("epochs", "many", "must be a whole number, got 'many'"),
        ("epochs", 2.5, "must be a whole number, got 2.5"),
        ("epochs", 0, "must be >= 1, got 0"),
        ("epochs", 10**7, "must be <= 1,000,000, got 10000000"),
        ("epochs", None, "must be a whole number, got None"),
        ("epochs", {"steps": 10, "at_least": 0}, "must be >= 1, got 0"),
        (
            "epochs",
            {"hours": 3},
            "must be a number of epochs, or {steps: STEPS} for as many as have so many optimiser steps, with "
            "`at_least: EPOCHS` no fewer than these, got {'hours': 3}",
        ),
        ("seed", -1, "must be >= 0, got -1"),
        ("precision", "float16", "must be 'float32', 'bf16' or 'fp16', got 'float16' (did you mean 'float32'?)"),
        ("data", ["digits"], "must be a mapping with a name, got a list: ['digits']"),
        ("data", None, "must be a mapping with a name, got nothing"),
        ("data.test_fraction", "half", "must be a number, got 'half'"),
        ("data.scaling", "unitt", "must be 'unit' or 'standard', got 'unitt' (did you mean 'unit'?)"),
        ("data.validation", 5, "must be a mapping of keys, got 5"),
        ("data.validation", {}, "must give exactly one of first, fraction and examples, got none"),
        (
            "data.validation",
            {"first": 5, "examples": 6},
            "must give exactly one of first, fraction and examples, got first: 5 and examples: 6",
        ),
        ("data.validation.fraction", 1, "must be < 1, got 1"),
        ("data.validation.fraction", True, "must be a number, got True"),
        ("model.hidden_sizes", [8, "x"], "entry 2 must be a whole number, got 'x'"),
        ("model.hidden_sizes", [8, True], "entry 2 must be a whole number, got True"),
        ("model.hidden_sizes", [], "must be one or more widths >= 1, got []"),
        ("model.hidden_sizes", [2**40], "entry 1 must be <= 2,147,483,647, got 1099511627776"),
        ("model.dropout", 1.0, "must be in [0, 1), got 1.0"),
        ("objective.bias", "maybe", "must be true or false, got 'maybe'"),
        ("optimizer.learning_rate", True, "must be a number, got True"),
        ("optimizer.learning_rate", 0, "must be > 0, got 0.0"),
        ("optimizer.learning_rate", float("inf"), "must be a finite number, got inf"),
        ("optimizer.betas", [0.9], "must be a list of 2 values, got [0.9]"),
        ("optimizer.betas", [0.9, 1.0], "must both be in [0, 1), got [0.9, 1.0]"),
        ("selection", "last_epoch", "must be a mapping of keys, got 'last_epoch'"),
        (
            "selection.by",
            "best",
            "must be 'auto', 'validation_error', 'validation_nll', 'validation_bleu' or 'last_epoch', got 'best'",
        ),
        ("checkpoints.keep", 1, "must be >= 2, got 1"),
        ("comparison.objectives", [], "must be a list of one or more objectives, got []"),
        (
            "comparison.objectives",
            ["one_hot", 3],
            "entry 2 must be a text (name:key=value) or a mapping with a name, got 3",
        ),
        ("comparison.seeds", 0, "must be a number of seeds from 1 up, or a list of seeds, got 0"),
        ("comparison.seeds", [-1], "must be whole numbers from 0 up, got [-1]"),
        ("comparison.seeds", 1001, "must be at most 1,000 seeds, got 1,001; to name one seed give a list of one"),
        ("comparison.seeds", [1, 1], "must be different numbers, got 1 more than once"),
        ("comparison.baseline", 3, "must be a text, got 3"),
    ],
)
def test_wrong_value_is_refused_in_plain_words(key, value, error):
    changes = [(key, value)]
    kind = key.split(".")[0]
    if kind in ("optimizer", "schedule"):
        changes.insert(0, (f"{kind}.name", {"optimizer": "adam", "schedule": "constant"}[kind]))
    assert errors_of(*changes) == [f"{key}: {error}"]


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("temperature", "1e400", "must be a finite number, got '1e400'"),
        ("confidence_limit", 1.5, "must be in [0, 1], got 1.5"),
        ("rank", 2.5, "must be a whole number, got 2.5"),
        (
            "target_warmup_steps",
            1.5,
            "must be a whole number of steps >= 0, or a share of the run between 0 and 1, got 1.5",
        ),
        ("target_warmup_steps", "many", "must be a whole number or a number, got 'many'"),
        ("rank", 10**12, "must be <= 2,147,483,647, got 1000000000000"),
        ("rank", 3.0, "must be a whole number, got 3.0"),
        ("embedding", 3, "must be 'full' or 'compressed' or a text, got 3"),
    ],
)
def test_label_embedding_values_are_checked(key, value, error):
    assert errors_of(("objective", {"name": "label_embedding", key: value})) == [f"objective.{key}: {error}"]


@pytest.mark.parametrize(("steps", "wanted"), [(8, 8), (0.4, 0.4), ("1e-3", 1e-3)])
def test_numbers_keep_their_kind_and_yamls_1e3_is_one(steps, wanted):
    block = {"name": "label_embedding", "target_warmup_steps": steps}
    found = parse_recipe(with_changes(("objective", block)), source="test").objective["target_warmup_steps"]
    assert (found, type(found)) == (wanted, type(wanted))


def test_network_that_no_memory_holds_is_refused():
    (error,) = errors_of(("model.hidden_sizes", [2**31 - 1, 2**31 - 1, 2**31 - 1]))
    assert error.startswith("model: cannot be built")
    assert len(error) < 200


def test_value_in_a_message_is_cut():
    for value in ("x" * 10_000, list(range(10_000)), 16**5000):
        (error,) = errors_of(("epochs", value))
        assert len(error) < 130


def test_selection_by_validation_needs_validation_rows():
    (error,) = errors_of(("selection.by", "validation_nll"))
    assert error == (
        "selection.by: 'validation_nll' needs validation examples; set data.validation, "
        "for instance --set data.validation.fraction=0.1"
    )
    chosen = with_changes(("selection.by", "validation_nll"), ("data.validation", {"examples": 5}))
    assert parse_recipe(chosen, source="test").selection.by == "validation_nll"


# --------------------------------------------------------------------------------------------- several at once


def test_errors_of_every_kind_are_told_together():
    assert errors_of(
        ("epochs", 0),
        ("bach_size", 3),
        ("model.dropout", 2),
        ("optimizer", {"name": "adm"}),
        ("data.scaling", "x"),
        ("objective", {"name": "label_embedding", "temperature": -1, "confidence_limit": 2}),
    ) == [
        "data.scaling: must be 'unit' or 'standard', got 'x'",
        "model.dropout: must be in [0, 1), got 2.0",
        "objective.temperature: must be > 0, got -1.0",
        "objective.confidence_limit: must be in [0, 1], got 2.0",
        "optimizer.name: unknown optimizer 'adm' (did you mean 'adam'?); there are: adam, adamw, sgd",
        "epochs: must be >= 1, got 0",
        "bach_size: unknown key (did you mean 'batch_size'?)",
    ]


def test_several_errors_of_one_block_are_told_together():
    block = {"name": "label_embedding", "tempreture": 1, "rank": "x", "confidence_limit": 2}
    assert errors_of(("objective", block)) == [
        "objective.rank: must be a whole number, got 'x'",
        "objective.tempreture: unknown key of 'label_embedding' (did you mean 'temperature'?)",
        "objective.confidence_limit: must be in [0, 1], got 2.0",
    ]


@pytest.mark.parametrize("count", [8, 11])
def test_more_than_eight_errors_are_cut_with_a_count(count):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*((f"wrong_{number}", number) for number in range(count))), source="my.yaml")
    assert len(caught.value.errors) == count
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"my.yaml: {count} errors"
    assert lines[8:] == ([] if count == 8 else ["  ... and 3 more"])
