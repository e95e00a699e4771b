"""Finished runs as teacher: do they fit the data, and what they predict for every training example, computed once.

A teacher is one run, or several in one folder, as a comparison has them for each variant: then their mean prediction.

Of labelled examples a run folder keeps all its logits. `Distillation` over many labels, as of a corpus, reads a table
of the largest entries of its soft labels instead, mapped into memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.data import LabelledData, TextCorpus
from labelembed.errors import DataError, InterruptedTraining, RecipeError, RunFolderError
from labelembed.losses import chunk_size
from labelembed.losses.soft_targets import label_type
from labelembed.objectives.soft_labels import SoftLabelTable, bytes_needed, kept_entries
from labelembed.recipes.schema import Recipe
from labelembed.runs.saved_run import SavedRun
from labelembed.runs.saved_translator import SavedTranslator
from labelembed.tensor_files import require_header
from labelembed.training.batches import TrainingData
from labelembed.training.evaluation import hidden_states, predicted_logits
from labelembed.training.files import sha256
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder

# The formats of the files: all logits, or soft labels by their largest entries.
LOGITS = "labelembed.teacher.1"
SOFT_LABELS = "labelembed.teacher_soft_labels.1"
_WORDS = {LOGITS: "logits", SOFT_LABELS: "soft labels"}

#: Called with (examples done, all of them) while the teacher predicts.
Asking = Callable[[int, int], None]


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


def identity(path: Path) -> str | None:
    """Returns the SHA-256 of the teacher's weights, of several one after the other; None where they are gone."""
    if path.is_file():
        return str(about_table(path, LOGITS, SOFT_LABELS).get("model"))
    weights = [RunFolder(run).model_file for run in teacher_runs(path)]
    return "-".join(map(sha256, weights)) if all(file.is_file() for file in weights) else None


def teacher_runs(path: Path) -> list[Path]:
    """Returns the runs that teach: the folder itself where it is a run, else the finished runs in it."""
    if not path.is_dir() or (path / "recipe.yaml").exists():
        return [path]
    below = [entry for entry in sorted(path.iterdir()) if (entry / "recipe.yaml").is_file()]
    return [entry for entry in below if RunFolder(entry).state() == "finished"] or [path]


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

    They are the network's own in evaluation mode, not divided by the temperature of its calibration; of several runs
    the log of their mean prediction.

    Args:
        path: A finished run's folder, a folder of several, or a table of their logits.
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
    runs = teacher_runs(path)
    mean = torch.zeros(())
    for run in runs:
        logits = predicted_logits(teacher_network(run, data), data.train.inputs.cpu())
        refuse_values_that_are_not_finite(logits, torch.arange(len(logits)), run)
        if len(runs) == 1:
            return logits
        mean = mean + logits.softmax(dim=1) / len(runs)
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


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
        for run in teacher_runs(path):
            teacher_network(run, data)


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
    networks = [teacher_network(run, data).to(device) for run in teacher_runs(given)]
    kind = TableKind.of(recipe, data)
    parts = {name: torch.empty(kind.num_examples, kind.entries, dtype=dtype) for name, dtype in kind.parts.items()}
    table = SoftLabelTable(parts["values"], parts.get("labels"))
    done, at_once = 0, chunk_size(kind.num_labels)
    try:
        for batch in zip(*(hidden_states(network, data.train) for network in networks), strict=True):
            if stop():
                raise InterruptedTraining("stopped while the teacher was asked; the same command begins the run")
            indices = batch[0][2]  # all networks see the examples in the same order
            parts_of = [torch.split(hidden, at_once) for hidden, *_ in batch]
            for places, *some in zip(torch.split(indices, at_once), *parts_of, strict=True):
                table.put(places, _softened(networks, some, places, kind.temperature, given))
            done += len(indices)
            observe(done, kind.num_examples)
    except ValueError as error:  # a sentence longer than the network can read
        raise RecipeError([f"objective.teacher: {given} cannot read the training data: {error}"]) from error
    about = {"format": SOFT_LABELS, "data": data.fingerprint(), "model": identity(given)}
    file.write_bytes(save(parts, metadata={"about": json.dumps(about | {"temperature": kind.temperature})}))


def _softened(
    networks: Sequence[Network], hidden: Sequence[Tensor], places: Tensor, temperature: float, given: Path
) -> Tensor:
    """Returns the softened mean prediction [n, C] of the networks, for the hidden states [n, H] of each."""
    pairs = zip(networks, hidden, strict=True)
    logits = torch.stack([network.objective.logits(own).float() for network, own in pairs])
    for own in logits:
        refuse_values_that_are_not_finite(own, places, given)
    if len(networks) == 1:
        return torch.softmax(logits[0] / temperature, dim=-1)
    mean = logits.softmax(dim=-1).mean(dim=0)
    return torch.softmax(mean.clamp_min(torch.finfo(mean.dtype).tiny).log() / temperature, dim=-1)
