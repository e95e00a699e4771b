"""What a reader needs to get the same numbers: settings, how they were tuned, the command, what the runs ran on."""

from __future__ import annotations

import contextlib
import shlex
from typing import Any, NamedTuple

from labelembed.lab.report.comparison import Comparison, number_in
from labelembed.lab.report.formatting import NOTHING, counted, listed, shortened
from labelembed.lab.report.tables import Table, make_table

# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp", "published")


class Settings(NamedTuple):
    """What differs between the variants; and recipe, command and environment of the first run of the baseline."""

    table: Table
    recipe: str
    command: str
    environment: dict[str, str]


def describe_settings(comparison: Comparison) -> Settings:
    """Collects it from the runs' folders; what is damaged or missing there is left out."""
    firsts = [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe) if run else {} for run in firsts]
    keys = dict.fromkeys(key for one in recipes for key in one if key != "seed" and not key.startswith("objective."))
    differing = [key for key in keys if len({one.get(key, NOTHING) for one in recipes if one}) > 1]
    lines = []
    for variant, recipe in zip(comparison.variants, recipes, strict=True):
        given = [f"{key}={_text(value)}" for key, value in variant.objective.items() if value is not None]
        line = {"variant": variant.title, "objective": "  ".join(given).removeprefix("name=")}
        lines.append(line | {key: recipe.get(key, NOTHING) for key in differing})
    table = make_table("settings", "Settings", lines)
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter([*baseline.runs.values(), *comparison.runs]), None)
    if shown is None:
        return Settings(table, "", "", {})
    text = ""
    with contextlib.suppress(OSError):
        text = (shown.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
    environment = {key: value for key, value in _flat(shown.environment).items() if key not in _NOT_SHOWN}
    return Settings(table, text, shlex.join(shown.command), environment)


def tuning_entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns what ``comparison.json`` says of the tuning of each variant; nothing where it is damaged."""
    variants = comparison.tuning.get("variants")
    return [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []


def tuning_statement(comparison: Comparison) -> str:
    """Returns which variants were tuned, by how many trials over what, and which were not; empty where nothing was."""
    spaces = {str(entry.get("name")): entry.get("space") for entry in tuning_entries(comparison)}
    keys = {
        name: [str(key).rpartition(".")[2] for key in space]
        for name, space in spaces.items()
        if isinstance(space, dict)
    }
    tuned = [f"{name} ({', '.join(of)})" for name, of in keys.items() if of]
    untuned = [name for name in spaces if not keys.get(name)]
    trials = counted(int(number_in(comparison.tuning.get("trials")) or 0), "trial")
    rest = f" Not tuned: {listed(untuned)}." if untuned else ""
    return f"Tuned with {trials} each on validation examples: {listed(tuned)}.{rest}" if tuned else ""


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _text(value)}
    return flat


def _text(value: object) -> str:
    values = value[:50] if isinstance(value, list) else [value]
    return shortened(", ".join("none" if one is None else str(one) for one in values), 160)
