"""What is tuned of each objective, and what `--space` adds to it, as optuna's distributions."""

from __future__ import annotations

import contextlib
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.fields import FieldInfo

from labelembed.errors import nearest
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import keys_of, shown
from labelembed.lab.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.lab.recipes.variants import Variant
from labelembed.lab.training.files import plain_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Space: TypeAlias = "dict[str, BaseDistribution]"

#: Of each objective, as `--space` takes it.
SEARCH_SPACES: dict[str, dict[str, str]] = {
    "one_hot": {},
    "label_smoothing": {"smoothing": "0.02:0.9"},
    "label_embedding": {
        "temperature": "1:8:log",
        "output_weight": "0:1",
        "target_weight": "0:1",
        "embedding_learning_rate": "0.3:10:log",
    },
    "adaptive_labels": {"preset": "published_code,paper", "repel_weight": "0:10"},
    "retrospection": {"final_weight": "0.1:0.95", "temperature": "1:10:log", "store_every": "1:10:log"},
    "online_label_smoothing": {"similarity_weight": "0:1", "uniform_weight": "0:1"},
    "confidence_penalty": {"penalty_weight": "0.01:2:log"},
    "teacher_free": {"teacher_weight": "0.05:0.95", "temperature": "1:40:log"},
    "distillation": {"teacher_weight": "0.1:1", "temperature": "1:10:log"},
    "static_labels": {"delta": "0.1:3:log"},
}
#: Weights that share a target: two are drawn, evenly over all that add up to at most 1. The third gets what they leave.
SHARED_TARGETS: dict[str, tuple[str, ...]] = {
    "label_embedding": ("output_weight", "target_weight", "uniform_weight"),
    "online_label_smoothing": ("similarity_weight", "uniform_weight"),
}
# What may be tuned: the rest is either the data, on which all are compared, or what a run costs.
BLOCKS = ("objective", "optimizer", "schedule")
_FORM = "must be key=low:high, key=low:high:log or key=value,value,..., for instance objective.smoothing=0.05:0.6"


def optimizer_space(recipe: Recipe) -> dict[str, str]:
    """Returns the learning rates and weight decays that every objective is tuned over, as `--space` takes them.

    From a tenth of the recipe's value to ten times as much. Where the recipe has no weight decay, from 1e-4 to 1 with
    AdamW, which takes the decay times the learning rate from each weight, otherwise from 1e-6 to 1e-2.
    """
    optimizer, found = recipe.optimizer, {}
    for name in ("learning_rate", "weight_decay"):
        if name in keys_of(TABLES["optimizer"][optimizer["name"]]):
            value = optimizer[name]
            without = "1e-4:1:log" if optimizer["name"] == "adamw" else "1e-6:1e-2:log"
            found[f"optimizer.{name}"] = f"{value / 10:.6g}:{value * 10:.6g}:log" if value else without
    return found


def parse_space(texts: Iterable[str]) -> dict[str, str]:
    """Returns the ranges and values of `--space` by their key; raises RecipeError with all that cannot be read.

    ``block.key=low:high``, the same with ``:log``, or ``block.key=value,value,...``; one value holds the key.
    """
    found: dict[str, str] = {}
    errors = []
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        block, _, name = key.partition(".")
        if not (block and name and values):
            errors.append(f"{shown(text)}: {_FORM}")
        elif block not in BLOCKS:
            wanted = f"only keys of {', '.join(BLOCKS)} can be tuned"
            errors.append(f"{key}: {wanted}{nearest(block, BLOCKS)}; data and length of a run are the same for all")
        elif key in found:
            errors.append(f"{key}: is given more than once")
        else:
            found[key] = values
            try:
                distribution(values)
            except ValueError as error:
                errors.append(f"{key}: {shown(values)}: {error}")
    if errors:
        raise RecipeError(errors, source="--space")
    return found


