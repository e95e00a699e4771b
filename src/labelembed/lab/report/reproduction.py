"""What a reader needs to get the same numbers: settings, recipe, commands, and what the runs ran on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from labelembed.lab.report.comparison import Comparison
from labelembed.lab.report.formatting import NOTHING, shortened

_MOST_COMMANDS = 3
_LONGEST_VALUE = 160
# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp", "published")


def describe_reproduction(comparison: Comparison, figures: Sequence[str]) -> dict[str, Any]:
    """Collects it from the runs' folders; what is damaged or missing there is left out.

    Args:
        comparison: What is shown.
        figures: The names of its figures, as `labelembed figure` takes them.

    Returns:
        `objectives`, each variant's name and settings; `differences`, other settings that are not the same in all
        variants, with the value in each; `recipe`, that of the first finished run of the baseline, and `recipe_of`,
        its folder; `commands` that made the runs; `figures`, commands that write figures and tables as files;
        `environment`, what that run ran on; `mixed`, names there whose value is not the same in all runs; `seeds`.
    """
    runs, firsts = comparison.runs, [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe()) if run else {} for run in firsts]
    environments = [run.environment() for run in runs]
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter(baseline.runs.values()), runs[0] if runs else None)
    flat = [_flat(one) for one in environments]
    recipe = recipe_of = ""
    if shown is not None:
        recipe_of = "this run" if shown.folder == comparison.path else shown.folder.as_posix()
        recipe_of = recipe_of.removeprefix(f"{comparison.path.as_posix()}/")
        try:
            recipe = (shown.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
        except OSError:
            recipe = ""
    commands = [command for one in environments if (command := _command(one.get("command")))]
    folder = next((found for one in environments if (found := _out(one.get("command")))), "FOLDER")
    return {
        "objectives": [
            (one.name, [_setting(key, value) for key, value in one.objective.items() if value is not None])
            for one in comparison.variants
        ],
        "differences": [
            (key, [_text(one[key]) if key in one else NOTHING for one in recipes])
            for key in _differing([one for one in recipes if one])
            if key != "seed" and not key.startswith("objective.")
        ],
        "recipe": recipe,
        "recipe_of": recipe_of,
        "commands": list(dict.fromkeys(commands))[:_MOST_COMMANDS],
        "figures": [
            *(f"labelembed figure {name} {folder} -o {name}.pdf" for name in figures),
            f"labelembed report {folder} --format latex",
        ],
        "environment": [
            (key, text)
            for key, value in (flat[runs.index(shown)] if shown else {}).items()
            if key not in _NOT_SHOWN and (text := _text(value))
        ],
        "mixed": [key for key in _differing([one for one in flat if one]) if key not in _NOT_SHOWN],
        "seeds": ", ".join(str(seed) for seed in sorted({run.seed for run in runs})),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys whose value is not the same everywhere."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({_text(one.get(key)) for one in settings}) > 1]


def _command(words: object) -> str:
    return shlex.join(str(word) for word in words) if isinstance(words, list) else ""


def _out(words: object) -> str:
    """Returns the folder that a command wrote into, as it named it; empty where it named none."""
    given = [str(word) for word in words] if isinstance(words, list) else []
    named = [given[place + 1] for place, word in enumerate(given[:-1]) if word in ("-o", "--out")]
    named += [word.removeprefix("--out=") for word in given if word.startswith("--out=")]
    return shlex.quote(named[0]) if named else ""


def _setting(key: str, value: object) -> str:
    return _text(value) if key == "name" else f"{key}={_text(value)}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return shortened(", ".join(_text(part) for part in value[:50]), _LONGEST_VALUE)
    return "none" if value is None else shortened(str(value), _LONGEST_VALUE)
