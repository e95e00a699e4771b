"""What a reader needs to get the same numbers: settings, how they were tuned, the command, what the runs ran on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from labelembed.lab.report.comparison import Comparison, number_in
from labelembed.lab.report.formatting import NOTHING, counted, listed, shortened

# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp", "published")


class Settings(NamedTuple):
    """What differs between the variants, and what is needed to make the runs again.

    Attributes:
        objectives: The settings of each variant's objective.
        differences: Other settings that are not the same in all variants, with the value in each.
        recipe: The recipe of the first finished run of the baseline.
        command: What made the runs.
        environment: What that run ran on.
    """

    objectives: list[list[str]]
    differences: dict[str, list[str]]
    recipe: str
    command: str
    environment: dict[str, str]


def describe_settings(comparison: Comparison) -> Settings:
    """Collects it from the runs' folders; what is damaged or missing there is left out."""
    firsts = [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe) if run else {} for run in firsts]
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter([*baseline.runs.values(), *comparison.runs]), None)
    objectives = [
        [
            _text(value) if key == "name" else f"{key}={_text(value)}"
            for key, value in one.objective.items()
            if value is not None
        ]
        for one in comparison.variants
    ]
    differences = {
        key: [_text(one[key]) if key in one else NOTHING for one in recipes]
        for key in _differing([one for one in recipes if one])
        if key != "seed" and not key.startswith("objective.")
    }
    if shown is None:
        return Settings(objectives, differences, "", "", {})
    recipe = ""
    with contextlib.suppress(OSError):
        recipe = (shown.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
    environment = {key: _text(value) for key, value in _flat(shown.environment).items() if key not in _NOT_SHOWN}
    return Settings(objectives, differences, recipe, shlex.join(shown.command), environment)


def tuning_entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns what ``comparison.json`` says of the tuning of each variant; nothing where it is damaged."""
    variants = comparison.tuning.get("variants")
    return [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []


def tuning_statement(comparison: Comparison) -> str:
    """Returns which variants were tuned, by how many trials over what, and which were not; empty where nothing was."""
    tuned: list[str] = []
    untuned: list[str] = []
    for entry in tuning_entries(comparison):
        space, name = entry.get("space"), str(entry.get("name"))
        keys = [str(key).rpartition(".")[2] for key in space] if isinstance(space, dict) else []
        (tuned if keys else untuned).append(f"{name} ({', '.join(keys)})" if keys else name)
    if not tuned:
        return ""
    trials = counted(int(number_in(comparison.tuning.get("trials")) or 0), "trial")
    rest = f" Not tuned: {listed(untuned)}." if untuned else ""
    return f"Tuned with {trials} each on validation examples: {listed(tuned)}.{rest}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys whose value is not the same everywhere."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({_text(one.get(key)) for one in settings}) > 1]


def _text(value: object) -> str:
    values = value[:50] if isinstance(value, list) else [value]
    return shortened(", ".join("none" if one is None else str(one) for one in values), 160)
