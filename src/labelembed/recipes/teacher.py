"""A finished run as teacher: its logits for every training row, computed once."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.data import LabelledData
from labelembed.errors import DataError, RecipeError, RunFolderError
from labelembed.training.files import sha256
from labelembed.training.run_folder import RunFolder

# Where a run folder keeps the teacher's logits.
TEACHER_FILE = "teacher.safetensors"
_FORMAT = "labelembed.teacher.1"


def teacher_path(given: Path, *, base: Path | None = None) -> Path:
    """Returns the teacher's run folder, or the table of its logits that a run folder keeps.

    Args:
        given: What the recipe says.
        base: The run folder of the student: its own table is taken first.
    """
    return kept_file(base, TEACHER_FILE) or given.expanduser()


def kept_file(folder: Path | None, name: str) -> Path | None:
    """Returns a file that a run folder keeps, None where the run has not begun: its recipe is written last."""
    begun = folder is not None and RunFolder(folder).state() != "empty"
    return folder / name if folder is not None and begun and (folder / name).is_file() else None


def teacher_logits(path: Path, data: LabelledData) -> Tensor:
    """Returns the teacher's logits [rows, C], float32 on the CPU, for the training rows without augmentation.

    They are the network's own in evaluation mode, not divided by the temperature of its calibration.

    Args:
        path: A finished run's folder, or a table of its logits.
        data: The training rows.

    Raises:
        DataError: When a table cannot be read.
        RecipeError: When the teacher knows other labels, inputs or rows.
        RunFolderError: When there is no finished run in the folder.
    """
    return _logits_of_table(path, data) if path.is_file() else _logits_of_run(path, data)


# Many runs of one process may have one teacher and, read once, the very same data.
@lru_cache(maxsize=2)
def _logits_of_run(path: Path, data: LabelledData) -> Tensor:
    from labelembed.recipes.saved_run import SavedRun  # which builds networks, and they may need a teacher
    from labelembed.training.evaluation import predicted_logits

    try:
        run = SavedRun.load(path)
    except RunFolderError as error:
        raise RunFolderError(f"objective.teacher: {error}") from error
    faults = []
    if run.names != data.names:
        theirs, ours = _difference(run.names, data.names)
        faults.append(f"objective.teacher: {path} was trained on the labels {theirs}, the data have {ours}")
    if run.input_shape != data.input_shape:
        shapes = f"{list(run.input_shape)}, the data have {list(data.input_shape)}"
        faults.append(f"objective.teacher: {path} was trained on inputs {shapes}")
    if faults:
        raise RecipeError(faults)
    logits = predicted_logits(run.network, data.train.inputs.cpu()).float().cpu().clone()
    if not bool(torch.isfinite(logits).all()):
        row = int((~torch.isfinite(logits)).any(dim=1).nonzero()[0])
        raise RecipeError([f"objective.teacher: {path} gives no finite logits for training row {row}"])
    return logits


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> tuple[str, str]:
    """Returns both names of the first label that differs, with the number of labels."""
    place = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"({len(theirs)} of them)", f"{len(ours)}"
    return f"({len(theirs)}, number {place} is {theirs[place]!r})", f"{len(ours)}, number {place} is {ours[place]!r}"


def _about(path: Path) -> dict[str, Any]:
    """Returns what a table says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no safetensors file ({error})") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise DataError(f"{path}: a safetensors file, but no table of a teacher's logits")
    return about


def _logits_of_table(path: Path, data: LabelledData) -> Tensor:
    about = _about(path)
    try:
        with safe_open(path, framework="pt") as file:
            table: Tensor = file.get_tensor("logits")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged table of a teacher's logits ({error})") from error
    wanted = [len(data.train), data.num_labels]
    if list(table.shape) != wanted or about.get("data") != data.fingerprint():
        raise RecipeError(
            [
                f"objective.teacher: {path} holds logits {list(table.shape)} of other training rows than the "
                f"data's {wanted}; name the teacher's run folder, and they are computed anew"
            ]
        )
    return table


def table_bytes(path: Path, data: LabelledData) -> bytes:
    """Returns the file that a run folder keeps of its teacher."""
    if path.is_file():
        teacher_logits(path, data)  # refuses what does not fit
        return path.read_bytes()
    about = {"format": _FORMAT, "data": data.fingerprint(), "model": identity(path)}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    return bytes(save({"logits": teacher_logits(path, data)}, metadata={"about": json.dumps(about)}))


def identity(path: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights, None where they are gone."""
    if path.is_file():
        return str(_about(path).get("model"))
    weights = RunFolder(path).model_file
    return sha256(weights) if weights.is_file() else None
