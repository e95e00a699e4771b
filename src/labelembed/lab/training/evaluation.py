"""What a network says of a split in evaluation mode, and how good that is; examples and sentence pairs alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.lab.data import Batch, LabelledData, SentencePairs, Split, TextCorpus
from labelembed.lab.sparse_rows import SparseRows
from labelembed.lab.training.batches import EVALUATION_EXAMPLES, Examples, TrainingData, evaluation_batches
from labelembed.lab.training.decoding import Decoding, evaluate_text
from labelembed.lab.training.network import Network, evaluation_mode
from labelembed.metrics import (
    FEWEST_CALIBRATION_EXAMPLES,
    classification_metrics,
    fit_temperature,
    is_extreme_temperature,
)

# Means of the outputs are [C, C]; above so many labels the means of the hidden states, [C, H], take their place.
OUTPUT_MEANS_LABELS = 4_000
# Examples whose logits [n, C] are held at a time.
_LOGITS_AT_ONCE = 1_024


@torch.no_grad()
def hidden_states(network: Network, split: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields hidden states [n, H], labels [n] and indices [n], each example once, in evaluation mode.

    Args:
        network: Its mode is put back.
        split: The examples; of a corpus each target token is one.
    """
    device = next(network.parameters()).device
    with evaluation_mode(network):
        for batch in evaluation_batches(split):
            placed = batch.to(device)
            hidden = network.hidden(placed.inputs)
            if isinstance(placed, Batch):
                yield hidden, placed.labels, placed.indices
            else:
                counts = placed.labels >= 0  # without the padding of sentences
                yield hidden[counts], placed.labels[counts], placed.indices[counts]


