"""``comparison.json``: which variants, seeds and baseline a comparison folder has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from labelembed.files import read_json
from labelembed.lab.training.files import check_format, reading, saving, write_json

FORMAT_VERSION = 1
DESCRIPTION_FILE = "comparison.json"


def _folder_name(name: str) -> str:
    # A name only: a description from somewhere else must not lead out of its own folder.
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"must be the name of a folder, got {name!r:.80}")
    return name


class VariantEntry(BaseModel):
    """A row of the table: where its runs are below ``runs/``, its objective, and the seeds that were asked for."""

    name: str
    folder: Annotated[str, AfterValidator(_folder_name)]
    objective: dict[str, Any]
    seeds: list[int] = []


class ComparisonFile(BaseModel):
    """What ``comparison.json`` says: `tuning` how arguments were found, `notes` what speaks against the comparison."""

    format: int = FORMAT_VERSION
    recipe: str
    baseline: str
    seeds: list[int]
    variants: Annotated[list[VariantEntry], Field(min_length=1)]
    tuning: dict[str, Any] = {}
    notes: list[str] = []

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"two variants have one name: {sorted(names)!r:.300}")
        if self.baseline not in names:
            raise ValueError(f"the baseline {self.baseline!r:.80} is none of the variants {sorted(names)!r:.300}")
        for variant in self.variants:
            variant.seeds = variant.seeds or list(self.seeds)
        return self

    @classmethod
    def read(cls, folder: Path) -> ComparisonFile:
        """Reads the file of a folder; RunFolderError: it cannot be read, is damaged, or is of a newer version."""
        file = folder / DESCRIPTION_FILE
        with reading(file):
            about = read_json(file)
            check_format(file, about.get("format"), FORMAT_VERSION)
            return cls.model_validate(about, strict=True)

    def write(self, folder: Path) -> None:
        """Writes the file into a folder; TrainingError: it cannot be written."""
        with saving(folder, way_on="When it can be saved again, give the same command again"):
            write_json(folder / DESCRIPTION_FILE, self.model_dump())

    def add(self, variants: Sequence[VariantEntry], seeds: Sequence[int]) -> None:
        """Adds variants and seeds; a variant that is there already gets the seeds too, and none is dropped."""
        here = {variant.name: variant for variant in self.variants}
        for variant in variants:
            before = here.get(variant.name)
            own = [] if before is None or before.folder != variant.folder else before.seeds
            here[variant.name] = variant.model_copy(update={"seeds": list(dict.fromkeys([*own, *seeds]))})
        self.variants = list(here.values())
        self.seeds = list(dict.fromkeys(seed for variant in self.variants for seed in variant.seeds))


def remove_comparison(folder: Path) -> None:
    """Removes what a comparison left in a folder, its runs and trials with it, and nothing else."""
    has_description = (folder / DESCRIPTION_FILE).is_file()
    runs = ["runs/*/seed-*"] if has_description else []  # a tuning that was stopped has left no description
    for path in [path for pattern in ("tuning/*/trial-*", *runs) for path in folder.glob(pattern)]:
        shutil.rmtree(path.parent, ignore_errors=True)
    if has_description:
        for name in (DESCRIPTION_FILE, "comparison.csv", "runs.csv", "report.html"):
            (folder / name).unlink(missing_ok=True)
