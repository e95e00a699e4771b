"""Several runs and comparisons as one comparison: what is the same but for the seed is one variant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelembed.errors import nearest
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import Comparison, VariantRuns, check_same_data, load_comparison
from labelembed.lab.report.formatting import counted, shortened

_LONGEST_REASON = 300


def load_several(paths: Sequence[str | Path], *, baseline: str | None = None) -> Comparison:
    """Reads runs and comparisons as one comparison; runs that differ by nothing but the seed are one variant.

    Args:
        paths: Run and comparison folders. One that is damaged or has not finished is left out, with the reason, as
            long as another can be shown.
        baseline: The variant, or the objective, the others are compared with; None: that of the first comparison,
            else one-hot, else the first.

    Raises:
        RunFolderError: When a folder is not there or is neither, none can be shown, two are of different data, or
            `baseline` is none of the variants.
    """
    read: list[Comparison] = []
    left_out: dict[str, str] = {}
    for path in dict.fromkeys(Path(path) for path in paths):
        try:
            read.append(load_comparison(path))
        except RunFolderError as error:
            if len(paths) == 1 or not any((path / name).is_file() for name in ("recipe.yaml", "comparison.json")):
                raise
            left_out[str(path)] = shortened(str(error).removeprefix(f"{path}: "), _LONGEST_REASON)
    if not read:
        raise RunFolderError("\n".join(f"{path}: {why}" for path, why in left_out.items()))
    whole = replace(read[0] if len(read) == 1 else _merged(read), left_out=left_out)
    if baseline is None:
        return whole
    names = [variant.name for variant in whole.variants]
    matching = [name for name in names if name == baseline]
    matching = matching or [one.name for one in whole.variants if one.objective_name == baseline]
    if len(matching) != 1:
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(baseline, names)
        raise RunFolderError(f"--baseline: {baseline!r} {what} the variants{hint}: {', '.join(names)}")
    return replace(whole, baseline=matching[0])



def _merged(read: Sequence[Comparison]) -> Comparison:
    check_same_data([variant for one in read for variant in one.variants])
    groups: dict[str, list[VariantRuns]] = {}
    baselines: list[str] = []
    for one in read:
        for variant in one.variants:
            key = _key(variant)
            # The same recipe and seed twice is no second seed: it stays beside the first, by its folder.
            while any(variant.seeds & other.seeds for other in groups.get(key, [])):
                key += "+"
            groups.setdefault(key, []).append(variant)
            baselines += [key] if variant.name == one.baseline else []
    baselines += [key for key, group in groups.items() if group[0].objective_name == "one_hot"]
    names = dict(zip(groups, _names(list(groups.values())), strict=True))
    variants = [
        VariantRuns(
            names[key],
            group[0].objective,
            dict(sorted((seed, run) for one in group for seed, run in one.runs.items())),
            {seed: why for one in group for seed, why in one.failed.items()},
            [seed for one in group for seed in one.missing],
        )
        for key, group in groups.items()
    ]
    published = [entry for one in read for entry in one.published]
    titles = dict.fromkeys(one.recipe for one in read if one.baseline is not None)
    single = sum(one.baseline is None for one in read)
    return Comparison(
        read[0].path,
        " + ".join([*titles, *([counted(single, "run")] if single else [])]),
        names[(baselines or list(groups))[0]],
        variants,
        sorted({seed for variant in variants for seed in variant.seeds}),
        [entry for index, entry in enumerate(published) if entry not in published[:index]],
    )


def _key(variant: VariantRuns) -> str:
    """Returns what two variants must share to be one: the whole recipe but the seed and where the data are."""
    first = next(iter(variant.runs.values()), None)
    recipe = {key: value for key, value in (first.recipe if first else {}).items() if key != "seed"}
    if isinstance(recipe.get("data"), dict):
        recipe["data"] = {key: value for key, value in recipe["data"].items() if key != "path"}
    return json.dumps(recipe or variant.objective, sort_keys=True, default=str)


def _names(groups: Sequence[Sequence[VariantRuns]]) -> list[str]:
    """Returns a name for each group: its own where that is enough, else with what differs, else with the folder."""
    names = [group[0].name for group in groups]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        alike = [index for index, other in enumerate(names) if other == name]
        settings = [groups[index][0].objective for index in alike]
        keys = dict.fromkeys(key for one in settings for key in one)
        differing = [key for key in keys if len({str(one.get(key)) for one in settings}) > 1]
        for index, objective in zip(alike, settings, strict=True):
            names[index] = " ".join([name, *(f"{key}={objective.get(key)}" for key in differing)])
    counts = Counter(names)
    for index, group in enumerate(groups):
        if counts[names[index]] > 1:
            folders = [run.folder for variant in group for run in variant.runs.values()]
            names[index] += f" ({folders[0] if folders else index + 1})"
    return names
