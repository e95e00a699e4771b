"""What run and comparison folders hold: variants of an objective, each with its runs by seed.

A run that failed or whose files are damaged is kept with the reason; it never hides the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import nearest
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.formatting import shortened, without_folders
from labelembed.lab.training.comparison_folder import ComparisonFile
from labelembed.lab.training.run_folder import ExampleOutcomes, RunFolder

Content = TypeVar("Content")
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

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics of the selected epoch that are a number, as ``test_nll`` and ``test_calibrated_nll``."""
        both = {"": self.result, "calibrated_": self.result.get("calibrated") or {}}
        return {
            f"{split}_{prefix}{name}": number
            for prefix, metrics in both.items()
            for split in SPLITS
            for name, value in (metrics.get(split) or {}).items()
            if (number := number_in(value)) is not None
        }

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
        return readable(RunFolder(self.folder).environment) or {}

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The run's recipe as plain values; nothing where that cannot be read."""
        return readable(RunFolder(self.folder).recipe) or {}

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

    @cached_property
    def _outcomes(self) -> ExampleOutcomes | None:
        return readable(RunFolder(self.folder).examples)

    def losses(self, split: str) -> dict[str, NDArray[np.float64]]:
        """Returns error, NLL and calibrated NLL of each example [N]; nothing where the run keeps none of this split."""
        kept, error = self._outcomes, self.metrics.get(f"{split}_error")
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
    """The finished runs of one variant by seed, why others failed, and the seeds that have not run to the end.

    Its name is as in commands and files, for instance ``label_smoothing smoothing=0.4``.
    """

    name: str
    objective: dict[str, Any]
    runs: dict[int, RunRecord] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

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

    def metrics(self, split: str, name: str) -> dict[int, float]:
        """Returns one metric of the selected epoch by seed, of the runs that have it."""
        key = f"{split}_{name}"
        return {seed: run.metrics[key] for seed, run in self.runs.items() if key in run.metrics}


@dataclass(frozen=True)
class Comparison:
    """Variants of an objective, each trained with the same seeds; of a single run there is no baseline.

    `tuning` and `notes` are those of ``comparison.json``.
    """

    path: Path
    recipe: str
    baseline: str | None
    variants: list[VariantRuns]
    seeds: list[int]
    tuning: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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


def load_comparison(path: str | Path, *, baseline: str | None = None) -> Comparison:
    """Reads a comparison folder, or the folder of a single finished run as a comparison without a baseline.

    `baseline`, a variant or an objective, replaces the comparison's own. Raises RunFolderError where the folder cannot
    be read or runs are of different data; a damaged run inside a comparison raises nothing, it is in `failed`.
    """
    path = Path(path)
    if (path / "comparison.json").is_file():
        read = _load_comparison(path)
    elif (path / "recipe.yaml").is_file():
        read = _load_single_run(RunFolder(path))
    else:
        neither = "neither a comparison folder (no comparison.json) nor a run folder (no recipe.yaml)"
        raise RunFolderError(f"{path}: {neither if path.exists() else 'no such folder'}")
    if baseline is None:
        return read
    names = [one.name for one in read.variants]
    chosen = [one.name for one in read.variants if baseline in (one.name, one.objective_name)]
    chosen = [baseline] if baseline in chosen else chosen
    if len(chosen) != 1:
        what = "stands for more than one of" if chosen else "is none of"
        raise RunFolderError(f"--baseline: {baseline!r} {what} {', '.join(names)}{nearest(baseline, names)}")
    return replace(read, baseline=chosen[0])


def _load_comparison(path: Path) -> Comparison:
    about, variants = ComparisonFile.read(path), []
    for entry in about.variants:
        variant = VariantRuns(entry.name, entry.objective)
        for seed in entry.seeds:
            folder = RunFolder(path / "runs" / entry.folder / f"seed-{seed}")
            try:
                if folder.state() == "finished":
                    variant.runs[seed] = _load_run(folder, seed)
                elif result := folder.result():  # also of a run that died before it wrote its recipe
                    step, message = (result.get(key) for key in ("diverged_at_step", "message"))
                    diverged = f"diverged at step {step}: " if isinstance(step, int) else ""
                    variant.failed[seed] = f"{diverged}{message or 'it failed without a message'}"
                else:
                    variant.missing.append(seed)
            except (RunFolderError, OSError) as error:
                variant.failed[seed] = str(error).replace(f"{folder.path}/", "")
        variants.append(variant)
    _check_same_data(variants)
    return Comparison(path, about.recipe, about.baseline, variants, about.seeds, tuning=about.tuning, notes=about.notes)


def _load_single_run(folder: RunFolder) -> Comparison:
    folder.require_finished()
    recipe = folder.recipe()
    objective = recipe.get("objective")
    objective = objective if isinstance(objective, dict) else {}
    seed = recipe["seed"] if isinstance(recipe.get("seed"), int) else 0
    variant = VariantRuns(str(objective.get("name", "run")), objective, {seed: _load_run(folder, seed)})
    return Comparison(folder.path, str(recipe.get("name") or folder.path.resolve().name), None, [variant], [seed])


def _load_run(folder: RunFolder, seed: int) -> RunRecord:
    result, history = folder.result(), folder.history()
    calibrated, error = result.get("calibrated") or {}, history_error(history)
    if not isinstance(calibrated, dict) or not (result.get("validation") or result.get("test")):
        error = "result.json: has neither validation nor test metrics, or is damaged"
    elif not all(_can_be(of.get(split), error_needed=True) for of in (result, calibrated) for split in SPLITS):
        error = "result.json: damaged, an error in it is no fraction"
    if error:
        raise RunFolderError(f"{folder.path}/{error}")
    return RunRecord(seed, result, history, folder.path)


def history_error(history: list[dict[str, Any]]) -> str:
    """Returns the first impossible value in a history, as a sentence, or an empty string."""
    before = 0
    for entry in history:
        if not before < entry["epoch"] <= _MOST_EPOCHS:
            return f"history.jsonl: damaged, epoch {entry['epoch']} stands after epoch {before}"
        before = entry["epoch"]
        if not all(_can_be(entry.get(split), error_needed=False) for split in SPLITS):
            return f"history.jsonl: damaged, an error of epoch {before} is no fraction"
    return ""


def _can_be(metrics: Any, *, error_needed: bool) -> bool:
    """Returns whether metrics are none at all, or a mapping whose error is a fraction, or lacking where it may be."""
    error = number_in(metrics.get("error")) if isinstance(metrics, dict) else -1.0
    return metrics is None or (not error_needed if error is None else 0 <= error <= 1)


def number_in(value: object) -> float | None:
    """Returns a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def readable(read: Callable[[], Content]) -> Content | None:
    """Returns the result of reading from a run folder; None where it is damaged."""
    try:
        return read()
    except RunFolderError:
        return None


def _check_same_data(variants: Iterable[VariantRuns]) -> None:
    runs = [run for one in variants for run in one.runs.values() if isinstance(run.data.get("fingerprint"), str)]
    other = next((run for run in runs if run.data["fingerprint"] != runs[0].data["fingerprint"]), None)
    if other is not None:
        sources = f"{runs[0].data.get('source')!r} and {other.data.get('source')!r}"
        raise RunFolderError(f"{runs[0].folder} and {other.folder} are of different data ({sources})")
