"""A finished run's classifier as a file for other programs: ONNX, or PyTorch's own exported program.

Both take raw inputs, as the run's data hold them: the scaling is part of the graph. The names of the labels and all
else that is needed to use the file stand in its metadata.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from labelembed import __version__, seeds
from labelembed.errors import ArgumentErrors, LabelEmbedError
from labelembed.lab.errors import RunFolderError, TrainingError
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.stored import stored_recipe
from labelembed.lab.training.files import write_bytes
from labelembed.lab.training.run_folder import RunFolder

Format = Literal["onnx", "torch"]
INSTALL = "pip install 'labelembed[export]'"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
# What is exported is tried with so many examples; in the graph their number is free.
_TRIED_EXAMPLES = (1, 3)
# And of sparse rows with about so many features, padded; of one the exporter would take the number for fixed.
_TRIED_FEATURES = 20
# Of the largest output: float32 sums in another order. Twice this is far more than any network was seen to have.
_TOLERANCE = 1e-4
# No ONNX file can be longer, and the graph takes some room too.
_MOST_ONNX_BYTES = 1_900_000_000


class PredictionGraph(nn.Module):
    """Raw inputs in, logits or probabilities out.

    Args:
        saved: The run.
        probabilities: Return the distribution at the run's temperature, as `SavedRun.probabilities`; otherwise the
            objective's logits as they are.

    Shapes: inputs [N, ...] float32, or int32 where the network reads word indices; output [N, C] float32.
    """

    def __init__(self, saved: SavedRun, *, probabilities: bool = False) -> None:
        super().__init__()
        raw = saved.encoder.raw_inputs()
        self.to_inputs = nn.Identity() if raw is None else raw.network.cpu()
        self.network = saved.network
        self.output_temperature = saved.output_temperature
        self.probabilities = probabilities

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the scores [N, C]."""
        logits = self.network.logits(self.to_inputs(inputs)).float()
        return (logits / self.output_temperature).softmax(dim=-1) if self.probabilities else logits


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        format: `onnx` or `torch`.
        output: `logits` or `probabilities`.
        bytes: Its length.
        difference: The largest difference to the run's own outputs that was seen when it was tried.
    """

    path: Path
    format: Format
    output: str
    bytes: int
    difference: float


def export_run(
    run: str | Path, path: str | Path | None = None, *, format: Format = "onnx", probabilities: bool = False
) -> Exported:
    """Writes a finished run's classifier to a file, once it has given the same as the run itself.

    Args:
        run: The run folder.
        path: The file; None: ``model.onnx`` or ``model.pt2`` in the run folder.
        format: `onnx`, for onnxruntime and others; `torch`: a program for `torch.export.load`.
        probabilities: See `PredictionGraph`.

    Raises:
        LabelEmbedError: A package is missing, or something in the network cannot be exported; it is named.
        RunFolderError: There is no finished run of a classifier, or the file cannot be written.
        TrainingError: What was exported gives something else than the run.
        ValueError: There is no such format.
    """
    errors = ArgumentErrors()
    errors.choice("format", format, tuple(SUFFIXES))
    errors.raise_if_any()
    folder = RunFolder(run)
    folder.require_finished()
    if stored_recipe(folder).of_sentences:
        reason = "networks that write sentences are not exported, for they are run step by step with a beam search"
        raise RunFolderError(f"{folder.path}: {reason}; labelembed translate runs them")
    path = folder.path / f"model{SUFFIXES[format]}" if path is None else Path(path)
    if path.is_dir():
        raise RunFolderError(f"{path}: is a folder; name a file with --out")
    if not path.parent.is_dir():
        raise RunFolderError(f"{path}: there is no folder {path.parent}; name another file with --out")
    return export_saved(SavedRun.load(run), path, format=format, probabilities=probabilities)


def export_saved(saved: SavedRun, path: Path, *, format: Format = "onnx", probabilities: bool = False) -> Exported:
    """Writes a loaded run's classifier to a file; see `export_run`."""
    graph = PredictionGraph(saved, probabilities=probabilities).eval()
    output = "probabilities" if probabilities else "logits"
    about = _about(saved, output)
    with _quiet():
        program = _program(graph, saved)
        content, tried = _onnx(program, saved, output, about) if format == "onnx" else _torch(program, about)
    difference = 0.0
    for number in _TRIED_EXAMPLES:
        inputs = _made_inputs(saved, number)
        with torch.no_grad():
            expected, found = graph(inputs), tried(inputs)
        difference = max(difference, _difference(found, expected, path))
    write_bytes(path, content)
    return Exported(path, format, output, len(content), difference)


