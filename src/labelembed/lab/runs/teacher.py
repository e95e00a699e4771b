"""The teacher of a distillation: what a finished run predicts of every training example, kept in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from labelembed.errors import DataError
from labelembed.files import require_header
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.references import TEACHER_FILE
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import check_same_labels
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import predicted_logits


def teacher_table(recipe: Recipe, data: Any, *, device: torch.device | None = None, dry_run: bool = False) -> bytes:
    """Returns the file that a run folder keeps of its teacher: the logits [N, C] of every training example.

    They are those in evaluation mode without augmentation, and not divided by the temperature of a calibration. In a
    dry run one example shows whether the teacher fits. Raises RecipeError when it does not fit the data, and
    RunFolderError when there is no finished run in the folder.
    """
    from labelembed.lab.runs.results import best_run

    try:
        teacher = SavedRun.load(best_run(Path(recipe.objective["teacher"]).expanduser(), without="distillation"))
        task, run = teacher.classification, teacher.folder.path
    except RunFolderError as error:
        raise RunFolderError(f"objective.teacher: {error}") from error
    check_same_labels("objective.teacher", run, task.names, data.names)
    way_out = "give both the same data, train_examples, validation and test_fraction"
    if task.input_shape != data.input_shape or task.encoder.files() != data.encoder.files():
        shapes = f"{list(task.input_shape)} there, {list(data.input_shape)} here"
        raise RecipeError([f"objective.teacher: {run} was trained on other inputs ({shapes}); {way_out}"])
    if teacher.folder.environment()["data"]["fingerprint"] != data.fingerprint():  # it may know test examples
        raise RecipeError([f"objective.teacher: {run} was trained on other data or other splits; {way_out}"])
    network = teacher.network if device is None else teacher.network.to(device)
    return save({"logits": predicted_logits(network, data.train.inputs[:1] if dry_run else data.train.inputs)})


def read_table(folder: Path) -> Tensor:
    """Returns the logits [N, C] that a run folder keeps of its teacher."""
    path = folder / TEACHER_FILE
    try:
        require_header(path)
        return load_file(path)["logits"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged, no table of a teacher's logits ({error})") from error
