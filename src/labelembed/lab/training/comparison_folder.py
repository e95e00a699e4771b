"""``comparison.json``: which variants, seeds and baseline a comparison folder has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from labelembed.json_files import read_json
from labelembed.lab.errors import RunFolderError

FORMAT_VERSION = 1
DESCRIPTION_FILE = "comparison.json"
#: What a comparison writes into its folder, below and beside the runs.
_WRITTEN = (DESCRIPTION_FILE, "comparison.csv", "runs.csv", "report.html")


def _folder_name(name: str) -> str:
    # A name only: a description from somewhere else must not lead out of its own folder.
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"must be the name of a folder, got {name!r:.80}")
    return name


class _VariantEntry(BaseModel):
    name: str
    folder: Annotated[str, AfterValidator(_folder_name)]
    objective: dict[str, Any]
    seeds: list[int] = []


class _Description(BaseModel):
    recipe: Any
    baseline: str
    seeds: list[int]
    variants: Annotated[list[_VariantEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"two variants have one name: {sorted(names)!r:.300}")
        if self.baseline not in names:
            raise ValueError(f"the baseline {self.baseline!r:.80} is none of the variants {sorted(names)!r:.300}")
        return self


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
    try:
        _Description.model_validate(about, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise RunFolderError(f"{file}: damaged, {f'`{place}`: ' if place else ''}{what}") from error
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
