"""A finished run as teacher: does it fit the data, and its logits for every training row, computed once."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.data import LabelledData, TextCorpus
from labelembed.errors import DataError, RecipeError, RunFolderError
from labelembed.tensor_files import require_header
from labelembed.training.files import sha256
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder
from labelembed.training.training_data import TrainingData

# Where a run folder keeps what the teacher says of the training rows.
TEACHER_FILE = "teacher.safetensors"
# The formats of such a file: all logits, or soft labels by their largest entries (see `teacher_table`).
LOGITS = "labelembed.teacher.1"
SOFT_LABELS = "labelembed.teacher_soft_labels.1"
_WORDS = {LOGITS: "logits", SOFT_LABELS: "soft labels"}


def teacher_path(given: Path, *, base: Path | None = None) -> Path:
    """Returns the teacher's run folder, or the table of what it says that a run folder keeps.

    Args:
        given: What the recipe says.
        base: The run folder of the student: its own table is taken first.
    """
    return kept_file(base, TEACHER_FILE) or given.expanduser()


def kept_file(folder: Path | None, name: str) -> Path | None:
    """Returns a file that a run folder keeps, None where the run has not begun: its recipe is written last."""
    begun = folder is not None and RunFolder(folder).state() != "empty"
    return folder / name if folder is not None and begun and (folder / name).is_file() else None


def teacher_network(path: Path, data: TrainingData) -> Network:
    """Returns the network of a teacher that fits the data, in evaluation mode, on the CPU.

    Args:
        path: A finished run's folder.
        data: What the student is trained on.

    Raises:
        RecipeError: When the teacher knows other labels or inputs; of a corpus: other vocabularies.
        RunFolderError: When there is no finished run in the folder, or one on the other kind of data.
    """
    # They build networks, and these may need a teacher.
    from labelembed.recipes.saved_run import SavedRun
    from labelembed.recipes.saved_translator import SavedTranslator

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
        elif run.encoding is not None and data.encoding is not None and run.encoding.files() != data.encoding.files():
            faults.append(
                f"objective.teacher: {path} learned other inputs from its training rows; give both runs the same data, "
                "data.train_rows and data.development"
            )
    if faults:
        raise RecipeError(faults)
    return run.network


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
    from labelembed.training.evaluation import predicted_logits

    network = teacher_network(path, data)
    logits = predicted_logits(network, data.train.inputs.cpu()).float().cpu().clone()
    refuse_values_that_are_not_finite(logits, torch.arange(len(logits)), path)
    return logits


def refuse_values_that_are_not_finite(logits: Tensor, rows: Tensor, path: Path) -> None:
    """Raises RecipeError when any of a teacher's logits [n, C] of training rows [n] is not finite."""
    if not bool(torch.isfinite(logits).all()):
        row = int(rows[(~torch.isfinite(logits)).any(dim=1).nonzero()[0, 0]])
        raise RecipeError([f"objective.teacher: {path} gives no finite logits for training row {row}"])


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> tuple[str, str]:
    """Returns both names of the first label that differs, with the number of labels."""
    place = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"({len(theirs)} of them)", f"{len(ours)}"
    return f"({len(theirs)}, number {place} is {theirs[place]!r})", f"{len(ours)}, number {place} is {ours[place]!r}"


def about_table(path: Path, *formats: str) -> dict[str, Any]:
    """Returns what a table says of itself.

    Args:
        path: The file.
        formats: Those wanted.

    Raises:
        DataError: When it is damaged, or of none of these formats.
    """
    try:
        require_header(path)
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no safetensors file ({error})") from error
    if not isinstance(about, dict) or about.get("format") not in formats:
        words = " or ".join(_WORDS[each] for each in formats)
        raise DataError(f"{path}: a safetensors file, but no table of a teacher's {words}")
    return about


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
                f"objective.teacher: {path} holds logits {list(table.shape)} of other training rows than the "
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


def identity(path: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights, None where they are gone."""
    if path.is_file():
        return str(about_table(path, LOGITS, SOFT_LABELS).get("model"))
    weights = RunFolder(path).model_file
    return sha256(weights) if weights.is_file() else None
