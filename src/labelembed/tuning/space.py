"""What is tuned of a variant: learning rate, weight decay, the objective's search space, and what `--space` says."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labelembed.errors import RecipeError, nearest
from labelembed.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.recipes.signature import keys_of
from labelembed.recipes.variants import Variant
from labelembed.recipes.wording import shown
from labelembed.training.plain_yaml import plain_values
from labelembed.tuning.search_spaces import SEARCH_SPACES, Choices, Dimension, Range, Simplex

SOURCE = "--space"
# `--space objective`: learning rate and weight decay stay the recipe's.
OBJECTIVE_ONLY = "objective"
# From a tenth of the recipe's value to ten times as much: enough to mend a rate that is far off.
_FACTOR = 10
# Where the recipe has no weight decay there is nothing to stand in the middle. AdamW takes the decay times the learning
# rate from each weight, so that useful values are larger than those of a penalty that is added to the gradient.
_DECAYS = {"adamw": Range(1e-4, 1.0, log=True)}
_PENALTIES = Range(1e-6, 1e-2, log=True)
# What may be tuned: the rest is either the data, which all are compared on, or what a run costs.
BLOCKS = ("objective", "optimizer", "schedule")
_FORM = "must be key=low:high, key=low:high:log or key=value,value,..., for instance objective.smoothing=0.05:0.6"


def parse_space(texts: Sequence[str]) -> dict[str, Dimension]:
    """Returns the dimensions of `--space` by their key.

    Args:
        texts: ``block.key=low:high``, the same with ``:log``, or ``block.key=value,value,...`` with values read as
            YAML; one value holds the key.

    Raises:
        RecipeError: With everything that cannot be read.
    """
    found: dict[str, Dimension] = {}
    faults = []
    for text in texts:
        key, sign, values = (part.strip() for part in text.partition("="))
        block, dot, name = key.partition(".")
        if not (sign and dot and block and name and values):
            faults.append(f"{shown(text)}: {_FORM}")
        elif block not in BLOCKS:
            wanted = f"only keys of {', '.join(BLOCKS)} can be tuned"
            faults.append(f"{key}: {wanted}{nearest(block, BLOCKS)}; data and length of a run are the same for all")
        elif key in found:
            faults.append(f"{key}: stands more than once")
        else:
            try:
                found[key] = _dimension(values)
            except ValueError as error:
                faults.append(f"{key}: {shown(values)}: {error}")
    if faults:
        raise RecipeError(faults, source=SOURCE)
    return found


def _dimension(text: str) -> Dimension:
    if ":" not in text:
        return Choices(tuple(_value(part) for part in text.split(",")))
    low, high, *rest = text.split(":")
    if rest not in ([], ["log"]):
        raise ValueError(_FORM)
    try:
        ends = float(low), float(high)
    except ValueError:
        raise ValueError(f"low and high must be numbers; {_FORM}") from None
    if not all(map(math.isfinite, ends)):
        raise ValueError("low and high must be finite")
    return Range(*ends, log=bool(rest))


def _value(text: str) -> Any:
    try:
        return float(text) if "e" in text.lower() else plain_values(text)
    except ValueError:
        return plain_values(text)


def optimizer_space(recipe: Recipe) -> dict[str, Dimension]:
    """Returns the learning rates and weight decays that every objective is tuned over, by key of the recipe.

    Both are drawn evenly by their logarithm from a tenth of the recipe's value to ten times as much. Where the recipe
    has no weight decay it is drawn from 1e-4 to 1 (AdamW), otherwise from 1e-6 to 1e-2.
    """
    optimizer, found = recipe.optimizer, {}
    keys = keys_of(TABLES["optimizer"][optimizer["name"]])
    if "learning_rate" in keys:
        found["optimizer.learning_rate"] = _around(optimizer["learning_rate"])
    if "weight_decay" in keys:
        decay = optimizer["weight_decay"]
        found["optimizer.weight_decay"] = _around(decay) if decay else _DECAYS.get(optimizer["name"], _PENALTIES)
    return found


def _around(value: float) -> Dimension:
    # Without the last digits of a float, which would be printed: 0.3 / 10 is 0.03.
    return Range(float(f"{value / _FACTOR:.6g}"), float(f"{value * _FACTOR:.6g}"), log=True)


def space_of(
    variant: Variant, recipe: Recipe, given: Mapping[str, Dimension], *, objective_only: bool = False
) -> dict[str, Dimension]:
    """Returns what is tuned of a variant, by key of the recipe; empty where there is nothing.

    Args:
        variant: A checked variant.
        recipe: Everything but the objective.
        given: What `parse_space` read; it takes the place of the space that there is, key by key. A weight takes the
            place of all weights that add up with it.
        objective_only: Leave out what `optimizer_space` returns.

    Raises:
        RecipeError: When a key has a value that the recipe does not take.
    """
    name = variant.objective["name"]
    own = {f"objective.{key}": dimension for key, dimension in SEARCH_SPACES[name].items()}
    every = own.pop("objective.store_every", None)
    most = recipe.epochs - 1 if isinstance(recipe.epochs, int) else math.inf  # what is stored must be read
    if isinstance(every, Range) and most > every.low:
        own["objective.store_every"] = replace(every, high=min(every.high, most))
    own |= {} if objective_only else optimizer_space(recipe)
    here = {key: dimension for key, dimension in given.items() if _key(key, variant, recipe) is not None}
    for key, dimension in list(own.items()):
        if isinstance(dimension, Simplex) and {f"objective.{one}" for one in dimension.arguments} & here.keys():
            del own[key]
    faults = []
    for key, dimension in here.items():
        whole = isinstance(dimension, Range) and _is_whole(_key(key, variant, recipe))
        if whole and isinstance(dimension, Range):
            here[key] = Range(dimension.low, dimension.high, log=dimension.log, whole=True)
        faults += _value_faults(key, here[key], variant, recipe)
    if faults:
        raise RecipeError(faults, source=SOURCE)
    return own | here


def refuse_unknown_keys(given: Mapping[str, Dimension], variants: Sequence[Variant], recipe: Recipe) -> None:
    """Raises RecipeError for keys that none of the variants takes."""
    faults = []
    for key in given:
        if any(_key(key, variant, recipe) is not None for variant in variants):
            continue
        block, _, name = key.partition(".")
        allowed = {known for variant in variants for known in _keys(block, variant, recipe)}
        taken = ", ".join(sorted(allowed)) or "no keys"
        faults.append(f"{key}: unknown key{nearest(name, allowed) or f'; {block} takes {taken}'}")
    if faults:
        raise RecipeError(faults, source=SOURCE)


def _keys(block: str, variant: Variant, recipe: Recipe) -> dict[str, Any]:
    chosen = variant.objective if block == "objective" else getattr(recipe, block)
    return dict(keys_of(TABLES[block][chosen["name"]]))


def _key(key: str, variant: Variant, recipe: Recipe) -> Any:
    block, _, name = key.partition(".")
    return _keys(block, variant, recipe).get(name)


def _is_whole(key: Any) -> bool:
    kinds = set(typing.get_args(key.annotation)) or {key.annotation}
    return int in kinds and float not in kinds


def _value_faults(key: str, dimension: Dimension, variant: Variant, recipe: Recipe) -> list[str]:
    if isinstance(dimension, Range):
        values: list[Any] = [dimension.rounded(dimension.low), dimension.rounded(dimension.high)]
    else:
        values = list(dimension.values) if isinstance(dimension, Choices) else []
    found: dict[str, None] = {}
    for value in values:
        try:
            recipe_with(recipe, variant, {key: value})
        except RecipeError as error:
            found |= dict.fromkeys(f"{variant.objective['name']}: {fault}" for fault in error.faults)
    return list(found)


def arguments_at(space: Mapping[str, Dimension], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values by key of the recipe that stand for a sampler's parameters; see `parameter_names`."""
    found: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, Simplex):
            weights = dimension.at([parameters[name] for name in parameter_names(key, dimension)])
            found |= {f"objective.{argument}": weight for argument, weight in weights.items()}
        elif isinstance(dimension, Range):
            found[key] = dimension.rounded(parameters[key])
        else:
            found[key] = parameters[key]
    return found


