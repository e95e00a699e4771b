"""What a run leaves when it ends: what was written or calibrated, weights, geometry, and the result last of all."""

from __future__ import annotations

import contextlib
from typing import Any

from safetensors.torch import save as tensor_bytes

from labelembed.geometry import LabelGeometry
from labelembed.lab.data import TextCorpus
from labelembed.lab.errors import DivergedTraining, TrainingError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.decoding import Decoding, evaluate_text
from labelembed.lab.training.diagnostics import error_diagnostics, sentence_diagnostics, shown_split
from labelembed.lab.training.environment import peak_memory
from labelembed.lab.training.evaluation import calibrate, class_means
from labelembed.lab.training.files import saving, sha256, write_bytes
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer

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

    Of labelled examples a temperature is fitted; of a corpus the validation and test sentences are translated as the
    recipe says, and the texts written into the run folder.

    Args:
        recipe: Of the run.
        trainer: Whose network has the selected weights.
        result: What the run reached.
    """
    data, network, folder, writes = trainer.data, trainer.network, trainer.folder, trainer.accelerator.is_main_process
    result["peak_memory"] = peak_memory(trainer.accelerator.device)
    if not isinstance(data, TextCorpus):
        return calibrate(network, data, wanted=recipe.calibration)
    found: dict[str, Any] = {"temperature": None, "calibration": "none, for a corpus", "calibrated": None}
    for split in data.splits:
        if split == "train":
            continue
        metrics, written = evaluate_text(network, data, split, recipe.decoding or Decoding())
        found[split] = result[split] | metrics
        if not writes:
            continue
        is_shown = split == shown_split(data)
        sentences = sentence_diagnostics(network, data, split, written) if is_shown else None
        text = "".join(f"{line}\n" for line in written).encode()
        with saving(folder.path, needed_bytes=len(text) + _SMALL_FILES):
            (folder.path / WRITTEN_FOLDER).mkdir(exist_ok=True)
            write_bytes(folder.path / WRITTEN_FOLDER / f"{split}.txt", text)
            if sentences is not None:
                folder.write_evidence("sentences", sentences)
    return found


def finish(folder: RunFolder, trainer: Trainer, data: TrainingData, result: dict[str, Any]) -> None:
    """Writes the selected weights, which the network has taken, the geometry, and the result last of all.

    The result takes in the SHA-256 of the files, which is held against them whenever they are read.
    Of several processes the first one calls it.
    """
    network, names = trainer.network, data.names
    means = class_means(network, data.train)
    geometry = network.objective.label_geometry(names, class_means=means)
    errors, examples = error_diagnostics(network, data, temperature=result.get("temperature"))
    by_means = LabelGeometry(names, vectors=means, source=f"{type(network.objective).__name__}, class means")
    contiguous = {name: value.contiguous() for name, value in network.prediction_state().items()}
    tables = [table for one in (geometry, by_means) for table in (one.vectors, one.similarities) if table is not None]
    needed = sum(value.nbytes for value in (*contiguous.values(), *tables))
    needed += 0 if examples is None else 5 * len(examples.right)
    with saving(folder.path, needed_bytes=needed + _SMALL_FILES):
        # One entry only: safetensors writes several in any order, and equal runs should give equal files.
        about = {"format": "labelembed.network.1"}
        write_bytes(folder.model_file, tensor_bytes(contiguous, metadata=about))
        write_bytes(folder.geometry_file, geometry.to_bytes())
        write_bytes(folder.class_means_file, by_means.to_bytes())
        if errors is not None:
            folder.write_evidence("errors", errors)
        written = (folder.model_file, folder.geometry_file, folder.class_means_file)
        result["files"] = {file.name: sha256(file) for file in written}
        if examples is not None:
            folder.write_examples(examples)
        folder.write_result(result)
