"""What a comparison folder, or the folder of a single run, holds: read once, judged run by run.

A comparison folder has ``comparison.json`` (which variants, seeds and baseline) and one run folder a variant and
seed, ``runs/<variant>/seed-<n>/``. A run that failed or whose files are damaged is kept with the reason; it
never hides the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.run_checks import history_error, noted_failures, number_in, reason, result_error
from labelembed.lab.training.comparison_folder import read_description, seeds_of_variant
from labelembed.lab.training.run_folder import RunFolder

Split = Literal["test", "validation"]
SPLITS: tuple[Split, ...] = ("test", "validation")
#: What a comparison is decided by: the error, or of translations BLEU, of which more is better.
Headline = Literal["error", "bleu"]


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    Attributes:
        seed: Its seed.
        result: How it ended: `selected_epoch`, `selected_by`, `seconds`, and the metrics of the selected
            epoch under `validation` and `test` (fractions; None where the recipe has no such examples), and the
            same below `calibrated` with the logits divided by `temperature` (None where none was fitted).
        history: One dictionary an epoch, see `RunFolder.history`.
        folder: Where it is.
    """

    seed: int
    result: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path

    def metric(self, split: Split, name: str, *, calibrated: bool = False) -> float | None:
        """Returns one metric of the selected epoch, or None where there is none."""
        metrics = (self.result.get("calibrated") or {}) if calibrated else self.result
        return number_in((metrics.get(split) or {}).get(name))

    @property
    def temperature(self) -> float | None:
        """The temperature fitted on the validation examples, or None where none was."""
        return number_in(self.result.get("temperature"))

    @property
    def seconds(self) -> float | None:
        """Seconds of training, or None where they were not measured."""
        return number_in(self.result.get("seconds"))

    def curve(self, place: str, name: str) -> NDArray[np.float64]:
        """Returns a number of each epoch ``[epochs]``, of `train`, `validation` or `test`; nan where there is none."""
        curve = np.full(max((int(entry["epoch"]) for entry in self.history), default=0), np.nan)
        for entry in self.history:
            numbers = entry.get(place)
            value = number_in(numbers.get(name)) if isinstance(numbers, dict) else None
            if value is not None:
                curve[entry["epoch"] - 1] = value
        return curve

    def environment(self) -> dict[str, Any]:
        """Returns what the run ran on; nothing where that cannot be read."""
        return _or_nothing(RunFolder(self.folder).environment)

    def recipe(self) -> dict[str, Any]:
        """Returns the run's recipe as plain values; nothing where that cannot be read."""
        return _or_nothing(RunFolder(self.folder).recipe)

    def data(self) -> dict[str, Any]:
        """Returns what the run says of its data: `source`, `names`, `fingerprint`; nothing where it says nothing."""
        data = self.environment().get("data")
        return data if isinstance(data, dict) else {}


