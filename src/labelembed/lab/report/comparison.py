"""What a comparison folder, or the folder of a single run, holds.

A run that failed or whose files are damaged is kept with the reason; it never hides the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.formatting import shortened, without_folders
from labelembed.lab.training.comparison_folder import ComparisonFile
from labelembed.lab.training.run_folder import RunFolder

Split = Literal["test", "validation"]
SPLITS: tuple[Split, ...] = ("test", "validation")
# A damaged number must not ask for a curve that fills the memory.
_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class RunRecord:
    """One finished run: its ``result.json``, its history, one dictionary an epoch, and its folder."""

    seed: int
    result: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path

    def metric(self, split: str, name: str, *, calibrated: bool = False) -> float | None:
        """Returns one metric of the selected epoch, or None where there is none."""
        metrics = (self.result.get("calibrated") or {}) if calibrated else self.result
        return number_in((metrics.get(split) or {}).get(name))

    def curve(self, split: str, name: str) -> NDArray[np.float64]:
        """Returns a number of each epoch [epochs], of `train`, `validation` or `test`; nan where there is none."""
        curve = np.full(max((int(entry["epoch"]) for entry in self.history), default=0), np.nan)
        for entry in self.history:
            numbers = entry.get(split)
            value = number_in(numbers.get(name)) if isinstance(numbers, dict) else None
            curve[entry["epoch"] - 1] = np.nan if value is None else value
        return curve

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What the run ran on; nothing where that cannot be read."""
        try:
            return RunFolder(self.folder).environment()
        except RunFolderError:
            return {}

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The run's recipe as plain values; nothing where that cannot be read."""
        try:
            return RunFolder(self.folder).recipe()
        except RunFolderError:
            return {}

    @property
    def data(self) -> dict[str, Any]:
        """What the run says of its data: `source`, `names`, `fingerprint`; nothing where it says nothing."""
        data = self.environment.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def command(self) -> list[str]:
        """The words of the command that made the run; empty where they are not known."""
        words = self.environment.get("command")
        return [str(word) for word in words] if isinstance(words, list) else []

    def losses(self, split: str) -> dict[str, NDArray[np.float64]]:
        """Returns error, NLL and calibrated NLL of each example [N]; nothing where the run keeps none of this split."""
        try:
            kept = RunFolder(self.folder).examples()
        except RunFolderError:
            return {}
        error = self.metric(split, "error")
        if kept is None or kept.split != split or error is None:
            return {}
        wrong = ~kept.right
        # Two passes over the same examples may differ in one or two on a GPU; another run differs in more.
        if abs(error - wrong.mean()) > max(1e-3, 2 / len(wrong)):
            return {}
        losses = {"error": wrong, "nll": kept.nll, "calibrated_nll": kept.nll_calibrated}
        return {name: loss.astype(np.float64) for name, loss in losses.items() if loss is not None}


