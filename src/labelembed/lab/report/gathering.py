"""Several runs and comparisons as one: what is the same but for the seed is one variant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelembed.errors import nearest
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, VariantRuns, load_comparison, refuse_different_data
from labelembed.lab.report.formatting import counted, shortened

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
    for path in dict.fromkeys(Path(path) for path in paths):
        try:
            found.append(load_comparison(path))
        except RunFolderError as error:
            if len(paths) == 1 or not any((path / name).is_file() for name in ("recipe.yaml", "comparison.json")):
                raise
            left_out[str(path)] = shortened(str(error).removeprefix(f"{path}: "), _LONGEST_REASON)
    if not found:
        raise RunFolderError("\n".join(f"{path}: {why}" for path, why in left_out.items()))
    whole = replace(found[0] if len(found) == 1 else _together(found), left_out=left_out)
    return whole if baseline is None else replace(whole, baseline=chosen_variant(whole, baseline, "--baseline").name)


def chosen_variant(comparison: Comparison, wanted: str, option: str) -> VariantRuns:
    """Returns the variant of a name, or the only one of an objective.

    Args:
        comparison: Whose variants.
        wanted: The name.
        option: What gave it, for the message.

    Raises:
        RunFolderError: When there is none, or more than one.
    """
    matching = [one for one in comparison.variants if one.name == wanted]
    matching = matching or [one for one in comparison.variants if one.kind == wanted]
    if len(matching) != 1:
        names = [variant.name for variant in comparison.variants]
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(wanted, names)
        raise RunFolderError(f"{option}: {wanted!r} {what} the variants{hint}: {', '.join(names)}")
    return matching[0]


def _together(found: Sequence[Comparison]) -> Comparison:
    refuse_different_data([variant for one in found for variant in one.variants])
    groups: dict[str, list[VariantRuns]] = {}
    baselines: list[str] = []
    for one in found:
        for variant in one.variants:
            key = _key(variant)
            # The same recipe and seed twice is no second seed: it stays beside the first, by its folder.
            while any(_seeds(variant) & _seeds(other) for other in groups.get(key, [])):
                key += "+"
            groups.setdefault(key, []).append(variant)
            baselines += [key] if variant.name == one.baseline else []
    baselines += [key for key, group in groups.items() if group[0].kind == "one_hot"]
    names = dict(zip(groups, _names(list(groups.values())), strict=True))
    variants = [_merged(names[key], group) for key, group in groups.items()]
    published = [entry for one in found for entry in one.published]
    # Folders of single runs say little by their names.
    titles = dict.fromkeys(one.recipe for one in found if one.baseline is not None)
    single = sum(one.baseline is None for one in found)
    return Comparison(
        found[0].path,
        " + ".join([*titles, *([counted(single, "run")] if single else [])]),
        names[(baselines or list(groups))[0]],
        variants,
        sorted({seed for variant in variants for seed in _seeds(variant)}),
        [entry for place, entry in enumerate(published) if entry not in published[:place]],
    )


def _seeds(variant: VariantRuns) -> set[int]:
    return {*variant.runs, *variant.failed, *variant.missing}


def _key(variant: VariantRuns) -> str:
    """Returns what two variants must share to be one: the whole recipe but the seed and where the data are."""
    first = next(iter(variant.runs.values()), None)
    recipe = first.recipe() if first else {}
    recipe.pop("seed", None)
    if isinstance(recipe.get("data"), dict):
        recipe["data"] = {key: value for key, value in recipe["data"].items() if key != "path"}
    return json.dumps(recipe or variant.objective, sort_keys=True, default=str)


def _names(groups: Sequence[Sequence[VariantRuns]]) -> list[str]:
    """Returns a name for each group: its own where that is enough, else with what differs, else with the folder."""
    names = [group[0].name for group in groups]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        alike = [place for place, other in enumerate(names) if other == name]
        settings = [groups[place][0].objective for place in alike]
        keys = dict.fromkeys(key for one in settings for key in one)
        differing = [key for key in keys if len({str(one.get(key)) for one in settings}) > 1]
        for place, objective in zip(alike, settings, strict=True):
            names[place] = " ".join([name, *(f"{key}={objective.get(key)}" for key in differing)])
    counts = Counter(names)
    for place, group in enumerate(groups):
        if counts[names[place]] > 1:
            folders = [run.folder for variant in group for run in variant.runs.values()]
            names[place] += f" ({folders[0] if folders else place + 1})"
    return names


def _merged(name: str, group: Sequence[VariantRuns]) -> VariantRuns:
    runs = {seed: run for variant in group for seed, run in variant.runs.items()}
    failed = {seed: why for variant in group for seed, why in variant.failed.items()}
    missing = [seed for variant in group for seed in variant.missing]
    return VariantRuns(name, group[0].objective, dict(sorted(runs.items())), failed, missing)
