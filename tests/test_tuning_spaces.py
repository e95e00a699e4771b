"""What there is to tune: ranges, values and weights, and that every value of them is one the objective takes."""

from __future__ import annotations

import itertools

import pytest

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import keys_of, resolve
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import variants_of
from labelembed.lab.runs.search_spaces import (
    SEARCH_SPACES,
    SHARED_TARGETS,
    arguments_at,
    check_known_keys,
    described,
    distribution,
    draws_of,
    parse_space,
    space_of,
)
from labelembed.objectives import OBJECTIVES

distributions = pytest.importorskip("optuna", reason="the extra `tune` (optuna) is not installed").distributions
CategoricalDistribution = distributions.CategoricalDistribution
FloatDistribution, IntDistribution = distributions.FloatDistribution, distributions.IntDistribution
DECLARED = [(name, key) for name, space in SEARCH_SPACES.items() for key in space]


def space(objective, *typed, settings=(), **how):
    recipe, _ = load_recipe("digits-mlp", settings=settings)
    (variant,) = variants_of(recipe, objective)
    return space_of(variant, recipe, parse_space(typed), **how)


def ends(part):
    return list(part.choices) if isinstance(part, CategoricalDistribution) else [part.low, part.high]


def test_every_objective_but_one_hot_has_something_to_tune():
    assert SEARCH_SPACES.keys() == OBJECTIVES.keys()
    assert {name for name, space in SEARCH_SPACES.items() if not space} == {"one_hot"}


@pytest.mark.parametrize(("name", "key"), DECLARED)
def test_every_value_of_a_space_is_one_that_the_objective_takes(name, key):
    kind = OBJECTIVES[name]
    needed = {key: "somewhere" for key, field in keys_of(kind).items() if field.is_required()}
    space = SEARCH_SPACES[name]
    part = {f"objective.{one}": distribution(space[one], whole=one == "store_every") for one in space}
    other = {one: ends(kind)[0] for one, kind in part.items()}
    for value in ends(part[f"objective.{key}"]):
        chosen = arguments_at(
            part,
            other
            | {f"objective.{key}": 1e-9 if value == 0.0 and key in ("output_weight", "similarity_weight") else value},
            name,
        )
        chosen = {one.removeprefix("objective."): number for one, number in chosen.items()}
        assert chosen.keys() <= keys_of(kind).keys()
        assert resolve("objective", OBJECTIVES, {"name": name, **needed, **chosen})[1] == {}


def test_typed_spaces_are_ranges_logarithms_and_values():
    assert distribution("0.05:0.6") == FloatDistribution(0.05, 0.6)
    assert distribution("1e-4:1e-1:log") == FloatDistribution(1e-4, 0.1, log=True)
    assert distribution("1:10:log", whole=True) == IntDistribution(1, 10, log=True)
    assert distribution("paper,mixture").choices == ("paper", "mixture")
    assert distribution("0,1e-1,true,null").choices == (0, 0.1, True, None)


