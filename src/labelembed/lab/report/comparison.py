"""What a comparison folder, or the folder of a single run, holds.

A run that failed or whose files are damaged is kept with the reason; it never hides the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.formatting import shortened, without_folders
from labelembed.lab.training.comparison_folder import read_description, seeds_of_variant
from labelembed.lab.training.run_folder import RunFolder

Split = Literal["test", "validation"]
SPLITS: tuple[Split, ...] = ("test", "validation")
# A damaged number must not ask for a curve that fills the memory.
_MOST_EPOCHS = 1_000_000

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Metrics(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    error: Fraction
    calibration_error: Fraction | None = None
    top5_error: Fraction | None = None
    top2_error: Fraction | None = None
    macro_f1: Fraction | None = None
    balanced_accuracy: Fraction | None = None
    bleu: Fraction | None = None


class _Measured(BaseModel):
    validation: _Metrics | None = None
    test: _Metrics | None = None


class _Result(_Measured):
    calibrated: _Measured | None = None


@dataclass(frozen=True)
class RunRecord:
    """One finished run: its `result.json` and its history, one dictionary an epoch."""

    seed: int
    result: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path

    def metric(self, split: str, name: str, *, calibrated: bool = False) -> float | None:
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

    def curve(self, split: str, name: str) -> NDArray[np.float64]:
        """Returns a number of each epoch [epochs], of `train`, `validation` or `test`; nan where there is none."""
        curve = np.full(max((int(entry["epoch"]) for entry in self.history), default=0), np.nan)
        for entry in self.history:
            numbers = entry.get(split)
            value = number_in(numbers.get(name)) if isinstance(numbers, dict) else None
            if value is not None:
                curve[entry["epoch"] - 1] = value
        return curve

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What the run ran on; nothing where that cannot be read."""
        return _or_nothing(RunFolder(self.folder).environment)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The run's recipe as plain values; nothing where that cannot be read."""
        return _or_nothing(RunFolder(self.folder).recipe)

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

    def losses(self, split: str) -> dict[str, NDArray[np.float64]] | None:
        """Returns error, NLL and calibrated NLL of each example [N]; None where the run keeps none of this split."""
        try:
            kept = RunFolder(self.folder).examples()
        except RunFolderError:
            return None
        error = self.metric(split, "error")
        if kept is None or kept.split != split or error is None:
            return None
        losses = {"error": 1 - kept.right.astype(np.float64), "nll": kept.nll.astype(np.float64)}
        if kept.nll_calibrated is not None:
            losses["calibrated_nll"] = kept.nll_calibrated.astype(np.float64)
        # Two passes over the same examples may differ in one or two on a GPU; another run differs in more.
        same = abs(error - losses["error"].mean()) <= max(1e-3, 2 / len(kept.right))
        return losses if same else None


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
        kind, words = self.objective_name, self.objective_name.replace("_", " ")
        words = "cross entropy" if kind == "one_hot" else words
        if not kind or self.name.split(" ")[0] != kind:
            return self.name
        arguments = self.name.removeprefix(kind).strip()
        if arguments.startswith("smoothing=") and " " not in arguments:
            return f"{words} {arguments.removeprefix('smoothing=')}"
        return f"{words} ({arguments.removeprefix('preset=')})" if arguments else words

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
        published: What papers report for the recipe: mappings with `objective`, `metric`, `value` and `source`.
        left_out: Folders that were given with others and cannot be shown, and why.
        tuning: How the variants' arguments were found; None where nothing was tuned.
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
    def finished(self) -> list[VariantRuns]:
        """The variants with a finished run."""
        return [variant for variant in self.variants if variant.runs]

    @cached_property
    def data_name(self) -> str:
        """What the data are called, or the recipe where the runs do not say."""
        sources = (run.data.get("source") for run in self.runs)
        source = next((source for source in sources if isinstance(source, str) and source.strip()), self.recipe)
        return shortened(without_folders(source), 200)

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

    @cached_property
    def speed_split(self) -> Split:
        """The examples whose errors over the epochs say how fast a run learns: validation, if there are any."""
        validated = any(np.isfinite(run.curve("validation", "error")).any() for run in self.runs)
        return "validation" if validated else self.split

    @property
    def baseline_runs(self) -> VariantRuns | None:
        """The baseline's runs; None for a single run."""
        return next((variant for variant in self.variants if variant.name == self.baseline), None)


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
    about = read_description(path)
    noted = about.get("failed")
    failures = {
        (str(entry.get("variant")), entry.get("seed")): str(entry.get("message"))
        for entry in (noted if isinstance(noted, list) else [])
        if isinstance(entry, dict)
    }
    variants = []
    for one in about["variants"]:
        runs: dict[int, RunRecord] = {}
        failed: dict[int, str] = {}
        missing: list[int] = []
        for seed in seeds_of_variant(about, one):
            folder = RunFolder(path / "runs" / one["folder"] / f"seed-{seed}")
            try:
                state = folder.state()
                if state == "finished":
                    runs[seed] = _load_run(folder, seed)
                elif state == "failed":
                    failed[seed] = _reason(folder.result())
                elif (one["name"], seed) in failures:
                    failed[seed] = failures[one["name"], seed]
                else:
                    missing.append(seed)
            except (RunFolderError, OSError) as error:
                failed[seed] = str(error).replace(f"{folder.path}/", "")
        variants.append(VariantRuns(one["name"], dict(one["objective"]), runs, failed, missing))
    check_same_data(variants)
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