def distribution(text: str, *, whole: bool = False) -> BaseDistribution:
    """Returns the optuna distribution of a typed range, or of typed values; raises ValueError for anything else."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if ":" not in text:
        return CategoricalDistribution([_value(part) for part in text.split(",")])
    ends, log = text.removesuffix(":log"), text.endswith(":log")
    try:
        low, high = map(float, ends.split(":"))
    except ValueError:
        raise ValueError(_FORM) from None
    if not (math.isfinite(low) and low < high < math.inf) or (log and low <= 0):
        wanted = "low must be less than high, both finite" + (" and > 0 for a logarithmic range" if log else "")
        raise ValueError(f"{wanted}, got {low:g} and {high:g}")
    if not whole:
        return FloatDistribution(low, high, log=log)
    if not (low.is_integer() and high.is_integer()):
        raise ValueError(f"low and high must be whole numbers, got {low:g} and {high:g}")
    return IntDistribution(int(low), int(high), log=log)


def _value(text: str) -> Any:
    value = plain_values(text)
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-1 for a text
    return value


def _keys(variant: Variant, recipe: Recipe) -> dict[str, FieldInfo]:
    """Returns the keys of a variant that can be tuned."""
    blocks = {block: getattr(recipe, block) for block in BLOCKS} | {"objective": variant.objective}
    return {
        f"{block}.{name}": key
        for block, values in blocks.items()
        for name, key in keys_of(TABLES[block][values["name"]]).items()
    }


def check_known_keys(typed: Iterable[str], variants: Sequence[Variant], recipe: Recipe) -> None:
    """Raises RecipeError for typed keys that none of the variants has."""
    known = sorted({key for variant in variants for key in _keys(variant, recipe)})
    errors = [
        f"{key}: unknown key{nearest(key, known) or '; there are: ' + ', '.join(known)}"
        for key in typed
        if key not in known
    ]
    if errors:
        raise RecipeError(errors, source="--space")


def space_of(variant: Variant, recipe: Recipe, typed: Mapping[str, str], *, objective_only: bool = False) -> Space:
    """Returns what is tuned of a variant, by key of the recipe; empty where there is nothing.

    What was typed takes the place of the space that there is, key by key, and a weight that of all weights that share
    its target. Raises RecipeError when a key has a value that the recipe does not take.
    """
    name, keys = variant.objective["name"], _keys(variant, recipe)
    own = {f"objective.{key}": text for key, text in SEARCH_SPACES[name].items()}
    here = {key: text for key, text in typed.items() if key in keys}
    shared = {f"objective.{argument}" for argument in SHARED_TARGETS.get(name, ())}
    if shared & here.keys():
        own = {key: text for key, text in own.items() if key not in shared}
    if "objective.store_every" in own and isinstance(recipe.epochs, int):  # what is stored must be used
        own["objective.store_every"] = f"1:{min(10, recipe.epochs - 1)}:log"
        if recipe.epochs < 3:
            del own["objective.store_every"]
    errors: dict[str, None] = {}
    space: Space = {}
    for key, text in (own | ({} if objective_only else optimizer_space(recipe)) | here).items():
        kinds = typing.get_args(keys[key].annotation) or (keys[key].annotation,)
        kinds = tuple(getattr(kind, "__origin__", kind) for kind in kinds)  # without what pydantic checks besides
        try:
            space[key] = distribution(text, whole=int in kinds and float not in kinds)
            for value in _ends(space[key]) if key in here else ():
                recipe_with(recipe, variant, {key: value})
        except ValueError as error:
            errors[f"{key}: {shown(text)}: {error}"] = None
        except RecipeError as error:
            errors |= dict.fromkeys(f"{name}: {one}" for one in error.errors)
    if errors:
        raise RecipeError(errors, source="--space")
    return space


def _ends(part: Any) -> Sequence[Any]:
    """Returns the values of a choice, or the ends of a range."""
    return part.choices if hasattr(part, "choices") else (part.low, part.high)


def described(part: Any) -> str:
    """Returns one part of a space in words, for instance "0.3 to 10 (log)"."""
    ends = _ends(part)
    if hasattr(part, "choices"):
        return f"held at {ends[0]}" if len(ends) == 1 else f"one of {', '.join(map(str, ends))}"
    return f"{ends[0]:g} to {ends[1]:g}" + (" (log)" if part.log else "")


def _shared(space: Space, objective: str) -> list[str]:
    """Returns the keys of weights that share a target and are drawn together; none where they are typed otherwise."""
    names = [f"objective.{argument}" for argument in SHARED_TARGETS.get(objective, ())]
    return names if all(space.get(name) == distribution("0:1") for name in names[:2]) else []


def arguments_at(space: Space, draws: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """Returns the values by key of the recipe for what optuna has drawn.

    Numbers are rounded to three digits, so that what is printed is what ran. Of weights that share a target the first
    is 1 - sqrt(u) and the second a share of what that leaves, which makes all weights equally likely.
    """
    found = dict(draws)
    for key, value in draws.items():
        if isinstance(value, float) and not hasattr(space[key], "choices"):
            low, high = _ends(space[key])
            found[key] = min(max(float(f"{value:.3g}"), low), high)
    if names := _shared(space, objective):
        first = round(1 - math.sqrt(draws[names[0]]), 3)
        second = round((1 - first) * draws[names[1]], 3)
        found |= dict(zip(names, (first, second, abs(round(1 - first - second, 3))), strict=False))
    return found


def draws_of(space: Space, recipe: Recipe) -> dict[str, Any]:
    """Returns the draws that stand for a recipe as it is, of each key whose value lies in the space."""
    from optuna.trial import create_trial

    values = {f"{block}.{name}": value for block in BLOCKS for name, value in getattr(recipe, block).items()}
    if names := _shared(space, recipe.objective["name"])[:2]:
        first, second = (values.pop(name) for name in names)
        if first is not None and first < 1:
            values |= dict(zip(names, ((1 - first) ** 2, second / (1 - first)), strict=True))
    found: dict[str, Any] = {}
    for key, part in space.items():
        with contextlib.suppress(ValueError):  # it lies outside
            create_trial(params={key: values.get(key)}, distributions={key: part}, value=0.0)
            found[key] = values[key]
    return found


def recipe_with(recipe: Recipe, variant: Variant, arguments: Mapping[str, Any]) -> Recipe:
    """Returns a variant's recipe with other values of some keys; raises RecipeError when it does not take them."""
    blocks = {block: dict(getattr(recipe, block)) for block in BLOCKS} | {"objective": dict(variant.objective)}
    for key, value in arguments.items():
        block, _, name = key.partition(".")
        blocks[block][name] = value
    return parse_recipe(recipe.of_one_run() | blocks, source=variant.name)
