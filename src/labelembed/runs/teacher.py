"""A finished run as teacher: does it fit the data, and its logits for every training example, computed once."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.data import LabelledData, TextCorpus
from labelembed.errors import DataError, RecipeError, RunFolderError
from labelembed.runs.saved_run import SavedRun
from labelembed.runs.saved_translator import SavedTranslator
from labelembed.runs.teacher_files import LOGITS, about_table, identity
from labelembed.training.batches import TrainingData
from labelembed.training.evaluation import predicted_logits
from labelembed.training.network import Network


def teacher_network(path: Path, data: TrainingData) -> Network:
    """Returns the network of a teacher that fits the data, in evaluation mode, on the CPU.

    Args:
        path: A finished run's folder.
        data: What the student is trained on.

    Raises:
        RecipeError: When the teacher knows other labels or inputs; of a corpus: other vocabularies.
        RunFolderError: When there is no finished run in the folder, or one on the other kind of data.
    """
    try:
        run = (SavedTranslator if isinstance(data, TextCorpus) else SavedRun).load(path)
    except RunFolderError as error:
        raise RunFolderError(f"objective.teacher: {error}") from error
    if isinstance(run, SavedTranslator):
        assert isinstance(data, TextCorpus)
        differing = run.other_vocabulary(data)
        faults = [] if differing is None else [f"objective.teacher: {differing}; give both runs corpora of the same"]
    else:
        assert isinstance(data, LabelledData)
        faults = []
        if run.names != data.names:
            theirs, ours = _difference(run.names, data.names)
            faults.append(f"objective.teacher: {path} was trained on the labels {theirs}, the data have {ours}")
        if run.input_shape != data.input_shape:
            shapes = f"{list(run.input_shape)}, the data have {list(data.input_shape)}"
            faults.append(f"objective.teacher: {path} was trained on inputs {shapes}")
        elif run.encoder.files() != data.encoder.files():
            faults.append(
                f"objective.teacher: {path} learned other inputs from its training examples; give both runs the same "
                "data, data.train_rows and data.validation"
            )
    if faults:
        raise RecipeError(faults)
    return run.network


def teacher_logits(path: Path, data: LabelledData) -> Tensor:
    """Returns the teacher's logits [R, C], float32 on the CPU, for the training examples without augmentation.

    They are the network's own in evaluation mode, not divided by the temperature of its calibration.

    Args:
        path: A finished run's folder, or a table of its logits.
        data: The training examples.

    Raises:
        DataError: When a table cannot be read.
        RecipeError: When the teacher knows other labels, inputs or examples.
        RunFolderError: When there is no finished run in the folder.
    """
    return _logits_of_table(path, data) if path.is_file() else _logits_of_run(path, data)


# Many runs of one process may have one teacher and, read once, the very same data.
@lru_cache(maxsize=2)
def _logits_of_run(path: Path, data: LabelledData) -> Tensor:
    network = teacher_network(path, data)
    logits = predicted_logits(network, data.train.inputs.cpu())
    refuse_values_that_are_not_finite(logits, torch.arange(len(logits)), path)
    return logits


def refuse_values_that_are_not_finite(logits: Tensor, indices: Tensor, path: Path) -> None:
    """Raises RecipeError when any of a teacher's logits [n, C] of training examples [n] is not finite."""
    if not bool(torch.isfinite(logits).all()):
        index = int(indices[(~torch.isfinite(logits)).any(dim=1).nonzero()[0, 0]])
        raise RecipeError([f"objective.teacher: {path} gives no finite logits for training example {index}"])


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> tuple[str, str]:
    """Returns both names of the first label that differs, with the number of labels."""
    place = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"({len(theirs)} of them)", f"{len(ours)}"
    return f"({len(theirs)}, number {place} is {theirs[place]!r})", f"{len(ours)}, number {place} is {ours[place]!r}"


def _logits_of_table(path: Path, data: LabelledData) -> Tensor:
    about = about_table(path, LOGITS)
    try:
        with safe_open(path, framework="pt") as file:
            table: Tensor = file.get_tensor("logits")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged table of a teacher's logits ({error})") from error
    wanted = [len(data.train), data.num_labels]
    if list(table.shape) != wanted or about.get("data") != data.fingerprint():
        raise RecipeError(
            [
                f"objective.teacher: {path} holds logits {list(table.shape)} of other training examples than the "
                f"data's {wanted}; name the teacher's run folder, and they are computed anew"
            ]
        )
    return table


def table_bytes(path: Path, data: LabelledData) -> bytes:
    """Returns the file of all logits that a run folder keeps of its teacher."""
    if path.is_file():
        teacher_logits(path, data)  # refuses what does not fit
        return path.read_bytes()
    about = {"format": LOGITS, "data": data.fingerprint(), "model": identity(path)}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    return bytes(save({"logits": teacher_logits(path, data)}, metadata={"about": json.dumps(about)}))
