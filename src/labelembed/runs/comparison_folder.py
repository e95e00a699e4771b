"""``comparison.json``: which variants, seeds and baseline a comparison folder has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.errors import RunFolderError
from labelembed.json_files import read_json

FORMAT_VERSION = 1
DESCRIPTION_FILE = "comparison.json"
#: What a comparison writes into its folder, below and beside the runs.
_WRITTEN = (DESCRIPTION_FILE, "comparison.csv", "runs.csv", "report.html")


def read_description(folder: Path) -> dict[str, Any]:
    """Returns what ``comparison.json`` of a folder says.

    Raises:
        RunFolderError: When it cannot be read, is damaged, or is of a newer version.
    """
    file = folder / DESCRIPTION_FILE
    try:
        about = read_json(file)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: damaged, cannot be read ({error})") from error
    if isinstance(about, dict) and isinstance(about.get("format"), int) and about["format"] > FORMAT_VERSION:
        raise RunFolderError(f"{file}: written by a newer labelembed (format {about['format']}); update labelembed")
    damage = _damage(about)
    if damage:
        raise RunFolderError(f"{file}: damaged, {damage}")
    return dict(about)


def description_before(folder: Path) -> dict[str, Any] | None:
    """Returns what a folder's ``comparison.json`` says; None where there is none yet. Raises as `read_description`."""
    return read_description(folder) if (folder / DESCRIPTION_FILE).exists() else None


def seeds_of_variant(about: dict[str, Any], variant: dict[str, Any]) -> list[int]:
    """Returns the seeds that were asked for of a variant: its own, or those of the comparison."""
    return list(variant.get("seeds", about["seeds"]))


def merged(before: dict[str, Any] | None, now: dict[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """Returns the description of a comparison that goes on in a folder: variants and seeds are added.

    Args:
        before: What the folder says; None: nothing yet.
        now: What is asked for.
        kept: Names of the variants of `before` that `now` lacks and that stay in the table.
    """
    if before is None:
        return now
    wanted = {variant["name"]: variant for variant in now["variants"]}
    variants = []
    for variant in before["variants"]:
        old = seeds_of_variant(before, variant)
        if variant["name"] in wanted:
            asked = wanted.pop(variant["name"])
            variants.append(asked | {"seeds": _with(old, now["seeds"])})
        elif variant["name"] in kept:
            variants.append(variant | {"seeds": old})
    variants += [variant | {"seeds": list(now["seeds"])} for variant in wanted.values()]
    seeds: list[int] = []
    for variant in variants:
        seeds = _with(seeds, variant["seeds"])
    for variant in variants:
        if variant["seeds"] == seeds:
            del variant["seeds"]
    noted = before.get("failed")
    failed = [one for one in noted if one.get("variant") in kept] if isinstance(noted, list) else []
    return now | {"seeds": seeds, "variants": variants} | ({"failed": failed} if failed else {})


def _with(seeds: list[int], more: list[int]) -> list[int]:
    return [*seeds, *(seed for seed in more if seed not in seeds)]


def remove_comparison(folder: Path) -> None:
    """Removes what a comparison left in a folder, its runs and trials with it, and nothing else."""
    if (folder / DESCRIPTION_FILE).is_file():
        for name in ("runs", "tuning"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for file in (*(folder / name for name in _WRITTEN), *folder.glob("teachers-*.safetensors")):
            file.unlink(missing_ok=True)


def _damage(about: object) -> str:
    """Returns what is wrong with a description, or an empty string."""
    if not isinstance(about, dict):
        return "holds no mapping"
    absent = [key for key in ("recipe", "baseline", "seeds", "variants") if key not in about]
    if absent:
        return f"has no {', '.join(absent)}"
    variants, seeds = about["variants"], about["seeds"]
    if not _are_seeds(seeds):
        return f"`seeds` must be a list of whole numbers, got {seeds!r:.80}"
    if not (isinstance(variants, list) and variants and all(_is_variant(variant) for variant in variants)):
        return "`variants` must be a list of mappings with `name`, `folder` (a folder's name) and `objective`"
    names = [variant["name"] for variant in variants]
    if len(set(names)) != len(names):
        return f"two variants have one name: {sorted(names)}"
    if about["baseline"] not in names:
        return f"the baseline {about['baseline']!r:.80} is none of the variants {sorted(names)!r:.300}"
    return ""


def _are_seeds(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(seed, int) for seed in value)


def _is_variant(variant: object) -> bool:
    if not (isinstance(variant, dict) and isinstance(variant.get("objective"), dict)):
        return False
    name, folder = variant.get("name"), variant.get("folder")
    if not (isinstance(name, str) and isinstance(folder, str) and _are_seeds(variant.get("seeds", []))):
        return False
    # A name only: a description from somewhere else must not lead out of its own folder.
    return folder not in ("", "..") and Path(folder).name == folder
