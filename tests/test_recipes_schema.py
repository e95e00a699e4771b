"""What a recipe may say: unknown keys, wrong types, values out of range, all told at once."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch

from labelembed.data import Split
from labelembed.errors import RecipeError
from labelembed.recipes.blocks import (
    ComparisonBlock,
    DataCommon,
    ValidationBlock,
    checked_seeds,
)
from labelembed.recipes.removed import REMOVED
from labelembed.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.recipes.signature import described_arguments, keys_of, summary
from labelembed.training.settings import CheckpointPolicy, Selection

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


def faults_of(*changes):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*changes), source="test")
    return caught.value.faults


# ---------------------------------------------------------------------------------------------- what is filled in


def test_smallest_recipe_gets_every_key():
    recipe = parse_recipe(SMALLEST, source="test")
    assert recipe.model == {
        "name": "mlp",
        "hidden_sizes": [500, 500],
        "batch_norm": False,
        "dropout": 0.0,
        "initialization": "pytorch",
    }
    assert recipe.optimizer["name"] == "adam"
    assert recipe.schedule == {"name": "constant", "warmup_fraction": 0.0}
    assert recipe.data == {
        "name": "digits",
        "test_fraction": 0.25,
        "validation": None,
        "train_rows": None,
        "scaling": "unit",
        "augmentation": "none",
        "cutout": None,
        "mixing": "none",
        "mixing_alpha": 1.0,
    }
    assert (recipe.seed, recipe.precision, recipe.selection.by, recipe.comparison) == (0, "float32", "auto", None)


def test_resolved_recipe_resolves_to_itself():
    once = parse_recipe(with_changes(("objective.name", "label_embedding")), source="test")
    assert parse_recipe(once.of_one_run(), source="test") == once


def test_parsing_does_not_change_what_it_is_given():
    values = with_changes(("data.validation", {"first": 5}))
    before = copy.deepcopy(values)
    parse_recipe(values, source="test")
    assert values == before


def test_component_may_be_given_by_its_name_alone():
    short = parse_recipe(SMALLEST | {"objective": "one_hot", "data": "digits", "optimizer": "sgd"}, source="test")
    long = parse_recipe(SMALLEST | {"optimizer": {"name": "sgd"}}, source="test")
    assert short == long


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_key_of_every_component_is_described(kind, name):
    component = TABLES[kind][name]
    assert summary(component)
    assert {key.name for key in keys_of(component).values() if not key.description} == set()


def test_every_key_of_every_block_is_described():
    for block in (Recipe, DataCommon, Selection, CheckpointPolicy, ComparisonBlock, ValidationBlock):
        assert {name for name, field in block.model_fields.items() if not field.description} == set()


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_described_arguments_are_arguments(kind, name):
    # a description of an argument that there is not, or no longer, would never be shown
    component = TABLES[kind][name]
    assert set(described_arguments(inspect.getdoc(component))) <= set(inspect.signature(component).parameters)


# ------------------------------------------------------------------------------------------------- unknown keys


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("bach_size", "bach_size: unknown key (did you mean 'batch_size'?)"),
        ("objective.bais", "objective.bais: unknown key of 'one_hot' (did you mean 'bias'?)"),
        ("model.hiden_sizes", "model.hiden_sizes: unknown key of 'mlp' (did you mean 'hidden_sizes'?)"),
        ("optimizer.lerning_rate", "optimizer.lerning_rate: unknown key of 'adam' (did you mean 'learning_rate'?)"),
        (
            "schedule.warmup_fracton",
            "schedule.warmup_fracton: unknown key of 'constant' (did you mean 'warmup_fraction'?)",
        ),
        ("data.validatoin", "data.validatoin: unknown key of 'digits' (did you mean 'validation'?)"),
        ("data.test_fractoin", "data.test_fractoin: unknown key of 'digits' (did you mean 'test_fraction'?)"),
        ("data.validation.frist", "data.validation.frist: unknown key (did you mean 'first'?)"),
        ("selection.patients", "selection.patients: unknown key (did you mean 'patience'?)"),
        ("checkpoints.every_step", "checkpoints.every_step: unknown key (did you mean 'every_steps'?)"),
        ("comparison.base_line", "comparison.base_line: unknown key (did you mean 'baseline'?)"),
    ],
)
def test_unknown_key_names_the_nearest_at_every_level(key, fault):
    changes = [(key, 3)]
    if key.startswith(("optimizer", "schedule")):
        kind = key.split(".")[0]
        changes.insert(0, (f"{kind}.name", {"optimizer": "adam", "schedule": "constant"}[kind]))
    assert fault in faults_of(*changes)


def test_unknown_key_with_no_near_one_lists_what_there_is():
    assert faults_of(("objective.zzz", 1)) == ["objective.zzz: unknown key of 'one_hot'; its keys: impl, weight, bias"]
    assert faults_of(("selection.zzz", 1)) == ["selection.zzz: unknown key; there are: by, patience"]
    assert faults_of(("data.zzz", 1)) == [
        "data.zzz: unknown key of 'digits'; its keys: test_fraction, validation, train_rows, scaling, augmentation, "
        "cutout, mixing, mixing_alpha"
    ]


@pytest.mark.parametrize("place", REMOVED)
def test_removed_option_says_what_to_use_and_passes_at_its_default(place):
    """Saved recipes hold every default, so those of the first edition still load."""
    name, key = place.split(".")
    gone, block = REMOVED[place], ("objective", {"name": name})
    assert faults_of(block, (f"objective.{key}", "other")) == [f"objective.{key}: was removed; {gone.instead}"]
    found = parse_recipe(with_changes(block, (f"objective.{key}", gone.default)), source="test")
    assert found == parse_recipe(with_changes(block), source="test")


def test_key_of_another_component_is_refused():
    # what the run supplies is no key either
    assert faults_of(("objective.temperature", 3))[0].startswith("objective.temperature: unknown key of 'one_hot'")
    assert faults_of(("objective.num_labels", 3))[0].startswith("objective.num_labels: unknown key")
    assert faults_of(("model.input_shape", [1]))[0].startswith("model.input_shape: unknown key")


@pytest.mark.parametrize("key", [1, True, None, 2.5, ("a", "b")])
def test_key_that_is_no_text_is_refused(key):
    for values in (SMALLEST | {key: 2}, SMALLEST | {"objective": {"name": "one_hot", key: 2}}):
        with pytest.raises(RecipeError, match="unknown key"):
            parse_recipe(values, source="test")
    with pytest.raises(RecipeError, match=r"selection\..*: unknown key"):
        parse_recipe(SMALLEST | {"selection": {key: 2}}, source="test")


@pytest.mark.parametrize(
    ("kind", "name", "fault"),
    [
        ("objective", "one_ht", "unknown objective 'one_ht' (did you mean 'one_hot'?); there are: "),
        ("model", "lstm", "unknown model 'lstm'; there are: attention_lstm, bag_of_words, cnn, "),
        ("data", "mnits", "unknown data 'mnits' (did you mean 'mnist'?); there are: cifar, corpus, digits, images, "),
        ("optimizer", "adm", "unknown optimizer 'adm' (did you mean 'adam'?); there are: adam, adamw, sgd"),
        ("schedule", "cosin", "unknown schedule 'cosin' (did you mean 'cosine'?); there are: constant, cosine, "),
        ("objective", None, f"must be one of {THERE}, got None"),
        ("objective", 3, f"must be one of {THERE}, got 3"),
        ("objective", ["one_hot"], f"must be one of {THERE}, got ['one_hot']"),
        ("objective", {"one_hot": 1}, f"must be one of {THERE}, got {{'one_hot': 1}}"),
    ],
)
def test_unknown_name_is_refused(kind, name, fault):
    (found,) = faults_of((f"{kind}.name", name))
    assert found.startswith(f"{kind}.name: {fault}")


def test_missing_parts_are_all_named():
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"objective": {}}, source="test")
    assert caught.value.faults == [
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


def test_missing_path_says_how_to_give_it():
    assert faults_of(("data", {"name": "idx"})) == ["data.path: missing; give it with --data PATH"]


# ------------------------------------------------------------------------------------- wrong types, wrong values


@pytest.mark.parametrize("values", [None, [], "text", 3, 2.5, True, [("data", 1)]])
def test_recipe_that_is_no_mapping_is_refused(values):
    with pytest.raises(RecipeError, match=r"must be a mapping with data, model, objective"):
        parse_recipe(values, source="test")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("epochs", "many", "must be a whole number, got 'many'"),
        ("epochs", True, "must be a whole number, got True"),
        ("epochs", 2.5, "must be a whole number, got 2.5"),
        ("epochs", 0, "must be >= 1, got 0"),
        ("epochs", 10**7, "must be <= 1,000,000, got 10000000"),
        ("epochs", None, "must be a whole number, got None"),
        ("epochs", {"steps": 0}, "must be >= 1, got 0"),
        ("epochs", {"steps": 10, "at_least": 0}, "must be >= 1, got 0"),
        (
            "epochs",
            {"hours": 3},
            "must be a number of epochs, or {steps: STEPS} for as many as have so many optimiser steps, with "
            "`at_least: EPOCHS` no fewer than these, got {'hours': 3}",
        ),
        ("batch_size", -5, "must be >= 1, got -5"),
        ("seed", -1, "must be >= 0, got -1"),
        ("seed", 2**64, "must be <= 9,223,372,036,854,775,807, got 18446744073709551616"),
        ("precision", "float16", "must be 'float32', 'bf16' or 'fp16', got 'float16' (did you mean 'float32'?)"),
        ("data", ["digits"], "must be a mapping with a name, got a list: ['digits']"),
        ("data", None, "must be a mapping with a name, got nothing"),
        ("model", 3, "must be a mapping with a name, got a number: 3"),
        ("data.test_fraction", "half", "must be a number, got 'half'"),
        ("data.train_rows", 0, "must be >= 1, got 0"),
        ("data.scaling", "unitt", "must be 'unit' or 'standard', got 'unitt' (did you mean 'unit'?)"),
        ("data.validation", 5, "must be a mapping of keys, got 5"),
        ("data.validation", {}, "must give exactly one of first, fraction and rows, got none"),
        (
            "data.validation",
            {"first": 5, "rows": 6},
            "must give exactly one of first, fraction and rows, got first: 5 and rows: 6",
        ),
        ("data.validation.fraction", 1, "must be < 1, got 1"),
        ("data.validation.fraction", float("nan"), "must be a finite number, got nan"),
        ("data.validation.fraction", True, "must be a number, got True"),
        ("model.hidden_sizes", 5, "must be a list, got 5"),
        ("model.hidden_sizes", [8, "x"], "entry 2 must be a whole number, got 'x'"),
        ("model.hidden_sizes", [8, True], "entry 2 must be a whole number, got True"),
        ("model.hidden_sizes", [], "must be one or more widths >= 1, got []"),
        ("model.hidden_sizes", [0], "must be one or more widths >= 1, got [0]"),
        ("model.hidden_sizes", [2**40], "must be a number up to 2,147,483,647, got [1099511627776]"),
        ("model.dropout", 1.0, "must be in [0, 1), got 1.0"),
        ("model.initialization", "papr", "must be 'paper' or 'pytorch', got 'papr' (did you mean 'paper'?)"),
        ("objective.bias", "maybe", "must be true or false, got 'maybe'"),
        ("optimizer.learning_rate", "fast", "must be a number, got 'fast'"),
        ("optimizer.learning_rate", True, "must be a number, got True"),
        ("optimizer.learning_rate", 0, "must be > 0, got 0.0"),
        ("optimizer.learning_rate", float("inf"), "must be a finite number, got inf"),
        ("optimizer.betas", [0.9], "must be a list of 2 values, got [0.9]"),
        ("optimizer.betas", 0.9, "must be a list, got 0.9"),
        ("optimizer.betas", [0.9, 1.0], "must both be in [0, 1), got [0.9, 1.0]"),
        ("optimizer.weight_decay", -1, "must be >= 0, got -1.0"),
        ("schedule.warmup_fraction", 1, "must be in [0, 1), got 1.0"),
        ("selection", "last_epoch", "must be a mapping of keys, got 'last_epoch'"),
        (
            "selection.by",
            "best",
            "must be 'auto', 'validation_error', 'validation_nll', 'validation_bleu' or 'last_epoch', got 'best'",
        ),
        ("selection.patience", 0, "must be >= 1, got 0"),
        ("checkpoints.keep", 1, "must be >= 2, got 1"),
        ("checkpoints.minimum_seconds", -1, "must be >= 0, got -1"),
        ("checkpoints.minimum_seconds", float("inf"), "must be a finite number, got inf"),
        ("checkpoints.minimum_seconds", True, "must be a number, got True"),
        ("checkpoints.every_steps", "x", "must be a whole number, got 'x'"),
        ("comparison", ["one_hot"], "must be a mapping of keys, got ['one_hot']"),
        ("comparison.objectives", [], "must be a list of one or more objectives, got []"),
        ("comparison.objectives", "one_hot", "must be a list of one or more objectives, got 'one_hot'"),
        (
            "comparison.objectives",
            ["one_hot", 3],
            "entry 2 must be a text (name:key=value) or a mapping with a name, got 3",
        ),
        ("comparison.seeds", 0, "must be a number of seeds from 1 up, or a list of seeds, got 0"),
        ("comparison.seeds", [1, 1], "must be different numbers, got 1 more than once"),
        ("comparison.baseline", 3, "must be a text, got 3"),
    ],
)
def test_wrong_value_is_refused_in_plain_words(key, value, fault):
    changes = [(key, value)]
    kind = key.split(".")[0]
    if kind in ("optimizer", "schedule"):
        changes.insert(0, (f"{kind}.name", {"optimizer": "adam", "schedule": "constant"}[kind]))
    assert faults_of(*changes) == [f"{key}: {fault}"]


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("preset", "papr", "must be 'paper', 'published_code' or 'mixture', got 'papr' (did you mean 'paper'?)"),
        ("temperature", 0, "must be > 0, got 0.0"),
        ("temperature", float("nan"), "must be a finite number, got nan"),
        ("temperature", "1e400", "must be a finite number, got '1e400'"),
        ("confidence_limit", 1.5, "must be in [0, 1], got 1.5"),
        ("rank", 0, "must be >= 1, got 0"),
        ("rank", 2.5, "must be a whole number, got 2.5"),
        ("output_weight", -1, "must be >= 0, got -1.0"),
        (
            "target_warmup_steps",
            1.5,
            "must be a whole number of steps >= 0, or a share of the run between 0 and 1, got 1.5",
        ),
        ("target_warmup_steps", "many", "must be a whole number or a number, got 'many'"),
        ("target_warmup_steps", 10**12, "must be a number up to 2,147,483,647, got 1000000000000"),
        ("embedding", 3, "must be 'full' or 'compressed' or a text, got 3"),
        ("embedding", ["full"], "must be 'full' or 'compressed' or a text, got ['full']"),
    ],
)
def test_label_embedding_values_are_checked(key, value, fault):
    assert faults_of(("objective", {"name": "label_embedding", key: value})) == [f"objective.{key}: {fault}"]


@pytest.mark.parametrize("steps", [0, 8, 0.4])
def test_label_embeddings_warmup_is_steps_or_a_share_of_the_run(steps):
    block = {"name": "label_embedding", "target_warmup_steps": steps}
    found = parse_recipe(with_changes(("objective", block)), source="test").objective["target_warmup_steps"]
    assert found == steps
    assert type(found) is type(steps)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    recipe = parse_recipe(with_changes(("optimizer", {"name": "sgd", "learning_rate": "1e-3"})), source="test")
    assert recipe.optimizer["learning_rate"] == 1e-3


def test_network_that_no_memory_holds_is_refused():
    (fault,) = faults_of(("model.hidden_sizes", [2**31 - 1, 2**31 - 1, 2**31 - 1]))
    assert fault.startswith("model: cannot be built")
    assert len(fault) < 200


def test_value_in_a_message_is_cut():
    for value in ("x" * 10_000, list(range(10_000)), 16**5000):
        (fault,) = faults_of(("epochs", value))
        assert len(fault) < 130


def test_selection_by_validation_needs_validation_rows():
    (fault,) = faults_of(("selection.by", "validation_nll"))
    assert fault == (
        "selection.by: 'validation_nll' needs validation examples; set data.validation, "
        "for instance --set data.validation.fraction=0.1"
    )
    chosen = with_changes(("selection.by", "validation_nll"), ("data.validation", {"rows": 5}))
    assert parse_recipe(chosen, source="test").selection.by == "validation_nll"


# --------------------------------------------------------------------------------------------- several at once


def test_faults_of_every_kind_are_told_together():
    assert faults_of(
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


def test_several_faults_of_one_block_are_told_together():
    block = {"name": "label_embedding", "tempreture": 1, "rank": "x", "confidence_limit": 2}
    assert faults_of(("objective", block)) == [
        "objective.tempreture: unknown key of 'label_embedding' (did you mean 'temperature'?)",
        "objective.rank: must be a whole number, got 'x'",
        "objective.confidence_limit: must be in [0, 1], got 2.0",
    ]


def test_more_than_eight_faults_are_cut_with_a_count():
    changes = [(f"wrong_{number}", number) for number in range(11)]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*changes), source="my.yaml")
    assert len(caught.value.faults) == 11
    lines = str(caught.value).splitlines()
    assert lines[0] == "my.yaml: 11 faults"
    assert len(lines) == 10
    assert lines[-1] == "  ... and 3 more"


def test_exactly_eight_faults_are_all_shown():
    changes = [(f"wrong_{number}", number) for number in range(8)]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*changes), source="my.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 9
    assert "more" not in lines[-1]


# ------------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(1, [0]), (3, [0, 1, 2]), ([7], [7]), ([5, 0, 2], [5, 0, 2]), (1000, list(range(1000)))],
)
def test_seeds_are_a_number_or_a_list(given, seeds):
    assert checked_seeds(given) == seeds


@pytest.mark.parametrize("given", [0, -1, 1001, True, 2.0, "3", None, [], [-1], [1, 1], ["1"], [True], [2**63], {}])
def test_other_seeds_are_refused(given):
    with pytest.raises(ValueError, match=r"^must be"):
        checked_seeds(given)
