"""Finished runs as teacher: do they fit the data, and what they predict for every training example, computed once.

A teacher is one run, or several in one folder, as a comparison has them for each variant: then their mean prediction.

Of labelled examples a run folder keeps a table of all its logits; of many labels, as of a corpus, one of the largest
entries of its soft labels, mapped into memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data import LabelledData, TextCorpus
from labelembed.lab.errors import InterruptedTraining, RecipeError, RunFolderError
from labelembed.lab.recipes.references import TEACHER_FILE
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.saved_translator import SavedTranslator
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.evaluation import hidden_states
from labelembed.lab.training.files import sha256
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.losses import chunk_size
from labelembed.losses.soft_targets import label_type
from labelembed.objectives import Distillation
from labelembed.objectives.soft_labels import SoftLabelTable, bytes_needed, kept_entries
from labelembed.tensor_files import require_header

# The formats of the files: all logits, or soft labels by their largest entries.
LOGITS = "labelembed.teacher.1"
SOFT_LABELS = "labelembed.teacher_soft_labels.1"
_WORDS = {LOGITS: "logits", SOFT_LABELS: "soft labels"}
# What a table of logits keeps where the mean prediction of several teachers is 0.
_TINY = torch.finfo(torch.float32).tiny

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
        errors = [] if differing is None else [f"objective.teacher: {differing}; give both runs corpora of the same"]
    else:
        assert isinstance(data, LabelledData)
        errors = []
        if run.names != data.names:
            theirs, ours = _difference(run.names, data.names)
            errors.append(f"objective.teacher: {path} was trained on the labels {theirs}, the data have {ours}")
        if run.input_shape != data.input_shape:
            shapes = f"{list(run.input_shape)}, the data have {list(data.input_shape)}"
            errors.append(f"objective.teacher: {path} was trained on inputs {shapes}")
        elif run.encoder.files() != data.encoder.files():
            errors.append(
                f"objective.teacher: {path} learned other inputs from its training examples; give both runs the same "
                "data, data.train_examples and data.validation"
            )
    if errors:
        raise RecipeError(errors)
    return run.network


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> tuple[str, str]:
    """Returns both names of the first label that differs, with the number of labels."""
    place = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"({len(theirs)} of them)", f"{len(ours)}"
    return f"({len(theirs)}, number {place} is {theirs[place]!r})", f"{len(ours)}, number {place} is {ours[place]!r}"


class TableKind(NamedTuple):
    """What a table must be of to fit a recipe and its data.

    Attributes:
        num_examples: R, of training.
        num_labels: C.
        entries: Those kept of the soft labels of an example; None: all its logits.
        temperature: Of the soft labels; None: logits have none.
    """

    num_examples: int
    num_labels: int
    entries: int | None
    temperature: float | None

    @classmethod
    def of(cls, recipe: Recipe, data: TrainingData) -> Self:
        """Returns the kind of table that a recipe needs for its data."""
        objective, sizes = recipe.objective, (data.train.num_examples, data.num_labels)
        if not (recipe.of_sentences or recipe.objective["top_k"] is not None):
            return cls(*sizes, None, None)
        return cls(*sizes, kept_entries(data.num_labels, objective["top_k"]), float(objective["temperature"]))

    @property
    def format(self) -> str:
        """Of the file."""
        return LOGITS if self.entries is None else SOFT_LABELS

    @property
    def width(self) -> int:
        """Numbers of an example."""
        return self.entries or self.num_labels

    @property
    def size(self) -> int:
        """Bytes of the file."""
        if self.entries is None:
            return 4 * self.num_examples * self.num_labels + 1_000
        return bytes_needed(self.num_examples, self.num_labels, top_k=self.entries) + 1_000

    @property
    def parts(self) -> dict[str, torch.dtype]:
        """The arrays [R, width] of the file and their types, those of more bytes first, as safetensors aligns them."""
        if self.entries is None:
            return {"logits": torch.float32}
        labels = {} if self.entries == self.num_labels else {"labels": label_type(self.num_labels)}
        return labels | {"values": torch.float16}


def uniform_table(recipe: Recipe, data: TrainingData) -> SoftLabelTable:
    """Returns a uniform table that takes no memory, for steps that are made to see how long they take."""
    return SoftLabelTable.uniform(data.train.num_examples, data.num_labels, top_k=TableKind.of(recipe, data).entries)


def refuse_unfit_teacher(path: Path, recipe: Recipe, data: TrainingData) -> None:
    """Raises RecipeError, DataError or RunFolderError when a teacher's run, or a table of it, does not fit."""
    if path.is_file():
        open_table(path, recipe, data)
    else:
        for run in teacher_runs(path):
            teacher_network(run, data)


