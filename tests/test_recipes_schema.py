"""What a recipe may say: unknown keys, wrong types, values out of range, all told at once."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch

from labelembed.lab.data import Split
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import described_arguments, keys_of, summary
from labelembed.lab.recipes.schema import TABLES, DataCommon, parse_recipe
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


def test_smallest_recipe_gets_every_key():
    recipe = parse_recipe(SMALLEST, source="test")
    sizes = {"hidden_sizes": [500, 500], "batch_norm": False, "dropout": 0.0, "initialization": "pytorch"}
    assert recipe.model == {"name": "mlp", **sizes}
    assert recipe.schedule == {"name": "constant", "warmup_fraction": 0.0}
    assert recipe.data == {"name": "digits", "test_fraction": 0.25, **DataCommon().model_dump()}
    by_name = SMALLEST | {"objective": "one_hot", "data": "digits", "optimizer": "adam"}
    assert parse_recipe(by_name, source="test") == recipe


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_key_of_every_component_is_described_and_nothing_else(kind, name):
    component = TABLES[kind][name]
    assert summary(component)
    assert {key for key, field in keys_of(component).items() if not field.description} == set()
    # a description of an argument that there is not, or no longer, would never be shown
    assert set(described_arguments(inspect.getdoc(component))) <= set(inspect.signature(component).parameters)


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


BAD = [
    # (key, value, key of the error, what it says besides)
    ("objective.bais", 3, "objective.bais", "'bias'?"),
    ("objective.num_labels", 3, "objective.num_labels", "there are: impl, weight, bias"),  # which the run supplies
    ("objective", {}, "objective.name", "missing"),
    ("data", {"name": "mnist"}, "data.path", "--data PATH"),
    ("objective.name", "distillation", "objective.teacher", "finished run"),
    ("epochs", 0, "epochs", ">= 1"),
    ("epochs", {"steps": 10, "at_least": 0}, "epochs", ">= 1"),
    ("epochs", {"hours": 3}, "epochs", "got {'hours': 3}"),
    ("epochs", {}, "epochs", "{steps: N}"),
    ("batch_size", {"per_label": 1, "tokens": 1}, "batch_size", "or {tokens: N}"),
    ("micro_batches", 11, "micro_batches", "at most batch_size, 10"),
    ("precision", "float16", "precision", "'float32' or 'bf16'"),
    ("data", ["digits"], "data", "mapping"),
    ("data.test_fraction", 3, "data.test_fraction", "between 0 and 1"),
    ("data.scaling", "unitt", "data.scaling", "'unit' or 'standard'"),
    ("data.validation", {}, "data.validation", "exactly one"),
    ("data.validation", {"first": 1, "examples": 2}, "data.validation", "exactly one"),
    ("data.validation", {"first": 0}, "data.validation.first", ">= 1"),
    ("data.validation", {"fraction": 1}, "data.validation.fraction", "< 1"),
    ("data.validation", {"fraction": 0.1, "seed": -1}, "data.validation.seed", ">= 0"),
    ("model.hidden_sizes", [8, "x"], "model.hidden_sizes.1", "whole number, got 'x'"),
    ("model.hidden_sizes", [2**40], "model.hidden_sizes.0", "<= 2,147,483,647"),
    ("model.hidden_sizes", [2**31 - 1] * 3, "model", "cannot be built"),
    ("model.dropout", 1.0, "model.dropout", "[0, 1)"),
    ("objective.bias", "maybe", "objective.bias", "true or false"),
    ("objective", {"name": "label_embedding", "temperature": "1e400"}, "objective.temperature", "finite"),
    ("objective", {"name": "label_embedding", "temperature": -1}, "objective.temperature", "> 0, got -1.0"),
    ("optimizer", {"name": "adam", "learning_rate": float("inf")}, "optimizer.learning_rate", "finite"),
    ("selection.by", "best", "selection.by", "'last_epoch'"),
    ("selection.by", "validation_bleu", "selection.by", "corpus"),
    ("checkpoints.keep", 1, "checkpoints.keep", ">= 2"),
    ("comparison.objectives", [], "comparison.objectives", "1 or more"),
    ("comparison.seeds", 0, "comparison.seeds", ">= 1"),
    ("comparison.seeds", [1, 1], "comparison.seeds", "different"),
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


@pytest.mark.parametrize("block", [{1: 2}, {"objective": {"name": "one_hot", None: 2}}, {"selection": {("a", "b"): 2}}])
def test_key_that_is_no_text_is_refused(block):
    with pytest.raises(RecipeError, match="unknown key"):
        parse_recipe(SMALLEST | block, source="test")


def test_more_than_eight_errors_are_cut_with_a_count():
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_changes(*((f"wrong_{number}", number) for number in range(11))), source="my.yaml")
    assert len(caught.value.errors) == 11
    assert "11 errors" in str(caught.value)
    assert str(caught.value).count("\n") == 9


def test_checking_a_recipe_moves_no_random_number_and_takes_no_memory():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    parse_recipe(with_changes(("model.hidden_sizes", [2**20, 2**20])), source="test")  # 4 TB of weights
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("epochs", "examples", "wanted"),
    [(7, 100, 7), ({"steps": 31}, 95, 4), ({"steps": 30}, 5000, 1), ({"steps": 30, "at_least": 5}, 100, 5)],
)
def test_epochs_given_as_steps_are_as_many_as_have_them(epochs, examples, wanted):
    recipe = parse_recipe(with_changes(("epochs", epochs)), source="test")
    train = Split(torch.zeros(examples, 1, 8, 8), torch.zeros(examples, dtype=torch.int64))
    assert recipe.number_of_epochs(SimpleNamespace(train=train, num_labels=10)) == wanted
    assert recipe.of_one_run()["epochs"] == epochs
