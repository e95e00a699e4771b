"""Predictions in evaluation mode, their metrics, temperature scaling, and the errors that a report shows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelembed.lab.data import LabelledData, SentencePairs, Split, TokenBudget
from labelembed.lab.sparse_rows import SparseRows
from labelembed.lab.training.network import AnyBatch, Examples, Network, TrainingData, evaluation_mode
from labelembed.lab.training.run_folder import ExampleOutcomes
from labelembed.metrics import FEWEST_CALIBRATION_EXAMPLES, binned_reliability, classification_metrics, fit_temperature

OUTPUT_MEANS_LABELS = 4_000  # above so many labels the means of hidden states are taken
_EXAMPLES_AT_ONCE = _TOKENS_AT_ONCE = 1_000  # of a corpus padding is counted; of 224 pixels 55 pictures
_SHOWN, _IMAGE_SIDE, _TEXT_LETTERS = 12, 64, 300  # of the highest-loss examples


@torch.no_grad()
def hidden_states(network: Network, split: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields hidden states [n, H], labels [n] and indices [n], each example once, in evaluation mode.

    Of a corpus each target token is one; sentences of like length go together, so that little is padding.
    """
    of_pairs = isinstance(split, SentencePairs)
    size = TokenBudget(_TOKENS_AT_ONCE) if isinstance(split, SentencePairs) else _examples_at_once(split.inputs)
    batches: Iterator[AnyBatch] = split.batches(size, order=torch.arange(len(split)) if of_pairs else None)
    with evaluation_mode(network) as device:
        for batch in (batch.to(device) for batch in batches):
            hidden = network.hidden(batch.inputs)
            counts = batch.labels >= 0 if of_pairs else slice(None)  # without the padding of sentences
            yield hidden[counts], batch.labels[counts], batch.indices[counts]


