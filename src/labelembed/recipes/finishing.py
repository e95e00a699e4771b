"""What a run leaves when it ends: weights, geometry, and the result last of all."""

from __future__ import annotations

import contextlib
from typing import Any

from safetensors.torch import save as tensor_bytes

from labelembed.data import LabelledData
from labelembed.geometry import LabelGeometry
from labelembed.training.files import saving, write_bytes
from labelembed.training.loop import Trainer
from labelembed.training.run_folder import RunFolder
from labelembed.training.training_pass import class_means


def note_failure(folder: RunFolder, trainer: Trainer, message: str) -> None:
    """Writes that a run failed, and why."""
    result = {
        "format": 1,
        "status": "failed",
        "message": message,
        "epochs": trainer.position.epoch,
        "seconds": round(trainer.position.seconds, 3),
        "parameters": trainer.network.parameter_count(),
    }
    with contextlib.suppress(OSError):  # a full disk is why it failed; the run then counts as unfinished
        folder.write_result(result)


def finish(folder: RunFolder, trainer: Trainer, data: LabelledData, result: dict[str, Any]) -> None:
    """Writes the selected weights, which the network has taken, the geometry, and the result last of all."""
    weights = trainer.selected_weights()
    network, names = trainer.network, data.names
    means = class_means(network, data.train, autocast=trainer.accelerator.autocast())
    by_means = LabelGeometry(names, vectors=means, source=f"{type(network.objective).__name__}, class means")
    with saving(folder.path):
        contiguous = {name: value.contiguous() for name, value in weights.items()}
        # One entry only: safetensors writes several in any order, and equal runs should give equal files.
        about = {"format": "labelembed.network.1"}
        write_bytes(folder.model_file, tensor_bytes(contiguous, metadata=about))
        network.objective.label_geometry(names, class_means=means).save(folder.geometry_file)
        by_means.save(folder.class_means_file)
        folder.write_result(result)