@dataclass(frozen=True)
class VariantRuns:
    """The runs of one variant of an objective, by seed.

    Attributes:
        name: As people read it, for instance ``label_smoothing smoothing=0.4``.
        objective: The objective's name and the arguments that were given.
        runs: The finished runs.
        failed: Why a run failed or cannot be read.
        missing: Seeds that have not run, or not to the end.
    """

    name: str
    objective: dict[str, Any]
    runs: dict[int, RunRecord]
    failed: dict[int, str]
    missing: list[int]

    @property
    def kind(self) -> str:
        """The objective's name."""
        return str(self.objective.get("name", ""))

    def metrics(self, split: Split, name: str, *, calibrated: bool = False) -> dict[int, float]:
        """Returns one metric of the selected epoch by seed, of the runs that have it."""
        found = {seed: run.metric(split, name, calibrated=calibrated) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Variants of an objective, each trained with the same seeds.

    Attributes:
        path: The folder.
        recipe: The recipe's name.
        baseline: The variant the others are compared with; None for a single run.
        variants: In the order in which they were given.
        seeds: The seeds of the comparison.
        published: What papers report for the recipe: mappings with `objective`, `metric`, `value` and `source`.
        left_out: Folders that were given with others and cannot be shown, and why.
        tuning: How the variants' arguments were found, see `tuning`; None where nothing was tuned.
    """

    path: Path
    recipe: str
    baseline: str | None
    variants: list[VariantRuns]
    seeds: list[int]
    published: list[Any] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, Any] | None = None

    @property
    def runs(self) -> list[RunRecord]:
        """All finished runs."""
        return [run for variant in self.variants for run in variant.runs.values()]

    @property
    def split(self) -> Split:
        """The examples that the comparison is about: the test set, where any run has one."""
        tested, validated = (any(one.metrics(split, "error") for one in self.variants) for split in SPLITS)
        return "test" if tested or not validated else "validation"

    @property
    def headline(self) -> Headline:
        """The metric that the comparison is decided by: BLEU, where any run has it, else the error."""
        return "bleu" if any(variant.metrics(self.split, "bleu") for variant in self.variants) else "error"

    @property
    def headline_words(self) -> str:
        """What the comparison is decided by, in words: `test error`, `validation error`, `test BLEU`."""
        return f"{self.split} {'BLEU' if self.headline == 'bleu' else 'error'}"

    @property
    def speed_split(self) -> Split:
        """The examples whose errors over the epochs say how fast a run learns: those of validation, if there are any.

        The best of many epochs is a choice, and no choice is made by test examples where others are there for it.
        """
        validated = any(np.isfinite(run.curve("validation", "error")).any() for run in self.runs)
        return "validation" if validated else self.split

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
        RunFolderError: When the folder is neither, ``comparison.json`` is damaged, the single run has not finished, or
            runs of a comparison are of different data. A damaged run inside a comparison raises nothing; it is in
            `failed`.
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


def refuse_different_data(variants: list[VariantRuns]) -> None:
    """Raises RunFolderError, with both, when two runs are known to be of different data."""
    known: tuple[RunRecord, dict[str, Any]] | None = None
    for run in (run for variant in variants for run in variant.runs.values()):
        data = run.data()
        if not isinstance(data.get("fingerprint"), str):
            continue
        if known is not None and data["fingerprint"] != known[1]["fingerprint"]:
            other, theirs = known
            raise RunFolderError(
                f"{other.folder} and {run.folder} are of different data and cannot be in one report: "
                f"{theirs.get('source')!r} and {data.get('source')!r} (other examples are held out, or their content "
                "differs); report them one by one"
            )
        known = known or (run, data)


def _load_comparison(path: Path) -> Comparison:
    about = read_description(path)
    variants = [
        _load_variant(path / "runs", one, seeds_of_variant(about, one), noted_failures(about, one["name"]))
        for one in about["variants"]
    ]
    refuse_different_data(variants)
    published, tuning = about.get("published"), about.get("tuning")
    return Comparison(
        path,
        str(about["recipe"]),
        about["baseline"],
        variants,
        list(about["seeds"]),
        published if isinstance(published, list) else [],
        tuning=tuning if isinstance(tuning, dict) else None,
    )


def _load_variant(runs_folder: Path, variant: dict[str, Any], seeds: list[int], noted: dict[int, str]) -> VariantRuns:
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
                failed[seed] = reason(folder.result())
            elif seed in noted:
                failed[seed] = noted[seed]
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
    given = recipe.get("objective")
    objective = dict(given) if isinstance(given, dict) else {}
    seed = recipe["seed"] if isinstance(recipe.get("seed"), int) else 0
    run = _load_run(folder, seed)
    variant = VariantRuns(str(objective.get("name", "run")), objective, {seed: run}, {}, [])
    published = run.environment().get("published")
    name = str(recipe.get("name") or path.resolve().name)
    return Comparison(path, name, None, [variant], [seed], published if isinstance(published, list) else [])


def _load_run(folder: RunFolder, seed: int) -> RunRecord:
    result, history = folder.result(), folder.history()
    error = result_error(result) or history_error(history)
    if error:
        raise RunFolderError(f"{folder.path}/{error}")
    return RunRecord(seed, result, history, folder.path)


def _or_nothing(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except RunFolderError:
        return {}
