"""What a reader needs to get the same numbers: settings, how they were tuned, the command, what the runs ran on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from labelembed.lab.report.comparison import Comparison, number_in
from labelembed.lab.report.formatting import NOTHING, counted, listed, number, shortened

_LONGEST_VALUE = 160
# Not what a run ran on: the command has its own place, and the labels' names fill a page.
_NOT_SHOWN = ("command", "data.names", "data.stamp", "published")


class Settings(NamedTuple):
    """What differs between the variants, and what is needed to make the runs again.

    Attributes:
        objectives: Each variant's name and settings.
        differences: Other settings that are not the same in all variants, with the value in each.
        recipe: The recipe of the first finished run of the baseline.
        command: What made the runs.
        environment: What that run ran on.
        mixed: Names there whose value is not the same in all runs.
        seeds: The seeds of all finished runs.
    """

    objectives: list[tuple[str, list[str]]]
    differences: list[tuple[str, list[str]]]
    recipe: str
    command: str
    environment: list[tuple[str, str]]
    mixed: list[str]
    seeds: str


def describe_settings(comparison: Comparison) -> Settings:
    """Collects it from the runs' folders; what is damaged or missing there is left out."""
    runs, firsts = comparison.runs, [next(iter(variant.runs.values()), None) for variant in comparison.variants]
    recipes = [_flat(run.recipe) if run else {} for run in firsts]
    baseline = comparison.baseline_runs or comparison.variants[0]
    shown = next(iter([*baseline.runs.values(), *runs]), None)
    environments = [_flat(run.environment) for run in runs if run.environment]
    recipe = ""
    if shown is not None:
        with contextlib.suppress(OSError):
            recipe = (shown.folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").rstrip()
    given = [
        {key: _text(value) for key, value in one.objective.items() if value is not None} for one in comparison.variants
    ]
    titles = [one.title for one in comparison.variants]
    ran_on = _flat(shown.environment) if shown is not None else {}
    return Settings(
        [
            (t, [text if key == "name" else f"{key}={text}" for key, text in of.items()])
            for t, of in zip(titles, given, strict=True)
        ],
        [
            (key, [_text(one[key]) if key in one else NOTHING for one in recipes])
            for key in _differing([one for one in recipes if one])
            if key != "seed" and not key.startswith("objective.")
        ],
        recipe,
        next((shlex.join(run.command) for run in runs if run.command), ""),
        [(key, _text(value)) for key, value in ran_on.items() if key not in _NOT_SHOWN and value not in ("", [])],
        [key for key in _differing(environments) if key not in _NOT_SHOWN],
        ", ".join(str(seed) for seed in sorted({run.seed for run in runs})),
    )


def tuning_entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns what ``comparison.json`` says of the tuning of each variant; nothing where it is damaged."""
    variants = comparison.tuning.get("variants")
    return [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []


def tuning_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Returns a line a tuned variant: what was tuned between what, the trials, what was chosen, and the scores."""
    metric = str(comparison.tuning.get("metric"))
    form: dict[str, Any] = {"decimals": 4} if metric.endswith("NLL") else {"decimals": 2, "scale": 100}

    def pairs(value: object, mark: str) -> str:
        found = value if isinstance(value, dict) else {}
        return "; ".join(f"{str(key).removeprefix('objective.')}{mark}{part}" for key, part in found.items())

    return [
        {
            "variant": str(entry.get("name")),
            "search space": pairs(entry.get("space"), ": ") or "nothing",
            "trials": str(entry.get("trials") or NOTHING),
            "chosen": pairs(entry.get("arguments"), "=") or "as it was",
            f"{metric} before": number(number_in(entry.get("first_score")), **form),
            f"{metric} of the best": number(number_in(entry.get("score")), **form),
        }
        for entry in tuning_entries(comparison)
    ]


def tuning_statement(comparison: Comparison) -> str:
    """Returns which variants were tuned, by how many trials, and which were not; empty where nothing was."""
    entries = tuning_entries(comparison)
    tuned = [str(entry.get("name")) for entry in entries if entry.get("space")]
    untuned = [str(entry.get("name")) for entry in entries if not entry.get("space")]
    at_end = [str(entry.get("name")) for entry in entries if entry.get("rate_at_end") is True]
    trials = counted(int(number_in(comparison.tuning.get("trials")) or 0), "trial")
    parts = [f"Tuned with {trials} each on validation examples: {listed(tuned)}."] if tuned else []
    parts += [f"Not tuned: {listed(untuned)}."] if tuned and untuned else []
    parts += [f"The learning rate chosen for {listed(at_end)} lies near an end of its range."] if at_end else []
    return " ".join(parts)


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
