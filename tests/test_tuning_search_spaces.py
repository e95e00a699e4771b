"""What there is to tune: ranges, choices and weights, and that every value of them is one the objective takes."""

from __future__ import annotations

import itertools
import math

import pytest

from labelembed.objectives import OBJECTIVES
from labelembed.recipes.probing import value_faults
from labelembed.recipes.signature import keys_of, resolve
from labelembed.tuning.search_spaces import SEARCH_SPACES, Choices, Range, Simplex

DECLARED = [(name, key) for name, space in SEARCH_SPACES.items() for key in space]


def arguments_at(key, dimension, share):
    if isinstance(dimension, Simplex):
        return dimension.at([share] * dimension.dimensions)
    return {key: dimension.at(share)}


def test_every_objective_but_one_hot_has_something_to_tune():
    assert SEARCH_SPACES.keys() == OBJECTIVES.keys()
    assert {name for name, space in SEARCH_SPACES.items() if not space} == {"one_hot"}


@pytest.mark.parametrize(("name", "key"), DECLARED)
def test_every_value_of_a_space_is_one_that_the_objective_takes(name, key):
    kind = OBJECTIVES[name]
    needed = {"teacher": "somewhere", "embedding": "somewhere"}
    required = {needed_key: needed[needed_key] for needed_key, about in keys_of(kind).items() if about.required}
    for share in (0.0, 0.3, 0.77, 1.0):
        chosen = arguments_at(key, SEARCH_SPACES[name][key], share)
        assert set(chosen) <= set(keys_of(kind))
        block, faults = resolve("objective", OBJECTIVES, {"name": name, **required, **chosen})
        assert faults == []
        assert value_faults("objective", block) == []


def test_a_range_goes_from_end_to_end_evenly_or_by_the_logarithm():
    assert [Range(0.0, 2.0).at(share) for share in (0, 0.25, 1)] == [0.0, 0.5, 2.0]
    assert [Range(0.01, 100, log=True).at(share) for share in (0, 0.25, 0.5, 1)] == [0.01, 0.1, 1.0, 100]
    assert [Range(1, 9, whole=True).at(share) for share in (0, 0.3, 1)] == [1, 3, 9]
    assert isinstance(Range(1, 9, whole=True).at(0.3), int)
    # What ran can be written down: three digits that count, and never out of the range.
    assert Range(0.0, 1.0).at(1 / 3) == 0.333
    assert Range(0.12345, 0.2).at(0.0) == 0.12345


@pytest.mark.parametrize(
    ("low", "high", "log", "said"),
    [(1, 1, False, "less than"), (2, 1, False, "less than"), (0, 1, True, "> 0"), (0, math.inf, False, "finite")],
)
def test_a_range_that_is_none_is_refused(low, high, log, said):
    with pytest.raises(ValueError, match=said):
        Range(low, high, log=log)


def test_choices_are_taken_in_equal_parts():
    choices = Choices(("a", "b", "c"))
    assert [choices.at(share) for share in (0, 0.33, 0.34, 0.67, 1)] == ["a", "a", "b", "c", "c"]


@pytest.mark.parametrize("rest", [False, True])
def test_weights_add_up_to_one_and_are_found_again_from_themselves(rest):
    simplex = Simplex(("a", "b", "c"), rest=rest)
    for shares in itertools.product((0.0, 0.2, 0.9, 1.0), repeat=simplex.dimensions):
        weights = simplex.at(shares)
        assert list(weights) == ["a", "b", "c"]
        assert min(weights.values()) >= 0
        total = sum(weights.values())
        assert total <= 1 + 1e-9 if rest else math.isclose(total, 1)
        again = simplex.shares_of(list(weights.values()))
        assert simplex.at(again) == pytest.approx(weights, abs=0.0011)  # a decimal of rounding


def test_even_shares_draw_weights_evenly():
    simplex = Simplex(("a", "b", "c"))
    steps = [(place + 0.5) / 60 for place in range(60)]
    drawn = [simplex.at(shares) for shares in itertools.product(steps, steps)]
    for name in ("a", "b", "c"):
        # Of three weights drawn evenly each is 1/3 on average and above 1/2 in a quarter of all cases.
        assert sum(weights[name] for weights in drawn) / len(drawn) == pytest.approx(1 / 3, abs=0.01)
        assert sum(weights[name] > 0.5 for weights in drawn) / len(drawn) == pytest.approx(1 / 4, abs=0.02)


def test_weights_outside_the_simplex_have_no_shares():
    assert Simplex(("a", "b", "c")).shares_of([1, 1, 0]) is None
    assert Simplex(("a", "b", "c")).shares_of([0.2, 0.2, 0.2]) is None
    with_rest = Simplex(("a", "b"), rest=True)
    assert with_rest.at(with_rest.shares_of([0.2, 0.2])) == pytest.approx({"a": 0.2, "b": 0.2})
    assert Simplex(("a", "b"), rest=True).shares_of([0.9, 0.2]) is None
    assert Simplex(("a", "b"), rest=True).shares_of([-0.1, 0.2]) is None
