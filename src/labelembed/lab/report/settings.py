"""What a reader needs to get the same numbers: settings, how they were tuned, the command, what the runs ran on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from labelembed.lab.report.comparison import Comparison, number_in
from labelembed.lab.report.formatting import NOTHING, counted, listed, number, shortened

_LONGEST_VALUE = 160
# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp", "published")


def tuning_entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns what ``comparison.json`` says of the tuning of each variant; nothing where it is damaged."""
    variants = (comparison.tuning or {}).get("variants")
    return [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []


def tuning_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Returns a line a tuned variant: what was tuned between what, the trials, what was chosen, and the scores."""
    metric = str((comparison.tuning or {}).get("metric"))
    titles = {variant.name: variant.title for variant in comparison.variants}

    def score(value: object) -> str:
        is_nll = metric.endswith("NLL")
        return number(number_in(value), 4 if is_nll else 2, scale=1 if is_nll else 100)

    def pairs(value: object, mark: str) -> str:
        found = value if isinstance(value, dict) else {}
        return "; ".join(f"{str(key).removeprefix('objective.')}{mark}{part}" for key, part in found.items())

    return [
        {
            "variant": titles.get(str(entry.get("name")), str(entry.get("name"))),
            "search space": pairs(entry.get("space"), ": ") or "nothing",
            "trials": str(entry.get("trials") or NOTHING),
            "chosen": pairs(entry.get("arguments"), "=") or "as it was",
            f"{metric} before": score(entry.get("first_score")),
            f"{metric} of the best": score(entry.get("score")),
        }
        for entry in tuning_entries(comparison)
    ]


def tuning_statement(comparison: Comparison) -> str:
    """Returns what was tuned of which variants, and by how many trials; empty where nothing was."""
    entries = tuning_entries(comparison)
    titles = {variant.name: variant.title for variant in comparison.variants}

    def names(chosen: Sequence[dict[str, Any]]) -> str:
        return listed([titles.get(str(entry.get("name")), str(entry.get("name"))) for entry in chosen])

    tuned = [entry for entry in entries if isinstance(entry.get("space"), dict) and entry["space"]]
    statements = []
    if tuned:
        trials = counted(int(number_in((comparison.tuning or {}).get("trials")) or 0), "trial")
        keys = dict.fromkeys(str(key).rpartition(".")[2].replace("_", " ") for one in tuned for key in one["space"])
        each = " each" if len(tuned) > 1 else ""
        statements.append(f"Tuned with {trials}{each} on validation examples: {names(tuned)} ({listed(list(keys))}).")
    if at_end := [entry for entry in entries if entry.get("rate_at_end") is True]:
        statements.append(f"The learning rate chosen for {names(at_end)} lies near an end of its range.")
    if tuned and (untuned := [entry for entry in entries if entry not in tuned]):
        statements.append(f"Not tuned: {names(untuned)}.")
    return " ".join(statements)


def describe_settings(comparison: Comparison) -> dict[str, Any]:
    """Returns what differs between the variants, and what is needed to make the runs again.

    `objectives`, each variant's name and settings; `differences`, other settings that are not the same in all variants,
    with the value in each; `recipe`, that of the first finished run of the baseline; `command`; `environment`, what
    that run ran on; `mixed`, names there whose value is not the same in all runs.
    """
    runs, firsts = comparison.runs, [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe) if run else {} for run in firsts]
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter(baseline.runs.values()), runs[0] if runs else None)
    environments = {run.folder: _flat(run.environment) for run in runs}
    recipe = ""
    if shown is not None:
        try:
            recipe = (shown.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
        except OSError:
            pass
    return {
        "objectives": [
            (one.title, [f"{key}={_text(value)}" if key != "name" else _text(value) for key, value in known.items()])
            for one in comparison.variants
            for known in [{key: value for key, value in one.objective.items() if value is not None}]
        ],
        "differences": [
            (key, [_text(one[key]) if key in one else NOTHING for one in recipes])
            for key in _differing([one for one in recipes if one])
            if key != "seed" and not key.startswith("objective.")
        ],
        "recipe": recipe,
        "command": next((shlex.join(run.command) for run in runs if run.command), ""),
        "environment": [
            (key, text)
            for key, value in (environments[shown.folder] if shown else {}).items()
            if key not in _NOT_SHOWN and (text := _text(value))
        ],
        "mixed": [key for key in _differing([one for one in environments.values() if one]) if key not in _NOT_SHOWN],
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


def _text(value: object) -> str:
    if isinstance(value, list):
        return shortened(", ".join(_text(part) for part in value[:50]), _LONGEST_VALUE)
    return "none" if value is None else shortened(str(value), _LONGEST_VALUE)
