"""What a comparison folder, or the folder of a single run, holds: read once, judged run by run.

A comparison folder has ``comparison.json`` (which variants, seeds and baseline) and one run folder a variant and
seed, ``runs/<variant>/seed-<n>/``. A run that failed or whose files are damaged is kept with the reason; it
never hides the others.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import RunFolderError
from labelembed.training.run_folder import RunFolder

Split = Literal["test", "development"]
#: What a comparison is decided by: the error, or of translations BLEU, of which more is better.
Headline = Literal["error", "bleu"]

FORMAT_VERSION = 1
# Measures that are fractions; the others only have to be finite.
_FRACTIONS = ("error", "calibration_error", "top5_error", "bleu", "chrf", "rouge1", "rouge2", "rougeL")
# A damaged number must not ask for a curve that fills the memory.
_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    Attributes:
        seed: Its seed.
        result: How it ended: `selected_epoch`, `selected_by`, `seconds`, and the measures of the selected
            epoch under `development` and `test` (fractions; None where the recipe has no such rows), and the
            same below `calibrated` with the logits divided by `temperature` (None where none was fitted).
        journal: One dictionary an epoch, see `RunFolder.journal`.
        folder: Where it is.
    """

    seed: int
    result: dict[str, Any]
    journal: list[dict[str, Any]]
    folder: Path

    def measure(self, split: Split, name: str, *, calibrated: bool = False) -> float | None:
        """Returns one measure of the selected epoch, or None where there is none."""
        measures = (self.result.get("calibrated") or {}) if calibrated else self.result
        return _number((measures.get(split) or {}).get(name))

    @property
    def temperature(self) -> float | None:
        """The temperature fitted on the development rows, or None where none was."""
        return _number(self.result.get("temperature"))

    @property
    def seconds(self) -> float | None:
        """Seconds of training, or None where they were not measured."""
        return _number(self.result.get("seconds"))

    def error_curve(self, split: Split) -> NDArray[np.float64]:
        """Returns the error after each epoch ``[epochs]``; nan where the journal has none."""
        epochs = max((int(entry["epoch"]) for entry in self.journal), default=0)
        curve = np.full(epochs, np.nan)
        for entry in self.journal:
            error = _number((entry.get(split) or {}).get("error"))
            if error is not None:
                curve[entry["epoch"] - 1] = error
        return curve


