"""Several runs and comparisons as one: what is the same but for the seed is one variant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelembed.errors import RunFolderError, nearest
from labelembed.report.comparison import Comparison, RunRecord, VariantRuns, load_comparison, refuse_different_data
from labelembed.report.formatting import counted, shortened
from labelembed.training.run_folder import RunFolder

_LONGEST_REASON = 300


def load_several(paths: Sequence[str | Path], *, baseline: str | None = None) -> Comparison:
    """Reads runs and comparisons and lays them together.

    Args:
        paths: Run and comparison folders. One that is damaged or has not finished is left out, with the reason, as
            long as another can be shown.
        baseline: The variant, or the objective, the others are compared with; None: that of the first comparison,
            else one-hot, else the first.

    Raises:
        RunFolderError: When a folder is not there or is neither, none can be shown, two are of different data, or
            `baseline` is none of the variants.
    """
    found: list[Comparison] = []
    left_out: dict[str, str] = {}
    first_fault: RunFolderError | None = None
    for path in dict.fromkeys(Path(path) for path in paths):
        try:
            found.append(load_comparison(path))
        except RunFolderError as error:
            if not any((path / name).is_file() for name in ("recipe.yaml", "comparison.json")):
                raise
            left_out[str(path)] = shortened(str(error).removeprefix(f"{path}: "), _LONGEST_REASON)
            first_fault = first_fault or error
    if not found:
        assert first_fault is not None
        raise first_fault
    if len(found) > 1:
        refuse_different_data([variant for one in found for variant in one.variants])
    whole = found[0] if len(found) == 1 else _together(found)
    whole = replace(whole, left_out=left_out)
    return whole if baseline is None else replace(whole, baseline=_wanted(baseline, whole))


def _together(found: Sequence[Comparison]) -> Comparison:
    groups: dict[str, list[VariantRuns]] = {}
    keys: dict[int, str] = {}
    for one in found:
        for variant in one.variants:
            key = _key(variant)
            # The same recipe and seed twice is no second seed: it stays beside the first, by its folder.
            while any(set(_seeds(variant)) & set(_seeds(other)) for other in groups.get(key, [])):
                key += "+"
            groups.setdefault(key, []).append(variant)
            keys[id(variant)] = key
    order = list(groups)
    named = _names([groups[key] for key in order])
    variants = [_merged(name, groups[key]) for name, key in zip(named, order, strict=True)]
    by_key = dict(zip(order, named, strict=True))
    wanted = [
        by_key[keys[id(variant)]] for one in found for variant in one.variants if variant.name == one.baseline
    ] + [variant.name for variant in variants if variant.objective.get("name") == "one_hot"]
    seeds = sorted({seed for variant in variants for seed in _seeds(variant)})
    published = [entry for one in found for entry in one.published]
    return Comparison(
        found[0].path,
        _title(found),
        (wanted or [variants[0].name])[0],
        variants,
        seeds,
        [entry for place, entry in enumerate(published) if entry not in published[:place]],
    )


def _title(found: Sequence[Comparison]) -> str:
    """Returns the names of the comparisons, and how many runs were given by themselves: their folders say little."""
    names = list(dict.fromkeys(one.recipe for one in found if one.baseline is not None))
    runs = sum(one.baseline is None for one in found)
    return " + ".join([*names, *([counted(runs, "run")] if runs else [])])


def _seeds(variant: VariantRuns) -> list[int]:
    return [*variant.runs, *variant.failed, *variant.missing]


def _key(variant: VariantRuns) -> str:
    """Returns what two variants must share to be one: the whole recipe but the seed and where the data are."""
    first = next(iter(variant.runs.values()), None)
    recipe = _recipe(first) if first else {}
    recipe.pop("seed", None)
    if isinstance(recipe.get("data"), dict):
        recipe["data"] = {key: value for key, value in recipe["data"].items() if key != "path"}
    return json.dumps(recipe or variant.objective, sort_keys=True, default=str)


def _recipe(run: RunRecord) -> dict[str, Any]:
    try:
        return RunFolder(run.folder).recipe()
    except RunFolderError:
        return {}


def _names(groups: Sequence[Sequence[VariantRuns]]) -> list[str]:
    """Returns a name for each group: its own where that is enough, else with what differs, else with the folder."""
    names = [group[0].name for group in groups]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        alike = [place for place, other in enumerate(names) if other == name]
        settings = [groups[place][0].objective for place in alike]
        differing = [
            key
            for key in dict.fromkeys(key for one in settings for key in one)
            if len({str(one.get(key)) for one in settings}) > 1
        ]
        for place in alike:
            objective = groups[place][0].objective
            names[place] = " ".join([name, *(f"{key}={objective.get(key)}" for key in differing)])
    counts = Counter(names)
    for place, group in enumerate(groups):
        if counts[names[place]] > 1:
            folder = next((run.folder for variant in group for run in variant.runs.values()), None)
            names[place] += f" ({folder if folder is not None else place + 1})"
    return names


def _merged(name: str, group: Sequence[VariantRuns]) -> VariantRuns:
    runs = {seed: run for variant in group for seed, run in variant.runs.items()}
    failed = {seed: why for variant in group for seed, why in variant.failed.items()}
    missing = [seed for variant in group for seed in variant.missing]
    return VariantRuns(name, group[0].objective, dict(sorted(runs.items())), failed, missing)


def _wanted(baseline: str, whole: Comparison) -> str:
    names = [variant.name for variant in whole.variants]
    exact = [name for name in names if name == baseline]
    matching = exact or [variant.name for variant in whole.variants if variant.objective.get("name") == baseline]
    if len(matching) != 1:
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(baseline, names)
        raise RunFolderError(f"--baseline: {baseline!r} {what} the variants{hint}: {', '.join(names)}")
    return matching[0]
