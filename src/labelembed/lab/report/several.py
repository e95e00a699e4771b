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
    matching = [
        one.name for one in whole.variants if baseline == (one.name if baseline in names else one.objective_name)
    ]
    if len(matching) != 1:
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(baseline, names)
        raise RunFolderError(f"--baseline: {baseline!r} {what} the variants{hint}: {', '.join(names)}")
    return replace(whole, baseline=matching[0])


def _merged(read: Sequence[Comparison]) -> Comparison:
    check_same_data(variant for one in read for variant in one.variants)
    groups: dict[str, VariantRuns] = {}
    baselines: list[str] = []
    for one in read:
        for variant in one.variants:
            key = _key(variant)
            # The same recipe and seed twice is no second seed: it stays beside the first, by its folder.
            while key in groups and variant.seeds & groups[key].seeds:
                key += "+"
            before = groups.get(key, replace(variant, runs={}, failed={}, missing=[]))
            runs = dict(sorted((before.runs | variant.runs).items()))
            failed, missing = before.failed | variant.failed, [*before.missing, *variant.missing]
            groups[key] = replace(before, runs=runs, failed=failed, missing=missing)
            baselines += [key] if variant.name == one.baseline else []
    baselines += [key for key, variant in groups.items() if variant.objective_name == "one_hot"]
    variants = _named(list(groups.values()))
    titles = dict.fromkeys(one.recipe for one in read if one.baseline is not None)
    single = sum(one.baseline is None for one in read)
    title = " + ".join([*titles, *([counted(single, "run")] if single else [])])
    baseline = variants[list(groups).index((baselines or list(groups))[0])].name
    return Comparison(read[0].path, title, baseline, variants, sorted({seed for one in variants for seed in one.seeds}))


def _key(variant: VariantRuns) -> str:
    """Returns what two variants must share to be one: the whole recipe but the seed and where the data are."""
    first = next(iter(variant.runs.values()), None)
    recipe = {key: value for key, value in (first.recipe if first else {}).items() if key != "seed"}
    if isinstance(recipe.get("data"), dict):
        recipe["data"] = {key: value for key, value in recipe["data"].items() if key != "path"}
    return json.dumps(recipe or variant.objective, sort_keys=True, default=str)


def _named(variants: list[VariantRuns]) -> list[VariantRuns]:
    """Returns variants of different names: their own where that is enough, else with what differs, else the folder."""
    counts = Counter(variant.name for variant in variants)
    for name in [name for name, count in counts.items() if count > 1]:
        settings = [variant.objective for variant in variants if variant.name == name]
        keys = dict.fromkeys(key for one in settings for key in one)
        differing = [key for key in keys if len({str(one.get(key)) for one in settings}) > 1]
        for index, one in enumerate(variants):
            if one.name == name:
                words = [name, *(f"{key}={one.objective.get(key)}" for key in differing)]
                variants[index] = replace(one, name=" ".join(words))
    counts = Counter(variant.name for variant in variants)
    folders = [next((run.folder for run in one.runs.values()), index) for index, one in enumerate(variants, start=1)]
    return [
        replace(one, name=f"{one.name} ({folder})") if counts[one.name] > 1 else one
        for one, folder in zip(variants, folders, strict=True)
    ]
