"""What a recipe may say: unknown keys, wrong types, values out of range, all told at once."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from labelembed.lab.data import Split
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import described_arguments, keys_of, summary
from labelembed.lab.recipes.schema import TABLES, ComparisonBlock, DataCommon, Recipe, ValidationBlock, parse_recipe
from labelembed.lab.training.settings import CheckpointPolicy, Selection
from labelembed.objectives import OBJECTIVES, OneHot

SMALLEST = {
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "objective": {"name": "one_hot"},
    "epochs": 1,
    "batch_size": 10,
}
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
    """The errors of a changed recipe by key."""
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*changes), source="test")
    return dict(error.split(": ", 1) for error in caught.value.errors)


# ---------------------------------------------------------------------------------------------- what is filled in


def test_smallest_recipe_gets_every_key():
    recipe = parse_recipe(SMALLEST, source="test")
    sizes = {"hidden_sizes": [500, 500], "batch_norm": False, "dropout": 0.0, "initialization": "pytorch"}
    assert recipe.model == {"name": "mlp", **sizes}
    assert recipe.schedule == {"name": "constant", "warmup_fraction": 0.0}
    assert recipe.data == {"name": "digits", "test_fraction": 0.25, **DataCommon().model_dump()}
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


def test_a_new_component_needs_no_schema(monkeypatch):
    class Focal(OneHot):
        """A loss of one's own.

        Args:
            gamma: How much less an easy example counts.
        """

        def __init__(self, hidden_size, num_labels, *, gamma: float = 2.0, **common):
            if gamma < 0:
                raise ValueError("a message of its own")
            super().__init__(hidden_size, num_labels, **common)

    monkeypatch.setitem(OBJECTIVES, "focal", Focal)
    assert keys_of(Focal)["gamma"].description == "How much less an easy example counts."
    found = parse_recipe(with_changes(("objective", {"name": "focal", "gamma": 1, "bias": False})), source="test")
    assert found.objective == {"name": "focal", "gamma": 1.0, "weight": None, "bias": False}
    assert errors_of(("objective", {"name": "focal", "gama": 1}))["objective.gama"].endswith("'gamma'?)")
    assert "a message of its own" in errors_of(("objective", {"name": "focal", "gamma": -1}))["objective"]


# ---------------------------------------------------------------------------------------------------- bad recipes

MISSING = "missing"
UNKNOWN = "unknown"
BAD = [
    # (key, value, key of the error, what it says besides)
    ("bach_size", 3, "bach_size", "'batch_size'?"),
    ("objective.bais", 3, "objective.bais", "'bias'?"),
    ("model.hiden_sizes", 3, "model.hiden_sizes", "'hidden_sizes'?"),
    ("data.validatoin", 3, "data.validatoin", "'validation'?"),
    ("data.validation.frist", 3, "data.validation.frist", "'first'?"),
    ("selection.patients", 3, "selection.patients", "'patience'?"),
    ("objective.num_labels", 3, "objective.num_labels", "there are: impl, weight, bias"),  # which the run supplies
    ("objective.name", "one_ht", "objective.name", "'one_hot'?"),
    ("objective.name", ["one_hot"], "objective.name", "there are: adaptive_labels"),
    ("model.name", "lstm", "model.name", "there are: attention_lstm"),
    ("objective", {}, "objective.name", MISSING),
    ("data", {"name": "mnist"}, "data.path", "--data PATH"),
    ("objective.name", "distillation", "objective.teacher", "finished run"),
    ("objective.name", "static_labels", "objective.embedding", "saved geometry"),
    ("epochs", "many", "epochs", "whole number"),
    ("epochs", 2.5, "epochs", "got 2.5"),
    ("epochs", 0, "epochs", ">= 1"),
    ("epochs", 10**7, "epochs", "<= 1,000,000"),
    ("epochs", None, "epochs", "got None"),
    ("epochs", {"steps": 10, "at_least": 0}, "epochs", ">= 1"),
    ("epochs", {"hours": 3}, "epochs", "steps"),
    ("seed", -1, "seed", ">= 0"),
    ("micro_batches", 11, "micro_batches", "at most batch_size, 10"),
    ("precision", "float16", "precision", "'float32' or 'bf16'"),
    ("data", ["digits"], "data", "mapping"),
    ("data", None, "data", "mapping"),
    ("data.test_fraction", "half", "data.test_fraction", "number"),
    ("data.test_fraction", 3, "data.test_fraction", "between 0 and 1"),
    ("data.scaling", "unitt", "data.scaling", "'unit' or 'standard'"),
    ("data.validation", 5, "data.validation", "mapping"),
    ("data.validation", {}, "data.validation", "exactly one"),
    ("data.validation", {"first": 5, "examples": 6}, "data.validation", "exactly one"),
    ("data.validation.fraction", 1, "data.validation.fraction", "< 1"),
    ("data.validation.fraction", True, "data.validation.fraction", "got True"),
    ("model.hidden_sizes", [8, "x"], "model.hidden_sizes.1", "whole number, got 'x'"),
    ("model.hidden_sizes", [8, True], "model.hidden_sizes.1", "got True"),
    ("model.hidden_sizes", [0], "model.hidden_sizes", "widths >= 1"),
    ("model.hidden_sizes", [2**40], "model.hidden_sizes.0", "<= 2,147,483,647"),
    ("model.hidden_sizes", [2**31 - 1] * 3, "model", "cannot be built"),
    ("model.dropout", 1.0, "model.dropout", "[0, 1)"),
    ("objective.bias", "maybe", "objective.bias", "true or false"),
    ("objective", {"name": "label_embedding", "temperature": "1e400"}, "objective.temperature", "finite"),
    ("objective", {"name": "label_embedding", "temperature": -1}, "objective.temperature", "> 0, got -1.0"),
    ("objective", {"name": "label_embedding", "rank": 3.0}, "objective.rank", "whole number"),
    ("objective", {"name": "label_embedding", "embedding": 3}, "objective.embedding", "'full' or 'compressed'"),
    ("objective", {"name": "label_embedding", "tau": 3}, "objective.tau", "called temperature now"),
    ("optimizer", {"name": "adam", "learning_rate": True}, "optimizer.learning_rate", "number"),
    ("optimizer", {"name": "adam", "learning_rate": 0}, "optimizer.learning_rate", "> 0"),
    ("optimizer", {"name": "adam", "learning_rate": float("inf")}, "optimizer.learning_rate", "finite"),
    ("optimizer", {"name": "adam", "betas": [0.9]}, "optimizer.betas", "list of 2"),
    ("optimizer", {"name": "adam", "betas": [0.9, 1.0]}, "optimizer.betas", "[0, 1)"),
    ("optimizer", {"name": "sgd", "head_weight_decay": -1}, "optimizer.head_weight_decay", ">= 0"),
    ("schedule", {"name": "cosine", "final_fraction": 2}, "schedule.final_fraction", "[0, 1]"),
    ("selection", "last_epoch", "selection", "mapping"),
    ("selection.by", "best", "selection.by", "'last_epoch'"),
    ("selection.by", "validation_nll", "selection.by", "--set data.validation.fraction=0.1"),
    ("selection.by", "validation_bleu", "selection.by", "corpus"),
    ("checkpoints.keep", 1, "checkpoints.keep", ">= 2"),
    ("decoding.beam", 4, "decoding", "corpus"),
    ("comparison.objectives", [], "comparison.objectives", "1 or more"),
    ("comparison.objectives", ["one_hot", 3], "comparison.objectives.1", "text or a mapping"),
    ("comparison.seeds", 0, "comparison.seeds", ">= 1"),
    ("comparison.seeds", [-1], "comparison.seeds.0", ">= 0"),
    ("comparison.seeds", 1001, "comparison.seeds", "<= 1,000"),
    ("comparison.seeds", [1, 1], "comparison.seeds", "different"),
    ("comparison.baseline", 3, "comparison.baseline", "text"),
    ("published", [{"objective": "one_hot", "value": 2, "source": "x"}], "published.0.value", "<= 1"),
    ("data", {"name": "labelled-text"}, "data.name", "called texts now"),
    ("data", {"name": "idx"}, "data.name", "called mnist now"),
]


@pytest.mark.parametrize(("key", "value", "of", "word"), BAD)
def test_bad_recipe_is_refused_with_the_key_and_what_is_allowed(key, value, of, word):
    errors = errors_of((key, value))
    assert list(errors) == [of]
    assert word in errors[of]
    assert len(errors[of]) < 400


def test_errors_of_every_kind_are_told_together():
    errors = errors_of(
        ("epochs", 0),
        ("bach_size", 3),
        ("model.dropout", 2),
        ("optimizer", {"name": "adm"}),
        ("data.scaling", "x"),
        ("schedule", {"name": "step", "factor": 3}),
        ("objective", {"name": "label_embedding", "tempreture": 1, "rank": "x", "confidence_limit": 2}),
    )
    of_objective = {"objective.tempreture", "objective.rank", "objective.confidence_limit"}
    others = {"epochs", "bach_size", "model.dropout", "optimizer.name", "data.scaling", "schedule.factor"}
    assert errors.keys() == of_objective | others
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"objective": {}}, source="test")
    assert {error.split(":")[0] for error in caught.value.errors} == {
        *("objective.name", "data", "model", "epochs", "batch_size")
    }


@pytest.mark.parametrize("key", [1, None, ("a", "b")])
def test_key_that_is_no_text_is_refused(key):
    for block in ({key: 2}, {"objective": {"name": "one_hot", key: 2}}, {"selection": {key: 2}}):
        with pytest.raises(RecipeError, match="unknown key"):
            parse_recipe(SMALLEST | block, source="test")


@pytest.mark.parametrize("values", [None, [], "text", 3, 2.5, True, [("data", 1)]])
def test_recipe_that_is_no_mapping_is_refused(values):
    with pytest.raises(RecipeError, match="mapping"):
        parse_recipe(values, source="test")


def test_value_in_a_message_is_cut():
    for value in ("x" * 10_000, list(range(10_000)), 16**5000):
        assert len(errors_of(("epochs", value))["epochs"]) < 130


@pytest.mark.parametrize(("given", "wanted"), [(2, 2.0), (0.4, 0.4), ("1e-3", 1e-3)])
def test_yamls_1e3_is_a_number(given, wanted):
    block = {"name": "label_embedding", "temperature": given}
    assert parse_recipe(with_changes(("objective", block)), source="test").objective["temperature"] == wanted


@pytest.mark.parametrize("count", [8, 11])
def test_more_than_eight_errors_are_cut_with_a_count(count):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*((f"wrong_{number}", number) for number in range(count))), source="my.yaml")
    assert len(caught.value.errors) == count
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"my.yaml: {count} errors"
    assert lines[8:] == ([] if count == 8 else ["  ... and 3 more"])


def test_checking_a_recipe_moves_no_random_number_and_takes_no_memory():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    parse_recipe(with_changes(("model.hidden_sizes", [2**20, 2**20])), source="test")  # 4 TB of weights
    assert torch.equal(torch.rand(3), expected)
    assert nn.Linear(2, 2).weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("epochs", "examples", "wanted"),
    [
        (7, 100, 7),
        ({"steps": 31}, 100, 4),
        ({"steps": 31}, 95, 4),
        ({"steps": 30}, 5000, 1),
        ({"steps": 30, "at_least": 5}, 100, 5),
        ({"steps": 30, "at_least": 2}, 100, 3),
    ],
)
def test_epochs_given_as_steps_are_as_many_as_have_them(epochs, examples, wanted):
    recipe = parse_recipe(with_changes(("epochs", epochs)), source="test")
    train = Split(torch.zeros(examples, 1, 8, 8), torch.zeros(examples, dtype=torch.int64))
    assert recipe.number_of_epochs(SimpleNamespace(train=train, num_labels=10)) == wanted
    assert recipe.of_one_run()["epochs"] == epochs
