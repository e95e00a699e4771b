"""How a run begins: room on the disk, and what its folder must hold before the first step."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelembed.lab.data import LabelledData, TextCorpus
from labelembed.lab.data.bag_of_words import SETTINGS_FILE, VOCABULARY_FILE
from labelembed.lab.data.corpus.text_corpus import SIDES
from labelembed.lab.data.table_encoder import COLUMNS_FILE
from labelembed.lab.data.text_encoder import ENCODER_FOLDER, FEATURES_FILE, TOKENS_FILE
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.references import (
    EMBEDDING_FILE,
    KEPT_FILES,
    TEACHER_FILE,
    as_kept,
    embedding_path,
    teacher_path,
)
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import data_stamp
from labelembed.lab.runs.embedding import given_embedding
from labelembed.lab.runs.recipe_diff import HEADING
from labelembed.lab.runs.run_results import WRITTEN_FOLDER
from labelembed.lab.runs.teacher import Asking, TableKind, write_table
from labelembed.lab.runs.worker_log import LOG_FILE
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.environment import describe_environment
from labelembed.lab.training.files import make_writable_folder, saving, write_bytes
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.tracking import TENSORBOARD_FOLDER, TRACKING_FILE
from labelembed.lab.training.trainer import Trainer

# What a run folder keeps of the vocabulary of a corpus or of labelled texts, or of a table's columns.
_ENCODING_FILES = (
    VOCABULARY_FILE,
    SETTINGS_FILE,
    COLUMNS_FILE,
    FEATURES_FILE,
    TOKENS_FILE,
    *(f"{side}-tokenizer.json" for side in SIDES),
)


def begin(
    recipe: Recipe,
    folder: RunFolder,
    data: TrainingData,
    trainer: Trainer,
    *,
    device: str | None,
    stop: Callable[[], bool] = lambda: False,
    asking: Asking = lambda done, total: None,
) -> None:
    """Makes the folder; the recipe comes last of what a run begins with, so that with it all is there.

    Args:
        recipe: Of the run.
        folder: Where it goes.
        data: What is trained on.
        trainer: That will train.
        device: The device asked for.
        stop: Asked while a teacher is, which may take long.
        asking: Called with (examples done, all of them) while a teacher is asked.

    Raises:
        RunFolderError: When the folder cannot be written, holds something else, or the disk has no room.
        InterruptedTraining: When it was asked to stop before the run began.
    """
    if any(folder.checkpoints.glob("step-*")):
        raise RunFolderError(
            f"{folder.path}: holds checkpoints but no recipe.yaml to say of what run; choose another folder with --out"
        )
    needed = _bytes_on_disk(recipe, data, trainer.network)
    make_writable_folder(folder.path, needed_bytes=needed)
    with saving(folder.path, needed_bytes=needed, way_on="When it can be saved again, give the same command again"):
        if "teacher" in recipe.objective:
            teacher = teacher_path(Path(recipe.objective["teacher"]))
            file, where = folder.path / TEACHER_FILE, trainer.accelerator.device
            write_table(file, teacher, recipe, data, device=where, observe=asking, stop=stop)
        for name, content in _files_to_keep(recipe, data).items():
            write_bytes(folder.path / name, content)
        _keep_encoding(data, folder)
        about = describe_environment(device=device) | {"data": _data_facts(data) | {"stamp": data_stamp(recipe)}}
        if recipe.published:
            about |= {"published": [figure.model_dump() for figure in recipe.published]}
        folder.write_environment(about)
        folder.write_recipe(as_kept(recipe), heading=HEADING)


def _data_facts(data: TrainingData) -> dict[str, Any]:
    """Returns what ``environment.json`` says of the data."""
    about: dict[str, Any] = {
        "source": data.source,
        "fingerprint": data.fingerprint(),
        "examples": {name: len(split) for name, split in data.splits.items()},
        "notes": list(data.notes),
    }
    if isinstance(data, TextCorpus):
        tokenizers = (data.source_tokenizer, data.target_tokenizer)
        return about | {
            "levels": [tokenizer.level for tokenizer in tokenizers],
            "vocabulary_sizes": [len(tokenizer.vocabulary) for tokenizer in tokenizers],
        }
    if data.truncation is not None:
        truncation = data.truncation
        about["truncated_texts"] = {
            "count": truncation.count,
            "of": truncation.of,
            truncation.setting: truncation.limit,
        }
    if data.label_column is not None:
        about["label_column"] = data.label_column
    if data.label_values:
        about["label_values"] = list(data.label_values)
    return about | {
        "names": list(data.names),
        "input_shape": list(data.input_shape),
        "input_range": list(data.input_range),
    }


def _keep_encoding(data: TrainingData, folder: RunFolder) -> None:
    """Writes into a run folder what predicting needs of the data: vocabularies, or how columns become numbers."""
    if isinstance(data, LabelledData):
        for name, content in data.encoder.files().items():
            (folder.path / name).parent.mkdir(exist_ok=True)
            write_bytes(folder.path / name, content)
    if isinstance(data, TextCorpus):
        for side, tokenizer in zip(SIDES, (data.source_tokenizer, data.target_tokenizer), strict=True):
            tokenizer.save(folder.path, side)


def _files_to_keep(recipe: Recipe, data: TrainingData) -> dict[str, bytes]:
    """Returns what a run folder keeps of what the recipe points to, by the file's name."""
    files: dict[str, bytes] = {}
    path, embedding = embedding_path(recipe), given_embedding(recipe, data=data)
    if path is not None:
        files[EMBEDDING_FILE] = path.read_bytes()
    elif embedding is not None:
        files[EMBEDDING_FILE] = embedding.to_bytes()
    return files


