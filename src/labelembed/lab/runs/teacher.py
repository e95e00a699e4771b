"""The teacher of a distillation: what finished runs predict of every training example, made once for a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.errors import DataError
from labelembed.files import require_header
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.references import TEACHER_FILE
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import predicted_logits
from labelembed.lab.training.files import sha256
from labelembed.lab.training.network import Network, TrainingData
from labelembed.lab.training.run_folder import RunFolder

_FORMAT = "labelembed.teacher.1"


def teacher_table(
    recipe: Recipe, data: TrainingData, *, device: torch.device | None = None, dry_run: bool = False
) -> bytes:
    """Returns the file that a run folder keeps of its teacher: the logits [R, C] of every training example.

    The recipe names a run folder, a comparison folder (its best run by validation, students left out), or such a file.
    The logits are those in evaluation mode without augmentation, and not divided by the temperature of a calibration.
    In a dry run one example shows whether the teacher fits.

    Raises:
        RecipeError: When the teacher does not fit the data, or what it says is not finite.
        RunFolderError: When there is no finished run in the folder.
    """
    given = Path(recipe.objective["teacher"]).expanduser()
    logits = read_table(given, data) if given.is_file() else _logits(_run(given), data, device, dry_run=dry_run)
    about = {"format": _FORMAT, "data": data.fingerprint(), "model": teacher_identity(given)}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    return save({"logits": logits}, metadata={"about": json.dumps(about)})


def attach_teacher_logits(recipe: Recipe, folder: RunFolder, data: TrainingData, network: Network) -> None:
    """Gives an objective that learns from a teacher the table that lies in the run folder."""
    if "teacher" in recipe.objective:
        device = next(network.parameters()).device
        network.objective.teacher_logits = read_table(folder.path / TEACHER_FILE, data).to(device)


def read_table(path: Path, data: TrainingData) -> Tensor:
    """Returns the logits [R, C] of a table; refuses a damaged one, and one of other examples."""
    about, logits = _read(path)
    if about.get("data") != data.fingerprint():
        way_out = "name the teacher's run folder, and they are computed again"
        raise RecipeError([f"objective.teacher: {path} holds logits of other training examples; {way_out}"])
    if list(logits.shape) != [len(data.train), data.num_labels]:
        raise DataError(f"{path}: damaged table of a teacher's logits, {list(logits.shape)}")
    return logits


def teacher_identity(given: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights; None where they are gone."""
    if given.is_file():
        return str(_read(given)[0].get("model"))
    file = RunFolder(_run(given)).model_file
    return sha256(file) if file.is_file() else None


def _read(path: Path) -> tuple[dict[str, Any], Tensor]:
    try:
        require_header(path)
        with safe_open(path, framework="pt") as file:
            about, logits = json.loads((file.metadata() or {})["about"]), file.get_tensor("logits")
        if about["format"] != _FORMAT or logits.dtype != torch.float32:
            raise ValueError(f"of another format, {logits.dtype}")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no table of a teacher's logits ({error})") from error
    return about, logits


def _run(given: Path) -> Path:
    from labelembed.lab.runs.results import best_run

    return best_run(given, without="distillation")


def _logits(run: Path, data: Any, device: torch.device | None, *, dry_run: bool) -> Tensor:
    """Returns what one run predicts, once its labels and inputs are those of the data."""
    try:
        teacher = SavedRun.load(run)
        task = teacher.classification
    except RunFolderError as error:
        raise RunFolderError(f"objective.teacher: {error}") from error
    wrong = ""
    if task.names != data.names:
        wrong = f"was trained on {len(task.names)} labels, the data have {len(data.names)}"
        for number, (theirs, ours) in enumerate(zip(task.names, data.names, strict=False)):
            if theirs != ours:
                wrong = f"was trained on other labels: number {number} is {theirs!r}, in the data {ours!r}"
                break
    elif task.input_shape != data.input_shape:
        wrong = f"was trained on inputs {list(task.input_shape)}, the data have {list(data.input_shape)}"
    elif task.encoder.files() != data.encoder.files():
        wrong = (
            "learned other inputs from its training examples; give both the same data, train_examples and validation"
        )
    if wrong:
        raise RecipeError([f"objective.teacher: {run} {wrong}"])
    network = teacher.network if device is None else teacher.network.to(device)
    logits = predicted_logits(network, data.train.inputs[:1] if dry_run else data.train.inputs)
    if not logits.isfinite().all():
        raise RecipeError([f"objective.teacher: {run} gives logits that are not finite"])
    return logits
