"""What a reader needs to get the same numbers: settings, recipe, commands, and what the runs ran on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelembed.errors import RunFolderError
from labelembed.report.comparison import Comparison, RunRecord, environment_of
from labelembed.report.formatting import NOTHING, shortened
from labelembed.training.run_folder import RunFolder

_MOST_COMMANDS = 3
_LONGEST_VALUE = 160
# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "published")


@dataclass(frozen=True)
class Reproduction:
    """What the page says about settings and origin.

    Attributes:
        objectives: For each variant its name and its objective's settings, as ``key=value``.
        differences: Settings outside the objective that are not the same in all variants: the key, and its
            value in each variant.
        recipe: The YAML of the first finished run of the baseline, of the single run, or of any.
        recipe_of: Whose it is.
        commands: With which the runs were made.
        environment: What that run ran on, as (name, value).
        figures: Commands that write the page's figures and tables as files.
        mixed: Names in the environment whose value is not the same in all runs.
        seeds: Of the runs that have finished, as text.
    """

    objectives: list[tuple[str, list[str]]]
    differences: list[tuple[str, list[str]]]
    recipe: str
    recipe_of: str
    commands: list[str]
    figures: list[str]
    environment: list[tuple[str, str]]
    mixed: list[str]
    seeds: str


def describe_reproduction(comparison: Comparison, figures: Sequence[str]) -> Reproduction:
    """Collects it from the runs' folders; what is damaged or missing there is left out.

    Args:
        comparison: What is shown.
        figures: The names of its figures, as `labelembed figure` takes them.
    """
    runs = [run for variant in comparison.variants for run in variant.runs.values()]
    first_runs = [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(_recipe(run)) if run else {} for run in first_runs]
    environments = [environment_of(run) for run in runs]
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter(baseline.runs.values()), runs[0] if runs else None)
    chosen = _flat(environments[runs.index(shown)]) if shown else {}
    return Reproduction(
        objectives=[
            (variant.name, [_setting(key, value) for key, value in variant.objective.items() if value is not None])
            for variant in comparison.variants
        ],
        differences=_differences(recipes),
        recipe=_recipe_text(shown) if shown else "",
        recipe_of=_place(shown, comparison.path) if shown else "",
        commands=_commands(environments) or [_made_up_command(comparison)],
        figures=[
            *(f"labelembed figure {name} {_folder(environments)} -o {name}.pdf" for name in figures),
            f"labelembed report {_folder(environments)} --format latex",
        ],
        environment=[(key, text) for key, value in chosen.items() if key not in _NOT_SHOWN and (text := _text(value))],
        mixed=_mixed([_flat(environment) for environment in environments]),
        seeds=", ".join(str(seed) for seed in sorted({run.seed for run in runs})),
    )


def label_names(run: RunRecord) -> tuple[str, ...]:
    """Returns the labels' names as the run's data had them; nothing where it does not say."""
    data = environment_of(run).get("data")
    names = data.get("names") if isinstance(data, dict) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _recipe(run: RunRecord) -> dict[str, Any]:
    try:
        return RunFolder(run.folder).recipe()
    except RunFolderError:
        return {}


def _recipe_text(run: RunRecord) -> str:
    try:
        return (run.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
    except OSError:
        return ""


def _place(run: RunRecord, root: Path) -> str:
    if run.folder == root:
        return "this run"
    return run.folder.relative_to(root).as_posix() if run.folder.is_relative_to(root) else run.folder.as_posix()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _differences(recipes: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    known = [recipe for recipe in recipes if recipe]
    keys = {key: None for recipe in known for key in recipe if key != "seed" and not key.startswith("objective.")}
    return [
        (key, [_text(recipe[key]) if key in recipe else NOTHING for recipe in recipes])
        for key in keys
        if len({_text(recipe.get(key)) for recipe in known}) > 1
    ]


def _mixed(environments: list[dict[str, Any]]) -> list[str]:
    known = [environment for environment in environments if environment]
    keys = {key: None for environment in known for key in environment if key not in _NOT_SHOWN}
    return [key for key in keys if len({_text(environment.get(key)) for environment in known}) > 1]


def _commands(environments: list[dict[str, Any]]) -> list[str]:
    commands: dict[str, None] = {}
    for environment in environments:
        words = environment.get("command")
        if isinstance(words, list):
            commands[shlex.join(str(word) for word in words)] = None
        elif isinstance(words, str):
            commands[words] = None
    shown = list(commands)[:_MOST_COMMANDS]
    return shown + ([f"# and {len(commands) - len(shown)} others"] if len(commands) > len(shown) else [])


def _folder(environments: list[dict[str, Any]]) -> str:
    """Returns the folder that the command wrote into, as it named it; FOLDER where it named none."""
    for environment in environments:
        command = environment.get("command")
        words = command if isinstance(command, list) else []
        for place, word in enumerate(words):
            if word in ("-o", "--out") and place + 1 < len(words):
                return shlex.quote(str(words[place + 1]))
            if str(word).startswith("--out="):
                return shlex.quote(str(word).removeprefix("--out="))
    return "FOLDER"


def _made_up_command(comparison: Comparison) -> str:
    """Returns the command that asks for the same, for runs that did not record theirs."""
    if comparison.baseline is None:
        return "labelembed train recipe.yaml"
    seeds, count = comparison.seeds, len(comparison.seeds)
    chosen = str(count) if seeds == list(range(count)) else "".join(f"{seed}," for seed in seeds)
    names = {variant.name: variant.name.replace(" ", ":") for variant in comparison.variants}
    words = ["labelembed", "compare", comparison.recipe, "--objectives", ",".join(names.values())]
    return shlex.join([*words, "--baseline", names.get(comparison.baseline, comparison.baseline), "--seeds", chosen])


def _setting(key: str, value: object) -> str:
    return _text(value) if key == "name" else f"{key}={_text(value)}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return shortened(", ".join(_text(part) for part in value[:50]), _LONGEST_VALUE)
    return "none" if value is None else shortened(str(value), _LONGEST_VALUE)