@dataclass(frozen=True)
class VariantRuns:
    """The runs of one variant of an objective, by seed.

    Attributes:
        name: As people read it, for instance ``label_smoothing smoothing=0.4``.
        objective: The objective's name and the arguments that were asked for.
        runs: The finished runs.
        failed: Why a run failed or cannot be read.
        missing: Seeds that have not run, or not to the end.
    """

    name: str
    objective: dict[str, Any]
    runs: dict[int, RunRecord]
    failed: dict[int, str]
    missing: list[int]

    def measures(self, split: Split, name: str, *, calibrated: bool = False) -> dict[int, float]:
        """Returns one measure of the selected epoch by seed, of the runs that have it."""
        found = {seed: run.measure(split, name, calibrated=calibrated) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Variants of an objective, each trained with the same seeds.

    Attributes:
        path: The folder.
        recipe: The recipe's name.
        baseline: The variant the others are compared with; None for a single run.
        variants: In the order in which they were asked for.
        seeds: The seeds that were asked for.
    """

    path: Path
    recipe: str
    baseline: str | None
    variants: list[VariantRuns]
    seeds: list[int]

    @property
    def split(self) -> Split:
        """The rows that the comparison is about: the test set, where any run has one."""
        tested = any(variant.measures("test", "error") for variant in self.variants)
        developed = any(variant.measures("development", "error") for variant in self.variants)
        return "test" if tested or not developed else "development"

    @property
    def headline(self) -> Headline:
        """The measure that the comparison is decided by: BLEU, where any run has it, else the error."""
        written = any(variant.measures(self.split, "bleu") for variant in self.variants)
        return "bleu" if written else "error"

    @property
    def speed_split(self) -> Split:
        """The rows whose errors over the epochs say how fast a run learns: the development rows, where there are any.

        The best of many epochs is a choice, and no choice is made by test rows where others are there for it.
        """
        runs = [run for variant in self.variants for run in variant.runs.values()]
        developed = any(np.isfinite(run.error_curve("development")).any() for run in runs)
        return "development" if developed else self.split

    @property
    def baseline_runs(self) -> VariantRuns | None:
        """The baseline's runs; None for a single run."""
        return next((variant for variant in self.variants if variant.name == self.baseline), None)


def load_comparison(path: str | Path) -> Comparison:
    """Reads a comparison folder, or the folder of a single finished run.

    Args:
        path: The folder.

    Returns:
        The comparison; for a single run one with one variant, one seed and no baseline.

    Raises:
        RunFolderError: When the folder is neither, when ``comparison.json`` is damaged, or when the single
            run has not finished. A damaged run inside a comparison raises nothing; it is in `failed`.
    """
    path = Path(path)
    if (path / "comparison.json").is_file():
        return _load_comparison(path)
    if (path / "recipe.yaml").is_file():
        return _load_single_run(path)
    if not path.exists():
        raise RunFolderError(f"{path}: no such folder; a comparison or a run leaves one")
    raise RunFolderError(
        f"{path}: neither a comparison folder (no comparison.json) nor a run folder (no recipe.yaml)"
        + ("" if path.is_dir() else "; it is a file")
    )


def _load_comparison(path: Path) -> Comparison:
    about = _read_description(path / "comparison.json")
    variants = [_load_variant(path / "runs", variant, about["seeds"]) for variant in about["variants"]]
    return Comparison(path, str(about["recipe"]), about["baseline"], variants, list(about["seeds"]))


def _read_description(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: damaged, cannot be read ({error})") from error
    if isinstance(about, dict) and isinstance(about.get("format"), int) and about["format"] > FORMAT_VERSION:
        raise RunFolderError(f"{file}: written by a newer labelembed (format {about['format']}); update labelembed")
    fault = _description_fault(about)
    if fault:
        raise RunFolderError(f"{file}: damaged, {fault}")
    return dict(about)


def _description_fault(about: object) -> str:
    if not isinstance(about, dict):
        return "holds no mapping"
    absent = [key for key in ("recipe", "baseline", "seeds", "variants") if key not in about]
    if absent:
        return f"has no {', '.join(absent)}"
    variants, seeds = about["variants"], about["seeds"]
    if not (isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds)):
        return f"`seeds` must be a list of whole numbers, got {seeds!r}"
    if not (isinstance(variants, list) and variants and all(_is_variant(variant) for variant in variants)):
        return "`variants` must be a list of mappings with `name`, `folder` (a folder's name) and `objective`"
    names = [variant["name"] for variant in variants]
    if len(set(names)) != len(names):
        return f"two variants have one name: {sorted(names)}"
    if about["baseline"] not in names:
        return f"the baseline {about['baseline']!r} is none of the variants {sorted(names)}"
    return ""


def _is_variant(variant: object) -> bool:
    if not (isinstance(variant, dict) and isinstance(variant.get("objective"), dict)):
        return False
    name, folder = variant.get("name"), variant.get("folder")
    if not (isinstance(name, str) and isinstance(folder, str)):
        return False
    # A name only: a description from somewhere else must not lead out of its own folder.
    return folder not in ("", "..") and Path(folder).name == folder


def _load_variant(runs_folder: Path, variant: dict[str, Any], seeds: list[int]) -> VariantRuns:
    runs: dict[int, RunRecord] = {}
    failed: dict[int, str] = {}
    missing: list[int] = []
    for seed in seeds:
        folder = RunFolder(runs_folder / variant["folder"] / f"seed-{seed}")
        try:
            state = folder.state()
            if state == "finished":
                runs[seed] = _load_run(folder, seed)
            elif state == "failed":
                failed[seed] = str(folder.result().get("message") or "it failed without a message")
            else:
                missing.append(seed)
        except (RunFolderError, OSError) as error:
            # The folder's path is on the page already, by variant and seed.
            failed[seed] = str(error).replace(f"{folder.path}/", "")
    return VariantRuns(variant["name"], dict(variant["objective"]), runs, failed, missing)


def _load_single_run(path: Path) -> Comparison:
    folder = RunFolder(path)
    folder.require_finished()
    recipe = folder.recipe()
    asked = recipe.get("objective")
    objective = dict(asked) if isinstance(asked, dict) else {}
    seed = recipe.get("seed")
    seed = seed if isinstance(seed, int) else 0
    variant = VariantRuns(str(objective.get("name", "run")), objective, {seed: _load_run(folder, seed)}, {}, [])
    return Comparison(path, str(recipe.get("name") or path.resolve().name), None, [variant], [seed])


def _load_run(folder: RunFolder, seed: int) -> RunRecord:
    result, journal = folder.result(), folder.journal()
    fault = _result_fault(result) or _journal_fault(journal)
    if fault:
        raise RunFolderError(f"{folder.path}/{fault}")
    return RunRecord(seed, result, journal, folder.path)


def _result_fault(result: dict[str, Any]) -> str:
    if isinstance(result.get("format"), int) and result["format"] > FORMAT_VERSION:
        return f"result.json: written by a newer labelembed (format {result['format']}); update labelembed"
    calibrated = result.get("calibrated")
    if not (calibrated is None or isinstance(calibrated, dict)):
        return f"result.json: damaged, the calibrated measures are {calibrated!r}"
    places: list[tuple[str, Any]] = [(split, result.get(split)) for split in ("development", "test")]
    places += [(f"calibrated {split}", (calibrated or {}).get(split)) for split in ("development", "test")]
    for split, measures in places:
        if measures is None:
            continue
        if not isinstance(measures, dict) or _number(measures.get("error")) is None:
            return f"result.json: damaged, has no {split} error"
        for name, value in measures.items():
            if value is None:
                continue
            if _number(value) is None or (name in _FRACTIONS and not 0 <= value <= 1):
                return f"result.json: damaged, the {split} measure {name} is {value!r}"
    if result.get("development") is None and result.get("test") is None:
        return "result.json: damaged, has neither development nor test measures"
    return ""


def _journal_fault(journal: list[dict[str, Any]]) -> str:
    before = 0
    for entry in journal:
        if not before < entry["epoch"] <= _MOST_EPOCHS:
            return f"journal.jsonl: damaged, epoch {entry['epoch']} stands after epoch {before}"
        before = entry["epoch"]
        for split in ("development", "test"):
            measures = entry.get(split)
            if not (measures is None or isinstance(measures, dict)):
                return f"journal.jsonl: damaged, epoch {entry['epoch']} has {measures!r} as {split}"
            error = _number((measures or {}).get("error"))
            if error is not None and not 0 <= error <= 1:
                return f"journal.jsonl: damaged, epoch {entry['epoch']} has the {split} error {error!r}, no fraction"
    return ""


def _number(value: object) -> float | None:
    """Returns a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
