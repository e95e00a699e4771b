"""What a teacher says of every training example by its largest entries, in a file that is mapped into memory.

Made once, when the run begins; `Distillation` says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from labelembed.data.cache import reserve
from labelembed.errors import DataError, InterruptedTraining, RecipeError
from labelembed.losses import chunk_size
from labelembed.losses.soft_targets import label_type
from labelembed.objectives.soft_labels import SoftLabelTable, bytes_needed, kept_entries
from labelembed.recipes.schema import Recipe
from labelembed.runs.teacher import refuse_values_that_are_not_finite, teacher_network
from labelembed.runs.teacher_files import SOFT_LABELS, about_table, identity
from labelembed.training.batches import TrainingData
from labelembed.training.evaluation import hidden_states

_SAFETENSORS_NAMES = {torch.float16: "F16", torch.int16: "I16", torch.int32: "I32"}
_NUMPY_TYPES = {torch.float16: np.float16, torch.int16: np.int16, torch.int32: np.int32}

#: Called with (examples done, all of them) while the teacher is asked.
Asking = Callable[[int, int], None]


class TableKind(NamedTuple):
    """What a table must be of to fit a recipe and its data."""

    num_examples: int
    num_labels: int
    entries: int
    temperature: float

    @classmethod
    def of(cls, recipe: Recipe, data: TrainingData) -> Self:
        """Returns the kind of table that a recipe needs for its data."""
        objective = recipe.objective
        entries = kept_entries(data.num_labels, objective["top_k"])
        return cls(data.train.num_examples, data.num_labels, entries, float(objective["temperature"]))

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return bytes_needed(self.num_examples, self.num_labels, top_k=self.entries) + 1_000

    @property
    def parts(self) -> dict[str, torch.dtype]:
        """The arrays [R, k] of the file and their types, those of more bytes first, as safetensors aligns them."""
        labels = {} if self.entries == self.num_labels else {"labels": label_type(self.num_labels)}
        return labels | {"values": torch.float16}


def uniform_table(recipe: Recipe, data: TrainingData) -> SoftLabelTable:
    """Returns a uniform table that takes no memory, for steps that are made to see how long they take."""
    kind = TableKind.of(recipe, data)
    return SoftLabelTable.uniform(kind.num_examples, kind.num_labels, top_k=kind.entries)


def refuse_unfit_teacher(path: Path, recipe: Recipe, data: TrainingData) -> None:
    """Raises RecipeError, DataError or RunFolderError when a teacher's run, or a table of it, does not fit."""
    if path.is_file():
        open_table(path, recipe, data)
    else:
        teacher_network(path, data)


def open_table(path: Path, recipe: Recipe, data: TrainingData) -> SoftLabelTable:
    """Returns a table, mapped into memory.

    Raises:
        DataError: When it cannot be read.
        RecipeError: When it is of other training examples, another temperature or another number of entries.
    """
    about, kind = about_table(path, SOFT_LABELS), TableKind.of(recipe, data)
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_tensor(name) for name in kind.parts if name in set(file.keys())}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged table of a teacher's soft labels ({error})") from error
    faults = []
    if about.get("data") != data.fingerprint():
        faults.append("of other training examples than the data's")
    elif any(list(part.shape) != [kind.num_examples, kind.entries] for part in parts.values()) or len(parts) < len(
        kind.parts
    ):
        shapes = " and ".join(str(list(part.shape)) for part in parts.values())
        faults.append(f"of {shapes} entries, needed are {[kind.num_examples, kind.entries]} (`top_k`)")
    if about.get("temperature") != kind.temperature:
        faults.append(f"at temperature {about.get('temperature')}, the recipe has {kind.temperature}")
    if faults:
        what = " and ".join(faults)
        way_out = "name the teacher's run folder, and they are computed anew"
        raise RecipeError([f"objective.teacher: {path} holds soft labels {what}; {way_out}"])
    if {name: part.dtype for name, part in parts.items()} != kind.parts:
        raise DataError(f"{path}: damaged table of a teacher's soft labels (other types than {kind.parts})")
    return SoftLabelTable(parts["values"], parts.get("labels"))


def write_table(
    path: Path,
    given: Path,
    recipe: Recipe,
    data: TrainingData,
    *,
    device: torch.device,
    observe: Asking = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Asks the teacher about every training example, in evaluation mode, and writes the table.

    Args:
        path: Where it goes; a file that is whole or not there.
        given: The teacher's run folder; or a table of it, which is taken over: as another name of the same file
            where the disk can do that.
        recipe: Of the student.
        data: Whose training examples.
        device: Where the teacher works.
        observe: Called with how far it is.
        stop: Asked now and then whether to give up.

    Raises:
        DataError: When a table cannot be read.
        RecipeError: When the teacher does not fit, or what it says is not finite.
        RunFolderError: When there is no finished run in the folder.
        InterruptedTraining: When it was asked to stop; nothing is left.
        OSError: When the disk is full.
    """
    temporary = path.with_name(f".{path.name}.writing")
    temporary.unlink(missing_ok=True)
    try:
        if given.is_file():
            open_table(given, recipe, data)
            try:
                os.link(given, temporary)
            except OSError:  # another disk, or one without such names
                shutil.copyfile(given, temporary)
        else:
            _ask(given, temporary, recipe, data, device=device, observe=observe, stop=stop)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@torch.no_grad()
def _ask(
    given: Path,
    file: Path,
    recipe: Recipe,
    data: TrainingData,
    *,
    device: torch.device,
    observe: Asking,
    stop: Callable[[], bool],
) -> None:
    network, kind = teacher_network(given, data).to(device), TableKind.of(recipe, data)
    about = {
        "format": SOFT_LABELS,
        "data": data.fingerprint(),
        "model": identity(given),
        "temperature": kind.temperature,
    }
    arrays = _new_file(file, kind, about)
    parts = {name: torch.from_numpy(array) for name, array in arrays.items()}
    table = SoftLabelTable(parts["values"], parts.get("labels"))
    done, at_once = 0, chunk_size(kind.num_labels)
    try:
        for hidden, _, indices in hidden_states(network, data.train):
            if stop():
                raise InterruptedTraining("stopped while the teacher was asked; the same command begins the run")
            for some, places in zip(torch.split(hidden, at_once), torch.split(indices, at_once), strict=True):
                logits = network.objective.logits(some).float()
                refuse_values_that_are_not_finite(logits, places, given)
                table.put(places, torch.softmax(logits / kind.temperature, dim=-1))
            done += len(indices)
            observe(done, kind.num_examples)
    except ValueError as error:  # a sentence longer than the network can read
        raise RecipeError([f"objective.teacher: {given} cannot read the training data: {error}"]) from error
    for array in arrays.values():
        array.flush()


def _new_file(file: Path, kind: TableKind, about: dict[str, Any]) -> dict[str, np.memmap[Any, Any]]:
    """Writes the beginning of a safetensors file and returns its arrays mapped into memory, to be filled."""
    header: dict[str, Any] = {"__metadata__": {"about": json.dumps(about)}}
    end = 0
    for name, dtype in kind.parts.items():
        begin, end = end, end + kind.num_examples * kind.entries * dtype.itemsize
        shape = [kind.num_examples, kind.entries]
        header[name] = {"dtype": _SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format's own: what follows is aligned
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    reserve(file, 8 + len(text) + end)
    return {
        name: np.memmap(
            file,
            dtype=_NUMPY_TYPES[dtype],
            mode="r+",
            offset=8 + len(text) + header[name]["data_offsets"][0],
            shape=(kind.num_examples, kind.entries),
        )
        for name, dtype in kind.parts.items()
    }
