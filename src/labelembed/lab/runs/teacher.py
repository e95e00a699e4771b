"""The teacher of a distillation: what finished runs predict of every training example, made once for a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.errors import DataError
from labelembed.files import require_header
from labelembed.lab.data import LabelledData
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.references import TEACHER_FILE
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.comparison_folder import DESCRIPTION_FILE, ComparisonFile
from labelembed.lab.training.evaluation import predicted_logits
from labelembed.lab.training.files import sha256
from labelembed.lab.training.network import Network, TrainingData
from labelembed.lab.training.reporter import Reporter
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import Distillation

LOGITS = "labelembed.teacher.1"


def teacher_runs(path: Path) -> list[Path]:
    """Returns the runs that teach: one, or of a comparison the finished ones of the best variant by validation error.

    Raises:
        RunFolderError: No run of the comparison has finished, or none has a validation error.
    """
    if not (path / DESCRIPTION_FILE).is_file():
        return [path]
    best, lowest = None, float("inf")
    for variant in ComparisonFile.read(path).variants:
        if variant.objective.get("name") == "distillation":  # its own students
            continue
        runs = [path / "runs" / variant.folder / f"seed-{seed}" for seed in variant.seeds]
        finished = [run for run in runs if RunFolder(run).state() == "finished"]
        metrics = [RunFolder(run).result().get("validation") or {} for run in finished]
        if metrics and (error := fmean(one.get("error", float("inf")) for one in metrics)) < lowest:
            best, lowest = finished, error
    if best is None:
        raise RunFolderError(f"objective.teacher: {path} has no finished run with a validation error")
    return best


def identity(path: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights, of several one after the other; None where they are gone."""
    if path.is_file():
        return str(about_table(path).get("model"))
    weights = [RunFolder(run).model_file for run in teacher_runs(path)]
    return "-".join(map(sha256, weights)) if all(file.is_file() for file in weights) else None


def about_table(path: Path) -> dict[str, Any]:
    """Returns what a table of logits says of itself; raises DataError where it is none."""
    try:
        require_header(path)
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no safetensors file ({error})") from error
    if not isinstance(about, dict) or about.get("format") != LOGITS:
        raise DataError(f"{path}: a safetensors file, but no table of a teacher's logits")
    return about


def read_table(path: Path, data: TrainingData) -> Tensor:
    """Returns the logits [R, C] of a table.

    Raises:
        DataError: When it cannot be read.
        RecipeError: When it is of other training examples.
    """
    about = about_table(path)
    if about.get("data") != data.fingerprint():
        way_out = "name the teacher's run folder, and they are computed again"
        raise RecipeError([f"objective.teacher: {path} holds logits of other training examples; {way_out}"])
    try:
        with safe_open(path, framework="pt") as file:
            logits: Tensor = file.get_tensor("logits")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged table of a teacher's logits ({error})") from error
    if list(logits.shape) != [len(data.train), data.num_labels] or logits.dtype != torch.float32:
        raise DataError(f"{path}: damaged table of a teacher's logits ({logits.dtype} {list(logits.shape)})")
    return logits


def check_teacher(given: Path, data: TrainingData) -> None:
    """Raises RecipeError, DataError or RunFolderError when a teacher's run, or a table of it, does not fit the data."""
    if given.is_file():
        read_table(given, data)
    else:
        for run in teacher_runs(given):
            _network_of(run, data)


def write_table(file: Path, given: Path, data: TrainingData, *, device: torch.device, reporter: Reporter) -> None:
    """Writes what the teacher predicts for every training example, in evaluation mode and without augmentation.

    Of several runs it is the log of their mean prediction. The logits are the networks' own, not divided by the
    temperature of their calibration.

    Args:
        file: Where it goes.
        given: The teacher's run or comparison folder, or a table.
        data: Whose training examples.
        device: Where the teacher computes.
        reporter: Told that it takes time.

    Raises:
        RecipeError: When the teacher does not fit, or what it says is not finite.
        RunFolderError: When there is no finished run in the folder.
    """
    model = identity(given)
    if given.is_file():
        logits = read_table(given, data)
    else:
        runs = teacher_runs(given)
        reporter.note(f"the teacher ({len(runs)} runs) predicts {len(data.train):,} training examples")
        each = (_logits(run, data, device) for run in runs)
        logits = next(each)
        if len(runs) > 1:
            mean = logits.softmax(dim=-1) / len(runs)
            for more in each:
                mean += more.softmax(dim=-1) / len(runs)
            logits = mean.clamp_min(torch.finfo(torch.float32).tiny).log()
    about = {"format": LOGITS, "data": data.fingerprint(), "model": model}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    RunFolder(file.parent).write(file.name, save({"logits": logits}, metadata={"about": json.dumps(about)}))


def attach_teacher_logits(recipe: Recipe, folder: RunFolder, data: TrainingData, network: Network) -> None:
    """Gives an objective that learns from a teacher the table that lies in the run folder."""
    if "teacher" in recipe.objective and isinstance(network.objective, Distillation):
        device = next(network.parameters()).device
        network.objective.teacher_logits = read_table(folder.path / TEACHER_FILE, data).to(device)


def _logits(run: Path, data: TrainingData, device: torch.device) -> Tensor:
    network = _network_of(run, data).to(device)
    assert isinstance(data, LabelledData)  # or there is no such network
    logits = predicted_logits(network, data.train.inputs)
    wrong = (~logits.isfinite()).any(dim=1).nonzero()
    if len(wrong):
        raise RecipeError([f"objective.teacher: {run} gives no finite logits for training example {int(wrong[0, 0])}"])
    return logits


def _network_of(run: Path, data: TrainingData) -> Network:
    """Returns the network of a teacher that fits the data, in evaluation mode, on the CPU."""
    if not isinstance(data, LabelledData):
        raise RecipeError(["objective.teacher: runs on a corpus cannot be distilled; take label smoothing"])
    try:
        teacher = SavedRun.load(run)
        task = teacher.classification
    except RunFolderError as error:
        raise RunFolderError(f"objective.teacher: {error}") from error
    errors = []
    if task.names != data.names:
        pairs = enumerate(zip(task.names, data.names, strict=False))
        number = next((i for i, (theirs, ours) in pairs if theirs != ours), None)
        what = f"{len(task.names)} labels, the data have {len(data.names)}"
        if number is not None:
            what = f"other labels: number {number} is {task.names[number]!r}, in the data {data.names[number]!r}"
        errors.append(f"objective.teacher: {run} was trained on {what}")
    if task.input_shape != data.input_shape:
        shapes = f"{list(task.input_shape)}, the data have {list(data.input_shape)}"
        errors.append(f"objective.teacher: {run} was trained on inputs {shapes}")
    elif task.encoder.files() != data.encoder.files():
        what = "learned other inputs from its training examples; give both runs the same data, data.train_examples and"
        errors.append(f"objective.teacher: {run} {what} data.validation")
    if errors:
        raise RecipeError(errors)
    return teacher.network
