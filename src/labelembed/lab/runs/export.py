"""A finished run's classifier as an ONNX file that takes raw inputs: the scaling is part of the graph."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from labelembed import seeds
from labelembed.integrations.onnx import export_onnx
from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import RunFolder


def export_run(run: str | Path, path: str | Path | None = None, *, probabilities: bool = False) -> tuple[Path, float]:
    """Writes a finished run's classifier to a file, and returns its path and the largest difference to the run.

    Args:
        run: The run folder.
        path: The file; None: ``model.onnx`` in the run folder.
        probabilities: Write the probabilities at the run's temperature instead of the logits.

    Raises:
        LabelEmbedError: See `export_onnx`.
        RunFolderError: There is no finished run of a classifier, or the file cannot be written.
    """
    folder = RunFolder(run)
    folder.require_finished()
    if stored_recipe(folder).of_sentences:
        reason = "networks that write sentences are not exported, for they are run step by step with a beam search"
        raise RunFolderError(f"{folder.path}: {reason}; labelembed translate runs them")
    path = folder.path / "model.onnx" if path is None else Path(path)
    if path.is_dir():
        raise RunFolderError(f"{path}: is a folder; name a file with --out")
    if not path.parent.is_dir():
        raise RunFolderError(f"{path}: there is no folder {path.parent}; name another file with --out")
    return path, export_saved(SavedRun.load(run), path, probabilities=probabilities)


def export_saved(saved: SavedRun, path: Path, *, probabilities: bool = False) -> float:
    """Writes a loaded run's classifier to a file; see `export_run`."""
    network = saved.network
    network.objective.output_temperature.fill_(saved.output_temperature)
    raw = saved.encoder.raw_inputs()  # of features of pictures, the pictures
    shape, value_range = (saved.input_shape, saved.input_range) if raw is None else (raw.shape, raw.range)
    inputs = _random_inputs(saved, shape, value_range)
    sizes = "features" if saved.encoder.sparse else ", ".join(map(str, shape))
    metadata = {
        "inputs": f"{str(inputs.dtype).removeprefix('torch.')} [batch, {sizes}], as the data hold them",
        "input_shape": json.dumps(shape),
        "input_range": json.dumps(value_range),
        "data": str(saved.recipe.data["name"]),
    }
    return export_onnx(
        path,
        nn.Sequential(nn.Identity() if raw is None else raw.network.cpu(), network.scaling, network.encoder),
        network.objective,
        inputs,
        probabilities=probabilities,
        names=saved.names,
        metadata=metadata,
        free={1: "features"} if saved.encoder.sparse else None,
    )


def _random_inputs(saved: SavedRun, shape: tuple[int, ...], value_range: tuple[float, float]) -> Tensor:
    """Returns three raw inputs: float32, or int32 where the network reads word indices."""
    low, high = value_range
    generator = seeds.generator(3, "export")
    if not getattr(saved.network.encoder, "reads_words", False):
        return low + (high - low) * torch.rand(3, *shape, generator=generator)
    # Of one feature the exporter would take the number for fixed.
    size = (3, 20) if saved.encoder.sparse else (3, *shape)
    return torch.randint(int(low), int(high) + 1, size, generator=generator, dtype=torch.int32)