def parameter_names(key: str, dimension: Dimension) -> list[str]:
    """Returns the names of a dimension's parameters: its key, of weights one a share in [0, 1]."""
    if not isinstance(dimension, Simplex):
        return [key]
    return [f"{key}.{place + 1}" for place in range(dimension.dimensions)]


def parameters_of(space: Mapping[str, Dimension], recipe: Recipe) -> dict[str, Any]:
    """Returns the parameters that stand for a recipe as it is, as far as it lies in the space."""
    found: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, Simplex):
            weights: list[Any] = [recipe.objective.get(argument) for argument in dimension.arguments]
            shares = None if None in weights else dimension.shares_of(weights)
            if shares is not None:
                found |= dict(zip(parameter_names(key, dimension), shares, strict=True))
            continue
        block, _, name = key.partition(".")
        value = getattr(recipe, block).get(name)
        if isinstance(dimension, Range):
            fits = isinstance(value, (int, float)) and dimension.low <= value <= dimension.high
        else:
            fits = value in dimension.values
        if fits:
            found[key] = value
    return found


def recipe_with(recipe: Recipe, variant: Variant, arguments: Mapping[str, Any]) -> Recipe:
    """Returns a variant's recipe with other values of some keys.

    Raises:
        RecipeError: When it does not take them.
    """
    blocks = {block: dict(getattr(recipe, block)) for block in BLOCKS} | {"objective": dict(variant.objective)}
    for key, value in arguments.items():
        block, _, name = key.partition(".")
        blocks[block][name] = value
    return parse_recipe(recipe.of_one_run() | blocks, source=variant.name)