def test_spaces_are_described_in_words():
    texts = {"0.02:0.9": "0.02 to 0.9", "1e-4:1e-2:log": "0.0001 to 0.01 (log)", "a,b": "one of a, b", "3": "held at 3"}
    assert {text: described(distribution(text)) for text in texts} == texts


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("smoothing=0:1", "must be key=low:high"),
        ("objective.smoothing", "must be key=low:high"),
        ("objective.smoothing=0.6:0.1", "low must be less than high, both finite, got 0.6 and 0.1"),
        ("objective.smoothing=0.1:0.1", "low must be less than high"),
        ("objective.smoothing=0:inf", "both finite"),
        ("objective.smoothing=0:0.6:log", "> 0 for a logarithmic range"),
        ("objective.smoothing=0.1:0.6:lin", "key=low:high:log"),
        ("objective.smoothing=low:high", "must be key=low:high"),
        ("data.validation=1,2", "only keys of objective, optimizer, schedule"),
        ("optimiser.learning_rate=0.1:1", "did you mean 'optimizer'"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused(typed, said):
    with pytest.raises(RecipeError, match="--space") as refused:
        parse_space([typed])
    assert said in str(refused.value)


def test_all_errors_of_spaces_are_said_at_once():
    with pytest.raises(RecipeError) as refused:
        parse_space(["objective.smoothing=2:1", "epochs=1:3", "objective.a=1:2", "objective.a=1:3"])
    assert len(refused.value.errors) == 3


@pytest.mark.parametrize(
    ("objective", "typed", "said"),
    [
        ("label_smoothing", "objective.smoothing=0.05:1.6", "objective.smoothing: must be in [0, 1], got 1.6"),
        ("one_hot", "optimizer.learning_rate=-1:1", "optimizer.learning_rate: must be > 0, got -1"),
        ("label_embedding", "objective.rank=1.5:8", "must be whole numbers, got 1.5 and 8"),
    ],
)
def test_values_that_the_recipe_does_not_take_are_refused(objective, typed, said):
    with pytest.raises(RecipeError) as refused:
        space(objective, typed)
    assert said in str(refused.value)


def test_unknown_keys_are_refused_with_the_nearest():
    recipe, _ = load_recipe("digits-mlp")
    with pytest.raises(RecipeError, match=r"objective\.smothing: unknown key \(did you mean 'objective\.smoothing'"):
        check_known_keys(["objective.smothing"], variants_of(recipe, "one_hot,label_smoothing"), recipe)


def test_a_typed_key_takes_the_place_of_the_objectives_own_and_of_weights_that_share_its_target():
    found = space("label_embedding", "objective.output_weight=0.5", "objective.temperature=2:3", "objective.rank=10:20")
    assert found.keys() == {
        "objective.temperature",
        "objective.embedding_learning_rate",
        "objective.output_weight",
        "objective.rank",
        "optimizer.learning_rate",
        "optimizer.weight_decay",
    }
    assert found["objective.temperature"] == FloatDistribution(2, 3)
    assert found["objective.rank"] == IntDistribution(10, 20)
    assert found["objective.output_weight"].choices == (0.5,)
    # A key goes to the variants that have it.
    assert space("one_hot", "objective.smoothing=0.1:0.2", objective_only=True) == {}


@pytest.mark.parametrize(("epochs", "most"), [(30, 10), (4, 3), (2, None)])
def test_soft_labels_are_tuned_to_be_stored_before_the_last_epoch(epochs, most):
    found = space("retrospection:store_every=1", settings=[f"epochs={epochs}"]).get("objective.store_every")
    assert found == (None if most is None else IntDistribution(1, most, log=True))


@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "weight_decay"),
    [
        ("{name: adam, learning_rate: 0.001}", (1e-4, 1e-2), (1e-6, 1e-2)),
        ("{name: sgd, learning_rate: 0.3}", (0.03, 3.0), (1e-6, 1e-2)),
        ("{name: sgd, learning_rate: 0.1, weight_decay: 5e-4}", (0.01, 1.0), (5e-5, 5e-3)),
        ("{name: adamw, learning_rate: 0.002, weight_decay: 0}", (2e-4, 0.02), (1e-4, 1.0)),
        ("{name: adamw, learning_rate: 0.001, weight_decay: 1.0}", (1e-4, 1e-2), (0.1, 10.0)),
    ],
)
def test_learning_rate_and_weight_decay_of_every_objective_are_tuned(optimizer, learning_rate, weight_decay):
    settings = [f"optimizer={optimizer}"]
    wanted = {
        "optimizer.learning_rate": FloatDistribution(*learning_rate, log=True),
        "optimizer.weight_decay": FloatDistribution(*weight_decay, log=True),
    }
    assert space("one_hot", settings=settings) == wanted  # cross entropy has nothing else
    smoothing = space("label_smoothing", settings=settings)
    assert smoothing == wanted | {"objective.smoothing": FloatDistribution(0.02, 0.9)}
    typed = space("one_hot", "optimizer.learning_rate=1e-4:1e-3", settings=settings)
    assert typed["optimizer.learning_rate"] == FloatDistribution(1e-4, 1e-3)
    assert space("label_smoothing", settings=settings, objective_only=True).keys() == {"objective.smoothing"}


def test_numbers_are_rounded_to_three_digits_within_their_range():
    part = {"a": distribution("0.12345:0.2"), "b": distribution("0:1"), "c": distribution("1:9", whole=True)}
    assert arguments_at(part, {"a": 0.12346, "b": 1 / 3, "c": 7}, "one_hot") == {"a": 0.12345, "b": 0.333, "c": 7}


@pytest.mark.parametrize("objective", SHARED_TARGETS)
def test_weights_that_share_a_target_are_drawn_evenly_and_add_up(objective):
    part = {key: kind for key, kind in space(objective).items() if key.endswith("_weight")}
    assert len(part) == 2
    steps = [(place + 0.5) / 60 for place in range(60)]
    drawn = [
        [*arguments_at(part, dict(zip(part, draws, strict=True)), objective).values()]
        for draws in itertools.product([1e-9, *steps[1:-1], 1.0], steps)
    ]
    rest = [max(0.0, 1 - sum(weights[:2])) for weights in drawn]
    for place, weights in enumerate(zip(*drawn, strict=True)):
        assert min(weights) >= 0
        if place == 2:
            assert list(weights) == pytest.approx(rest)  # nothing is left
        # Of three weights drawn evenly each is 1/3 on average and above 1/2 in a quarter of all cases.
        assert sum(weights) / len(weights) == pytest.approx(1 / 3, abs=0.02)
        assert sum(weight > 0.5 for weight in weights) / len(weights) == pytest.approx(1 / 4, abs=0.03)
    assert min(rest) == 0 <= max(rest) <= 1


def test_the_draws_of_a_recipe_stand_for_it():
    settings = ["objective={name: online_label_smoothing, similarity_weight: 0.5, uniform_weight: 0.2}"]
    recipe, _ = load_recipe("digits-mlp", settings=settings)
    found = space("online_label_smoothing", settings=settings)
    draws = draws_of(found, recipe)
    values = arguments_at(found, draws, "online_label_smoothing")
    assert values["objective.similarity_weight"] == 0.5
    assert values["objective.uniform_weight"] == 0.2
    # No logarithmic range holds a weight decay of 0.
    assert draws.keys() == found.keys() - {"optimizer.weight_decay"}