def _about(saved: SavedRun, output: str) -> dict[str, str]:
    """Returns the metadata, all of it texts, as ONNX wants it."""
    raw_shape, raw_range = _raw_inputs(saved)
    shape = "features" if saved.encoder.sparse else ", ".join(map(str, raw_shape))
    return {
        "format": "labelembed.classifier.1",
        "labelembed": __version__,
        "labels": json.dumps(saved.names, ensure_ascii=False),
        "inputs": f"{_input_type(saved)} [batch, {shape}], as the data hold them",
        "input_shape": json.dumps(raw_shape),
        "input_range": json.dumps(raw_range),
        "output": output,
        "output_temperature": repr(saved.output_temperature),
        "objective": str(saved.recipe.objective["name"]),
        "data": str(saved.recipe.data["name"]),
    }


def _input_type(saved: SavedRun) -> str:
    """Returns the inputs' type; that of word indices is int32."""
    return "int32" if getattr(saved.network.encoder, "reads_words", False) else "float32"


def _made_inputs(saved: SavedRun, number: int) -> Tensor:
    shape, (low, high) = _raw_inputs(saved)
    generator = seeds.generator(number, "export")
    if _input_type(saved) == "int32":
        size = (number, _TRIED_FEATURES + number) if saved.encoder.sparse else (number, *saved.input_shape)
        return torch.randint(int(low), int(high) + 1, size, generator=generator, dtype=torch.int32)
    return low + (high - low) * torch.rand(number, *shape, generator=generator)


def _raw_inputs(saved: SavedRun) -> tuple[tuple[int, ...], tuple[float, float]]:
    """Returns shape and range of what the graph takes: of features of pictures, the pictures."""
    raw = saved.encoder.raw_inputs()
    return (saved.input_shape, saved.input_range) if raw is None else (raw.shape, raw.range)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporters' warnings and log: what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _program(graph: PredictionGraph, saved: SavedRun) -> torch.export.ExportedProgram:
    free = {0: torch.export.Dim("batch")} | ({1: torch.export.Dim("features")} if saved.encoder.sparse else {})
    try:
        with torch.no_grad():
            return torch.export.export(graph, (_made_inputs(saved, 3),), dynamic_shapes=(free,))
    except Exception as error:  # torch raises many kinds, some of them of its private modules
        raise _cannot(saved, "traced by torch.export", error) from error


def _torch(program: torch.export.ExportedProgram, about: dict[str, str]) -> tuple[bytes, Any]:
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"labelembed.json": json.dumps(about, ensure_ascii=False)})
    return content.getvalue(), program.module()


def _onnx(
    program: torch.export.ExportedProgram, saved: SavedRun, output: str, about: dict[str, str]
) -> tuple[bytes, Any]:
    try:
        import onnx  # noqa: F401 - a missing package is named before the exporter begins
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise LabelEmbedError(f"--format onnx needs onnx, onnxruntime and onnxscript: {INSTALL} ({error})") from error
    weights = sum(tensor.nbytes for tensor in program.state_dict.values())
    if weights > _MOST_ONNX_BYTES:
        size = f"{weights / 1e9:.1f} GB"
        raise LabelEmbedError(f"the weights take {size} and one ONNX file holds less than 2 GB; take --format torch")
    try:
        converted = torch.onnx.export(
            program,
            (_made_inputs(saved, 3),),
            dynamo=True,
            input_names=["inputs"],
            output_names=[output],
            verbose=False,
        )
    except Exception as error:
        raise _cannot(saved, "written as ONNX", error) from error
    assert converted is not None
    model = converted.model_proto
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if saved.encoder.sparse:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    del model.graph.value_info[:]  # of intermediate values, which name the batch otherwise
    for key, text in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def tried(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])

    return content, tried


def _cannot(saved: SavedRun, what: str, error: Exception) -> LabelEmbedError:
    """Returns the error of a network that cannot be exported, with the missing operator where torch names it."""
    text = str(error)
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    model = saved.recipe.model["name"]
    if operator is not None:
        reason = f"ONNX has no operator for {operator.group(1)} (--format torch has)"
    else:
        reason = " ".join((text.splitlines() or [type(error).__name__])[0].split())[:300]
    objective = saved.recipe.objective["name"]
    return LabelEmbedError(f"the network {model!r} with {objective!r} cannot be {what}: {reason}")


def _difference(found: Tensor, expected: Tensor, path: Path) -> float:
    if found.shape != expected.shape or not bool(found.isfinite().all()):
        raise TrainingError(f"{path}: not written, for it gives {list(found.shape)} for {list(expected.shape)} scores")
    difference = float((found - expected).abs().max())
    if difference > _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise TrainingError(f"{path}: not written, for its outputs differ by {difference:.2g} from those of the run")
    return difference