@torch.no_grad()
def logits_and_labels(network: Network, split: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields logits [n, C] float32 and labels [n], each example once, about a thousand at a time."""
    for hidden, labels, _ in hidden_states(network, split):
        yield network.objective.logits(hidden).float(), labels


@torch.no_grad()
def predicted_logits(network: Network, inputs: Tensor | SparseRows) -> Tensor:
    """Returns logits [N, C] float32 on the CPU for inputs [N, ...] as stored, in evaluation mode."""
    size = _examples_at_once(inputs)
    with evaluation_mode(network) as device:
        pieces = (inputs[begin : begin + size] for begin in range(0, max(1, len(inputs)), size))
        return torch.cat([network.logits(piece.to(device)).float().cpu() for piece in pieces])


def _examples_at_once(inputs: Tensor | SparseRows) -> int:
    numbers = inputs[:1].numel() if isinstance(inputs, Tensor) else 1
    return max(1, min(_EXAMPLES_AT_ONCE, 2**23 // max(1, numbers)))


def evaluate(network: Network, split: Split, *, temperature: float = 1.0) -> dict[str, float]:
    """Returns error, NLL, calibration error and the like of a split, with the logits divided by a temperature."""
    logits, labels = predicted_logits(network, split.inputs).numpy(), split.labels.cpu().numpy()
    return classification_metrics(logits, labels, temperature=temperature)


def calibrate(network: Network, data: LabelledData, *, wanted: bool = True) -> dict[str, Any]:
    """Fits a temperature on the validation set, where that is `wanted`, and evaluates with it.

    On fewer than `FEWEST_CALIBRATION_EXAMPLES` none is fitted: it would do harm more often than not. Returns for
    ``result.json`` `temperature`, `calibration` (in words) and `calibrated`, the metrics of validation and test set.
    """
    held_out = 0 if data.validation is None else len(data.validation)
    if data.validation is None or not wanted or held_out < FEWEST_CALIBRATION_EXAMPLES:
        why = f"not fitted, {held_out} validation examples are fewer than {FEWEST_CALIBRATION_EXAMPLES}"
        return {"temperature": None, "calibration": why if wanted else "off", "calibrated": None}
    logits, labels = predicted_logits(network, data.validation.inputs).numpy(), data.validation.labels.cpu().numpy()
    temperature, test = fit_temperature(logits, labels), data.splits.get("test")
    calibrated: dict[str, Any] = {"temperature": temperature}
    calibrated["validation"] = classification_metrics(logits, labels, temperature=temperature)
    calibrated["test"] = test and evaluate(network, test, temperature=temperature)
    return {"temperature": temperature, "calibration": "fitted on the validation examples", "calibrated": calibrated}


@torch.no_grad()
def class_means(network: Network, split: Examples) -> Tensor:
    """Returns the mean output [C, D] over the examples of each label: which labels the network finds similar.

    The outputs are the logits, or what an objective compares with its label vectors; above 4,000 labels the hidden
    states [C, H] take their place. A label without examples gets the mean over all.
    """
    objective, device = network.objective, next(network.parameters()).device
    of_outputs = objective.num_labels <= OUTPUT_MEANS_LABELS
    width = objective.output_size if of_outputs else objective.hidden_size
    sums = torch.zeros(objective.num_labels, width, dtype=torch.float64, device=device)
    counts = torch.zeros(objective.num_labels, dtype=torch.int64, device=device)
    for hidden, labels, _ in hidden_states(network, split):
        sums.index_add_(0, labels, (objective.output(hidden) if of_outputs else hidden).double())
        counts += torch.bincount(labels, minlength=objective.num_labels)
    means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), sums.sum(0) / counts.sum())
    return means.float().cpu()


def shown_split(data: TrainingData) -> str | None:
    """Returns the split that a report shows: the test set, else the validation set; None where there is neither."""
    return next((name for name in ("test", "validation") if name in data.splits), None)


def error_diagnostics(
    network: Network, data: TrainingData, *, temperature: float | None = None
) -> tuple[dict[str, Any] | None, ExampleOutcomes | None]:
    """Returns the errors on the split of `shown_split`, as JSON values, and the outcome of each example.

    Both are None where there is nothing to evaluate on. Of sentence pairs there are no outcomes: the tokens of a
    sentence are no independent examples. The temperature is that of the calibrated reliability; None: there is none.
    `confusions` are ``[[true class, predicted, count], ...]``, the most frequent first, `of_label` counts the examples
    of each label, `reliability` has null for empty bins, and `worst` are the wrong examples of the highest loss.
    """
    split = shown_split(data)
    if split is None:
        return None, None
    outcomes = _outcomes(network, data.splits[split], temperature or 1.0)
    labels, predicted, right = outcomes["label"], outcomes["predicted"], outcomes["right"]
    pairs, counts = np.unique(np.stack([labels, predicted])[:, ~right].T, axis=0, return_counts=True)
    confusions = np.column_stack([pairs, counts])[np.argsort(-counts, kind="stable")]
    calibrated = None if temperature is None else _bins(right, outcomes["calibrated_confidence"])
    errors = {
        "split": split,
        "labels": network.objective.num_labels,
        "confusions": confusions[:20_000].tolist(),
        "of_label": np.bincount(labels, minlength=network.objective.num_labels).tolist(),
        "reliability": {"before": _bins(right, outcomes["confidence"]), "calibrated": calibrated},
        "worst": _highest_loss(data, split, outcomes) if isinstance(data, LabelledData) else [],
    }
    if not isinstance(data, LabelledData):
        return errors, None
    limit = np.finfo(np.float16).max  # what is above it becomes this number, not infinity
    nll, at_temperature = (np.minimum(outcomes[name], limit).astype(np.float16) for name in ("loss", "calibrated_loss"))
    return errors, ExampleOutcomes(split, right, nll, None if temperature is None else at_temperature)


def _outcomes(network: Network, split: Examples, temperature: float) -> dict[str, NDArray[Any]]:
    """Returns for each example [N] its label, the prediction, how confident that is and the loss in nats."""
    batches: list[dict[str, Tensor]] = []
    for logits, labels in logits_and_labels(network, split):
        outcomes = {"label": labels, "predicted": logits.argmax(-1), "right": labels == logits.argmax(-1)}
        for prefix, divisor in (("", 1.0), ("calibrated_", temperature)):
            log_p = (logits / divisor).log_softmax(-1)
            outcomes[f"{prefix}loss"] = -log_p.gather(1, labels[:, None])[:, 0]
            outcomes[f"{prefix}confidence"] = log_p.amax(-1).exp()
        batches.append({name: value.cpu() for name, value in outcomes.items()})
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def _bins(right: NDArray[np.bool_], confidence: NDArray[Any]) -> dict[str, list[Any]]:
    count, *means = binned_reliability(right, confidence).tolist()
    confidences, accuracies = ([None if math.isnan(mean) else mean for mean in line] for line in means)
    return {"count": [int(number) for number in count], "confidence": confidences, "accuracy": accuracies}


def _highest_loss(data: LabelledData, split: str, outcomes: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Returns the wrong examples with the highest loss, as small images or as texts; none where neither is known."""
    shape, wrong, examples = data.input_shape, np.flatnonzero(~outcomes["right"]), []
    are_images = data.images is not None or (len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= 4)
    for index in wrong[np.argsort(-outcomes["loss"][wrong], kind="stable")[:_SHOWN]].tolist():
        if data.texts is not None:
            line = " ".join(data.texts(split, index)[: 4 * _TEXT_LETTERS].split())
            example = {"text": line if len(line) <= _TEXT_LETTERS else f"{line[:_TEXT_LETTERS].rstrip()} …"}
        elif are_images:
            stored: Any = data.splits[split].inputs
            image = (stored[index], data.input_range) if data.images is None else (data.images(split, index), (0, 255))
            example = {"png": _png(*image)}
        else:
            return []
        share, confidence = math.exp(-outcomes["loss"][index]), float(outcomes["confidence"][index])
        named = {name: int(outcomes[name][index]) for name in ("label", "predicted")}
        examples.append({"row": index, **named, "share": share, "predicted_share": confidence, **example})
    return examples


def _png(image: Tensor, input_range: tuple[float, float]) -> str:
    from PIL import Image

    low, high = input_range
    pixels = (255 * (image.cpu().float() - low) / max(high - low, 1e-12)).round().clamp(0, 255).to(torch.uint8)
    drawn = Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
    drawn.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    content = io.BytesIO()
    drawn.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")
