"""A trained encoder and objective as one ONNX file, compared with PyTorch before it is written."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelembed import __version__
from labelembed.errors import LabelEmbedError
from labelembed.objectives import OBJECTIVES, Objective

# Of the largest output: float32 sums in another order. Twice this is far more than was ever seen.
_TOLERANCE = 1e-4


class PredictionGraph(nn.Module):
    """Inputs in, the objective's logits [N, C] out, or its probabilities at the fitted temperature; float32."""

    def __init__(self, encoder: nn.Module, objective: Objective, *, probabilities: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective
        self.probabilities = probabilities

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the scores [N, C]."""
        hidden = self.encoder(inputs)
        scores = self.objective.probabilities(hidden) if self.probabilities else self.objective.logits(hidden)
        return scores.float()


def export_onnx(
    path: str | Path,
    encoder: nn.Module,
    objective: Objective,
    inputs: Tensor,
    *,
    probabilities: bool = False,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    free: Mapping[int, str] | None = None,
) -> float:
    """Writes an encoder and its objective as one ONNX file, and returns the largest difference to PyTorch's outputs.

    The file has one input, `inputs`, and one output, `logits` or `probabilities`; in its metadata are `labels` (JSON),
    `objective`, `output` and `output_temperature`.

    Args:
        path: The file.
        encoder: From inputs [N, ...] to hidden states [N, H].
        objective: Any objective; it predicts as in evaluation mode.
        inputs: Two or more examples, as the encoder reads them, to compare with. In the file their number is free.
        probabilities: Write the probabilities at the fitted temperature instead of the logits.
        names: The labels' names, in the order of the scores.
        metadata: More entries for the file's metadata.
        free: Further dimensions of the inputs whose length is free, by a name each: ``{1: "length"}``.

    Raises:
        ValueError, LabelEmbedError: Too few examples or names; a package is missing; the export fails; outputs differ.

    Example:
        ``export_onnx("model.onnx", encoder, objective, validation_inputs[:8], names=["cat", "dog", "car"])``
    """
    if len(inputs) < 2:
        raise ValueError(f"`inputs` must be two or more examples, got {list(inputs.shape)}")
    labels = [str(name) for name in (range(objective.num_labels) if names is None else names)]
    if len(labels) != objective.num_labels:
        raise ValueError(f"`names` must be of {objective.num_labels} labels, got {len(labels)}")
    graph = copy.deepcopy(PredictionGraph(encoder, objective, probabilities=probabilities)).cpu().eval()
    inputs, free = inputs.cpu(), {0: "batch", **(free or {})}
    about = {
        "labelembed": __version__,
        "labels": json.dumps(labels),
        "objective": next((name for name, kind in OBJECTIVES.items() if kind is type(objective)), "unknown"),
        "output": "probabilities" if probabilities else "logits",
        "output_temperature": repr(float(objective.output_temperature)),
    }
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the exporters: what matters is raised
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            content = _exported(graph, inputs, free, about | dict(metadata or {}))
            fewer = [inputs.narrow(dimension, 0, inputs.shape[dimension] - 1) for dimension in free]
            difference = max(_difference(content, graph, some) for some in (inputs, inputs[:1], *fewer))
    finally:
        logging.disable(disabled)
    temporary = Path(f"{path}.writing")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return difference


def _exported(graph: PredictionGraph, inputs: Tensor, free: Mapping[int, str], about: Mapping[str, str]) -> bytes:
    """Returns the bytes of the ONNX file."""
    try:
        import onnx  # noqa: F401 - a missing package is named before the exporter begins
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        install = "pip install 'labelembed[export]'"
        raise LabelEmbedError(f"ONNX needs onnx, onnxruntime and onnxscript: {install} ({error})") from error
    shapes = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    try:
        program = torch.export.export(graph, (inputs,), dynamic_shapes=(shapes,))
        names: dict[str, Any] = {"input_names": ["inputs"], "output_names": [about["output"]]}
        converted: Any = torch.onnx.export(program, (inputs,), dynamo=True, verbose=False, **names)
    except Exception as error:  # torch raises many kinds, some of them of its private modules
        reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())[:300]
        network = f"{type(graph.encoder).__name__} with {type(graph.objective).__name__}"
        raise LabelEmbedError(f"{network} cannot be exported: {reason}") from error
    model = converted.model_proto
    for dimension, name in free.items():
        model.graph.input[0].type.tensor_type.shape.dim[dimension].dim_param = name
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = free[0]
    del model.graph.value_info[:]  # of intermediate values, which have other names for the batch
    for key, text in about.items():
        model.metadata_props.add(key=key, value=text)
    return bytes(model.SerializeToString())


def _difference(content: bytes, graph: PredictionGraph, inputs: Tensor) -> float:
    """Returns the largest difference between the outputs of onnxruntime and PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scores, expected = torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0]), graph(inputs)
    difference = float((scores - expected).abs().max()) if scores.shape == expected.shape else float("nan")
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        shapes = f"{list(scores.shape)} and {list(expected.shape)}"
        raise LabelEmbedError(f"not written: outputs {shapes} of onnxruntime and PyTorch differ by {difference:.2g}")
    return difference
