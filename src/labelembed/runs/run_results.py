"""What a run leaves when it ends: what was written or calibrated, weights, geometry, and the result last of all."""

from __future__ import annotations

import contextlib
from typing import Any

from safetensors.torch import save as tensor_bytes

from labelembed.data import TextCorpus
from labelembed.errors import DivergedTraining, TrainingError
from labelembed.geometry import LabelGeometry
from labelembed.recipes.schema import Recipe
from labelembed.training.decoding import Decoding
from labelembed.training.evaluation import calibrate
from labelembed.training.evidence import error_evidence, shown_split
from labelembed.training.files import saving, sha256, write_bytes
from labelembed.training.loop import Trainer
from labelembed.training.peak_memory import peak_memory
from labelembed.training.run_folder import RunFolder
from labelembed.training.sentence_evidence import sentence_evidence
from labelembed.training.training_data import TrainingData
from labelembed.training.training_pass import class_means
from labelembed.training.translation import measure_text

# Where a run on a corpus leaves what it wrote: SPLIT.txt, a line for each sentence.
WRITTEN_FOLDER = "translations"
# About what the JSON files that a run ends with take, in bytes.
_SMALL_FILES = 100_000


def note_failure(folder: RunFolder, trainer: Trainer, error: TrainingError) -> None:
    """Writes that a run failed, and why."""
    result = {
        "format": 1,
        "status": "failed",
        "message": str(error),
        "diverged_at_step": error.step if isinstance(error, DivergedTraining) else None,
        "epochs": trainer.position.epoch,
        "seconds": round(trainer.position.seconds, 3),
        "parameters": trainer.network.parameter_count(),
    }
    with contextlib.suppress(OSError):  # a full disk is why it failed; the run then counts as unfinished
        folder.write_result(result)


def conclude(recipe: Recipe, trainer: Trainer, result: dict[str, Any]) -> dict[str, Any]:
    """Returns what is measured once, with the selected weights, for ``result.json``.

    Of rows a temperature is fitted; of a corpus the development and test sentences are translated as the recipe says,
    and the texts written into the run folder.

    Args:
        recipe: Of the run.
        trainer: Whose network has the selected weights.
        result: What the run reached.
    """
    data, autocast = trainer.data, trainer.accelerator.autocast
    result["peak_memory"] = peak_memory(trainer.accelerator.device)
    if not isinstance(data, TextCorpus):
        return calibrate(trainer.network, data, wanted=recipe.calibration, autocast=autocast)
    how = {} if recipe.decoding is None else recipe.decoding.model_dump()
    found: dict[str, Any] = {"temperature": None, "calibration": "none, for a corpus", "calibrated": None}
    for split in data.splits:
        if split == "train":
            continue
        measures, written = measure_text(trainer.network, data, split, Decoding(**how), autocast=autocast)
        found[split] = result[split] | measures
        sentences = None
        if split == shown_split(data) and trainer.accelerator.is_main_process:
            sentences = sentence_evidence(trainer.network, data, split, written, autocast=autocast)
        if trainer.accelerator.is_main_process:
            text = "".join(f"{line}\n" for line in written).encode()
            with saving(trainer.folder.path, needed_bytes=len(text) + _SMALL_FILES):
                (trainer.folder.path / WRITTEN_FOLDER).mkdir(exist_ok=True)
                write_bytes(trainer.folder.path / WRITTEN_FOLDER / f"{split}.txt", text)
                if sentences is not None:
                    trainer.folder.write_evidence("sentences", sentences)
    return found


def finish(folder: RunFolder, trainer: Trainer, data: TrainingData, result: dict[str, Any]) -> None:
    """Writes the selected weights, which the network has taken, the geometry, and the result last of all.

    The result takes in the SHA-256 of the files, which is held against them whenever they are read.
    Of several processes the first one calls it.
    """
    network, names = trainer.network, data.names
    weights = trainer.selected_weights()
    means = class_means(network, data.train, autocast=trainer.accelerator.autocast)
    geometry = network.objective.label_geometry(names, class_means=means)
    errors, examples = error_evidence(
        network, data, temperature=result.get("temperature"), autocast=trainer.accelerator.autocast
    )
    by_means = LabelGeometry(names, vectors=means, source=f"{type(network.objective).__name__}, class means")
    contiguous = {name: value.contiguous() for name, value in weights.items()}
    tables = [table for one in (geometry, by_means) for table in (one.vectors, one.similarities) if table is not None]
    needed = sum(value.nbytes for value in (*contiguous.values(), *tables))
    needed += 0 if examples is None else 5 * len(examples.right)
    with saving(folder.path, needed_bytes=needed + _SMALL_FILES):
        # One entry only: safetensors writes several in any order, and equal runs should give equal files.
        about = {"format": "labelembed.network.1"}
        write_bytes(folder.model_file, tensor_bytes(contiguous, metadata=about))
        geometry.save(folder.geometry_file)
        by_means.save(folder.class_means_file)
        if errors is not None:
            folder.write_evidence("errors", errors)
        written = (folder.model_file, folder.geometry_file, folder.class_means_file)
        result["files"] = {file.name: sha256(file) for file in written}
        if examples is not None:
            folder.write_examples(examples)
        folder.write_result(result)