@torch.no_grad()
def logits_and_labels(network: Network, split: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields logits [n, C] float32 and labels [n], each example once, a thousand at a time; see `hidden_states`."""
    for hidden, labels, _ in hidden_states(network, split):
        for part, its in zip(torch.split(hidden, _LOGITS_AT_ONCE), torch.split(labels, _LOGITS_AT_ONCE), strict=True):
            yield network.objective.logits(part).float(), its


@torch.no_grad()
def predicted_logits(network: Network, inputs: Tensor | SparseRows) -> Tensor:
    """Returns logits [N, C] float32 on the CPU, in evaluation mode; the network's mode is put back.

    Args:
        network: What predicts.
        inputs: [N, ...] as stored, on any device.
    """
    device = next(network.parameters()).device
    begins = range(0, max(1, len(inputs)), EVALUATION_EXAMPLES)
    with evaluation_mode(network):
        parts = [
            network.logits(inputs[begin : begin + EVALUATION_EXAMPLES].to(device)).float().cpu() for begin in begins
        ]
    return torch.cat(parts)


def evaluate(network: Network, data: TrainingData, split: str) -> dict[str, Any] | None:
    """Returns the metrics of a split, None where there is none.

    Of labelled examples error, NLL, calibration error and the like. Of a corpus the metrics of its tokens, and of the
    validation sentences BLEU and the like of what the network writes for them, greedily; test sentences are written
    when the run is over.
    """
    examples = data.splits.get(split)
    if examples is None:
        return None
    if isinstance(examples, Split):
        return classification_metrics(predicted_logits(network, examples.inputs).numpy(), examples.labels.cpu().numpy())
    metrics: dict[str, Any] = token_metrics(network, examples)
    if isinstance(data, TextCorpus) and split == "validation":
        metrics |= evaluate_text(network, data, split, Decoding())[0]
    return metrics


def token_metrics(network: Network, pairs: SentencePairs) -> dict[str, float]:
    """Returns the metrics over all target tokens, END among them, each after the right words before it.

    Returns:
        `error` and `top5_error` (fractions), `nll` (nats a token) and `perplexity`, its exponential: of the network's
        own distribution, whatever it was trained on.
    """
    nll, wrong, far, count = 0.0, 0, 0, 0
    for logits, labels in logits_and_labels(network, pairs):
        nll += float(F.cross_entropy(logits, labels, reduction="sum"))
        # As an argmax does, of equal ones the first counts as predicted.
        own = logits.gather(1, labels[:, None])
        earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
        rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
        wrong += int((rank >= 1).sum())
        far += int((rank >= 5).sum())
        count += len(labels)
    if not math.isfinite(nll):
        raise ValueError("the network predicts values that are not finite")
    mean = nll / count
    return {
        "error": wrong / count,
        "top5_error": far / count,
        "nll": mean,
        "perplexity": math.exp(min(mean, 700.0)),
    }


def evaluate_both(network: Network, split: Split, *, temperature: float) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the metrics of a split without and with a temperature, from one prediction."""
    logits, labels = predicted_logits(network, split.inputs).numpy(), split.labels.cpu().numpy()
    plain, calibrated = (classification_metrics(logits, labels, temperature=one) for one in (1.0, temperature))
    return plain, calibrated


def calibrate(network: Network, data: LabelledData, *, wanted: bool = True) -> dict[str, Any]:
    """Fits a temperature on the validation set and evaluates with it; see `fit_temperature`.

    On fewer than `FEWEST_CALIBRATION_EXAMPLES` none is fitted: it would do harm more often than not.

    Args:
        network: With the weights that are kept.
        data: Test examples take part in nothing but their own metrics.
        wanted: False: nothing is fitted, and the result says so.

    Returns:
        For ``result.json``: `temperature` (None where none was fitted), `calibration` (in words what was done, and why)
        and `calibrated`, the metrics of `validation` and `test` with it (or None).
    """
    held_out = 0 if data.validation is None else len(data.validation)
    if not wanted or held_out < FEWEST_CALIBRATION_EXAMPLES:
        why = "off" if not wanted else "not fitted, there are no validation examples"
        if wanted and held_out:
            why = f"not fitted, {held_out} validation examples are fewer than {FEWEST_CALIBRATION_EXAMPLES}"
        return {"temperature": None, "calibration": why, "calibrated": None}
    found = {
        name: (predicted_logits(network, split.inputs).numpy(), split.labels.cpu().numpy())
        for name, split in data.splits.items()
        if name != "train"
    }
    temperature = fit_temperature(*found["validation"])
    metrics = {name: classification_metrics(*both, temperature=temperature) for name, both in found.items()}
    how = "fitted on the validation examples"
    if metrics["validation"]["error"] == 0:
        how += ", which are all right, with the doubt of one example more"
    if is_extreme_temperature(temperature):
        how += "; extreme, outside 0.05 to 20: compare the NLL before and after"
    return {
        "temperature": temperature,
        "calibration": how,
        "calibrated": {"temperature": temperature, "validation": None, "test": None} | metrics,
    }


@torch.no_grad()
def class_means(network: Network, split: Examples) -> Tensor:
    """Returns the mean output [C, D] over the examples of each label, float32 on the CPU, in evaluation mode.

    It shows which labels the network finds similar, whatever the objective. The outputs are the logits, or what an
    objective compares with its label vectors. Above 4,000 labels the hidden states [C, H] take their place. A label
    without examples gets the mean over all.

    Args:
        network: Its mode is put back.
        split: The training examples.
    """
    objective = network.objective
    of_outputs = objective.num_labels <= OUTPUT_MEANS_LABELS
    width = objective.output_size if of_outputs else objective.hidden_size
    device = next(network.parameters()).device
    sums = torch.zeros(objective.num_labels, width, dtype=torch.float64, device=device)
    counts = torch.zeros(objective.num_labels, dtype=torch.int64, device=device)
    for hidden, labels, _ in hidden_states(network, split):
        vectors = objective.output(hidden) if of_outputs else hidden
        sums.index_add_(0, labels, vectors.double())
        counts += torch.bincount(labels, minlength=objective.num_labels)
    means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), sums.sum(0) / counts.sum())
    return means.float().cpu()