@dataclass(frozen=True)
class VariantRuns:
    """The runs of one variant of an objective, by seed.

    Attributes:
        name: As in commands and files, for instance ``label_smoothing smoothing=0.4``.
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
    def objective_name(self) -> str:
        """The objective's name."""
        return str(self.objective.get("name", ""))

    @property
    def title(self) -> str:
        """The name as people say it: ``cross entropy``, ``label smoothing 0.4``, ``label embedding (rank=3)``."""
        kind, _, arguments = self.name.partition(" ")
        if kind != self.objective_name:
            return shortened(self.name, 120)
        words = "cross entropy" if kind == "one_hot" else kind.replace("_", " ")
        if arguments.startswith("smoothing=") and " " not in arguments:
            return f"{words} {arguments.removeprefix('smoothing=')}"
        return shortened(f"{words} ({arguments.removeprefix('preset=')})" if arguments else words, 120)

    @property
    def seeds(self) -> set[int]:
        """All seeds, also of runs that failed or are missing."""
        return {*self.runs, *self.failed, *self.missing}

    def metrics(self, split: str, name: str, *, calibrated: bool = False) -> dict[int, float]:
        """Returns one metric of the selected epoch by seed, of the runs that have it."""
        values = {seed: run.metric(split, name, calibrated=calibrated) for seed, run in self.runs.items()}
        return {seed: value for seed, value in values.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Variants of an objective, each trained with the same seeds.

    Attributes:
        path: The folder.
        recipe: The recipe's name.
        baseline: The variant the others are compared with; None for a single run.
        variants: In the order in which they were given.
        seeds: The seeds of the comparison.
        left_out: Folders that were given with others and cannot be shown, and why.
        tuning: How the variants' arguments were found; empty where nothing was tuned.
    """

    path: Path
    recipe: str
    baseline: str | None
    variants: list[VariantRuns]
    seeds: list[int]
    left_out: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> list[RunRecord]:
        """All finished runs."""
        return [run for variant in self.variants for run in variant.runs.values()]

    @property
    def finished(self) -> list[VariantRuns]:
        """The variants with a finished run."""
        return [variant for variant in self.variants if variant.runs]

    @property
    def baseline_runs(self) -> VariantRuns | None:
        """The baseline's runs; None for a single run."""
        return next((variant for variant in self.variants if variant.name == self.baseline), None)

    @property
    def data_name(self) -> str:
        """What the data are called, or the recipe where the runs do not say."""
        sources = [source for run in self.runs if isinstance(source := run.data.get("source"), str) and source.strip()]
        return shortened(without_folders([*sources, self.recipe][0]), 200)

    @cached_property
    def split(self) -> Split:
        """The examples that the comparison is about: the test set, where any run has one."""
        tested, validated = (any(one.metrics(split, "error") for one in self.variants) for split in SPLITS)
        return "test" if tested or not validated else "validation"

    @cached_property
    def headline(self) -> Literal["error", "bleu"]:
        """The metric that the comparison is decided by: BLEU, of which more is better, where any run has it."""
        return "bleu" if any(variant.metrics(self.split, "bleu") for variant in self.variants) else "error"

    @property
    def headline_words(self) -> str:
        """What the comparison is decided by, in words: `test error`, `validation error`, `test BLEU`."""
        return f"{self.split} {'BLEU' if self.headline == 'bleu' else 'error'}"


def load_comparison(path: str | Path) -> Comparison:
    """Reads a comparison folder, or the folder of a single finished run as a comparison without a baseline.

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


def _load_comparison(path: Path) -> Comparison:
    about = ComparisonFile.read(path).model_dump()
    noted = about.get("failed")
    entries = [entry for entry in (noted if isinstance(noted, list) else []) if isinstance(entry, dict)]
    failures = {(entry.get("variant"), entry.get("seed")): str(entry.get("message")) for entry in entries}
    variants = []
    for one in about["variants"]:
        variant = VariantRuns(one["name"], dict(one["objective"]), {}, {}, [])
        for seed in one["seeds"]:
            folder = RunFolder(path / "runs" / one["folder"] / f"seed-{seed}")
            try:
                state = folder.state()
                if state == "finished":
                    variant.runs[seed] = _load_run(folder, seed)
                elif state == "failed":
                    step, message = (folder.result().get(key) for key in ("diverged_at_step", "message"))
                    diverged = f"diverged at step {step}: " if isinstance(step, int) else ""
                    variant.failed[seed] = f"{diverged}{message or 'it failed without a message'}"
                elif (one["name"], seed) in failures:
                    variant.failed[seed] = failures[one["name"], seed]
                else:
                    variant.missing.append(seed)
            except (RunFolderError, OSError) as error:
                variant.failed[seed] = str(error).replace(f"{folder.path}/", "")
        variants.append(variant)
    check_same_data(variants)
    tuning = about.get("tuning")
    tuning = tuning if isinstance(tuning, dict) else {}
    return Comparison(path, str(about["recipe"]), about["baseline"], variants, list(about["seeds"]), tuning=tuning)


def _load_single_run(path: Path) -> Comparison:
    folder = RunFolder(path)
    folder.require_finished()
    recipe = folder.recipe()
    objective = recipe.get("objective")
    objective = dict(objective) if isinstance(objective, dict) else {}
    seed = recipe["seed"] if isinstance(recipe.get("seed"), int) else 0
    variant = VariantRuns(str(objective.get("name", "run")), objective, {seed: _load_run(folder, seed)}, {}, [])
    return Comparison(path, str(recipe.get("name") or path.resolve().name), None, [variant], [seed])


def _load_run(folder: RunFolder, seed: int) -> RunRecord:
    result, history = folder.result(), folder.history()
    error = _result_error(result) or history_error(history)
    if error:
        raise RunFolderError(f"{folder.path}/{error}")
    return RunRecord(seed, result, history, folder.path)


def _result_error(result: dict[str, Any]) -> str:
    calibrated = result.get("calibrated") or {}
    if not isinstance(calibrated, dict) or not (result.get("validation") or result.get("test")):
        return "result.json: damaged, has neither validation nor test metrics"
    wrong = [
        why for of in (result, calibrated) for split in SPLITS if (why := _wrong_error(of.get(split), required=True))
    ]
    return f"result.json: damaged, {wrong[0]}" if wrong else ""


def history_error(history: list[dict[str, Any]]) -> str:
    """Returns what cannot be true in a history, or an empty string."""
    before = 0
    for entry in history:
        if not before < entry["epoch"] <= _MOST_EPOCHS:
            return f"history.jsonl: damaged, epoch {entry['epoch']} stands after epoch {before}"
        before = entry["epoch"]
        for split in SPLITS:
            if why := _wrong_error(entry.get(split), required=False):
                return f"history.jsonl: damaged, epoch {before}: {why}"
    return ""


def _wrong_error(metrics: Any, *, required: bool) -> str:
    """Returns why metrics cannot be true: their error is no fraction, or lacking where it is required."""
    error = number_in(metrics.get("error")) if isinstance(metrics, dict) else -1.0
    if metrics is None or (error is None and not required) or (error is not None and 0 <= error <= 1):
        return ""
    return f"an error in {metrics!r:.80} is no fraction"


def number_in(value: object) -> float | None:
    """Returns a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def check_same_data(variants: Iterable[VariantRuns]) -> None:
    """Raises RunFolderError, with both, when two runs are known to be of different data."""
    runs = [
        run for variant in variants for run in variant.runs.values() if isinstance(run.data.get("fingerprint"), str)
    ]
    other = next((run for run in runs if run.data["fingerprint"] != runs[0].data["fingerprint"]), None)
    if other is not None:
        raise RunFolderError(
            f"{runs[0].folder} and {other.folder} are of different data and cannot be in one report: "
            f"{runs[0].data.get('source')!r} and {other.data.get('source')!r} (other examples are held out, or their "
            "content differs); report them one by one"
        )