def give_teacher(recipe: Recipe, folder: RunFolder, data: TrainingData, network: Network) -> None:
    """Gives an objective that learns from a teacher the table that lies in the run folder."""
    if isinstance(network.objective, Distillation):
        table = open_table(folder.path / TEACHER_FILE, recipe, data)
        if isinstance(table, SoftLabelTable):
            network.objective.teacher_table = table
        else:
            network.objective.teacher_logits = table.to(next(network.parameters()).device)


def open_table(path: Path, recipe: Recipe, data: TrainingData) -> SoftLabelTable | Tensor:
    """Returns a table, mapped into memory: soft labels, or logits [R, C].

    Raises:
        DataError: When it cannot be read.
        RecipeError: When it is of other training examples, another temperature or another number of entries.
    """
    kind = TableKind.of(recipe, data)
    about, words = about_table(path, kind.format), _WORDS[kind.format]
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_tensor(name) for name in kind.parts if name in set(file.keys())}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged table of a teacher's {words} ({error})") from error
    wanted, errors = [kind.num_examples, kind.width], []
    if about.get("data") != data.fingerprint():
        errors.append("of other training examples than the data's")
    elif any(list(part.shape) != wanted for part in parts.values()) or parts.keys() != kind.parts.keys():
        shapes = " and ".join(str(list(part.shape)) for part in parts.values())
        errors.append(f"of {shapes} entries, needed are {wanted} (`top_k`)")
    if about.get("temperature") != kind.temperature:
        errors.append(f"at temperature {about.get('temperature')}, the recipe has {kind.temperature}")
    if errors:
        what = " and ".join(errors)
        way_out = "name the teacher's run folder, and they are computed again"
        raise RecipeError([f"objective.teacher: {path} holds {words} {what}; {way_out}"])
    if {name: part.dtype for name, part in parts.items()} != kind.parts:
        raise DataError(f"{path}: damaged table of a teacher's {words} (other types than {kind.parts})")
    return parts["logits"] if kind.entries is None else SoftLabelTable(parts["values"], parts.get("labels"))


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
    parts = {name: torch.empty(kind.num_examples, kind.width, dtype=dtype) for name, dtype in kind.parts.items()}
    done, at_once = 0, chunk_size(kind.num_labels)
    try:
        for batch in zip(*(hidden_states(network, data.train) for network in networks), strict=True):
            if stop():
                raise InterruptedTraining("stopped while the teacher was asked; the same command begins the run")
            indices = batch[0][2]  # all networks see the examples in the same order
            parts_of = [torch.split(hidden, at_once) for hidden, *_ in batch]
            for places, *some in zip(torch.split(indices, at_once), *parts_of, strict=True):
                logits = _mean_logits(networks, some, places, given)
                if kind.temperature is None:
                    parts["logits"].index_copy_(0, places.cpu(), logits.cpu())
                else:
                    softened = torch.softmax(logits / kind.temperature, dim=-1)
                    SoftLabelTable(parts["values"], parts.get("labels")).put(places, softened)
            done += len(indices)
            observe(done, kind.num_examples)
    except ValueError as error:  # a sentence longer than the network can read
        raise RecipeError([f"objective.teacher: {given} cannot read the training data: {error}"]) from error
    about: dict[str, Any] = {"format": kind.format, "data": data.fingerprint(), "model": identity(given)}
    about |= {} if kind.temperature is None else {"temperature": kind.temperature}
    # One entry only: safetensors writes several in any order, and equal runs should give equal files.
    file.write_bytes(save(parts, metadata={"about": json.dumps(about)}))


def _mean_logits(networks: Sequence[Network], hidden: Sequence[Tensor], places: Tensor, given: Path) -> Tensor:
    """Returns the logits [n, C] of a network, of several the log of their mean prediction.

    They are the networks' own, not divided by the temperature of their calibration.

    Args:
        networks: In evaluation mode.
        hidden: Their hidden states [n, H].
        places: Indices [n] of the training examples.
        given: The teacher's folder, for messages.

    Raises:
        RecipeError: When any is not finite.
    """
    pairs = zip(networks, hidden, strict=True)
    logits = torch.stack([network.objective.logits(own).float() for network, own in pairs])
    wrong = (~torch.isfinite(logits)).any(dim=2).any(dim=0)
    if bool(wrong.any()):
        index = int(places[wrong.nonzero()[0, 0]])
        raise RecipeError([f"objective.teacher: {given} gives no finite logits for training example {index}"])
    return logits[0] if len(networks) == 1 else logits.softmax(dim=-1).mean(dim=0).clamp_min(_TINY).log()