def _load_single_run(path: Path) -> Comparison:
    folder = RunFolder(path)
    folder.require_finished()
    recipe = folder.recipe()
    objective = recipe.get("objective")
    objective = dict(objective) if isinstance(objective, dict) else {}
    seed = recipe["seed"] if isinstance(recipe.get("seed"), int) else 0
    run = _load_run(folder, seed)
    variant = VariantRuns(str(objective.get("name", "run")), objective, {seed: run}, {}, [])
    published = run.environment.get("published")
    name = str(recipe.get("name") or path.resolve().name)
    return Comparison(path, name, None, [variant], [seed], published if isinstance(published, list) else [])


def _load_run(folder: RunFolder, seed: int) -> RunRecord:
    result, history = folder.result(), folder.history()
    error = result_error(result) or history_error(history)
    if error:
        raise RunFolderError(f"{folder.path}/{error}")
    return RunRecord(seed, result, history, folder.path)


def result_error(result: dict[str, Any]) -> str:
    """Returns what cannot be true in a ``result.json``, or an empty string."""
    try:
        measured = _Result.model_validate(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"result.json: damaged, {'.'.join(map(str, first['loc']))} {first['msg']}, got {first['input']!r:.80}"
    if measured.validation is None and measured.test is None:
        return "result.json: damaged, has neither validation nor test metrics"
    return ""


def history_error(history: list[dict[str, Any]]) -> str:
    """Returns what cannot be true in a history, or an empty string."""
    before = 0
    for entry in history:
        if not before < entry["epoch"] <= _MOST_EPOCHS:
            return f"history.jsonl: damaged, epoch {entry['epoch']} stands after epoch {before}"
        before = entry["epoch"]
        for split in SPLITS:
            metrics = entry.get(split)
            error = number_in(metrics.get("error")) if isinstance(metrics, dict) else None
            if not isinstance(metrics, dict | None) or (error is not None and not 0 <= error <= 1):
                return f"history.jsonl: damaged, epoch {before} has {error or metrics!r:.80} as {split} error, no fraction"
    return ""


def number_in(value: object) -> float | None:
    """Returns a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _reason(result: dict[str, Any]) -> str:
    message, step = str(result.get("message") or "it failed without a message"), result.get("diverged_at_step")
    return f"diverged at step {step}: {message}" if isinstance(step, int) else message


def _or_nothing(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except RunFolderError:
        return {}


def check_same_data(variants: Sequence[VariantRuns]) -> None:
    """Raises RunFolderError, with both, when two runs are known to be of different data."""
    known = [
        run
        for variant in variants
        for run in variant.runs.values()
        if isinstance(run.data.get("fingerprint"), str)
    ]
    for run in known[1:]:
        if run.data["fingerprint"] != known[0].data["fingerprint"]:
            raise RunFolderError(
                f"{known[0].folder} and {run.folder} are of different data and cannot be in one report: "
                f"{known[0].data.get('source')!r} and {run.data.get('source')!r} (other examples are held out, or "
                "their content differs); report them one by one"
            )