def refuse_without_room(recipe: Recipe, folder: RunFolder, data: TrainingData, trainer: Trainer) -> None:
    """Looks before a run goes on whether the disk has room for what it will still write.

    Raises:
        RunFolderError: When the folder cannot be written, or the disk has no room.
    """
    needed = _bytes_on_disk(recipe, data, trainer.network)
    taken = 0
    for file in folder.path.rglob("*"):
        with contextlib.suppress(OSError):
            taken += file.stat().st_size
    make_writable_folder(folder.path, needed_bytes=max(0, needed - taken))


def _bytes_on_disk(recipe: Recipe, data: TrainingData, network: Network) -> int:
    """Returns about how many bytes a run writes at most."""
    # Weights, their best and Adam's two moments in each of keep + 1 checkpoints, and the result; with them what the
    # objective remembers, which for a large training set is the most of it.
    checkpoints = recipe.checkpoints.keep + 1
    remembered = sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    files = TableKind.of(recipe, data).size if "teacher" in recipe.objective else 0
    return 4 * network.parameter_count() * (4 * checkpoints + 1) + remembered * checkpoints + files + 1_000_000


def start_over(path: Path) -> None:
    """Removes what a run left in a folder, and nothing else."""
    folder = RunFolder(path)
    folder.require_run()
    below = (path / name for name in ("soft_labels", WRITTEN_FOLDER, TENSORBOARD_FOLDER, ENCODER_FOLDER))
    for left in (folder.checkpoints, folder.diagnostics_folder, *below):
        shutil.rmtree(left, ignore_errors=True)
    for name in (
        "result.json",
        "history.jsonl",
        "model.safetensors",
        "label_geometry.safetensors",
        "class_means.safetensors",
        "report.html",
        *KEPT_FILES,
        *_ENCODING_FILES,
        LOG_FILE,
        TRACKING_FILE,
        "environment.json",
        *(kept.name for kept in path.glob("recipe.*.yaml")),
        "recipe.yaml",
    ):
        (path / name).unlink(missing_ok=True)
